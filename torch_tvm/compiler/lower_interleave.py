"""Interleaving of channels: operands read where they lie, the slices of earlier results included."""

from __future__ import annotations

from functools import partial

from torch_tvm.kernels import interleave
from torch_tvm.kernels.views import View

from .fusion import Group
from .graph import Node
from .launch import Argument
from .lower_kernels import FAMILIES, Family, Lowerer, has_elements, supported_dtypes

DTYPES = ("float16", "bfloat16", "float32", "float64", "int16", "int32", "int64")


def _supports(node: Node) -> bool:
    last = int(node.attrs["axis"]) == len(node.output.shape) - 1
    return last and has_elements(node) and supported_dtypes(node, DTYPES)


def _lower(lowerer: Lowerer, group: Group) -> None:
    node = group.root
    found = [lowerer.view(tensor) for tensor in node.args]
    views = tuple(View(held.shape, access.strides, access.offset) for held, access in found)
    workload = interleave.Interleave(node.args[0].shape, views, node.output.dtype)
    schedule = lowerer.choose(interleave.default_schedule, workload, lowerer.target, lowerer.threads)
    lowerer.launch(
        "interleave",
        (workload, schedule),
        partial(interleave.build, workload=workload, schedule=schedule, target=lowerer.target),
        [argument for argument, _ in found],
        [Argument(lowerer.storage(node.output), node.output.shape, node.output.dtype)],
        packing=group.weight_only,
    )


FAMILIES["torch_tvm.interleave"] = Family(_supports, _lower, takes_epilogue=False)
