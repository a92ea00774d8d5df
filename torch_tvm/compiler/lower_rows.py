"""Softmax, normalisation, reductions and pools: kernels that compute their operand and their result's use on the fly."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

from torch_tvm.kernels import normalization, pooling, reduction, rows, softmax
from torch_tvm.kernels.expression import FLOATS, INTS, Expression

from . import expressions
from .fusion import Group
from .graph import Node
from .launch import Argument
from .lower_kernels import FAMILIES, Family, Lowerer, group_name, has_elements, ints, pair, supported_dtypes
from .operators.te_operators import plain

NUMBERS = (*FLOATS, *INTS)
REDUCTIONS = {
    "sum": "sum",
    "mean": "mean",
    "prod": "prod",
    "max": "max",
    "min": "min",
    "argmax": "argmax",
    "argmin": "argmin",
    "torch_tvm.all": "all",
    "torch_tvm.any": "any",
}


class _Operands:
    """Source and epilogue of a group as a row kernel takes them."""

    def __init__(self, lowerer: Lowerer, group: Group, held: str) -> None:
        self.source, read = expressions.source(group, lowerer.accesses)
        views, self.inputs = lowerer.read(self.source.inputs, read)
        self.views = tuple(views) if any(views) else ()
        made, behind = expressions.epilogue(group, held, lowerer.accesses)
        views, self.extras = lowerer.read(made.inputs[1:], behind)
        self.epilogue_views = tuple(views) if any(views) else ()
        trivial = not made.instructions and len(made.inputs) == 1
        self.epilogue: Expression | None = None if trivial else made


def _launch(
    lowerer: Lowerer,
    group: Group,
    generator: Any,
    workload: Any,
    inputs: list[Argument],
) -> None:
    output, place = lowerer.output(group)
    if place is not None:
        workload = dataclasses.replace(workload, output_views=(place,))
    schedule = lowerer.choose(generator.default_schedule, workload, lowerer.target, lowerer.threads)
    lowerer.launch(
        group_name(group),
        (workload, schedule),
        partial(generator.build, workload=workload, schedule=schedule, target=lowerer.target),
        inputs,
        [output],
        packing=group.weight_only,
        flops=float(2 * group.root.args[0].size),
    )


def _always(_: Node) -> bool:
    return True


# -- Softmax ---------------------------------------------------------------------------------------


def _supports_softmax(node: Node) -> bool:
    return supported_dtypes(node, FLOATS) and has_elements(node) and len(node.output.shape) > 0


def _lower_softmax(lowerer: Lowerer, group: Group) -> None:
    source, read = expressions.source(group, lowerer.accesses)
    views, inputs = lowerer.read(source.inputs, read)
    axis = int(group.root.attrs.axis) % len(group.shape)
    log = group.root.op == "nn.log_softmax"
    workload = softmax.Softmax(source, axis, log, tuple(views) if any(views) else ())
    _launch(lowerer, group, softmax, workload, inputs)


# -- Normalisation ---------------------------------------------------------------------------------


def _supports_normalize(node: Node) -> bool:
    return supported_dtypes(node, FLOATS) and has_elements(node)


def _lower_normalize(lowerer: Lowerer, group: Group) -> None:
    node = group.root
    operands = _Operands(lowerer, group, rows.accumulation_dtype(node.output.dtype))
    workload = normalization.Normalize(
        operands.source,
        tuple(plain(node.attrs["axes"])),
        float(node.attrs["epsilon"]),
        bool(node.attrs["center"]),
        epilogue=operands.epilogue,
        views=operands.views,
        epilogue_views=operands.epilogue_views,
    )
    _launch(lowerer, group, normalization, workload, [*operands.inputs, *operands.extras])


# -- Reductions ------------------------------------------------------------------------------------


def _axes(node: Node) -> tuple[tuple[int, ...], bool]:
    rank = len(node.args[0].shape)
    if node.op.startswith("torch_tvm."):
        axes, keepdims = plain(node.attrs["axis"]), bool(node.attrs["keepdims"])
    else:
        axes, keepdims = node.attrs.axis, bool(node.attrs.keepdims)
    if axes is None:
        return tuple(range(rank)), keepdims
    listed = ints(axes) if not isinstance(axes, int) else (axes,)
    return tuple(sorted(axis % rank for axis in listed)), keepdims


def _supports_reduce(node: Node) -> bool:
    dtype, operator = node.args[0].dtype, REDUCTIONS[node.op]
    if not has_elements(node) or not node.args[0].shape:
        return False
    if operator in ("all", "any"):
        return dtype == "bool"
    if operator == "mean":
        return dtype in FLOATS
    return dtype in NUMBERS


def _lower_reduce(lowerer: Lowerer, group: Group) -> None:
    node = group.root
    axes, keepdims = _axes(node)
    held = rows.accumulation_dtype(node.output.dtype)
    operands = _Operands(lowerer, group, held)
    workload = reduction.Reduce(
        operands.source,
        REDUCTIONS[node.op],
        axes,
        keepdims,
        epilogue=operands.epilogue,
        views=operands.views,
        epilogue_views=operands.epilogue_views,
    )
    _launch(lowerer, group, reduction, workload, [*operands.inputs, *operands.extras])


# -- Pools -----------------------------------------------------------------------------------------

_POOLS = {
    "nn.max_pool2d": "max",
    "nn.avg_pool2d": "avg",
    "nn.adaptive_avg_pool2d": "avg",
    "torch_tvm.adaptive_max_pool": "max",
}


def _pool_workload(node: Node) -> pooling.Pool2d:
    """Describe the pool of a node; raises ValueError where the generator does not take it."""
    a, shape = node.attrs, node.args[0].shape
    batch, height, width, channels = shape
    operator, dtype = _POOLS[node.op], node.output.dtype
    if "adaptive" in node.op:
        size = (node.output.shape[1], node.output.shape[2])
        return pooling.Pool2d((batch, height, width, channels), operator, output_size=size, dtype=dtype)
    top, left, bottom, right = ints(a.padding)
    return pooling.Pool2d(
        (batch, height, width, channels),
        operator,
        kernel=pair(a.pool_size),
        stride=pair(a.strides),
        padding=(top, left, bottom, right),
        dilation=pair(a.dilation),
        ceil_mode=bool(a.ceil_mode),
        count_include_pad=bool(a.count_include_pad),
        dtype=dtype,
    )


def _supports_pool(node: Node) -> bool:
    a = node.attrs
    layout = str(a["layout"]) if node.op.startswith("torch_tvm.") else str(a.layout)
    if layout != "NHWC" or len(node.output.shape) != 4 or not has_elements(node):
        return False
    try:
        workload = _pool_workload(node)
    except ValueError:
        return False
    # Where a ceil-mode window hangs over, Relay's divisor and PyTorch's differ.
    whole = node.op != "nn.avg_pool2d" or not a.ceil_mode
    return whole and workload.result.shape == node.output.shape


def _reads_once(node: Node) -> bool:
    """Say whether no input of a pool is in several windows: then it costs nothing to compute it on the fly."""
    if "adaptive" in node.op:
        return all(
            size % out == 0 for size, out in zip(node.args[0].shape[1:3], node.output.shape[1:3], strict=True)
        )
    strides = zip(ints(node.attrs.pool_size), ints(node.attrs.strides), strict=True)
    return all(kernel <= stride for kernel, stride in strides)


def _lower_pool(lowerer: Lowerer, group: Group) -> None:
    plain_workload = _pool_workload(group.root)
    operands = _Operands(lowerer, group, plain_workload.result.dtype)
    workload = dataclasses.replace(
        plain_workload,
        source=operands.source if operands.source.instructions else None,
        epilogue=operands.epilogue,
        views=operands.views,
        epilogue_views=operands.epilogue_views,
    )
    _launch(lowerer, group, pooling, workload, [*operands.inputs, *operands.extras])


_SOFTMAX = Family(_supports_softmax, _lower_softmax, takes_source=_always, takes_epilogue=False)
FAMILIES["nn.softmax"] = FAMILIES["nn.log_softmax"] = _SOFTMAX
FAMILIES["torch_tvm.normalize"] = Family(
    _supports_normalize, _lower_normalize, takes_source=_always, stores_parts=True
)
for _name in REDUCTIONS:
    FAMILIES[_name] = Family(_supports_reduce, _lower_reduce, takes_source=_always, stores_parts=True)
for _name in _POOLS:
    FAMILIES[_name] = Family(_supports_pool, _lower_pool, takes_source=_reads_once, stores_parts=True)
