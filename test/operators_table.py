"""Write docs/operators.md: what torch_tvm does with each operator that a TorchScript frontend of TVM knew.

The names are TVM 0.19's `relay.frontend.from_pytorch` and the torch_tvm of 2019, in data/frontend_operators.json. What is
converted says the registry; which Relay operators come of it was observed by the conformance suite
(docs/conformance.json). ``python test/operators_table.py`` writes the file anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from torch_tvm.frontend import refused_operators, registered_operators

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "operators.md"
OBSERVED = ROOT / "docs" / "conformance.json"
FRONTENDS = {
    "relay_frontend": "TVM 0.19's frontend",
    "structural": "Structural nodes of TVM 0.19's frontend",
    "pytorch_tvm_2019": "The torch_tvm of 2019",
    "quantized": "TVM 0.19's frontend, quantised",
}

CONVERTED, STRUCTURAL, REFUSED = "converted", "structural", "refused"

_MOVES = "moves values around, the evaluator runs it"
_TYPE = "asks about a tensor's type or sizes, which are known"
_READS = "known if it depends on sizes and constants alone; else a scalar in `to_relay`, and left to PyTorch in groups"
_NUMBER = "computes with numbers, which are known"
# What needs no converter, as csrc/convert/convertible.cpp and evaluator.cpp handle it.
STRUCTURAL_NODES = {
    "prim::Constant": "a constant of Relay, or a number",
    "prim::GetAttr": "a weight of the group",
    "prim::ListConstruct": _MOVES,
    "prim::TupleConstruct": _MOVES,
    "prim::ListUnpack": _MOVES,
    "prim::TupleUnpack": _MOVES,
    "prim::If": "followed if it depends on sizes and constants alone; else `if` in `to_relay`, and groups form inside of "
    "its branches",
    "prim::Loop": "written out if it depends on sizes and constants alone, up to 64 trips in `to_relay`; else a recursive "
    "function in `to_relay`, and groups form inside of its body",
    "prim::RaiseException": "left out of `to_relay` where it depends on data, as Relay has no errors; groups leave it to PyTorch",
    "prim::NumToTensor": "a number in a tensor",
    "prim::device": _TYPE,
    "aten::size": _TYPE,
    "aten::len": _TYPE,
    "aten::numel": _TYPE,
    "aten::is_floating_point": _TYPE,
    "aten::Int": _READS,
    "aten::Float": _READS,
    "aten::Bool": _READS,
    "aten::IntImplicit": _READS,
    "aten::ScalarImplicit": _READS,
    "aten::__getitem__": _NUMBER,
    "aten::__not__": _NUMBER,
    "aten::device": _NUMBER,
    "in-place variants (name ends with _)": "made functional by the pass where nothing outside sees the write",
}
# Why there is no converter, where that has a reason of its own that the core does not know.
_SIZES = "its result's size depends on data"
_RANDOM = "random"
_NO_LIBRARY = "an operator of torchvision's: `register_operator` adds it"
_WRITES = "it writes to its argument"
REASONS = {
    "aten::randn": _RANDOM,
    "aten::multinomial": _RANDOM,
    "aten::nonzero": _SIZES,
    "aten::nonzero_numpy": _SIZES,
    "aten::masked_select": _SIZES,
    "aten::_unique2": _SIZES,
    "aten::bincount": _SIZES,
    "torchvision::nms": f"{_NO_LIBRARY}; {_SIZES}",
    "torchvision::roi_align": _NO_LIBRARY,
    "torchvision::deform_conv2d": _NO_LIBRARY,
    "aten::fbgemm_linear_int8_weight": "its weights are packed for one engine, in an opaque form; "
    "`quantized::linear_dynamic`, which took its place, is converted",
    "aten::copy_": _WRITES,
    "aten::__iand__": _WRITES,
    "aten::__ior__": _WRITES,
    "aten::__ixor__": _WRITES,
    "aten::__interpolate": "in graphs of old versions alone; scripts of torch 2.13 have `aten::upsample_*`, which are converted",
    "prim::ImplicitTensorToNum": "torch 2.13 has no such operator",
    "prim::FusedConcat": "made by PyTorch's own fuser alone; `aten::cat` is converted",
}


@dataclass(frozen=True)
class Status:
    """What torch_tvm does with an operator, and in which way."""

    kind: str
    detail: str = ""


def frontends() -> dict[str, list[dict[str, Any]]]:
    """Read the operators of the frontends, by frontend."""
    return json.loads((Path(__file__).parent / "data" / "frontend_operators.json").read_text())


def _overloads(name: str) -> set[str]:
    """All overloads of an operator that neither write to an argument nor live outside of graphs of tensors."""
    schemas = torch._C._jit_get_schemas_for_operator(name)
    return {
        schema.name + (f".{schema.overload_name}" if schema.overload_name else "")
        for schema in schemas
        if not schema.is_mutable and any("Tensor" in str(value.type) for value in schema.returns)
    }


def _missing(name: str, registered: set[str]) -> str:
    missing = sorted(_overloads(name) - registered)
    return (
        "without " + ", ".join(f"`{overload.partition('::')[2]}`" for overload in missing) if missing else ""
    )


def status_of(name: str, registered: set[str]) -> Status:
    """Say what becomes of an operator, or of all its overloads."""
    names = {key.partition(".")[0] for key in registered}
    if name in names:
        return Status(CONVERTED, _missing(name, registered))
    if name in STRUCTURAL_NODES:
        return Status(STRUCTURAL, STRUCTURAL_NODES[name])
    functional = name.removesuffix("_")
    if name.endswith("_") and not name.endswith("__"):
        if functional in names:
            return Status(CONVERTED, f"as `{functional}`, where nothing outside sees the write")
        if f"{functional}_like" in names:
            return Status(CONVERTED, f"as `{functional}_like`, where nothing outside sees the write")
    reasons = REASONS | refused_operators()
    return Status(REFUSED, reasons.get(name, "no converter"))


def _observed() -> dict[str, set[str]]:
    """Which Relay operators the overloads of each operator became in the conformance suite."""
    found: dict[str, set[str]] = {}
    for overload, emitted in json.loads(OBSERVED.read_text())["relay"].items():
        found.setdefault(overload.partition(".")[0], set()).update(emitted)
    return found


def _code(names: set[str] | list[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def row(name: str, status: Status, emitted: set[str], of_frontend: list[str]) -> str:
    """One line of the table."""
    return f"| `{name}` | {status.kind} | {status.detail} | {_code(emitted)} | {_code(of_frontend)} |"


def _lines() -> Iterator[str]:
    registered, observed = set(registered_operators()), _observed()
    tables = frontends()
    yield "# Operators\n"
    yield "Made by `python test/operators_table.py`, for the names that TVM's own TorchScript frontends knew."
    yield f"torch_tvm has converters for {len(registered)} overloads in all; every other operator stays with PyTorch."
    yield "Relay operators are those that the conformance suite ([conformance.md](conformance.md)) saw in the Relay of"
    yield "an operator that stood alone in a graph; beside them, what TVM's frontend could emit.\n"
    yield "| operators of | converted | structural, no converter needed | refused: PyTorch runs it |"
    yield "|---|---|---|---|"
    for key, title in FRONTENDS.items():
        kinds = [status_of(entry["name"], registered).kind for entry in tables[key]]
        yield (
            f"| {title} | " + " | ".join(str(kinds.count(k)) for k in (CONVERTED, STRUCTURAL, REFUSED)) + " |"
        )
    for key, title in FRONTENDS.items():
        yield f"\n## {title}\n"
        yield "| operator | status | how, or why not | Relay operators seen | Relay operators of the frontend |"
        yield "|---|---|---|---|---|"
        for entry in sorted(tables[key], key=lambda entry: entry["name"]):
            name = entry["name"]
            yield row(name, status_of(name, registered), observed.get(name, set()), entry["relay"])
    yield "\n## Other operators without a converter\n"
    yield "Those that no frontend of TVM's knew either, by the reason that a refusal gives.\n"
    yield "| operators | why not |"
    yield "|---|---|"
    for reason, names in _others(tables):
        yield f"| {_code(names)} | {reason} |"


def _others(tables: dict[str, list[dict[str, Any]]]) -> Iterator[tuple[str, list[str]]]:
    """Group what is refused with a reason of its own, and is in no frontend's table, by the reason."""
    known = {entry["name"] for entries in tables.values() for entry in entries}
    found: dict[str, list[str]] = {}
    for name, reason in refused_operators().items():
        if name not in known:
            found.setdefault(reason, []).append(name)
    yield from sorted(found.items())


def main() -> None:
    PAGE.write_text("\n".join(_lines()) + "\n")


if __name__ == "__main__":
    main()
