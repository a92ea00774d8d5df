"""Maxima of windows with their positions: max pooling with indices."""

from __future__ import annotations

from functools import partial

from torch_tvm.kernels import window_maximum

from .fusion import Group
from .graph import Node
from .launch import Argument
from .lower_kernels import FAMILIES, Family, Lowerer


def _workload(node: Node) -> window_maximum.WindowMaximum:
    data, *tables = node.args
    return window_maximum.workload(
        data.shape, [table.data for table in tables if table.data is not None], data.dtype
    )


def _supports(node: Node) -> bool:
    try:
        return bool(_workload(node))
    except ValueError:
        return False


def _lower(lowerer: Lowerer, group: Group) -> None:
    node = group.root
    workload = _workload(node)
    schedule = lowerer.choose(window_maximum.default_schedule, workload, lowerer.target, lowerer.threads)
    lowerer.launch(
        "window_maximum",
        (workload, schedule),
        partial(window_maximum.build, workload=workload, schedule=schedule),
        [lowerer.argument(arg) for arg in node.args],
        [Argument(lowerer.storage(t), workload.result, t.dtype) for t in node.outputs],
        packing=group.weight_only,
    )


FAMILIES["torch_tvm.window_maximum"] = Family(_supports, _lower, takes_epilogue=False)
