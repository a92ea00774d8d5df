"""Rolling, repeating, looking up and combining elements against eager PyTorch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from convert_checks import FLOATS, check, operators, refusal, run_compiled, tensors, values
from hypothesis import given, settings
from hypothesis import strategies as st

import torch_tvm

f32, i64 = torch.float32, torch.int64


@settings(max_examples=20)
@given(tensors(dtypes=[f32, i64, torch.bool]), st.data())
def test_roll(x: torch.Tensor, data: Any) -> None:
    shift = data.draw(st.integers(-7, 7))
    check(lambda x: x.roll(shift), x)
    if x.dim():
        dims = data.draw(st.lists(st.integers(-x.dim(), x.dim() - 1), min_size=1, max_size=3))
        check(lambda x: x.roll([shift + i for i in range(len(dims))], dims), x)


def test_grids() -> None:
    a, b, c = values([3], f32), values([2], f32), torch.tensor(1.5)
    for indexing in ("ij", "xy"):
        check(lambda a, b, c, k=indexing: torch.meshgrid(a, b, c, indexing=k), a, b, c)
        check(lambda a, k=indexing: torch.meshgrid(a, indexing=k), a)
    check(lambda a, b: (torch.cartesian_prod(a, b, a), torch.cartesian_prod(a)), a, b)


@pytest.mark.parametrize("dtype", [i64, torch.int32])
def test_repeats(dtype: torch.dtype) -> None:
    x, repeats = values([3, 2], f32), torch.tensor([2, 0, 3], dtype=dtype)
    check(lambda x, r: x.repeat_interleave(r, 0, output_size=5), x, repeats)
    check(lambda x, r: x[0].repeat_interleave(r[:2], output_size=2), x, repeats)
    check(lambda x, r: x.repeat_interleave(r[:1], 1, output_size=4), x, repeats)
    check(lambda x, r: torch.repeat_interleave(r, output_size=5), x, repeats)
    check(lambda x: (x.repeat_interleave(3), x.repeat_interleave(2, 1), x.tile(2), x.tile(2, 1, 2)), x)
    assert "output_size=None" in refusal(lambda x, r: x.repeat_interleave(r, 0), x, repeats)


def test_lookups() -> None:
    x, i = values([4, 3], f32), torch.tensor([[0, -1, 2], [1, 1, -3]])
    check(lambda x, i: (x.take(i), torch.take_along_dim(x, i + 3)), x, i)
    check(lambda x, i: (torch.take_along_dim(x, i.abs(), 0), torch.take_along_dim(x, i[:1] % 3, 1)), x, i)
    check(lambda x, i: torch.take_along_dim(x, x.argsort(1), 1), x, i)
    check(lambda x, i: F.one_hot(i + 3, 6), x, i)
    assert operators(check(lambda i: F.one_hot(i, 6), i.abs())) == ["one_hot"]
    run_compiled(lambda x, i: (x.take(i), torch.take_along_dim(x, i.abs(), 0), F.one_hot(i + 3, 6)), x, i)


def test_one_hot_of_unknown_classes() -> None:
    assert "num_classes" in refusal(lambda i: F.one_hot(i), torch.tensor([1, 2]))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_embedding_bag(mode: str, dtype: torch.dtype) -> None:
    table, indices = values([7, 3], dtype), torch.tensor([0, 6, 2, 2, 5, 1, 3, 2])
    offsets = torch.tensor([0, 3, 3, 4])
    bag = lambda t, i, o, **k: F.embedding_bag(i, t, o, mode=mode, **k)  # noqa: E731
    check(lambda t, i, o: bag(t, i, o), table, indices, offsets)
    check(lambda t, i, o: bag(t, i, o, padding_idx=2), table, indices, offsets)
    check(lambda t, i, o: bag(t, i, o, include_last_offset=True), table, indices, torch.tensor([0, 3, 3, 8]))
    check(lambda t, i: F.embedding_bag(i.reshape(4, 2), t, mode=mode), table, indices)
    if mode == "sum":
        check(
            lambda t, i, o, w: bag(t, i, o, per_sample_weights=w), table, indices, offsets, values([8], dtype)
        )


def test_embedding_bag_compiled() -> None:
    table, indices, offsets = values([50, 16], f32), torch.randint(0, 50, (40,)), torch.tensor([0, 3, 3, 20])
    run_compiled(
        lambda t, i, o: [F.embedding_bag(i, t, o, mode=mode) for mode in ("sum", "mean", "max")],
        table,
        indices,
        offsets,
    )


SIZED_BY_VALUES = {
    "nonzero": lambda x: x.nonzero(),
    "masked_select": lambda x: x.masked_select(x > 0),
    "unique": lambda x: x.unique(),
    "bincount": lambda x: x.long().abs().bincount(),
}


@pytest.mark.parametrize("name", SIZED_BY_VALUES)
def test_sizes_that_depend_on_values(name: str) -> None:
    text = refusal(SIZED_BY_VALUES[name], values([5], f32))
    assert "known only when the kernels have run" in text


def test_compiled() -> None:
    run_compiled(
        lambda x, r: (
            x.roll((1, -2), (0, 1)),
            x.roll(5),
            torch.stack(torch.meshgrid(x[0], x[1, :2], indexing="xy")),
            x.repeat_interleave(r, 0, output_size=6),
            torch.cartesian_prod(x[2], x[0]),
        ),
        values([3, 4], f32),
        torch.tensor([1, 2, 3]),
    )
    with torch_tvm.enabled(strict=True, min_group_size=1, guard=False, compile_process=False):
        x, repeats = values([3, 4], f32), torch.tensor([1, 2, 3])
        traced = torch.jit.trace(lambda x, r: x.repeat_interleave(r, 0, output_size=6), (x, repeats))
        with pytest.raises(RuntimeError, match="output_size|allocated size|repeat"):
            traced(x, repeats + 1)
