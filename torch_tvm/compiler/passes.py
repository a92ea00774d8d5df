"""Rewriting rules on Relax: what TVM's own passes do not do with parameters as inputs.

Rules come in sets; pipeline.py says when each set runs. All of them are exact up to rounding, and
only batch-norm folding and constants change the rounding at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import relax
from tvm.relax import op

from .operators import te_operators
from .rewrite import Rule, Site, is_constant, size_of

VIEWS = ("reshape", "expand_dims", "squeeze", "flatten", "nn.batch_flatten")


def _ints(values: Sequence[Any]) -> list[int]:
    return [int(v) for v in values]


# -- Operators in terms of others -----------------------------------------------------------------


def _as_reshape(site: Site) -> relax.Expr:
    return site.reshape(site.data, site.result_shape())


def _split(site: Site) -> relax.Expr:
    """Give each part a slice of its own, so that each can be fused and freed on its own."""
    axis, begin, parts = int(site.attrs.axis), 0, []
    for field in site.call.ty.fields:
        extent = int(field.shape.values[axis])
        piece = op.strided_slice(site.data, [axis], [begin], [begin + extent])
        parts.append(site.emit(piece))
        begin += extent
    return relax.Tuple(parts)


def _stack(site: Site) -> relax.Expr:
    shape, axis = list(site.result_shape()), int(site.attrs.axis)
    shape[axis] = 1
    return op.concat([site.reshape(field, shape) for field in site.data.fields], axis)


def _repeat(site: Site) -> relax.Expr | None:
    """Repetition along an axis of one element is broadcasting."""
    axis = site.attrs.axis
    if axis is None or site.shape()[int(axis)] != 1:
        return None
    return op.broadcast_to(site.data, list(site.result_shape()))


def _tile(site: Site) -> relax.Expr | None:
    shape, result = site.shape(), site.result_shape()
    aligned = (1,) * (len(result) - len(shape)) + shape
    if all(old in (1, new) for old, new in zip(aligned, result, strict=True)):
        return op.broadcast_to(site.data, list(result))
    return None


def _with_height(site: Site, expr: relax.Expr) -> relax.Expr:
    first, second, width = site.shape(expr)
    return site.reshape(expr, (first, second, 1, width))


def _conv1d(site: Site) -> relax.Expr | None:
    a = site.attrs
    if (a.data_layout, a.kernel_layout, a.out_layout) != ("NCW", "OIW", "NCW"):
        return None
    left, right = (_ints(a.padding) * 2)[:2]
    wide = op.nn.conv2d(
        _with_height(site, site.data),
        _with_height(site, site.args[1]),
        [1, *_ints(a.strides)],
        [0, left, 0, right],
        [1, *_ints(a.dilation)],
        int(a.groups),
        out_dtype=a.out_dtype,
    )
    return site.reshape(site.emit(wide), site.result_shape())


def _pool1d(site: Site) -> relax.Expr | None:
    a = site.attrs
    if (a.layout, a.out_layout) != ("NCW", "NCW"):
        return None
    left, right = (_ints(a.padding) * 2)[:2]
    make = op.nn.max_pool2d if site.name == "nn.max_pool1d" else op.nn.avg_pool2d
    wide = make(
        _with_height(site, site.data),
        [1, *_ints(a.pool_size)],
        [1, *_ints(a.strides)],
        [0, left, 0, right],
        [1, *_ints(a.dilation)],
        bool(a.ceil_mode),
        bool(a.count_include_pad),
    )
    return site.reshape(site.emit(wide), site.result_shape())


def _adaptive_pool(site: Site) -> relax.Expr | None:
    """Pooling everything to one value is a mean or maximum; in one dimension it is done as in two."""
    a, shape = site.attrs, site.shape()
    maximum = site.name == "torch_tvm.adaptive_max_pool"
    layout = str(a["layout"] if maximum else a.layout)
    if not maximum and a.out_layout != layout:
        return None
    axes = [i for i, letter in enumerate(layout) if letter not in "NC"]
    size = [site.result_shape()[i] for i in axes]
    if all(extent == 1 for extent in size):
        return (op.max if maximum else op.mean)(site.data, axes, keepdims=True)
    if layout == "NCW":
        wide = _with_height(site, site.data)
        attrs = {"output_size": [1, *size], "layout": "NCHW"}
        pooled = (
            te_operators.call("adaptive_max_pool", [wide], attrs)
            if maximum
            else op.nn.adaptive_avg_pool2d(wide, [1, *size])
        )
        return site.reshape(site.emit(pooled), (*shape[:2], *size))
    return None


def _channel_shape(rank: int, axis: int, channels: int) -> list[int]:
    """Shape in which a vector of channels broadcasts along `axis`."""
    return [channels] + [1] * (rank - 1 - axis % rank)


def _batch_norm(site: Site) -> relax.Expr:
    """Make it data * scale + shift; scale and shift depend on weights alone."""
    data, gamma, beta, mean, variance = site.args
    a, shape = site.attrs, site.shape()
    dtype = str(data.ty.dtype)
    shifted = site.emit(op.add(variance, relax.const(float(a.epsilon), dtype)))
    scale = site.emit(op.rsqrt(shifted))
    if a.scale:
        scale = site.emit(op.multiply(scale, gamma))
    shift = site.emit(op.multiply(mean, scale))
    shift = site.emit(op.subtract(beta, shift) if a.center else op.negative(shift))
    channels = _channel_shape(len(shape), int(a.axis), int(shape[int(a.axis)]))
    product = site.emit(op.multiply(data, site.reshape(scale, channels)))
    result = site.emit(op.add(product, site.reshape(shift, channels)))
    return relax.Tuple([result, mean, variance])


def _affine(site: Site, value: relax.Expr, axes: Sequence[int]) -> relax.Expr:
    """Scale and shift a normalised value with parameters that run along some axes."""
    shape, (_, gamma, beta) = site.shape(), site.args
    wanted = [size if axis in axes else 1 for axis, size in enumerate(shape)]
    if site.attrs.scale:
        value = site.emit(op.multiply(value, site.reshape(gamma, wanted)))
    if site.attrs.center:
        value = site.emit(op.add(value, site.reshape(beta, wanted)))
    return value


def _normalize(site: Site, data: relax.Expr, axes: Sequence[int]) -> relax.Expr:
    attrs = {"axes": list(axes), "epsilon": float(site.attrs.epsilon)}
    return site.emit(te_operators.call("normalize", [data], attrs))


def _layer_norm(site: Site) -> relax.Expr:
    rank = len(site.shape())
    axes = sorted(axis % rank for axis in _ints(site.attrs.axes))
    return _affine(site, _normalize(site, site.data, axes), axes)


def _instance_norm(site: Site) -> relax.Expr:
    rank = len(site.shape())
    axes = sorted(axis % rank for axis in _ints(site.attrs.axes))
    return _affine(site, _normalize(site, site.data, axes), [int(site.attrs.channel_axis) % rank])


def _group_norm(site: Site) -> relax.Expr:
    """Split the channels, so that a group is an axis of its own."""
    a, shape = site.attrs, site.shape()
    channel, groups = int(a.channel_axis) % len(shape), int(a.num_groups)
    split = [*shape[:channel], groups, shape[channel] // groups, *shape[channel + 1 :]]
    axes = [axis % len(shape) for axis in _ints(a.axes)]
    moved = sorted([axis + (axis > channel) for axis in axes if axis != channel] + [channel + 1])
    normal = _normalize(site, site.reshape(site.data, split), moved)
    return _affine(site, site.reshape(normal, shape), [channel])


def _prelu(site: Site) -> relax.Expr:
    data, alpha = site.args
    shape, dtype = site.shape(), str(data.ty.dtype)
    slope = site.reshape(alpha, _channel_shape(len(shape), int(site.attrs.axis), site.shape(alpha)[0]))
    positive = site.emit(op.greater(data, relax.const(0, dtype)))
    return op.where(positive, data, site.emit(op.multiply(data, slope)))


def _filled_like(site: Site) -> relax.Expr:
    make = op.zeros if site.name == "zeros_like" else op.ones
    return make(list(site.shape()), str(site.call.ty.dtype))


def _arange(site: Site) -> relax.Expr:
    start, _, step = (float(arg.value) for arg in site.args)
    dtype, count = str(site.call.ty.dtype), site.result_shape()[0]
    if not dtype.startswith("float"):
        return relax.const(int(start) + int(step) * np.arange(count), dtype)
    return relax.const(start + step * np.arange(count), dtype)


EXPAND: dict[str, Rule] = {
    "arange": _arange,
    **dict.fromkeys(VIEWS, _as_reshape),
    "split": _split,
    "stack": _stack,
    "repeat": _repeat,
    "tile": _tile,
    "nn.conv1d": _conv1d,
    "nn.max_pool1d": _pool1d,
    "nn.avg_pool1d": _pool1d,
    "nn.prelu": _prelu,
    "zeros_like": _filled_like,
    "ones_like": _filled_like,
}

DECOMPOSE: dict[str, Rule] = {
    **dict.fromkeys(VIEWS, _as_reshape),
    "nn.batch_norm": _batch_norm,
    "nn.layer_norm": _layer_norm,
    "nn.group_norm": _group_norm,
    "nn.instance_norm": _instance_norm,
    "nn.adaptive_avg_pool1d": _adaptive_pool,
    "nn.adaptive_avg_pool2d": _adaptive_pool,
    "nn.adaptive_avg_pool3d": _adaptive_pool,
    "torch_tvm.adaptive_max_pool": _adaptive_pool,
}


# -- NHWC ------------------------------------------------------------------------------------------

TO_NHWC, TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]
CHANNELS_LAST = {"relax.nn.conv2d": ["NHWC", "OIHW"]}


def _local_conv2d(site: Site) -> relax.Expr | None:
    a = site.attrs
    if (a.data_layout, a.kernel_layout, a.out_layout) != ("NCHW", "OIHW", "NCHW"):
        return None
    data = site.emit(op.permute_dims(site.data, TO_NHWC))
    result = op.nn.conv2d(data, site.args[1], _ints(a.strides), _ints(a.padding), _ints(a.dilation),
                          int(a.groups), "NHWC", "OIHW", "NHWC", a.out_dtype)  # fmt: skip
    return op.permute_dims(site.emit(result), TO_NCHW)


def _local_pool2d(site: Site) -> relax.Expr | None:
    a = site.attrs
    if (a.layout, a.out_layout) != ("NCHW", "NCHW"):
        return None
    make = op.nn.max_pool2d if site.name == "nn.max_pool2d" else op.nn.avg_pool2d
    data = site.emit(op.permute_dims(site.data, TO_NHWC))
    result = make(data, _ints(a.pool_size), _ints(a.strides), _ints(a.padding), _ints(a.dilation),
                  bool(a.ceil_mode), bool(a.count_include_pad), "NHWC", "NHWC")  # fmt: skip
    return op.permute_dims(site.emit(result), TO_NCHW)


def _local_adaptive_pool2d(site: Site) -> relax.Expr | None:
    a = site.attrs
    maximum = site.name == "torch_tvm.adaptive_max_pool"
    layout = str(a["layout"] if maximum else a.layout)
    if layout != "NCHW" or (not maximum and a.out_layout != layout):
        return None
    data = site.emit(op.permute_dims(site.data, TO_NHWC))
    size = list(site.result_shape()[2:])
    attrs = {"output_size": size, "layout": "NHWC"}
    result = (
        te_operators.call("adaptive_max_pool", [data], attrs)
        if maximum
        else op.nn.adaptive_avg_pool2d(data, size, "NHWC")
    )
    return op.permute_dims(site.emit(result), TO_NCHW)


LOCAL_CHANNELS_LAST: dict[str, Rule] = {
    "nn.conv2d": _local_conv2d,
    "nn.max_pool2d": _local_pool2d,
    "nn.avg_pool2d": _local_pool2d,
    "nn.adaptive_avg_pool2d": _local_adaptive_pool2d,
    "torch_tvm.adaptive_max_pool": _local_adaptive_pool2d,
}


# -- Scale and shift into weights -------------------------------------------------------------------


def _per_channel(site: Site, factor: relax.Expr) -> int | None:
    """Size of a weight-only factor that has one value for each element of the last axis, or one value."""
    if not site.block.weight_only(factor):
        return None
    shape, result = site.shape(factor), site.result_shape()
    count = size_of(shape)
    if count == 1 or (len(result) and shape and shape[-1] == count == result[-1]):
        return count
    return None


def _scaled_weight(site: Site, product: relax.Call, factor: relax.Expr, count: int) -> relax.Expr | None:
    """Scale the weight of a convolution or matrix product instead of its result."""
    weight = product.args[1]
    if not site.block.weight_only(weight):
        return None
    if product.op.name == "relax.nn.conv2d":
        if product.attrs.out_layout != "NHWC" or product.attrs.kernel_layout != "OIHW":
            return None
        factor = site.reshape(factor, (count, 1, 1, 1))
    else:
        factor = site.reshape(factor, (count,))
    scaled = site.emit(op.multiply(weight, factor))
    return relax.Call(product.op, [product.args[0], scaled], product.attrs, product.ty_args)


def _operands_by_kind(site: Site) -> list[tuple[relax.Expr, relax.Expr, int]]:
    """(value, weight-only factor, size of the factor), for both orders of a commutative call."""
    left, right = site.args
    found = []
    for value, factor in ((left, right), (right, left)):
        count = _per_channel(site, factor)
        if count is not None and not is_constant(value) and site.shape(value) == site.result_shape():
            found.append((value, factor, count))
    return found


def _fold_multiply(site: Site) -> relax.Expr | None:
    for value, factor, count in _operands_by_kind(site):
        if not str(value.ty.dtype).startswith("float") or not site.block.used_once(value):
            continue
        product = site.block.definition(value, "nn.conv2d", "matmul")
        if product is not None and not is_constant(factor):
            return _scaled_weight(site, product, factor, count)
        total = site.block.definition(value, "add")
        if total is None or is_constant(factor):
            continue
        for source, bias in (total.args, list(total.args)[::-1]):
            product = site.block.definition(source, "nn.conv2d", "matmul")
            if product is None or not site.block.weight_only(bias) or not site.block.used_once(source):
                continue
            scaled = _scaled_weight(site, product, factor, count)
            if scaled is not None:
                return op.add(site.emit(scaled), site.emit(op.multiply(bias, factor)))
    return None


def _fold_add(site: Site) -> relax.Expr | None:
    """(product + bias) + shift = product + (bias + shift), where both are weights."""
    for value, shift, count in _operands_by_kind(site):
        total = site.block.definition(value, "add")
        if total is None or not str(value.ty.dtype).startswith("float") or not site.block.used_once(value):
            continue
        for source, bias in (total.args, list(total.args)[::-1]):
            product = site.block.definition(source, "nn.conv2d", "matmul")
            if product is not None and count > 1 and site.block.weight_only(bias):
                return op.add(source, site.emit(op.add(bias, shift)))
    return None


FOLD_WEIGHTS: dict[str, Rule] = {"multiply": _fold_multiply, "add": _fold_add}


# -- Moves of data ----------------------------------------------------------------------------------


def _moved(order: Sequence[int], shape: Sequence[int]) -> list[int]:
    """The axes of more than one element, in the order that a permutation gives them."""
    return [axis for axis in order if shape[axis] != 1]


def _permute(site: Site) -> relax.Expr | None:
    shape = site.shape()
    order = list(reversed(range(len(shape)))) if site.attrs.axes is None else _ints(site.attrs.axes)
    if _moved(order, shape) == sorted(_moved(order, shape)):
        return site.reshape(site.data, site.result_shape())
    before = site.block.definition(site.data, "permute_dims")
    if before is not None and before.attrs.axes is not None:
        inner = _ints(before.attrs.axes)
        return op.permute_dims(before.args[0], [inner[axis] for axis in order])
    return None


def _reshape(site: Site) -> relax.Expr | None:
    shape = site.result_shape()
    if shape == site.shape():
        return site.data
    before = site.block.definition(site.data, "reshape")
    if before is not None:
        return site.reshape(before.args[0], shape)
    product = site.block.definition(site.data, "matmul")
    if product is not None and site.block.used_once(site.data):
        return _product_with_batch(site, product, shape)
    moved = site.block.definition(site.data, "permute_dims")
    return None if moved is None else _unmerged(site, moved, shape)


def _unmerged(site: Site, moved: relax.Call, shape: tuple[int, ...]) -> relax.Expr | None:
    """Permute the dims that a reshape merged, where a later reshape splits them again."""
    merged = site.block.definition(moved.args[0], "reshape")
    if merged is None or moved.attrs.axes is None:
        return None
    before = site.shape(merged.args[0])
    groups = _merged_dims(before, site.shape(moved.args[0]))
    if groups is None:
        return None
    order = [axis for position in _ints(moved.attrs.axes) for axis in groups[position]]
    if tuple(before[axis] for axis in order) != shape:
        return None
    return op.permute_dims(merged.args[0], order)


def _merged_dims(before: tuple[int, ...], after: tuple[int, ...]) -> list[list[int]] | None:
    """Return the dims of `before` that each dim of its reshape `after` consists of; None if any was split."""
    groups: list[list[int]] = []
    axis = 0
    for size in after:
        group, product = [], 1
        while axis < len(before) and (product < size or not group):
            group.append(axis)
            product *= before[axis]
            axis += 1
        if product != size:
            return None
        groups.append(group)
    return groups if axis == len(before) else None


def _matmul(site: Site) -> relax.Expr | None:
    """Give both operands at least two dims; rows of all batches are one matrix if the right side has no batch."""
    left, right = site.args
    rows, columns = site.shape(left), site.shape(right)
    if len(columns) > 2 and len(rows) > 1:
        return None
    if len(columns) == 2 and len(rows) == 2:
        return None
    inner = rows[-1]
    left = site.reshape(left, (size_of(rows[:-1]) if len(columns) <= 2 else 1, inner))
    if len(columns) == 1:
        right = site.reshape(right, (inner, 1))
    product = site.emit(op.matmul(left, right, site.attrs.out_dtype))
    return site.reshape(product, site.result_shape())


def _product_with_batch(site: Site, product: relax.Call, shape: tuple[int, ...]) -> relax.Expr | None:
    """Let a batched product have the batch dims that its result is reshaped to; operands are views."""
    old = site.shape()
    left, right = product.args
    same_matrix = len(shape) > 2 and len(old) > 2 and shape[-2:] == old[-2:]
    whole = all(site.shape(x)[:-2] == old[:-2] for x in (left, right))
    if not same_matrix or not whole:
        return None
    sides = [site.reshape(x, (*shape[:-2], *site.shape(x)[-2:])) for x in (left, right)]
    return relax.Call(product.op, sides, product.attrs, product.ty_args)


def _slice(site: Site) -> relax.Expr | None:
    return site.data if site.result_shape() == site.shape() and _forward(site) else None


def _forward(site: Site) -> bool:
    strides = site.args[4].fields if len(site.args) > 4 else []
    return all(int(s) > 0 for s in strides)


def _concat(site: Site) -> relax.Expr | None:
    fields = site.data.fields
    return fields[0] if len(fields) == 1 else None


def _broadcast(site: Site) -> relax.Expr | None:
    return site.data if site.shape() == site.result_shape() else None


def _cast(site: Site) -> relax.Expr | None:
    return site.data if str(site.data.ty.dtype) == str(site.call.ty.dtype) else None


# -- Arithmetic of constants -------------------------------------------------------------------------

# Exact in numpy: one rounding, as in PyTorch.
_SCALAR_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "negative": np.negative,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "sqrt": np.sqrt,
}


def _scalar_value(expr: relax.Expr) -> np.ndarray | None:
    if is_constant(expr) and size_of(tuple(int(d) for d in expr.ty.shape.values)) == 1:
        value = expr.value.numpy()
        return value if value.dtype.kind in "fi" and value.dtype != np.float16 else None
    return None


def _fold_scalars(site: Site) -> relax.Expr | None:
    values = [value for value in map(_scalar_value, site.args) if value is not None]
    if len(values) < len(site.args):
        return None
    if site.name == "divide":
        if values[0].dtype.kind != "f":
            return None
        function: Callable[..., Any] = np.divide
    else:
        function = _SCALAR_ARITHMETIC[site.name]
    with np.errstate(all="ignore"):
        return relax.const(np.asarray(function(*values)), str(site.call.ty.dtype))


CLEAN: dict[str, Rule] = {
    **dict.fromkeys([*_SCALAR_ARITHMETIC, "divide"], _fold_scalars),
    "matmul": _matmul,
    "permute_dims": _permute,
    "reshape": _reshape,
    "strided_slice": _slice,
    "concat": _concat,
    "broadcast_to": _broadcast,
    "astype": _cast,
}
