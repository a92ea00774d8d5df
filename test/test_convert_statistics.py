"""Histograms, quantiles, covariances, reductions of segments, and the first nonzero elements."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from convert_checks import check, refusal, run_compiled, values
from hypothesis import given, settings
from hypothesis import strategies as st

import torch_tvm

Tensor = torch.Tensor
f32, f64, i64 = torch.float32, torch.float64, torch.int64
INTERPOLATIONS = ["linear", "lower", "higher", "midpoint", "nearest"]


def raises(fn: Any, good: tuple[Tensor, ...], bad: tuple[Tensor, ...], message: str) -> None:
    """Compare one call, then assert that another one raises PyTorch's error."""
    with torch_tvm.enabled(min_group_size=1, guard=False, compile_process=False), torch.no_grad():
        traced = torch.jit.trace(fn, good, check_trace=False)
        torch.testing.assert_close(traced(*good), fn(*good), equal_nan=True)
        assert torch_tvm.stats()["groups"] > 0
        with pytest.raises(RuntimeError, match=message):
            traced(*bad)


@settings(max_examples=15)
@given(st.sampled_from([f32, f64]), st.integers(1, 9), st.booleans())
def test_histograms(dtype: torch.dtype, bins: int, density: bool) -> None:
    x = torch.cat([values([3, 5], dtype).flatten(), torch.tensor([-1, 1, 0.5, 2], dtype=dtype)])
    weight, edges = torch.rand_like(x), torch.tensor([-2.0, -1, 0.25, 0.5, 3], dtype=dtype)
    options = {"range": (-1.0, 1.0), "density": density}

    def count(x: Tensor, weight: Tensor, edges: Tensor) -> Any:
        return (
            torch.histc(x, bins, -1, 1),
            torch.histc(x, bins),
            *torch.histogram(x, bins, **options),
            *torch.histogram(x, bins, weight=weight, **options),
            *torch.histogram(x, bins, density=density),
            *torch.histogram(x, edges, weight=weight, density=density),
        )

    check(count, x, weight, edges)


def test_histograms_compiled() -> None:
    """What is NaN, infinite or outside lies in no bin; what equals an edge lies behind it, but for the last."""
    x = torch.tensor([0.0, 0.25, 0.5, 1.0, -0.1, 1.1, float("nan"), float("inf"), 0.75, 0.7499])
    edges = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    equal = torch.full((4, 3), 2.0)
    run_compiled(
        lambda x, e, y: (
            *torch.histogram(x, e),
            *torch.histogram(x, 4, range=(0.0, 1.0)),
            torch.histc(x, 4, 0, 1),
            torch.histc(y, 3),
            *torch.histogram(y, 3),
            torch.histc(y[:0], 3),
        ),
        x,
        edges,
        equal,
    )


def test_histogram_of_points() -> None:
    x, weight = torch.rand(4, 5, 2) * 3 - 1, torch.rand(4, 5)

    def count(x: Tensor, weight: Tensor) -> Any:
        first, edges = torch.histogramdd(x, [3, 4], range=[-1.0, 1, -0.5, 2], weight=weight, density=True)
        second, others = torch.histogramdd(x, 2)
        return first, *edges, second, *others

    check(count, x, weight)


def test_histograms_of_edges_and_of_nothing() -> None:
    """Edges that are given come back themselves; of no elements, the range is from 0 to 1 and shares are NaN."""
    x, first, second = torch.rand(7, 2), torch.tensor([0.0, 0.25, 0.5, 1.0]), torch.linspace(0, 1, 6)[::2]

    def given_edges(x: Tensor, first: Tensor, second: Tensor) -> Any:
        counts, edges = torch.histogramdd(x, [first, second])
        return (counts, *(edge.clone() for edge in edges))

    def nothing(x: Tensor, first: Tensor, second: Tensor) -> Any:
        none, pairs = x[:0, 0] * 2, x[:0] * 2
        counts, edges = torch.histogramdd(pairs, [2, 3])
        return (
            counts,
            *edges,
            torch.histogramdd(pairs, [first, second], density=True)[0],
            *torch.histogram(none, 3, density=True),
            *torch.histogram(none, 2, range=(1.0, 2.0)),
            *torch.histogram(none, first, weight=none),
        )

    for function in (given_edges, nothing):
        check(function, x, first, second)
        run_compiled(function, x, first, second)


def test_histogram_errors() -> None:
    x = torch.rand(6)
    raises(torch.histc, (x,), (x / 0,), "not finite")
    raises(lambda x: torch.histogram(x, 3)[0], (x,), (x * float("nan"),), "not finite")
    assert "Half" in refusal(lambda x: torch.histc(x, 4, 0, 1), x.half())


@settings(max_examples=15)
@given(
    st.sampled_from([f32, f64]),
    st.sampled_from(INTERPOLATIONS),
    st.sampled_from([None, 0, -1]),
    st.booleans(),
)
def test_quantiles(dtype: torch.dtype, interpolation: str, dim: int | None, keepdim: bool) -> None:
    x = values([3, 4, 5], dtype)
    x[0, 0], x[1, 1, 2], x[:, 3, 3] = float("nan"), float("nan"), float("inf")
    q = torch.tensor([0.0, 0.3, 0.5, 1.0, 0.75], dtype=dtype)
    options = {"dim": dim, "keepdim": keepdim, "interpolation": interpolation}
    check(
        lambda x, q: (
            torch.quantile(x, q, **options),
            torch.quantile(x[2], q[1], **(options | {"dim": 0})),
            torch.quantile(x[2], 0.4, **(options | {"dim": 1})),
            torch.nanquantile(x, q, **options),
            torch.nanquantile(x, 0.6, **options),
        ),
        x,
        q,
    )


def test_quantiles_compiled() -> None:
    x, q = torch.randn(3, 4, 5), torch.tensor([0.2, 0.9])
    x[1, 2, 3] = float("nan")
    run_compiled(
        lambda x, q: (
            torch.quantile(x, q, dim=1),
            torch.quantile(x, q[0], dim=2, keepdim=True),
            torch.nanquantile(x, 0.5),
            torch.quantile(x[0, 0, 0], q),
        ),
        x,
        q,
    )
    raises(lambda x, q: torch.quantile(x, q), (x, q), (x, q + 0.5), "range")


@pytest.mark.parametrize("dtype", [f32, f64])
def test_covariances(dtype: torch.dtype) -> None:
    x = values([3, 6], dtype)
    repeats, weights = torch.tensor([1, 0, 2, 3, 1, 1]), torch.rand(6, dtype=dtype)

    def covariances(x: Tensor, f: Tensor, a: Tensor) -> Any:
        return (
            torch.cov(x),
            torch.cov(x, correction=0, fweights=f),
            torch.cov(x, aweights=a),
            torch.cov(x, fweights=f, aweights=a),
            torch.cov(x[0]),
            torch.cov(x[:1], correction=6),
            torch.corrcoef(x),
            torch.corrcoef(x[0]),
        )

    check(covariances, x, repeats, weights)
    run_compiled(covariances, x, repeats, weights)


def test_covariance_errors() -> None:
    x, f = torch.randn(2, 3), torch.tensor([1, 2, 1])
    raises(lambda x, f: torch.cov(x, fweights=f), (x, f), (x, -f), "negative")
    raises(lambda x, f: torch.cov(x, fweights=f), (x, f), (x, f * 0), "zero")
    assert "BFloat16" in refusal(torch.cov, x.bfloat16())


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min", "prod"])
def test_segments(reduce: str) -> None:
    """Empty segments, several rows of segments, initial values, NaN."""
    x, y = values([7, 2, 3], f32), values([2, 5, 3], f64)
    x[1, 0, 0] = float("nan")
    lengths, offsets = torch.tensor([3, 0, 4]), torch.tensor([0, 2, 2, 7])
    rows = torch.tensor([[1, 4, 0], [2, 2, 1]])

    def segments(x: Tensor, y: Tensor, lengths: Tensor, offsets: Tensor, rows: Tensor) -> Any:
        return (
            torch.segment_reduce(x, reduce, lengths=lengths),
            torch.segment_reduce(x, reduce, lengths=lengths.int(), initial=2),
            torch.segment_reduce(x, reduce, offsets=offsets, initial=0.5),
            torch.segment_reduce(y, reduce, lengths=rows, axis=1),
            torch.segment_reduce(x.bfloat16(), reduce, lengths=lengths),
        )

    given = x, y, lengths, offsets, rows
    check(segments, *given)
    run_compiled(segments, *given)


def test_segment_errors() -> None:
    x, lengths = torch.randn(5), torch.tensor([2, 3])
    raises(lambda x, n: torch.segment_reduce(x, "sum", lengths=n), (x, lengths), (x, lengths + 1), "")
    assert "no elements" in refusal(
        lambda x, n: torch.segment_reduce(x, "sum", lengths=n), x[:0], lengths * 0
    )


def test_first_nonzero() -> None:
    x = torch.tensor([[0.0, 1, -2], [3, 0, float("nan")]])
    for size in (1, 3, 6, 8):
        run_compiled(
            lambda x, n=size: (
                torch.nonzero_static(x, size=n),
                torch.nonzero_static(x > 0, size=n, fill_value=-7),
                torch.nonzero_static(x.long().flatten(), size=n),
            ),
            x,
        )


@pytest.mark.parametrize("dtype", [f32, f64, i64])
@pytest.mark.parametrize("reduce", ["prod", "mean", "amax", "amin"])
def test_index_reduce(reduce: str, dtype: torch.dtype) -> None:
    x, source, index = values([4, 3], dtype), values([4, 5], dtype), torch.tensor([2, 0, 2, 2, 0])
    run_compiled(
        lambda x, s, i: (
            x.index_reduce(1, i, s, reduce),
            x.index_reduce(-1, i.int(), s, reduce, include_self=False),
            x[0].index_reduce(0, i, s[0], reduce),
        ),
        x,
        source,
        index,
    )
