"""Scattering into a copy of a tensor against eager PyTorch, duplicates and errors included."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from convert_checks import FLOATS, INTEGERS, check, operators, refusal, run_compiled, values
from hypothesis import given, settings
from hypothesis import strategies as st

import torch_tvm

Tensor = torch.Tensor
DTYPES = [*FLOATS, *INTEGERS, torch.bool]
f32, i64 = torch.float32, torch.int64


def permuted_index(shape: list[int], dim: int, size: int) -> Tensor:
    """Indices without duplicates along a dimension, where the order of updates does not matter."""
    lines = torch.rand([*shape[:dim], *shape[dim + 1 :], size]).argsort(-1)[..., : shape[dim]]
    return lines.movedim(-1, dim).contiguous()


@settings(max_examples=20)
@given(st.sampled_from(DTYPES), st.data())
def test_scatter(dtype: torch.dtype, data: Any) -> None:
    shape = data.draw(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=3))
    dim = data.draw(st.integers(0, len(shape) - 1))
    covered = [data.draw(st.integers(1, size)) for size in shape]
    x, src = values(shape, dtype), values([size + 1 for size in covered], dtype)
    index = permuted_index(covered, dim, shape[dim])
    check(lambda x, i, s: (x.scatter(dim, i, s), x.scatter(dim - len(shape), i, 1)), x, index, src)
    repeated = torch.randint(0, shape[dim], src.shape)
    check(lambda x, i, s: x.scatter_add(dim, i, s), values([n + 1 for n in shape], dtype), repeated, src)


@pytest.mark.parametrize("dtype", [f32, torch.float64, torch.bfloat16, i64, torch.uint8])
@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
def test_scatter_reduce(reduce: str, dtype: torch.dtype) -> None:
    x, src = values([4, 3], dtype), values([5, 3], dtype)
    if dtype.is_floating_point and reduce.startswith("am"):
        x[0, 0] = src[1, 1] = float("nan")
    index = torch.randint(0, 4, (5, 3))
    for include in (True, False):
        options = {"reduce": reduce, "include_self": include}
        check(lambda x, i, s, o=options: x.scatter_reduce(0, i, s, **o), x, index, src)


def test_older_reductions() -> None:
    x, src, index = values([4, 3], f32), values([5, 3], f32), torch.randint(0, 4, (5, 3))
    check(
        lambda x, i, s: (x.scatter(0, i, s, reduce="add"), x.scatter(0, i, 2, reduce="multiply")),
        x,
        index,
        src,
    )


@settings(max_examples=20)
@given(st.sampled_from(DTYPES), st.integers(-3, 2))
def test_whole_slices(dtype: torch.dtype, dim: int) -> None:
    x = values([3, 4, 2], dtype)
    size = x.shape[dim]
    index = torch.tensor([size - 1, 0, size - 1, 0, 1])
    sizes = [3, 4, 2]
    sizes[dim] = 5
    src = values(sizes, dtype)
    alpha = 1 if dtype == torch.bool else 2
    check(lambda x, i, s: x.index_add(dim, i, s, alpha=alpha), x, index, src)
    check(lambda x, i, s: x.index_copy(dim, i[:2].int().long(), s.narrow(dim, 0, 2)), x, index, src)
    check(lambda x, i: (x.index_fill(dim, i - size, 1), x.index_fill(dim, i, x.sum().to(x.dtype))), x, index)


def test_scalars() -> None:
    x, one = torch.tensor(2.0), torch.tensor(0)
    check(lambda x, i: (x.scatter(0, i, 5.0), x.index_fill(0, i, 3), x.index_add(0, i, x)), x, one)
    check(lambda x, i: x.index_copy(0, i, x + 1), x, one)


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("dtype", [f32, i64, torch.float16, torch.bool])
def test_index_put(dtype: torch.dtype, accumulate: bool) -> None:
    x = values([4, 5, 3], dtype)
    i = torch.tensor([1, -1, 0]) if not accumulate else torch.tensor([1, -1, 1])
    j = torch.tensor([[2], [0]])
    put = lambda x, index, v: torch.ops.aten.index_put(x, index, v, accumulate)  # noqa: E731
    check(lambda x, i, v: put(x, (i,), v), x, i, values([3, 5, 3], dtype))
    check(lambda x, i, v: put(x, (i,), v), x, i, values([3], dtype))
    check(lambda x, i, j, v: put(x, (i, j), v), x, i, j, values([2, 3, 3], dtype))
    check(lambda x, i, v: put(x, (None, i), v), x, i, values([4, 3, 3], dtype))
    check(lambda x, i, j, v: put(x, (i, None, j), v), x, i, j, values([2, 3, 5], dtype))
    check(lambda x, i, j, v: put(x, (None, i, j), v), x, i, j, values([1], dtype))
    check(lambda x, v: put(x, (torch.tensor(2),), v), x, values([5, 3], dtype))


def assigned(x: Tensor, index: Any, value: Any) -> Tensor:
    result = x.clone()
    result[index] = value
    return result


def test_masks_with_one_value() -> None:
    x, mask, one = values([4, 5, 3], f32), values([4, 5], torch.bool), torch.tensor(7.0)
    check(lambda x, m: (assigned(x, m, 1.5), assigned(x, m[:, 0], 2), assigned(x, x > 0, 3)), x, mask)
    check(lambda x, m, v: assigned(x, m, v), x, mask, values([3], f32))
    check(lambda x, m, v: torch.ops.aten.index_put(x, (None, m[0]), v), x, mask, one)
    check(lambda x, m, v: torch.index_put(x, (m,), v, accumulate=True), x, mask, one)
    put = lambda x, m, v: torch.index_put(x, (m,), v)  # noqa: E731
    assert "known only when the kernels have run" in refusal(put, x, x > 0, values([int((x > 0).sum())], f32))
    several = lambda x, m: assigned(x, (m[:, 0], m[0]), 1.0)  # noqa: E731
    assert "several masks" in refusal(several, x, torch.ones(4, 5, dtype=torch.bool).tril())


@pytest.mark.parametrize("accumulate", [False, True])
def test_put(accumulate: bool) -> None:
    i = torch.tensor([[1, -1], [0, -3]])
    for dtype in (f32, i64, torch.int8):
        check(lambda x, i, v: x.put(i, v, accumulate), values([3, 4], dtype), i, values([2, 2], dtype))


@pytest.mark.parametrize("dtype", [f32, i64, torch.bool])
def test_masked_scatter(dtype: torch.dtype) -> None:
    x, mask, source = values([4, 5], dtype), values([5], torch.bool), values([30], dtype)
    check(lambda x, m, s: (x.masked_scatter(m, s), x[0].masked_scatter(x > 0, s)), x, mask, source)


def test_known_places() -> None:
    x = values([4, 5, 3], f32)
    check(
        lambda x, s: (
            x.select_scatter(s[0, :, :3], 0, 2),
            x.select_scatter(s[:4, 0, :3], -2, -1),
            x.slice_scatter(s[:2, :, :3], 0, 1, 3),
            x.slice_scatter(s[:4, :3, :3], 1, 0, 5, 2),
            x.slice_scatter(s[:4, :, :3], 1),
            x.slice_scatter(s[:4, :, :1], -1, -1),
            x.diagonal_scatter(s[:3, 0, :4]),
            x.diagonal_scatter(s[:4, 0, :2], 1, 1, 2),
            x.diagonal_scatter(s[:4, 0, :3], -2, 1, -1),
        ),
        x,
        values([5, 5, 5], f32),
    )


def test_relay_of_scatter() -> None:
    x, index, src = values([4, 3], f32), torch.randint(0, 4, (5, 3)), values([5, 3], f32)
    assert operators(check(lambda x, i, s: x.scatter_add(0, i, s), x, index, src)) == ["scatter_elements"]
    assert operators(check(lambda x, i: x.index_fill(0, i, 1), x, index[0]))[-1] == "scatter_nd"


def test_compiled() -> None:
    x, src = values([6, 5, 3], f32).permute(2, 0, 1), values([3, 4, 5], f32)
    x[0, 0, 0] = float("nan")
    index = torch.randint(0, 3, (3, 4, 5))
    run_compiled(
        lambda x, i, s: (
            x.scatter_reduce(1, i, s, "amax"),
            x.scatter_reduce(0, i[:2, :3, :2], s, "mean", include_self=False),
            x.index_add(1, i[0, 0], s[:, 0].unsqueeze(1).expand(3, 5, 5)),
            torch.ops.aten.index_put(x, (i[0], None, i[0]), s[0, 0, 0]),
            torch.index_put(x, (i[:, 0, 0], i[1, :3, 1]), s[:, 0], accumulate=True),
            x.half().index_fill(2, i[0, 0], 2),
            (x > 0).index_fill(0, i[0, 0], 1),
        ),
        x,
        index,
        src,
    )
    run_compiled(
        lambda x, i: (x.scatter_add(0, i, x), x.scatter_add(0, i.neg() + 699, x + 1)),
        torch.arange(20000),
        torch.randint(0, 700, (20000,)),
    )


@pytest.mark.parametrize("bad", [-1, 3])
def test_an_index_out_of_range_raises(bad: int) -> None:
    x, index, src = values([3, 4], f32), torch.tensor([0, 1]), values([2, 4], f32)
    functions = [
        lambda x, i, s: x.scatter(0, i.unsqueeze(1), s),
        lambda x, i, s: x.scatter_add(0, i.unsqueeze(1), s),
        lambda x, i, s: x.index_add(0, i, s),
        lambda x, i, s: x.index_copy(0, i, s),
        lambda x, i, s: x.index_fill(0, i - 3 * (i < 0), 1.0),
        lambda x, i, s: torch.index_put(x, (i - 3 * (i < 0),), s),
    ]
    for function in functions:
        with torch_tvm.enabled(strict=True, min_group_size=1, guard=False, compile_process=False):
            traced = torch.jit.trace(function, (x, index, src))
            assert torch.equal(traced(x, index, src), function(x, index, src))
            wrong = index.clone()
            wrong[1] = bad
            with pytest.raises((IndexError, RuntimeError), match="out of (range|bounds)|index"):
                traced(x, wrong, src)
