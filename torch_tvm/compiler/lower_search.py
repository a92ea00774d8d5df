"""Binary search in sorted sequences."""

from __future__ import annotations

import math
from functools import partial

from torch_tvm.kernels import search

from .fusion import Group
from .graph import Node
from .launch import Argument
from .lower_kernels import FAMILIES, Family, Lowerer, has_elements


def _supports(node: Node) -> bool:
    same = len({arg.dtype for arg in node.args}) == 1
    return same and has_elements(node) and node.args[0].dtype in search.DTYPES


def _lower(lowerer: Lowerer, group: Group) -> None:
    node = group.root
    sequences, values = node.args
    one = len(sequences.shape) == 1
    columns = values.size if one else values.shape[-1]
    rows = (values.size // columns, columns)
    workload = search.Search(
        (math.prod(sequences.shape[:-1]), sequences.shape[-1]),
        rows,
        bool(node.attrs["right"]),
        values.dtype,
        node.output.dtype,
    )
    schedule = lowerer.choose(search.default_schedule, workload, lowerer.threads)
    shapes = (workload.sequences, rows)
    sources = [lowerer.argument(arg) for arg in node.args]
    lowerer.launch(
        "searchsorted",
        (workload, schedule),
        partial(search.build, workload=workload, schedule=schedule),
        [Argument(s.storage, shape, s.dtype, s.offset) for s, shape in zip(sources, shapes, strict=True)],
        [Argument(lowerer.storage(node.output), rows, node.output.dtype)],
        packing=group.weight_only,
    )


FAMILIES["torch_tvm.searchsorted"] = Family(_supports, _lower, takes_epilogue=False)
