"""Sorting, order statistics and searching against eager PyTorch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from convert_checks import FLOATS, INTEGERS, check, operators, run_compiled, tensors, values
from hypothesis import given, settings
from hypothesis import strategies as st

Tensor = torch.Tensor
DTYPES = [*FLOATS, *INTEGERS, torch.bool]


def distinct(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """No two elements of a row are equal: their order is then the only one that is right."""
    return torch.rand(shape).argsort(-1).to(dtype)


@settings(max_examples=20)
@given(tensors(dtypes=DTYPES, special=True), st.data())
def test_sort(x: Tensor, data: Any) -> None:
    dim = data.draw(st.integers(-max(x.dim(), 1), max(x.dim(), 1) - 1))
    descending = data.draw(st.booleans())
    check(lambda x: torch.sort(x, dim=dim, descending=descending, stable=True), x)
    check(lambda x: (torch.sort(x, dim=dim, descending=descending)[0], torch.msort(x) if x.dim() else x), x)
    check(lambda x: torch.argsort(x, dim=dim, descending=descending, stable=True), x)


@settings(max_examples=15)
@given(st.sampled_from([torch.float32, torch.int64, torch.float16, torch.int32]), st.data())
def test_topk(dtype: torch.dtype, data: Any) -> None:
    x = distinct(3, 7, dtype=dtype)
    dim = data.draw(st.sampled_from([-1, 1]))
    k, largest, ordered = data.draw(st.integers(0, 7)), data.draw(st.booleans()), data.draw(st.booleans())
    expected = torch.topk(x, k, dim, largest, ordered)
    if ordered:
        check(lambda x: torch.topk(x, k, dim, largest, ordered), x)
    check(lambda x: torch.topk(x, k, dim, largest, ordered)[0].sort(dim)[0], x)
    assert expected.values.shape == (3, k)


def test_topk_of_few_dims() -> None:
    check(lambda x: torch.topk(x, 1), torch.tensor(2.5))
    check(lambda x: torch.topk(x, 2, dim=0), torch.tensor([[1.0, 5.0], [3.0, float("nan")], [2.0, 7.0]]))
    check(lambda x: torch.topk(x, 3, largest=False), torch.tensor([2.0, float("nan"), -float("inf"), 1.0]))


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int64, torch.uint8])
def test_kthvalue_and_median(dtype: torch.dtype) -> None:
    x = distinct(3, 6, 5, dtype=dtype)
    check(lambda x: (x.kthvalue(2, 1, True)[0], x.kthvalue(5), x.kthvalue(1, 0)[0]), x)
    check(
        lambda x: (x.median(1)[0], x.median(-1, keepdim=True), x.median(), x.nanmedian(), x.nanmedian(2)), x
    )
    check(lambda x: (x.t().kthvalue(3, 0, True), x.t().median(0), x.t().nanmedian(0, keepdim=True)), x[0])


def test_medians_with_nan() -> None:
    nan = float("nan")
    x = torch.tensor([[1.0, nan, 3.0, 0.5, nan], [nan] * 5, [5.0, 4.0, -1.0, 2.0, 9.0]])
    check(lambda x: (x.median(1)[0], x[::2].median(1), x[::2].nanmedian(1)), x)
    check(lambda x: (x.nanmedian(1)[0], x.median(), x.nanmedian()), x)
    check(lambda x: (x.median(), x.nanmedian()), torch.full((3,), nan))
    check(lambda x: (x.median(), x.nanmedian(0), x.kthvalue(1)), torch.tensor(3.0))
    check(lambda x: x.median(), torch.zeros(0, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool, torch.uint8])
def test_mode(dtype: torch.dtype) -> None:
    x = torch.randint(0, 3, (4, 9, 2)).to(dtype)
    check(lambda x: (x.mode(1)[0], x.mode(-1, keepdim=True)[0], x.mode(0)[0]), x)
    for dim in (0, 1, 2):
        relay_values, index = check_indices(lambda x, dim=dim: x.mode(dim, keepdim=True), x)
        assert torch.equal(x.gather(dim, index), relay_values)


def check_indices(fn: Any, x: Tensor) -> list[Tensor]:
    """Results of the Relay of a function, the indices of which ties leave open."""
    import relay_eval

    import torch_tvm

    got = relay_eval.evaluate(torch_tvm.to_relay(fn, (x,)), [x])
    assert torch.equal(got[0], fn(x)[0])
    return got


@settings(max_examples=20)
@given(
    st.sampled_from([torch.float32, torch.float64, torch.int64, torch.int32, torch.float16]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 9),
)
def test_searching(dtype: torch.dtype, right: bool, narrow: bool, count: int) -> None:
    rows = values([2, count], dtype).sort(-1).values
    sought = values([2, 5], dtype)
    options = {"right": right, "out_int32": narrow}
    check(lambda a, b: torch.searchsorted(a, b, **options), rows, sought)
    check(lambda a, b: torch.bucketize(b, a, **options), rows[0].contiguous(), sought)
    check(lambda a, b: torch.searchsorted(a, b, **options), rows[0].contiguous(), sought[0])
    side = "right" if right else "left"
    shuffled = values([2, count], dtype)
    order = shuffled.argsort(-1)
    check(lambda a, b, i: torch.searchsorted(a, b, side=side, sorter=i), shuffled, sought, order)
    check(lambda a: (torch.searchsorted(a, 2, right=right), torch.bucketize(3, a)), rows[0].contiguous())


def test_nan_is_sought_as_in_eager() -> None:
    edges = torch.tensor([0.0, 1.0, 2.0])
    sought = torch.tensor([float("nan"), -1.0, 1.0, float("inf"), -float("inf")])
    run_compiled(lambda a, b: (torch.bucketize(b, a), torch.bucketize(b, a, right=True)), edges, sought)
    broken = torch.tensor([0.0, float("nan"), 2.0, float("nan")])
    run_compiled(lambda a, b: torch.searchsorted(a, b), broken, sought)


@pytest.mark.parametrize("count", [0, 1, 5, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_isin(count: int, dtype: torch.dtype) -> None:
    x, tests = values([3, 4], dtype, special=True), values([count], dtype, special=True)
    check(lambda x, t: (torch.isin(x, t), torch.isin(x, t, invert=True)), x, tests)
    check(lambda x, t: (torch.isin(x, 2), torch.isin(2.5, t), torch.isin(x.int(), t)), x, tests)


def test_relay_of_sorting() -> None:
    x = values([3, 4], torch.float32)
    assert operators(check(lambda x: torch.sort(x), x)) == ["sort", "argsort"]
    assert operators(check(lambda x: torch.topk(x, 2), x)) == ["topk"]


def test_compiled() -> None:
    x = values([3, 41, 2], torch.float32, special=True)
    run_compiled(
        lambda x, i, h: (
            torch.sort(x, dim=1, stable=True),
            torch.sort(i, descending=True, stable=True),
            torch.argsort(h, dim=0, stable=True),
            x.nanmedian(1)[0],
            i.median(),
        ),
        x,
        values([4, 19], torch.int64),
        values([9, 3], torch.bfloat16),
    )
    run_compiled(
        lambda d, i: (torch.topk(d, 3), torch.topk(d, 5, -1, False), d.kthvalue(4), i.mode(1)[0]),
        distinct(4, 60, dtype=torch.float64).t().contiguous().t(),
        torch.randint(0, 4, (3, 30)),
    )
