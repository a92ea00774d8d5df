"""Padding by every mode, and tensors made of numbers, against eager PyTorch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from convert_checks import check, operators, run_compiled

import torch_tvm
from torch_tvm import NotConvertibleError

Tensor = torch.Tensor
LAST = torch.channels_last


def pads(x: Tensor) -> list[Tensor]:
    """Pad all spatial dimensions, the innermost first."""
    widths = [1, 2, 3, 1, 0, 2][: 2 * (x.dim() - 2)]
    return [F.pad(x, widths, mode) for mode in ("reflect", "replicate", "circular", "constant")]


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(2, 3, 4),
        torch.randn(2, 3, 5, 6),
        torch.randn(2, 3, 5, 6).to(memory_format=LAST),
        torch.randn(1, 2, 4, 5, 6),
    ],
    ids=["1d", "2d", "channels_last", "3d"],
)
def test_modes(x: Tensor) -> None:
    check(pads, x)
    run_compiled(pads, x)


def test_negative_widths_crop() -> None:
    x = torch.randn(2, 3, 5, 6)

    def crop(x: Tensor) -> list[Tensor]:
        return [F.pad(x, (-1, 2, 1, -2), value=3.0), F.pad(x, (-1, 0, 2, -1), "circular"), F.pad(x, (-2, -3))]

    check(crop, x)
    run_compiled(crop, x)


def test_operators_of_padding() -> None:
    x = torch.randn(1, 2, 4, 5)
    assert operators(check(lambda x: F.pad(x, (1, 1, 1, 1), "reflect"), x)) == ["nn.mirror_pad"]
    assert operators(check(lambda x: F.pad(x, (1, 1, 1, 1), "replicate"), x)) == ["nn.pad"]


def test_negative_widths_of_edges() -> None:
    """PyTorch's kernels reflect what is cropped, too."""
    x = torch.randn(2, 3, 6, 5)

    def crop(x: Tensor) -> list[Tensor]:
        return [
            F.pad(x, widths, mode)
            for mode in ("replicate", "reflect")
            for widths in [(-1, 3, 2, -2), (-2, -1, -3, 1), (-4, 4, 0, -5), (0, -4, 5, -5)]
        ]

    check(crop, x)
    run_compiled(crop, x)


def test_tables_of_numbers() -> None:
    def tables(x: Tensor) -> list[Tensor]:
        return [
            x + torch.linspace(0, 1, 5),
            x + torch.logspace(0, 1, 5),
            x[:, None] + torch.eye(5, dtype=x.dtype),
            x[0] * torch.eye(4, 3),
            torch.hann_window(5) + x,
            torch.kaiser_window(5) * x,
            torch.bartlett_window(5, periodic=False) * x,
            x[torch.tril_indices(4, 3)],
            x[torch.triu_indices(4, 3, 1)],
            torch.empty_like(x).fill_(2) + x,
            x.new_empty(5).zero_() + x,
        ]

    check(tables, torch.randn(5))
    run_compiled(tables, torch.randn(5))


def test_what_is_random_is_refused() -> None:
    with pytest.raises(NotConvertibleError, match="random"):
        torch_tvm.to_relay(lambda x: x + torch.rand(3) * torch.randn(3) + torch.bernoulli(x), [torch.rand(3)])
    with pytest.raises(NotConvertibleError, match="training"):
        torch_tvm.to_relay(lambda x: F.dropout(x, 0.5, True), [torch.rand(3)])


def test_large_tables_are_refused() -> None:
    with pytest.raises(NotConvertibleError, match="2000000 elements; tables of at most"):
        torch_tvm.to_relay(lambda x: torch.linspace(0, 1, x.shape[0] * 1_000_000), [torch.rand(2)])
