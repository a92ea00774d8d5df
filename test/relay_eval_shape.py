"""Shapes, indices and new tensors of the reference evaluator."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from relay_eval_registry import dtype_of, operator, same_dtypes

Tensor = torch.Tensor


@operator("reshape")
def reshape(x: Tensor, newshape: Any, allowzero: Any) -> Tensor:
    assert all(size > 0 for size in newshape), f"{newshape} has entries that Relay reads as codes"
    assert math.prod(newshape) == x.numel()
    return x.reshape(newshape)


@operator("transpose")
def transpose(x: Tensor, axes: Any) -> Tensor:
    return x.permute(axes)


@operator("expand_dims")
def expand_dims(x: Tensor, axis: int, num_newaxis: int) -> Tensor:
    assert num_newaxis == 1
    return x.unsqueeze(axis)


@operator("squeeze")
def squeeze(x: Tensor, axis: Any) -> Tensor:
    assert all(x.shape[a] == 1 for a in axis)
    return x.squeeze(tuple(axis))


@operator("broadcast_to")
def broadcast_to(x: Tensor, shape: Any, dtype: str) -> Tensor:
    return x.expand(shape)


@operator("concatenate")
def concatenate(parts: tuple[Tensor, ...], axis: int) -> Tensor:
    same_dtypes(*parts)
    assert len({part.dim() for part in parts}) == 1
    return torch.cat(parts, axis)


@operator("stack")
def stack(parts: tuple[Tensor, ...], axis: int) -> Tensor:
    same_dtypes(*parts)
    return torch.stack(parts, axis)


@operator("split")
def split(x: Tensor, indices_or_sections: Any, axis: int) -> tuple[Tensor, ...]:
    if isinstance(indices_or_sections, list):
        assert indices_or_sections == sorted(indices_or_sections)
        return torch.tensor_split(x, indices_or_sections, axis)
    assert x.shape[axis] % indices_or_sections == 0
    return torch.chunk(x, indices_or_sections, axis)


@operator("strided_slice")
def strided_slice(x: Tensor, begin: Any, end: Any, strides: Any, slice_mode: str, axes: Any) -> Tensor:
    assert slice_mode == "end"
    for axis, first, last, step in zip(axes or range(len(begin)), begin, end, strides, strict=True):
        assert 0 <= first < last <= x.shape[axis]
        x = x.narrow(axis, first, last - first)[(slice(None),) * axis + (slice(None, None, step),)]
    return x


@operator("take")
def take(x: Tensor, indices: Tensor, batch_dims: int, axis: int, mode: str) -> Tensor:
    assert batch_dims == 0 and mode in ("clip", "wrap")
    flat = indices.reshape(-1).long()
    flat = flat.clamp(0, x.shape[axis] - 1) if mode == "clip" else flat % x.shape[axis]
    taken = torch.index_select(x, axis, flat)
    return taken.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


@operator("gather")
def gather(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    assert all(n == m for i, (n, m) in enumerate(zip(x.shape, indices.shape, strict=True)) if i != axis)
    return torch.gather(x, axis, indices.long())


@operator("adv_index")
def adv_index(fields: tuple[Tensor, ...]) -> Tensor:
    x, *indices = fields
    for axis, index in enumerate(indices):
        assert index.numel() == 0 or (index.min() >= 0 and index.max() < x.shape[axis])
    return x[tuple(indices)]


@operator("cumsum")
def cumsum(x: Tensor, axis: int, dtype: str, exclusive: Any) -> Tensor:
    assert not exclusive
    return torch.cumsum(x, axis, dtype=dtype_of(dtype))


@operator("cumprod")
def cumprod(x: Tensor, axis: int, dtype: str, exclusive: Any) -> Tensor:
    assert not exclusive
    return torch.cumprod(x, axis, dtype=dtype_of(dtype))


@operator("reverse")
def reverse(x: Tensor, axis: int) -> Tensor:
    return x.flip(axis)


@operator("tile")
def tile(x: Tensor, reps: Any) -> Tensor:
    return x.repeat(reps)


@operator("repeat")
def repeat(x: Tensor, repeats: int, axis: int) -> Tensor:
    return x.repeat_interleave(repeats, axis)


@operator("nn.pad")
def pad(x: Tensor, value: Tensor, pad_width: Any, pad_mode: str) -> Tensor:
    assert pad_mode in ("constant", "edge") and len(pad_width) == x.dim()
    same_dtypes(x, value)
    if pad_mode == "edge":
        return picked(x, pad_width, lambda place, size: min(max(place, 0), size - 1))
    return F.pad(x, [edge for pair in reversed(pad_width) for edge in pair], value=value.item())


@operator("nn.mirror_pad")
def mirror_pad(x: Tensor, mode: str, pad_width: Any) -> Tensor:
    assert mode == "REFLECT"
    assert all(max(pair) < size or max(pair) == 0 for pair, size in zip(pad_width, x.shape, strict=True))
    return picked(x, pad_width, lambda place, size: size - 1 - abs(size - 1 - abs(place)))


def picked(x: Tensor, pad_width: Any, source: Callable[[int, int], int]) -> Tensor:
    """Pad each dimension with the elements that `source` names."""
    for axis, (before, behind) in enumerate(pad_width):
        size = x.shape[axis]
        places = [source(place, size) for place in range(-before, size + behind)]
        x = x.index_select(axis, torch.tensor(places))
    return x


@operator("full")
def full(value: Tensor, shape: Any, dtype: str) -> Tensor:
    assert value.dtype == dtype_of(dtype)
    return torch.full(shape, value.item(), dtype=value.dtype)


@operator("zeros")
def zeros(shape: Any, dtype: str) -> Tensor:
    return torch.zeros(shape, dtype=dtype_of(dtype))


@operator("arange")
def arange(first: Tensor, last: Tensor, by: Tensor, /, dtype: str, **operands: Any) -> Tensor:
    same_dtypes(first, last, by)
    assert str(first.dtype) == f"torch.{dtype}"
    count = math.ceil((last.item() - first.item()) / by.item())
    assert count > 0, "TVM rejects an empty arange"
    return first + by * torch.arange(count).to(by.dtype)
