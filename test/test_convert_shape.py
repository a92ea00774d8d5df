"""Views, slices, joins, splits, indexing, creation and casts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from convert_checks import FLOATS, INTEGERS, broadcasting, check, operators, tensors, values
from hypothesis import given
from hypothesis import strategies as st

import torch_tvm
from torch_tvm import NotConvertibleError

ANY = [*FLOATS, *INTEGERS, torch.bool]
some = tensors(dtypes=[torch.float32, torch.int64, torch.bool], min_rank=1)


def draw_dim(data: Any, x: torch.Tensor, extra: int = 0) -> int:
    rank = x.dim() + extra
    return data.draw(st.integers(-rank, rank - 1))


@given(x=tensors(dtypes=ANY), data=st.data())
def test_permutations(x: torch.Tensor, data: Any) -> None:
    dims = data.draw(st.permutations(range(x.dim())))
    check(lambda t: t.permute(dims), x)
    if x.dim() >= 1:
        first, second = draw_dim(data, x), draw_dim(data, x)
        check(lambda t: t.transpose(first, second), x)
        check(lambda t: torch.movedim(t, first, second), x)
    if x.dim() == 2:
        check(lambda t: (t.t(), t.T, t.mT), x)


@given(x=some, data=st.data())
def test_views(x: torch.Tensor, data: Any) -> None:
    start = data.draw(st.integers(0, x.dim() - 1))
    check(lambda t: torch.flatten(t, start), x)
    check(lambda t: t.reshape(-1) if t.numel() else t, x)
    check(lambda t: t.contiguous().view(*t.shape[:start], 1, *t.shape[start:]), x)
    dim = draw_dim(data, x, 1)
    check(lambda t: t.unsqueeze(dim), x)
    check(lambda t: t.squeeze(), x)
    check(lambda t: t.squeeze(draw), x) if (draw := draw_dim(data, x)) is not None else None
    check(lambda t: t.expand(3, *t.shape), x)


@given(x=some, data=st.data())
def test_slices(x: torch.Tensor, data: Any) -> None:
    bound = st.one_of(st.none(), st.integers(-6, 6))
    first, last, step = data.draw(bound), data.draw(bound), data.draw(st.integers(1, 3))
    check(lambda t: t[first:last:step], x)
    check(lambda t: t[..., first:last], x)
    if x.shape[0]:
        index = data.draw(st.integers(-x.shape[0], x.shape[0] - 1))
        check(lambda t: t[index], x)
        check(lambda t: t.narrow(0, index, 1), x)


@given(data=st.data())
def test_joins(data: Any) -> None:
    shape = data.draw(st.lists(st.sampled_from([0, 1, 2, 3]), min_size=1, max_size=3))
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    parts = []
    for _ in range(data.draw(st.integers(1, 3))):
        sizes = list(shape)
        sizes[dim] = data.draw(st.integers(0, 3))
        parts.append(data.draw(tensors(sizes, dtypes=ANY)))
    check(lambda *ts: torch.cat(ts, dim), *parts)
    check(lambda t: torch.cat([t, torch.zeros(0)]), values([3], torch.float32))
    same = [data.draw(tensors(shape, dtypes=[torch.float32])) for _ in parts]
    check(lambda *ts: torch.stack(ts, dim), *same)


@given(x=some, data=st.data())
def test_splits(x: torch.Tensor, data: Any) -> None:
    dim = draw_dim(data, x)
    size = x.shape[dim]
    pieces = data.draw(st.integers(1, 4))
    check(lambda t: torch.chunk(t, pieces, dim), x)
    check(lambda t: torch.split(t, pieces, dim), x)
    cut = data.draw(st.integers(0, size))
    check(lambda t: torch.split(t, [cut, size - cut], dim), x)
    check(lambda t: torch.tensor_split(t, pieces, dim), x)
    if size:
        check(lambda t: torch.unbind(t, dim), x)


@given(x=tensors(dtypes=[torch.float32, torch.int64]), data=st.data())
def test_repetition(x: torch.Tensor, data: Any) -> None:
    repeats = data.draw(st.lists(st.integers(1, 3), min_size=max(x.dim(), 1), max_size=x.dim() + 1))
    check(lambda t: t.repeat(repeats), x)
    check(lambda t: torch.tile(t, (2,)), x)
    if x.dim():
        dim = draw_dim(data, x)
        check(lambda t: t.flip(dim), x)
        check(lambda t: t.repeat_interleave(2, dim), x)
        check(lambda t: F.pad(t, (1, 2), value=0.5) if t.is_floating_point() and t.numel() else t, x)


@given(data=st.data())
def test_indexing(data: Any) -> None:
    table = values([5, 3], data.draw(st.sampled_from(FLOATS)))
    shape = data.draw(st.lists(st.integers(0, 3), max_size=3))
    indices = torch.randint(0, 5, shape, dtype=data.draw(st.sampled_from([torch.int64, torch.int32])))
    check(F.embedding, indices, table)
    flat = torch.randint(0, 3, (data.draw(st.integers(0, 4)),))
    check(lambda t, i: torch.index_select(t, 1, i), table, flat)
    picked = torch.randint(0, 3, (data.draw(st.integers(1, 5)), 2))
    check(lambda t, i: torch.gather(t, 1, i), table, picked)


@given(data=st.data())
def test_indexing_by_several_tensors(data: Any) -> None:
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    x = values(sizes, torch.float32)
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    chosen = data.draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=3, unique=True))
    indices = [torch.randint(-sizes[dim], sizes[dim], shape) for dim in chosen]

    def pick(t: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        places: list[Any] = [slice(None)] * t.dim()
        for dim, index in zip(chosen, given, strict=True):
            places[dim] = index
        return t[tuple(places)]

    check(pick, x, *indices)


def test_selection_by_a_mask_is_refused() -> None:
    with pytest.raises(NotConvertibleError, match=r"aten::index\.Tensor"):
        torch_tvm.to_relay(lambda t: t[t > 0], [torch.ones(3)])


@given(pair=broadcasting([torch.float32, torch.float64, torch.int64], special=True), data=st.data())
def test_conditions(pair: list[torch.Tensor], data: Any) -> None:
    condition = data.draw(tensors(torch.broadcast_shapes(*(t.shape for t in pair)), dtypes=[torch.bool]))
    check(torch.where, condition, *pair)
    check(lambda c, a: torch.where(c, a, 2.5), condition, pair[0])
    check(lambda c, a: torch.where(c, -1.0, a), condition, pair[0])
    check(lambda a, c: a.masked_fill(c, 3), pair[0], condition)


@pytest.mark.parametrize("diagonal", [-2, 0, 1])
def test_triangles(diagonal: int) -> None:
    check(lambda t: (t.tril(diagonal), t.triu(diagonal)), values([2, 3, 4], torch.float32))


@given(x=tensors(dtypes=[*FLOATS, torch.int64]))
def test_creation(x: torch.Tensor) -> None:
    check(lambda t: (torch.zeros_like(t), torch.ones_like(t), torch.full_like(t, 3)), x)
    check(lambda t: (t.new_zeros(2, 3), t.new_ones(2), t.new_full((2,), 7)), x)
    check(lambda t: (torch.zeros(2, 2), torch.ones(3, dtype=torch.int64), torch.full((2, 3), 1.5)), x)
    check(lambda t: (torch.arange(5), torch.arange(1, 8, 2), torch.arange(0.0, 1.0, 0.3)), x)
    check(lambda t: t + torch.tensor([1, 2, 3])[0] + torch.tensor(2), x)


@given(x=tensors(dtypes=ANY), dtype=st.sampled_from(ANY))
def test_casts(x: torch.Tensor, dtype: torch.dtype) -> None:
    if dtype == torch.uint8:
        x = x.abs() if x.dtype not in (torch.bool, torch.uint8) else x
    check(lambda t: t.to(dtype), x)
    check(lambda t, u: t.type_as(u), x, values([1], dtype))
    check(lambda t: t.to("cpu", dtype), x)


def test_shapes_that_tracing_writes_as_arithmetic() -> None:
    def heads(x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.size()
        return x.view(batch, length, 4, width // 4).permute(0, 2, 1, 3).reshape(batch * 4, length, -1)

    traced = torch.jit.trace(heads, torch.rand(2, 3, 8))
    assert operators(check(traced, torch.rand(5, 7, 16))) == ["reshape", "transpose", "reshape"]


def test_identities_leave_no_operator() -> None:
    x = torch.randn(2, 3)

    def identities(t: torch.Tensor) -> torch.Tensor:
        t = F.dropout(t.contiguous().clone(), 0.5, training=False).detach()
        return t.view(2, 3).expand(2, 3).permute(0, 1)[:, 0:3].to(torch.float32).squeeze(0)

    assert operators(check(identities, x)) == []


def test_training_dropout_is_refused() -> None:
    with pytest.raises(NotConvertibleError, match="train=True"):
        torch_tvm.to_relay(lambda t: F.dropout(t, 0.5, training=True), [torch.ones(3)])


def test_in_place_writes() -> None:
    def local(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        y.relu_()
        y.mul_(2).add_(x)
        return y

    assert operators(check(local, torch.randn(3))) == ["add", "nn.relu", "multiply", "add"]

    def visible(x: torch.Tensor) -> torch.Tensor:
        return x.add_(1)

    with pytest.raises(NotConvertibleError, match="in place"):
        torch_tvm.to_relay(visible, [torch.randn(3)])


@given(x=tensors(dtypes=ANY, min_rank=1), data=st.data())
def test_diff(x: torch.Tensor, data: Any) -> None:
    dim = draw_dim(data, x)
    size = x.shape[dim]
    n = data.draw(st.integers(0, 3))
    edge = x.narrow(dim, 0, min(size, 1))
    check(lambda t: torch.diff(t, n, dim), x)
    check(lambda t, e: torch.diff(t, n, dim, prepend=e, append=t), x, edge)
    check(lambda t, e: torch.diff(t, n, dim, append=e), x, edge.to(torch.float64))
