"""Substitution in triangular matrices, products with reflections, and the rarer products of matrices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from convert_checks import check, refusal, run_compiled, values

import torch_tvm

Tensor = torch.Tensor
f32, f64 = torch.float32, torch.float64


def matrices(*sizes: int, dtype: torch.dtype = f64) -> Tensor:
    """Square matrices that are far from singular."""
    return values(sizes, dtype) / 4 + 3 * torch.eye(sizes[-1], dtype=dtype)


@pytest.mark.parametrize("dtype", [f32, f64])
@pytest.mark.parametrize("upper", [False, True])
def test_triangular(upper: bool, dtype: torch.dtype) -> None:
    a, b, c = matrices(2, 1, 4, 4, dtype=dtype), values([3, 4, 2], dtype), values([2, 1, 3, 4], dtype)
    options = {"upper": upper}

    def solve(a: Tensor, b: Tensor, c: Tensor) -> Any:
        return (
            torch.linalg.solve_triangular(a, b, **options),
            torch.linalg.solve_triangular(a, b, unitriangular=True, **options),
            torch.linalg.solve_triangular(a, c, left=False, **options),
            torch.linalg.solve_triangular(a[0, 0, :1, :1], b[0, :1], **options),
            *torch.triangular_solve(b, a, **options),
            torch.triangular_solve(b, a, transpose=True, unitriangular=True, **options)[0],
            torch.cholesky_solve(b, a[0, 0].expand(3, 4, 4), **options),
            torch.cholesky_inverse(a[0, 0], **options),
        )

    check(solve, a, b, c)
    run_compiled(solve, a, b, c)


def test_factors() -> None:
    """Pivots that move rows several times."""
    a = torch.tensor([[[0.1, 2, 3], [4, 5, 6], [7, 8, 10]], [[1, 9, 3], [3, 0.2, 6], [2, 8, 0.5]]], dtype=f64)
    lu, pivots = torch.linalg.lu_factor(a)
    assert not torch.equal(pivots, torch.tensor([[1, 2, 3]] * 2).int())
    b, c = values([2, 3, 4], f64), values([2, 4, 3], f64)

    def solve(lu: Tensor, pivots: Tensor, b: Tensor, c: Tensor) -> Any:
        return (
            torch.linalg.lu_solve(lu, pivots, b),
            torch.linalg.lu_solve(lu, pivots, b, adjoint=True),
            torch.linalg.lu_solve(lu, pivots, c, left=False),
            torch.linalg.lu_solve(lu[0], pivots[0], c, left=False, adjoint=True),
            torch.lu_solve(b, lu, pivots),
        )

    check(solve, lu, pivots, b, c)
    run_compiled(solve, lu, pivots, b, c)


def test_reflections() -> None:
    reflectors, tau = torch.geqrf(values([2, 5, 3], f64))
    c, d = values([2, 5, 4], f64), values([2, 4, 5], f64)

    def multiply(r: Tensor, tau: Tensor, c: Tensor, d: Tensor) -> Any:
        return (
            torch.linalg.householder_product(r, tau),
            torch.orgqr(r[0], tau[0, :2]),
            torch.ormqr(r, tau, c),
            torch.ormqr(r, tau, c, transpose=True),
            torch.ormqr(r, tau, d, left=False),
            torch.ormqr(r[0], tau[0], d[0], left=False, transpose=True),
        )

    check(multiply, reflectors, tau, c, d)
    run_compiled(multiply, reflectors, tau, c, d)


@pytest.mark.parametrize("dtype", [f32, f64])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_cholesky(size: int, dtype: torch.dtype) -> None:
    """One triangle is read, whatever is in the other."""
    half = values([2, 3, size, size], dtype)
    whole = half @ half.mT + 3 * torch.eye(size, dtype=dtype)

    def factorise(a: Tensor) -> Any:
        return (
            torch.linalg.cholesky(a.tril()),
            torch.linalg.cholesky(a.triu(), upper=True),
            torch.cholesky(a[0], True),
            *torch.linalg.cholesky_ex(a.transpose(0, 1)),
            *torch.linalg.cholesky_ex(a[..., :0, :0] * 1),
        )

    check(factorise, whole)
    run_compiled(factorise, whole)


def test_cholesky_of_what_is_not_positive_definite() -> None:
    good, bad = torch.eye(3), torch.diag(torch.tensor([1.0, -1.0, 2.0]))
    with torch_tvm.enabled(min_group_size=1, guard=False):
        traced = torch.jit.trace(lambda a: torch.linalg.cholesky_ex(a), good, strict=False)
        raising = torch.jit.trace(torch.linalg.cholesky, good)
        for matrix in (bad, bad * float("nan"), bad.abs() * float("inf")):
            torch_tvm.reset_stats()
            for got, expected in zip(traced(matrix), torch.linalg.cholesky_ex(matrix), strict=True):
                torch.testing.assert_close(got, expected, equal_nan=True)
            (reason,) = torch_tvm.stats()["fallback_reasons"]
            assert "not positive-definite" in reason
        with pytest.raises(RuntimeError, match="not positive-definite"):
            raising(bad)


def test_refusals() -> None:
    a, b = matrices(33, 33), values([33, 1], f64)
    assert "33 rows" in refusal(lambda a, b: torch.linalg.solve_triangular(a, b, upper=True), a, b)
    assert "n=-2 inverts" in refusal(lambda a: torch.linalg.matrix_power(a, -2), a)
    assert "iterations end when values say so" in refusal(torch.linalg.svdvals, a)


@pytest.mark.parametrize("dtype", [f32, torch.bfloat16, torch.int64])
def test_products(dtype: torch.dtype) -> None:
    a, b, c = values([2, 3, 4], dtype), values([2, 4, 5], dtype), values([5, 2], dtype)
    base = values([5], dtype)
    if dtype == torch.bfloat16:
        a, b, c = a.round(), b.round(), c.round()

    def multiply(a: Tensor, b: Tensor, c: Tensor, base: Tensor) -> Any:
        square = a[:, :, :3]
        return (
            torch.addbmm(base, a, b, beta=2, alpha=3),
            torch.addbmm(base, a, b, beta=0),
            torch.inner(a, b.transpose(1, 2)),
            torch.inner(a, base[0]),
            torch.linalg.multi_dot([a[0], b[0], c]),
            torch.linalg.multi_dot([base, c, b[0, :2], c[:, 0]]),
            torch.chain_matmul(a[1], b[1], c, c.T),
            *(torch.linalg.matrix_power(square, n) for n in (0, 1, 2, 5)),
        )

    check(multiply, a, b, c, base)


def test_bilinear() -> None:
    x, y = values([2, 3, 4], f32), values([2, 3, 5], f32)
    weight, bias = values([6, 4, 5], f32), values([6], f32)
    run_compiled(
        lambda x, y, w, b: (
            torch.nn.functional.bilinear(x, y, w, b),
            torch.nn.functional.bilinear(x[0], y[0], w),
            torch.addbmm(x[0], x, x.transpose(1, 2) @ x, alpha=0.5),
        ),
        x,
        y,
        weight,
        bias,
    )
