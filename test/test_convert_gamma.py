"""The logarithm of Gamma, its derivatives and Hurwitz' zeta function."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from convert_checks import check, refusal, run_compiled

import torch_tvm

Tensor = torch.Tensor
f32, f64 = torch.float32, torch.float64
# On both sides of where recurrences and reflections begin, near poles, tiny and huge.
PLACES = [0.5, 1.0, 1.5, 2.0, 7.99, 8.0, 10.5, 33.3, 1e5, 1e30, 1e-3, 1e-10, 0.4999, -0.5, -0.7, -3.25, -9.9]


def places(dtype: torch.dtype, *more: float) -> Tensor:
    return torch.tensor([*PLACES, *more], dtype=dtype)


def gammas(x: Tensor) -> Any:
    return (
        torch.special.gammaln(x),
        torch.special.psi(x),
        torch.mvlgamma(x, 1),
        torch.special.multigammaln(x, 3),
    )


def few(x: Tensor) -> Any:
    return torch.lgamma(x), torch.digamma(x), torch.mvlgamma(x, 2), torch.polygamma(0, x)


@pytest.mark.parametrize("dtype", [f32, f64])
def test_gamma(dtype: torch.dtype) -> None:
    """Values everywhere, poles and infinities too."""
    infinity = float("inf")
    x = places(dtype, 0.0, -0.0, -1.0, -4.0, infinity, -infinity, float("nan"))
    check(gammas, x) if dtype == f64 else run_compiled(few, x)


def test_other_dtypes() -> None:
    """Integers give float32; half and bfloat16 are rounded once; nothing gives nothing."""
    run_compiled(few, torch.arange(1, 9).reshape(2, 4).T)
    for x in (places(torch.bfloat16)[:9], places(torch.half)[:8]):
        run_compiled(lambda x: (torch.lgamma(x), torch.digamma(x), torch.mvlgamma(x, 2)), x)
    run_compiled(lambda x, y: (torch.lgamma(x), torch.digamma(y[0])), torch.empty(0, 3), x[None, ::2])


@pytest.mark.parametrize("n", [1, 2, 5])
def test_polygamma(n: int) -> None:
    x = places(f64, *([0.0, -2.0] if n > 1 else [0.0]), float("nan"))
    if n == 1:  # PyTorch's series ends at 5e-10
        x = x.float()
    check(lambda x: torch.polygamma(n, x), x)
    run_compiled(lambda x: torch.special.polygamma(n, x), x)


def test_polygamma_in_float32() -> None:
    """PyTorch's own are off by more than ours, of large numbers and beside poles."""
    x = places(f32)
    with torch_tvm.enabled(strict=True, min_group_size=1, guard=False, compile_process=False):
        traced = torch.jit.trace(lambda x: (torch.polygamma(1, x), torch.polygamma(4, x)), x)
        got = traced(x)
    for result, n in zip(got, (1, 4), strict=True):
        torch.testing.assert_close(result, torch.polygamma(n, x.double()).float(), rtol=3e-7, atol=1e-30)


def test_zeta() -> None:
    """Sums that are defined, those that are not, and negative places, where only integer exponents are."""
    s = torch.tensor([1.5, 2.0, 3.0, 25.0, 1.0, 0.5, -3.0, 4.0, 4.5, float("nan")], dtype=f64)
    q = torch.tensor([1.0, 0.25, 17.0, -0.5, -3.75, -2.0, 0.0, 1e4, float("nan")], dtype=f64)

    def zetas(s: Tensor, q: Tensor) -> Any:
        return (
            torch.special.zeta(s[:, None], q),
            torch.special.zeta(s, 2.5),
            torch.special.zeta(3, q),
            torch.special.zeta(torch.arange(2, 5), torch.arange(1, 4)),
        )

    check(zetas, s, q)
    run_compiled(lambda s, q: torch.special.zeta(s[:, None], q), s, q)


def test_values_that_are_left_to_pytorch() -> None:
    """Beyond the sums that are written out, PyTorch computes."""

    def function(x: Tensor) -> Any:
        return torch.polygamma(1, x), torch.polygamma(2, x), torch.special.zeta(2.0, x)

    with torch_tvm.enabled(min_group_size=1, guard=False, compile_process=False):
        traced = torch.jit.trace(function, torch.rand(3))
        for value in (-20.5, float("inf"), -1.0):
            x = torch.tensor([0.5, value, 1.5])
            torch_tvm.reset_stats()
            for got, expected in zip(traced(x), function(x), strict=True):
                torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)
            reasons = " ".join(torch_tvm.stats()["fallback_reasons"])
            assert "below -14" in reasons or "a pole of n=1" in reasons


def test_refusals() -> None:
    x = torch.rand(3)
    assert "n=21; at most 20" in refusal(lambda x: torch.polygamma(21, x), x)
    assert "p=33; at most 32" in refusal(lambda x: torch.mvlgamma(x + 40, 33), x)
