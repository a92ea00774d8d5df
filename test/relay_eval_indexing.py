"""Sorting, searching and scattering of the reference evaluator."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from relay_eval_registry import dtype_of, operator, same_dtypes

Tensor = torch.Tensor

REDUCTIONS = {
    "update": lambda old, new: new,
    "add": torch.add,
    "mul": torch.mul,
    "min": torch.minimum,
    "max": torch.maximum,
}


@operator("sort")
def sort(x: Tensor, axis: int, is_ascend: bool, dtype: str) -> Tensor:
    return torch.sort(x, dim=axis, descending=not is_ascend, stable=True).values


@operator("argsort")
def argsort(x: Tensor, axis: int, is_ascend: bool, dtype: str) -> Tensor:
    return torch.argsort(x, dim=axis, descending=not is_ascend, stable=True).to(dtype_of(dtype))


@operator("topk")
def topk(x: Tensor, k: int, axis: int, ret_type: str, is_ascend: bool, dtype: str) -> tuple[Tensor, ...]:
    assert ret_type == "both" and k > 0
    ordered = torch.sort(x, dim=axis, descending=not is_ascend, stable=True)
    return ordered.values.narrow(axis, 0, k), ordered.indices.narrow(axis, 0, k).to(dtype_of(dtype))


@operator("searchsorted")
def searchsorted(sequence: Tensor, values: Tensor, right: bool, dtype: str) -> Tensor:
    same_dtypes(sequence, values)
    return torch.searchsorted(sequence.contiguous(), values.contiguous(), right=bool(right)).to(
        dtype_of(dtype)
    )


def scattered(target: Tensor, place: Any, update: Tensor, reduction: str) -> None:
    assert all(0 <= i < n for i, n in zip(place, target.shape, strict=False)), f"{place} in {target.shape}"
    target[place] = REDUCTIONS[reduction](target[place], update)


@operator("scatter_elements")
def scatter_elements(data: Tensor, indices: Tensor, updates: Tensor, axis: int, reduction: str) -> Tensor:
    same_dtypes(data, updates)
    assert indices.shape == updates.shape and indices.dim() == data.dim()
    assert not (data.dtype == torch.bool and reduction in ("add", "mul"))
    result = data.clone()
    for position in itertools.product(*map(range, indices.shape)):
        place = list(position)
        place[axis] = int(indices[position])
        scattered(result, tuple(place), updates[position], reduction)
    return result


@operator("scatter_nd")
def scatter_nd(data: Tensor, indices: Tensor, updates: Tensor, mode: str) -> Tensor:
    same_dtypes(data, updates)
    count, *spread = indices.shape
    assert list(updates.shape) == [*spread, *data.shape[count:]]
    assert not (data.dtype == torch.bool and mode in ("add", "mul"))
    result = data.clone()
    for position in itertools.product(*map(range, spread)):
        place = tuple(int(indices[(m, *position)]) for m in range(count))
        scattered(result, place, updates[position], mode)
    return result


@operator("one_hot")
def one_hot(indices: Tensor, on: Tensor, off: Tensor, depth: int, axis: int, dtype: str) -> Tensor:
    assert axis == -1 and on.dtype == off.dtype == dtype_of(dtype)
    return torch.where(indices.unsqueeze(-1) == torch.arange(depth), on, off)


@operator("meshgrid")
def meshgrid(vectors: tuple[Tensor, ...], indexing: str) -> tuple[Tensor, ...]:
    same_dtypes(*vectors)
    assert all(vector.dim() == 1 for vector in vectors)
    return torch.meshgrid(*vectors, indexing=indexing)


@operator("right_shift")
def right_shift(x: Tensor, by: Tensor) -> Tensor:
    same_dtypes(x, by)
    return x >> by
