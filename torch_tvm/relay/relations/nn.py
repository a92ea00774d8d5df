"""Normalisation, softmax, pooling, padding and what else neural networks consist of."""

from __future__ import annotations

from torch_tvm.relay.ty import TensorType, TupleType, Type

from .linear import by_letter, in_layout, padding_sums, per_axis, spatial_axes
from .registry import ANY, CallSite, plus, relation, times


def _demand_channels(call: CallSite, *indices: int) -> int:
    channels = call.shape()[call.axis()]
    for index in indices:
        call.one_dtype(0, index)
        call.assign_shape(index, [channels], f" (axis={call.attr('axis')})")
    return channels


@relation("nn.batch_norm")
def _batch_norm(call: CallSite) -> Type:
    vector = TensorType([_demand_channels(call, 1, 2, 3, 4)], call.dtype())
    return TupleType([call.tensor(), vector, vector])


@relation("nn.layer_norm", "nn.group_norm", "nn.instance_norm")
def _norm(call: CallSite) -> Type:
    channels = _demand_channels(call, 1, 2)
    if call.name == "nn.group_norm":
        groups = call.attr("num_groups")
        fits = groups > 0 and (channels == ANY or channels % groups == 0)
        call.demand(fits, f"expected num_groups to divide {channels} channels, got {groups}")
    if call.name == "nn.instance_norm":
        call.demand(call.rank() > 2, f"expected operand 0 of rank 3 or more, got {call.types[0]!r}")
    return call.tensor()


@relation("nn.l2_normalize")
def _l2_normalize(call: CallSite) -> Type:
    call.axes()
    return call.tensor()


@relation("nn.softmax", "nn.log_softmax", "nn.fast_softmax", "nn.lrn")
def _along_axis(call: CallSite) -> Type:
    call.axis()
    return call.tensor()


@relation("nn.dropout")
def _dropout(call: CallSite) -> Type:
    return TupleType([call.tensor(), call.tensor()])


@relation("nn.batch_flatten")
def _batch_flatten(call: CallSite) -> Type:
    call.demand(call.rank() >= 1, f"expected operand 0 of rank 1 or more, got {call.types[0]!r}")
    return TensorType([call.shape()[0], times(call.shape()[1:])], call.dtype())


def pooled_shape(call: CallSite) -> list[int]:
    """Give the shape of windows' results."""
    layout = call.attr("layout")
    sizes = by_letter(call, 0, layout)
    space = spatial_axes(layout)
    windows, strides = per_axis(call, "pool_size", len(space)), per_axis(call, "strides", len(space))
    dilation, padding = per_axis(call, "dilation", len(space)), padding_sums(call, len(space))
    for i, letter in enumerate(space):
        if sizes[letter] == ANY:
            sizes[letter] = ANY  # no longer the variable that it may have been
            continue
        slack = sizes[letter] + padding[i] - ((windows[i] - 1) * dilation[i] + 1)
        slack += strides[i] - 1 if call.attr("ceil_mode") else 0
        call.demand(slack >= 0, f"expected a window that fits into {sizes[letter]} elements of axis {letter}")
        sizes[letter] = slack // strides[i] + 1
    return in_layout(sizes, call.attr("out_layout") or layout)


@relation(*[f"nn.{kind}_pool{rank}d" for rank in (1, 2, 3) for kind in ("max", "avg")])
def _pool(call: CallSite) -> Type:
    return TensorType(pooled_shape(call), call.dtype())


@relation(*[f"nn.adaptive_{kind}_pool{rank}d" for rank in (1, 2, 3) for kind in ("max", "avg")])
def _adaptive_pool(call: CallSite) -> Type:
    layout = call.attr("layout")
    sizes = by_letter(call, 0, layout)
    space, wanted = spatial_axes(layout), call.attr("output_size")
    wanted = wanted * len(space) if len(wanted) == 1 else wanted
    message = f"expected output_size of 0, 1 or {len(space)} numbers, got {wanted}"
    call.demand(len(wanted) in (0, len(space)), message)
    sizes.update(zip(space, wanted, strict=True) if wanted else {})
    return TensorType(in_layout(sizes, call.attr("out_layout") or layout), call.dtype())


@relation("nn.global_avg_pool2d", "nn.global_max_pool2d")
def _global_pool(call: CallSite) -> Type:
    layout = call.attr("layout")
    sizes = {**by_letter(call, 0, layout), "H": 1, "W": 1}
    return TensorType(in_layout(sizes, call.attr("out_layout") or layout), call.dtype())


@relation("nn.pad", "nn.mirror_pad")
def _pad(call: CallSite) -> Type:
    shape, widths = call.shape(), call.attr("pad_width")
    message = f"expected pad_width of {len(shape)} pairs, got {widths}"
    call.demand(len(widths) == len(shape) and all(len(pair) == 2 for pair in widths), message)
    if call.name == "nn.pad":  # casts its number to the dtype of the data
        call.demand(times(call.shape(1)) == 1, f"expected one number as operand 1, got {call.types[1]!r}")
        call.one_of("pad_mode", call.attr("pad_mode"), "constant", "edge", "reflect")
    else:
        call.one_of("mode", call.attr("mode"), "SYMMETRIC", "REFLECT")
    fits = all(n == ANY or n + sum(pair) >= 0 for n, pair in zip(shape, widths, strict=True))
    call.demand(fits, f"expected sizes of 0 or more, got pad_width={widths} of {call.types[0]!r}")
    result = [plus(n, sum(pair)) for n, pair in zip(shape, widths, strict=True)]
    return TensorType(result, call.dtype())


@relation("nn.depth_to_space", "nn.space_to_depth")
def _depth_to_space(call: CallSite) -> Type:
    layout, block = call.attr("layout"), call.attr("block_size")
    sizes = by_letter(call, 0, layout)
    to_space = call.name == "nn.depth_to_space"
    for letter, factor in (("C", block * block), ("H", block), ("W", block)):
        if sizes[letter] == ANY:
            sizes[letter] = ANY if factor > 1 else sizes[letter]
            continue
        shrinks = (letter == "C") == to_space
        message = f"expected size on axis {letter} to be a multiple of {factor}, got {sizes[letter]}"
        call.demand(not shrinks or sizes[letter] % factor == 0, message)
        sizes[letter] = sizes[letter] // factor if shrinks else sizes[letter] * factor
    return TensorType(in_layout(sizes, layout), call.dtype())


@relation("nn.cross_entropy", "nn.cross_entropy_with_logits")
def _cross_entropy(call: CallSite) -> Type:
    call.one_dtype(0, 1)
    call.demand_shape(1, call.demand_rank(2))
    return TensorType([], call.dtype())


@relation("nn.nll_loss")
def _nll_loss(call: CallSite) -> Type:
    shape = call.shape()
    classes = 1 if len(shape) > 1 else 0
    call.demand_shape(1, shape[:classes] + shape[classes + 1 :])
    call.demand_shape(2, [shape[classes]])
    call.one_dtype(0, 2)
    call.one_of("reduction", call.attr("reduction"), "none", "sum", "mean")
    return TensorType(call.shape(1) if call.attr("reduction") == "none" else [], call.dtype())


@relation("nn.dilate")
def _dilate(call: CallSite) -> Type:
    shape, strides = call.shape(), per_axis(call, "strides", call.rank())
    sizes = [
        n if s == 1 else ANY if n == ANY else (n - 1) * s + 1 for n, s in zip(shape, strides, strict=True)
    ]
    return TensorType(sizes, call.dtype())
