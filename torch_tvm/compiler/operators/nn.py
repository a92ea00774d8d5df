"""Relay's nn operators: matrix products, convolutions, pools, normalisation, padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import relax
from tvm.relax import op

from . import te_operators
from .registry import Lowering, lowers


def swap_last(call: Lowering, value: relax.Expr) -> relax.Expr:
    """Emit the transpose of the last two axes."""
    axes = list(range(call.rank(value)))
    axes[-2:] = [axes[-1], axes[-2]]
    return call.emit(op.permute_dims(value, axes))


def _matmul(call: Lowering, transpose_a: bool, transpose_b: bool) -> relax.Expr:
    lhs, rhs = call.args
    lhs = swap_last(call, lhs) if transpose_a else lhs
    rhs = swap_last(call, rhs) if transpose_b else rhs
    return op.matmul(lhs, rhs, call.attrs["out_dtype"] or None)


@lowers("nn.dense")
def _dense(call: Lowering) -> relax.Expr:
    return _matmul(call, False, True)


@lowers("nn.matmul", "nn.batch_matmul")
def _general_matmul(call: Lowering) -> relax.Expr:
    return _matmul(call, bool(call.attrs["transpose_a"]), bool(call.attrs["transpose_b"]))


def _convolution_weight(call: Lowering) -> relax.Expr:
    """Undo Relay's depthwise weight (C, multiplier, ...): Relax takes (C * multiplier, 1, ...)."""
    weight, groups = call.args[1], int(call.attrs["groups"])
    layout = call.attrs["kernel_layout"]
    if groups == 1 or not layout.startswith("OI"):
        return weight
    outputs, inputs, *kernel = call.shape(weight)
    channels = call.attrs["channels"] or outputs
    if outputs == channels:
        return weight
    return call.emit(op.reshape(weight, [channels, outputs * inputs // channels, *kernel]))


def _convolution(make: Callable[..., relax.Expr]) -> Callable[[Lowering], relax.Expr]:
    def lower(call: Lowering) -> relax.Expr:
        a = call.attrs
        return make(
            call.data,
            _convolution_weight(call),
            a["strides"],
            a["padding"],
            a["dilation"],
            a["groups"],
            a["data_layout"],
            a["kernel_layout"],
            a["out_layout"] or None,
            a["out_dtype"] or None,
        )

    return lower


def _transposed_convolution(make: Callable[..., relax.Expr]) -> Callable[[Lowering], relax.Expr]:
    def lower(call: Lowering) -> relax.Expr:
        a = call.attrs
        return make(
            call.data,
            call.args[1],
            a["strides"],
            a["padding"],
            a["output_padding"],
            a["dilation"],
            a["groups"],
            a["data_layout"],
            a["kernel_layout"],
            a["out_layout"] or None,
            a["out_dtype"] or None,
        )

    return lower


for _name in ("conv1d", "conv2d", "conv3d"):
    lowers(f"nn.{_name}")(_convolution(getattr(op.nn, _name)))
    lowers(f"nn.{_name}_transpose")(_transposed_convolution(getattr(op.nn, _name + "_transpose")))


def _pool(make: Callable[..., relax.Expr]) -> Callable[[Lowering], relax.Expr]:
    def lower(call: Lowering) -> relax.Expr:
        a = call.attrs
        return make(
            call.data,
            a["pool_size"],
            a["strides"],
            a["padding"],
            a["dilation"],
            a["ceil_mode"],
            a.get("count_include_pad", False),
            a["layout"],
            a["out_layout"] or None,
        )

    return lower


for _name in ("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"):
    lowers(f"nn.{_name}")(_pool(getattr(op.nn, _name)))


def _adaptive_size(call: Lowering) -> list[int]:
    layout, size = call.attrs["layout"], call.attrs["output_size"]
    spatial = [d for d, letter in zip(call.dims(), layout, strict=True) if letter not in "NC"]
    if not size:
        return spatial
    return size * len(spatial) if len(size) == 1 else size


def _adaptive_average(make: Callable[..., relax.Expr]) -> Callable[[Lowering], relax.Expr]:
    def lower(call: Lowering) -> relax.Expr:
        return make(call.data, _adaptive_size(call), call.attrs["layout"], call.attrs["out_layout"] or None)

    return lower


for _rank in (1, 2, 3):
    lowers(f"nn.adaptive_avg_pool{_rank}d")(_adaptive_average(getattr(op.nn, f"adaptive_avg_pool{_rank}d")))


@lowers("nn.adaptive_max_pool1d", "nn.adaptive_max_pool2d", "nn.adaptive_max_pool3d")
def _adaptive_max(call: Lowering) -> relax.Expr:
    attrs = {"output_size": _adaptive_size(call), "layout": call.attrs["layout"]}
    return te_operators.call("adaptive_max_pool", [call.data], attrs)


@lowers("nn.global_avg_pool2d", "nn.global_max_pool2d")
def _global_pool(call: Lowering) -> relax.Expr:
    axes = [i for i, letter in enumerate(call.attrs["layout"]) if letter in "HW"]
    reduce = op.mean if call.name == "nn.global_avg_pool2d" else op.max
    return reduce(call.data, axes, keepdims=True)


@lowers("nn.softmax", "nn.fast_softmax")
def _softmax(call: Lowering) -> relax.Expr:
    return op.nn.softmax(call.data, call.axis())


@lowers("nn.log_softmax")
def _log_softmax(call: Lowering) -> relax.Expr:
    return op.nn.log_softmax(call.data, call.axis())


@lowers("nn.batch_norm")
def _batch_norm(call: Lowering) -> relax.Expr:
    a = call.attrs
    return op.nn.batch_norm(
        *call.args, call.axis(), a["epsilon"], a["center"], a["scale"], momentum=0.0, training=False
    )


@lowers("nn.layer_norm")
def _layer_norm(call: Lowering) -> relax.Expr:
    a = call.attrs
    return op.nn.layer_norm(*call.args, [call.axis()], a["epsilon"], a["center"], a["scale"])


@lowers("nn.group_norm")
def _group_norm(call: Lowering) -> relax.Expr:
    a, channel = call.attrs, call.axis()
    axes = [i for i in range(1, call.rank()) if i != channel]
    return op.nn.group_norm(*call.args, a["num_groups"], channel, axes, a["epsilon"], a["center"], a["scale"])


@lowers("nn.instance_norm")
def _instance_norm(call: Lowering) -> relax.Expr:
    a, channel = call.attrs, call.axis()
    axes = [i for i in range(1, call.rank()) if i != channel]
    return op.nn.instance_norm(*call.args, channel, axes, a["epsilon"], a["center"], a["scale"])


@lowers("nn.l2_normalize")
def _l2_normalize(call: Lowering) -> relax.Expr:
    square = call.emit(op.multiply(call.data, call.data))
    total = call.emit(op.sum(square, call.attrs["axis"], keepdims=True))
    eps = relax.const(call.attrs["eps"], call.dtype())
    return op.divide(call.data, call.emit(op.sqrt(call.emit(op.maximum(total, eps)))))


@lowers("nn.lrn")
def _lrn(call: Lowering) -> relax.Expr:
    return te_operators.call("lrn", [call.data], {**call.attrs, "axis": call.axis()})


@lowers("nn.dropout")
def _dropout(call: Lowering) -> Any:
    return relax.Tuple([call.data, call.emit(op.ones_like(call.data))])


@lowers("nn.batch_flatten")
def _batch_flatten(call: Lowering) -> relax.Expr:
    first, *rest = call.dims()
    size: Any = 1
    for dim in rest:
        size = size * dim
    return op.reshape(call.data, [first, size])


@lowers("nn.pad")
def _pad(call: Lowering) -> relax.Expr:
    widths = [int(w) for pair in call.attrs["pad_width"] for w in pair]
    mode = call.attrs["pad_mode"]
    value = call.scalar(1) if mode == "constant" else 0
    return op.nn.pad(call.data, widths, {"edge": "replicate"}.get(mode, mode), float(value))


@lowers("nn.mirror_pad")
def _mirror_pad(call: Lowering) -> relax.Expr:
    return te_operators.call("mirror_pad", [call.data], call.attrs)


@lowers("nn.depth_to_space", "nn.space_to_depth")
def _depth_to_space(call: Lowering) -> relax.Expr:
    return te_operators.call(call.name.removeprefix("nn."), [call.data], call.attrs)
