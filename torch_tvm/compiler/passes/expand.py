"""Operators in terms of others that the kernels know: fewer kinds of kernels, more to fuse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax
from tvm.relax import op

from ..operators import te_operators
from ..rewrite import Rule, Site, ints, size_of


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


def _repeat(site: Site) -> relax.Expr:
    """Repeat along an axis by broadcasting an axis behind it: shared heads of attention are then a view."""
    shape = site.shape()
    flat = site.attrs.axis is None
    axis = 0 if flat else int(site.attrs.axis) % len(shape)
    before, size = ((), size_of(shape)) if flat else (shape[:axis], shape[axis])
    behind = () if flat else shape[axis + 1 :]
    repeated = op.broadcast_to(
        site.reshape(site.data, (*before, size, 1, *behind)),
        [*before, size, int(site.attrs.repeats), *behind],
    )
    return op.reshape(site.emit(repeated), list(site.result_shape()))


def _tile(site: Site) -> relax.Expr | None:
    shape, result = site.shape(), site.result_shape()
    aligned = (1,) * (len(result) - len(shape)) + shape
    if all(old in (1, new) for old, new in zip(aligned, result, strict=True)):
        return op.broadcast_to(site.data, list(result))
    return None


def _with_height(site: Site, expr: relax.Expr) -> relax.Expr:
    first, second, width = site.shape(expr)
    return site.reshape(expr, (first, second, 1, width))


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
    attrs = {"axes": list(axes), "epsilon": float(site.attrs.epsilon), "center": True}
    return site.emit(te_operators.call("normalize", [data], attrs))


def _layer_norm(site: Site) -> relax.Expr:
    rank = len(site.shape())
    axes = sorted(axis % rank for axis in ints(site.attrs.axes))
    return _affine(site, _normalize(site, site.data, axes), axes)


def _instance_norm(site: Site) -> relax.Expr:
    rank = len(site.shape())
    axes = sorted(axis % rank for axis in ints(site.attrs.axes))
    return _affine(site, _normalize(site, site.data, axes), [int(site.attrs.channel_axis) % rank])


def _group_norm(site: Site) -> relax.Expr:
    """Split the channels, so that a group is an axis of its own."""
    a, shape = site.attrs, site.shape()
    channel, groups = int(a.channel_axis) % len(shape), int(a.num_groups)
    split = [*shape[:channel], groups, shape[channel] // groups, *shape[channel + 1 :]]
    axes = [axis % len(shape) for axis in ints(a.axes)]
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


VIEWS = ("reshape", "expand_dims", "squeeze", "flatten", "nn.batch_flatten")

EXPAND: dict[str, Rule] = {
    "arange": _arange,
    **dict.fromkeys(VIEWS, _as_reshape),
    "split": _split,
    "stack": _stack,
    "repeat": _repeat,
    "tile": _tile,
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
