"""Spacings between tensors, combinations, powers, shifts, integrals, and gradients of layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from convert_checks import check, refusal, run_compiled, values
from hypothesis import given, settings
from hypothesis import strategies as st

Tensor = torch.Tensor
f32, f64, i64 = torch.float32, torch.float64, torch.int64


@settings(max_examples=20)
@given(
    st.sampled_from([f32, f64, torch.bfloat16, torch.float16, i64, torch.int32]),
    st.sampled_from([1, 2, 3, 8, 50]),
    st.integers(-40, 40),
    st.integers(-40, 40),
)
def test_linspace(dtype: torch.dtype, steps: int, first: int, last: int) -> None:
    start, end = torch.tensor(first / 4), torch.tensor(last, dtype=i64)
    check(
        lambda a, b: (
            torch.linspace(a, b, steps, dtype=dtype),
            torch.linspace(a, 3, steps, dtype=dtype),
            torch.linspace(2.5, a, steps, dtype=dtype),
        ),
        start,
        end,
    )


@settings(max_examples=10)
@given(st.sampled_from([f32, f64]), st.sampled_from([1, 2, 7]), st.sampled_from([2.0, 10.0, 0.5, 1.0]))
def test_logspace(dtype: torch.dtype, steps: int, base: float) -> None:
    check(
        lambda a, b: (
            torch.logspace(a, b, steps, base, dtype=dtype),
            torch.logspace(a, 2, steps, base, dtype=dtype),
        ),
        torch.tensor(-1.25),
        torch.tensor(2),
    )


def test_spacing_compiled() -> None:
    a, b = torch.tensor(0.1), torch.tensor(4)
    run_compiled(
        lambda a, b: (
            torch.linspace(a, b, 9),
            torch.linspace(a, b, 9, dtype=i64),
            torch.logspace(a, b, 5),
            torch.linspace(b, a, 1),
        ),
        a,
        b,
    )
    assert "Long" in refusal(lambda a, b: torch.logspace(a, b, 5, dtype=i64), a, b)


def test_choices() -> None:
    x = values([5], f32)
    run_compiled(
        lambda x: (
            *(torch.combinations(x, r) for r in (1, 2, 3, 5)),
            torch.combinations(x, 3, with_replacement=True),
            torch.linalg.vander(x),
            torch.linalg.vander(x[0], N=3),
            torch.linalg.vander(x.long(), N=2),
            torch.fft.fftshift(x),
            torch.fft.ifftshift(x.expand(4, 5), dim=(1,)),
            torch.block_diag(x[:2], x.expand(2, 5), x[0]),
        ),
        x,
    )


def test_choices_of_one() -> None:
    """Vectors that repeat the one element of a tensor; of bfloat16, TVM compiles none."""
    run_compiled(
        lambda x, i: (torch.combinations(x, 4, with_replacement=True), x[i]),
        values([1], torch.bfloat16),
        torch.tensor([[0, 0], [0, 0]]),
    )


@pytest.mark.parametrize("dtype", [f32, f64])
def test_neighbours(dtype: torch.dtype) -> None:
    x = torch.tensor([0.0, -0.0, 1, -1, 2.5, 1e-45, float("inf"), -float("inf"), float("nan")], dtype=dtype)
    run_compiled(lambda x, y: (torch.nextafter(x, y), torch.nextafter(x + 1, x)), x[:, None], x)
    assert "Half" in refusal(torch.nextafter, x.half(), x.half())


@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, 3.5, float("inf")])
def test_pairs(p: float) -> None:
    x = values([5, 3], f32)
    run_compiled(lambda x: (torch.pdist(x, p), torch._chunk_cat([x, x[:2]], 0, 2)), x)


POLYNOMIALS = [
    *(f"chebyshev_polynomial_{kind}" for kind in "tuvw"),
    *(f"shifted_chebyshev_polynomial_{kind}" for kind in "tuvw"),
    *("hermite_polynomial_h", "hermite_polynomial_he", "laguerre_polynomial_l", "legendre_polynomial_p"),
]


def test_polynomials() -> None:
    # Of NaN and a degree of at least 2, eager PyTorch gives a variable that nothing was stored in.
    x = torch.cat([torch.linspace(-1.5, 1.5, 13), torch.tensor([0.0, 1, -1])])[:, None]
    n = torch.tensor([-2.0, -0.5, 0, 1, 2.9, 5, 8, 9])

    def polynomials(x: Tensor, n: Tensor) -> Any:
        functions = [getattr(torch.special, name) for name in POLYNOMIALS]
        return [f(x.double(), k) for f in functions for k in (n.double(), 3)]

    check(polynomials, x, n)
    run_compiled(lambda x, n: torch.special.legendre_polynomial_p(x, n), x, n)
    check(lambda x: torch.special.hermite_polynomial_he(x * 1e12, 6), x)
    assert "n=65" in refusal(lambda x: torch.special.legendre_polynomial_p(x, 65), x)


@settings(max_examples=15)
@given(st.sampled_from([f32, f64]), st.sampled_from([0, 1, -1]))
def test_integrals(dtype: torch.dtype, dim: int) -> None:
    y, x = values([3, 4, 2], dtype), values([3, 4, 2], dtype)
    line = values([y.shape[dim]], dtype)
    check(
        lambda y, x, line: (
            torch.trapezoid(y, dim=dim),
            torch.trapezoid(y, dx=0.5, dim=dim),
            torch.trapezoid(y, x, dim=dim),
            torch.trapz(y, line, dim=dim),
            torch.cumulative_trapezoid(y, dx=2, dim=dim),
            torch.cumulative_trapezoid(y, line, dim=dim),
            torch.trapezoid(y[:1], dim=0),
        ),
        y,
        x,
        line,
    )


@pytest.mark.parametrize("dtype", [f32, f64, torch.bfloat16])
def test_gradients(dtype: torch.dtype) -> None:
    ops = torch.ops.aten
    x, grad = values([3, 4], dtype), values([3, 4], dtype)
    mask = torch.tensor([True, False, True, True])
    check(
        lambda x, g, m: (
            ops._softmax_backward_data(g, x.softmax(1), 1, dtype),
            ops._log_softmax_backward_data(g, x.log_softmax(0), 0, dtype),
            ops.native_dropout_backward(g, m.expand(3, 4), 1.25),
        ),
        x,
        grad,
        mask,
    )


def test_norms_with_moments() -> None:
    x, weight, bias = values([2, 6, 4, 3], f32), values([6], f32), values([6], f32)

    def norms(x: Tensor, w: Tensor, b: Tensor) -> Any:
        ops = torch.ops.aten
        return (
            *ops.native_layer_norm(x, [4, 3], None, None, 1e-5),
            *ops.native_layer_norm(x[0, 0].T, [4], w[:4], b[:4], 1e-3),
            *ops.native_group_norm(x, w, b, 2, 6, 12, 3, 1e-5),
        )

    check(norms, x, weight, bias)
    run_compiled(norms, x, weight, bias)
