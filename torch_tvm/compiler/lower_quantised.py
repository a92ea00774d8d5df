"""Products of quantised tensors: bytes packed in fours, sums in int32, what becomes of them as the epilogue."""

from __future__ import annotations

import dataclasses

from torch_tvm.kernels import matmul, quads
from torch_tvm.kernels.expression import identity
from torch_tvm.kernels.matrix_view import MatrixView
from torch_tvm.kernels.views import View

from . import lower_conv
from .fusion import Group
from .graph import Node, Tensor
from .launch import Argument
from .lower_kernels import FAMILIES, Family, Lowerer, has_elements
from .lower_matmul import launch_product, packs_right, result_view


def in_quads(argument: Argument) -> Argument:
    """Return a contiguous tensor of bytes as one of int32, each four neighbours of the last dim."""
    *outer, last = argument.shape
    assert last % quads.BYTES == 0, "lowering has padded the operands"
    return Argument(argument.storage, (*outer, last // quads.BYTES), "int32", argument.offset)


def are_bytes(data: Tensor, weight: Tensor) -> bool:
    """Say whether operands are unsigned and signed bytes."""
    return (data.dtype, weight.dtype) == ("uint8", "int8")


def _supports(node: Node) -> bool:
    return are_bytes(*node.args) and has_elements(node) and node.args[0].shape[-1] % quads.BYTES == 0


def _lower(lowerer: Lowerer, group: Group) -> None:
    data, weight = group.root.args
    a, b = in_quads(lowerer.argument(data)), in_quads(lowerer.argument(weight))
    batch = (f"b{i}" for i in range(len(group.shape) - 2))
    workload = matmul.Matmul(
        MatrixView(a.shape, (*batch, "m", "k")),
        MatrixView(b.shape, ("n", "k")),
        result_view(group),
        packs_right(group),
        "int32",
        quads=True,
    )
    launch_product(lowerer, group, "pack_quantised_matmul", workload, a, b, quads.BYTES * workload.flops)


def _supports_conv2d(node: Node) -> bool:
    a = node.attrs
    return (
        are_bytes(*node.args)
        and (a.data_layout, a.kernel_layout, a.out_layout) == ("NHWC", "OIHW", "NHWC")
        and int(a.groups) == 1
        and node.args[0].shape[-1] % quads.BYTES == 0
        and has_elements(node)
    )


def _filters_in_quads(lowerer: Lowerer, weight: Tensor) -> Argument:
    """Copy filters [filter, channel, row, column] so that four channels of a tap are neighbours."""
    filters, channels, rows, columns = weight.shape
    taps = rows * columns
    shape = (filters, channels // quads.BYTES, rows, columns, quads.BYTES)
    view = View(weight.shape, (channels * taps, quads.BYTES * taps, columns, 1, taps), 0)
    packing = weight.weight_only
    copied = Argument(lowerer.temporary(weight.size, packing), shape, weight.dtype)
    source = lowerer.argument(weight)
    lowerer.elementwise("copy", identity(shape, weight.dtype), [view], [source], (copied, None), packing)
    return Argument(copied.storage, shape[:-1], "int32")


def _lower_conv2d(lowerer: Lowerer, group: Group) -> None:
    node = group.root
    data, weight = node.args
    source = in_quads(lowerer.argument(data))
    workload = dataclasses.replace(
        lower_conv.workload_of(node), channels=source.shape[-1], dtype="int32", quads=True
    )
    weights = _filters_in_quads(lowerer, weight)
    flops = quads.BYTES * workload.flops
    lower_conv.launch_convolution(
        lowerer, group, "pack_quantised_conv2d", workload, "off", source, weights, flops
    )


_CONV2D = FAMILIES["nn.conv2d"]


def _lower_either(lowerer: Lowerer, group: Group) -> None:
    (_lower_conv2d if _supports_conv2d(group.root) else _CONV2D.lower)(lowerer, group)


FAMILIES["nn.conv2d"] = dataclasses.replace(
    _CONV2D,
    supports=lambda node: _CONV2D.supports(node) or _supports_conv2d(node),
    lower=_lower_either,
)
FAMILIES["torch_tvm.quantised_matmul"] = Family(_supports, _lower, stores_permuted=True, stores_parts=True)
