"""Metadata sections for texts composed by hand."""

from __future__ import annotations

import json
from typing import Any

Node = dict[str, Any]


def objects_section(objects: list[list[Node]]) -> str:
    """Write a metadata section of objects, each a node and those behind it. A number in attrs is a place among these."""
    keys = list(dict.fromkeys(str(first["type_key"]) for first, *_ in objects))
    nodes: list[Node] = [{"type_key": ""}, {"type_key": "Map", "keys": keys, "data": []}]
    for key in keys:
        array: Node = {"type_key": "Array", "data": []}
        nodes[1]["data"].append(len(nodes))
        nodes.append(array)
        for parts in [parts for parts in objects if parts[0]["type_key"] == key]:
            base = len(nodes)
            array["data"].append(base)
            for part in parts:
                attrs = {
                    k: v if isinstance(v, str) else str(base + v) for k, v in part.get("attrs", {}).items()
                }
                nodes.append({**part, "attrs": attrs} if attrs else part)
    graph = {"root": 1, "nodes": nodes, "b64ndarrays": [], "attrs": {"tvm_version": "0.19.0"}}
    return "\n\n#[metadata]\n" + json.dumps(graph)


def section(key: str, content: str | dict[str, str]) -> str:
    """Write the metadata of one object, which is a string or has attributes."""
    return objects_section(
        [[{"type_key": key, "repr_str" if isinstance(content, str) else "attrs": content}]]
    )


def with_device(program: str, target: int | str = "0") -> str:
    """Append the metadata of a device; 0 is no target."""
    device = {"device_type_int": "1", "virtual_device_id": "0", "memory_scope": 1, "target": target}
    nodes: list[Node] = [
        {"type_key": "VirtualDevice", "attrs": device},
        {"type_key": "runtime.String", "repr_str": "global"},
        {"type_key": "Target"},
    ]
    return program + objects_section([nodes])


def with_sizes(program: str, *variables: str) -> str:
    """Append the metadata of variables: "tir.Var n int32" is class, name and type."""
    objects: list[list[Node]] = []
    for variable in variables:
        key, name, dtype = variable.split(" ")
        var = {"dtype": dtype, "name": 1, "span": "0", "type_annotation": 2}
        text = {"type_key": "runtime.String", **({"repr_str": name} if name else {})}
        annotation = {"type_key": "PrimType", "attrs": {"dtype": dtype}}
        objects.append([{"type_key": key, "attrs": var}, text, annotation])
    return program + objects_section(objects)
