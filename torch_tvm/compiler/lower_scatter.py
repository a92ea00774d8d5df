"""Scattering of elements and of slices into a copy of a tensor."""

from __future__ import annotations

from functools import partial

from torch_tvm.kernels import scatter

from .fusion import Group
from .graph import Node
from .launch import Argument
from .lower_kernels import FAMILIES, Family, Lowerer


def _workload(node: Node) -> scatter.Scatter:
    data, indices, _ = node.args
    if node.op == "scatter_elements":
        axis, reduction = int(node.attrs.axis) % len(data.shape), str(node.attrs.reduction)
    else:
        axis, reduction = None, str(node.attrs.reduction)
    return scatter.Scatter(data.shape, indices.shape, axis, reduction, data.dtype, indices.dtype)


def _supports(node: Node) -> bool:
    try:
        return (
            node.output.size > 0 and str(node.attrs.reduction) in scatter.REDUCTIONS and bool(_workload(node))
        )
    except ValueError:
        return False


def _lower(lowerer: Lowerer, group: Group) -> None:
    node = group.root
    workload = _workload(node)
    schedule = lowerer.choose(scatter.default_schedule, workload, lowerer.threads)
    lowerer.launch(
        "scatter",
        (workload, schedule),
        partial(scatter.build, workload=workload, schedule=schedule),
        [lowerer.argument(arg) for arg in node.args],
        [Argument(lowerer.storage(node.output), node.output.shape, node.output.dtype)],
        packing=group.weight_only,
    )


FAMILIES["scatter_elements"] = Family(_supports, _lower, takes_epilogue=False)
FAMILIES["scatter_nd"] = FAMILIES["scatter_elements"]
