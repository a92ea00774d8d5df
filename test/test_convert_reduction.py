"""Reductions: sums, extremes, indices, moments."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from convert_checks import FLOATS, INTEGERS, check, operators, refusal, run_compiled, tensors
from hypothesis import assume, given
from hypothesis import strategies as st

ANY = [*FLOATS, *INTEGERS, torch.bool]


@st.composite
def reductions(draw: Any, dtypes: Any, special: bool = False) -> tuple[torch.Tensor, Any, bool]:
    x = draw(tensors(dtypes=dtypes, special=special))
    rank = max(x.dim(), 1)
    dims = draw(st.lists(st.integers(0, rank - 1), min_size=1, max_size=rank, unique=True))
    return x, [dim - rank if draw(st.booleans()) else dim for dim in dims], draw(st.booleans())


@given(case=reductions(ANY))
def test_sum(case: Any) -> None:
    x, dims, keep = case
    check(lambda t: torch.sum(t, dims, keepdim=keep), x)
    check(torch.sum, x)


@given(case=reductions(ANY), dtype=st.sampled_from([torch.float32, torch.float64, torch.int64]))
def test_sum_in_another_dtype(case: Any, dtype: torch.dtype) -> None:
    x, dims, keep = case
    check(lambda t: torch.sum(t, dims, keepdim=keep, dtype=dtype), x)


@given(case=reductions(FLOATS))
def test_mean(case: Any) -> None:
    x, dims, keep = case
    check(lambda t: torch.mean(t, dims, keepdim=keep), x)
    check(lambda t: torch.mean(t, dtype=torch.float64), x)


@given(case=reductions([torch.float32, torch.float64, torch.int64]))
def test_prod(case: Any) -> None:
    x, dims, keep = case
    check(lambda t: torch.prod(t, dims[0], keepdim=keep), x)


@pytest.mark.parametrize("name", ["amax", "amin"])
@given(case=reductions(ANY, special=True))
def test_extremes(name: str, case: Any) -> None:
    x, dims, keep = case
    assume(x.numel() > 0)
    check(lambda t: getattr(torch, name)(t, dims, keepdim=keep), x)


@pytest.mark.parametrize("name", ["max", "min"])
@given(case=reductions(ANY))
def test_extremes_with_indices(name: str, case: Any) -> None:
    x, dims, keep = case
    assume(x.numel() > 0)
    check(lambda t: getattr(torch, name)(t, dims[0], keepdim=keep), x)
    check(getattr(torch, name), x)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
@given(case=reductions([*FLOATS, *INTEGERS], special=True))
def test_index_of_extremes(name: str, case: Any) -> None:
    x, dims, keep = case
    assume(x.numel() > 0)
    check(lambda t: getattr(torch, name)(t, dims[0], keepdim=keep), x)
    check(lambda t: getattr(torch, name)(t, keepdim=keep), x)


@pytest.mark.parametrize("name", ["any", "all"])
@given(case=reductions(ANY))
def test_quantifiers(name: str, case: Any) -> None:
    x, dims, keep = case
    check(lambda t: getattr(torch, name)(t, dims[0], keepdim=keep), x)
    check(getattr(torch, name), x)


@pytest.mark.parametrize("name", ["var", "std"])
@given(case=reductions([torch.float32, torch.float64]), correction=st.sampled_from([0, 1, 2, 3]))
@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
def test_moments(name: str, case: Any, correction: int) -> None:
    x, dims, keep = case
    # Of equal numbers, 0 / 0 is NaN and a rounding error of the mean / 0 is infinite.
    assume(correction <= 1 or math.prod(x.shape[dim] for dim in dims if x.dim()) != correction)
    check(lambda t: getattr(torch, name)(t, dims, correction=correction, keepdim=keep), x)
    check(lambda t: getattr(torch, name + "_mean")(t, dims, correction=correction, keepdim=keep), x)
    check(lambda t: getattr(torch, name)(t, unbiased=False), x)


@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
@given(case=reductions([*FLOATS[:2], torch.int32, torch.bool]))
def test_scans(name: str, case: Any) -> None:
    x, dims, _ = case
    check(lambda t: getattr(torch, name)(t, dims[0]), x)


@pytest.mark.parametrize("order", [1, 2])
@given(case=reductions([torch.float32, torch.float64]))
def test_norms(order: int, case: Any) -> None:
    x, dims, keep = case
    check(lambda t: torch.linalg.vector_norm(t, order, dims, keepdim=keep), x)


def test_matrix_norms_of_nothing() -> None:
    """They are zero, those of singular values too; the least of no sums is PyTorch's error."""
    flat, tall = torch.empty(2, 0, 3), torch.empty(2, 3, 0)

    def norms(flat: torch.Tensor, tall: torch.Tensor) -> list[torch.Tensor]:
        orders: list[Any] = ["fro", "nuc", float("inf"), 1, 2]
        results = [torch.linalg.matrix_norm(x, order) for x in (flat, tall) for order in orders]
        results += [torch.linalg.matrix_norm(flat, -1, keepdim=True), torch.linalg.norm(flat[0], "nuc")]
        return [*results, torch.linalg.matrix_norm(tall, -float("inf"))]

    check(norms, flat, tall)
    run_compiled(norms, flat, tall)
    x = torch.rand(3, 3)
    assert "ord='nuc' is a norm of singular values" in refusal(lambda x: torch.linalg.norm(x, "nuc"), x)
    assert "ord=-2.0" in refusal(lambda x: torch.linalg.matrix_norm(x, -2), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_renorm(dtype: torch.dtype) -> None:
    x = torch.randn(3, 4, 5).to(dtype)
    x[0] = 0

    def renorm(x: torch.Tensor) -> list[torch.Tensor]:
        return [torch.renorm(x, p, dim, 1.5) for p, dim in [(2, 0), (1, 1), (0.5, -1), (float("inf"), 0)]]

    check(renorm, x)
    run_compiled(renorm, x)


def test_natural_operators() -> None:
    x = torch.randn(2, 3, 4)
    assert operators(check(lambda t: t.mean((1, 2)), x)) == ["mean"]
    assert operators(check(lambda t: t.var(1), x)) == ["mean", "variance"]
    assert operators(check(lambda t: t.argmax(-1), x)) == ["argmax", "cast"]
