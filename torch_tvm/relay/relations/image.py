"""Operators on images: resizing, sampling."""

from __future__ import annotations

from torch_tvm.relay.ty import TensorType, Type

from .linear import by_letter, in_layout, spatial_axes
from .registry import ANY, CallSite, relation


@relation("image.resize1d", "image.resize2d", "image.resize3d")
def _resize(call: CallSite) -> Type:
    layout, size = call.attr("layout"), call.attr("size")
    sizes, space = by_letter(call, 0, layout), spatial_axes(layout)
    if size is None or len(size) != len(space):
        raise TypeError(f"expected size of {len(space)} numbers, got {size}")
    call.one_of("method", call.attr("method"), "nearest_neighbor", "linear", "cubic")
    sizes.update(zip(space, size, strict=True))
    return TensorType(in_layout(sizes, layout), call.dtype_attr("out_dtype"))


@relation("nn.upsampling", "nn.upsampling3d")
def _upsampling(call: CallSite) -> Type:
    layout = call.attr("layout")
    sizes = by_letter(call, 0, layout)
    for letter in spatial_axes(layout):
        known = sizes[letter] != ANY
        sizes[letter] = round(sizes[letter] * call.attr(f"scale_{letter.lower()}")) if known else ANY
    return TensorType(in_layout(sizes, layout), call.dtype())


@relation("image.grid_sample")
def _grid_sample(call: CallSite) -> Type:
    rank = call.rank()
    call.demand(rank in (4, 5), f"expected operand 0 of rank 4 or 5, got {call.types[0]!r}")
    call.one_of("layout", call.attr("layout"), "NCHW" if rank == 4 else "NCDHW")
    call.one_of("method", call.attr("method"), "bilinear", "nearest", "bicubic")
    call.one_of("padding_mode", call.attr("padding_mode"), "zeros", "border", "reflection")
    data, grid = call.shape(), call.demand_rank(rank, 1)
    call.demand_shape(1, [data[0], rank - 2, *grid[2:]])
    return TensorType([*data[:2], *grid[2:]], call.dtype())


@relation("image.affine_grid")
def _affine_grid(call: CallSite) -> Type:
    batch, *_ = call.demand_rank(3)
    call.demand_shape(0, [batch, 2, 3])
    target = call.attr("target_shape")
    call.demand(len(target) == 2, f"expected target_shape of 2 numbers, got {target}")
    return TensorType([batch, 2, *target], call.dtype())


@relation("image.crop_and_resize")
def _crop_and_resize(call: CallSite) -> Type:
    layout, size = call.attr("layout"), call.attr("crop_size")
    sizes, boxes = by_letter(call, 0, layout), call.demand_rank(2, 1)
    call.demand_shape(1, [boxes[0], 4])
    call.demand_shape(2, [boxes[0]])
    if size is None or len(size) != 2:
        raise TypeError(f"expected crop_size of 2 numbers, got {size}")
    sizes.update(N=boxes[0], H=size[0], W=size[1])
    return TensorType(in_layout(sizes, layout), call.dtype_attr("out_dtype"))
