"""Normalisations and rotary embeddings that models write out take one pass each."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from compiler_cases import kernels_of, run_traced
from torch import Tensor

Norm = Callable[[Tensor, Tensor, Tensor], Tensor]


def mean(x: Tensor) -> Tensor:
    return x.mean(-1, keepdim=True)


NORMS: dict[str, Norm] = {
    "rms, pow": lambda x, w, b: w * (x * torch.rsqrt(mean(x.pow(2)) + 1e-6)),
    "rms, divided": lambda x, w, b: x / torch.sqrt(mean(x * x) + 1e-3) * w,
    "rms, inverse": lambda x, w, b: x * (1.0 / torch.sqrt(1e-3 + x.square().mean(-1, keepdim=True))) * w,
    "rms, one plus weight": lambda x, w, b: (x * (mean(x**2) + 1e-6) ** -0.5) * (1.0 + w),
    "rms, operator": lambda x, w, b: F.rms_norm(x, x.shape[-1:], w, 1e-5),
    "layer norm, pow": lambda x, w, b: w * ((x - mean(x)) / torch.sqrt(mean((x - mean(x)) ** 2) + 1e-6)) + b,
    "layer norm, rsqrt": lambda x, w, b: (
        (x - mean(x)) * torch.rsqrt(mean((x - mean(x)).pow(2)) + 1e-5) * w + b
    ),
    "layer norm, variance": lambda x, w, b: (
        (x - mean(x)) / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5) * w + b
    ),
    "layer norm, operator": lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b),
}


@pytest.mark.parametrize("shape", [(2, 7, 48), (3, 17), (1, 1, 1), (4, 1, 33)], ids=str)
@pytest.mark.parametrize("name", NORMS)
def test_a_norm_is_one_pass(name: str, shape: tuple[int, ...]) -> None:
    x, w, b = torch.randn(shape) + 0.5, torch.randn(shape[-1]), torch.randn(shape[-1])
    for residual in (False, True):

        def function(x: Tensor, w: Tensor, b: Tensor, residual: bool = residual) -> Tensor:
            return NORMS[name](x, w, b) + x if residual else NORMS[name](x, w, b)

        names = kernels_of(function, [x], [w, b])
        # Division and multiplication by a constant may also join the packing of weights.
        assert len(names) == 1 and names[0].startswith("normalize"), names


@pytest.mark.parametrize("name", NORMS)
def test_norms_are_as_exact_as_eagers(name: str) -> None:
    """A mean that is large beside the deviation, rows that are small beside epsilon, rows of zeros."""
    torch.manual_seed(2)
    w, b = torch.rand(64) + 0.5, torch.randn(64)
    for x in (torch.randn(5, 64) + 100, torch.randn(5, 64) * 1e-5, torch.zeros(2, 64)):
        _, (actual,), (eager,) = run_traced(NORMS[name], [x], [w, b])
        exact = NORMS[name](x.double(), w.double(), b.double())
        bound = 2 * (eager - exact).abs().max() + 1e-6 * exact.abs().max()
        assert (actual - exact).abs().max() <= bound, x


def test_what_is_no_norm() -> None:
    """Another tensor's mean, other axes, an epsilon that is a weight: computed as written."""
    x, y = torch.randn(2, 5, 8).unbind()
    epsilon = torch.tensor([0.1])
    others: list[Callable[[Tensor, Tensor, Tensor], Tensor]] = [
        lambda x, y, e: x * torch.rsqrt(mean(y * y) + 1e-5),
        lambda x, y, e: x * torch.rsqrt(mean(x * y) + 5),
        lambda x, y, e: x * torch.rsqrt(mean(x * x) + e),
        lambda x, y, e: (x * x).mean(-1) * torch.rsqrt((x * x).mean() + 1e-5),
    ]
    for function in others:
        names = kernels_of(function, [x, y], [epsilon])
        assert not any(name.startswith("normalize") for name in names), names
    names = kernels_of(
        lambda x: (x - x.mean(0, keepdim=True)) * torch.rsqrt(mean((x - x.mean(0, keepdim=True)) ** 2) + 1),
        [x],
    )
    assert sorted(names) == ["mean", "normalize"], names


def rotate_half(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return x * cos + rotate_half(x) * sin


def chunked(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1) * sin + x * cos


@pytest.mark.parametrize("embedding", [rotated, chunked])
@pytest.mark.parametrize("sizes", [(2, 3, 9, 16), (1, 1, 1, 2), (1, 4, 7, 6)], ids=str)
def test_a_rotary_embedding_is_one_pass(embedding: Callable[..., Tensor], sizes: tuple[int, ...]) -> None:
    """Over projections as they lie in memory: no halves, no concatenation, no permutation is stored."""
    batch, heads, rows, width = sizes
    x = torch.randn(batch, rows, heads * width)
    angles = torch.randn(rows, width // 2).repeat(1, 2)

    def function(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        split = x.view(batch, rows, heads, width).transpose(1, 2)
        return embedding(split, cos, sin).transpose(1, 2).flatten(2)

    assert len(kernels_of(function, [x], [angles.cos(), angles.sin()])) == 1
    assert len(kernels_of(function, [x, angles.cos(), angles.sin()])) == 1
    assert len(kernels_of(embedding, [x, torch.randn(rows, 1), torch.randn(heads * width)])) == 1


def test_a_part_of_each_head_is_rotated() -> None:
    """What is not rotated is stored beside it: one copy."""

    def partial(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return torch.cat((rotated(x[..., :8], cos, sin), x[..., 8:]), dim=-1)

    x, angles = torch.randn(2, 5, 3, 20), torch.randn(5, 1, 8)
    assert len(kernels_of(partial, [x], [angles.cos(), angles.sin()])) == 2


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.cat((x[..., 4:], -x[..., :4]), -1),
        lambda x: torch.cat((-x[..., :4], x[..., 4:]), -1),
        lambda x: torch.cat((-x[..., 3:], x[..., :3]), -1),
        lambda x: torch.cat((-x[..., 4:], x[..., :4]), -2),
        lambda x: torch.cat((-x[:, 1:], x[:, :1]), 1),
        lambda x: torch.cat((-x[..., ::2], x[..., 1::2]), -1),
        lambda x: torch.cat((-x[..., 4:], x.flip(0)[..., :4]), -1),
    ],
)
def test_other_concatenations(function: Callable[[Tensor], Tensor]) -> None:
    kernels_of(lambda x: function(x) * 2, [torch.randn(3, 2, 8)])


def test_integers_are_rotated_too() -> None:
    kernels_of(lambda x: rotate_half(x) * 2, [torch.arange(24).view(3, 8)])
