"""NaN and infinity in the input of Winograd's convolution: PyTorch's result, though its tiles would spread them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from jit_checks import same
from torch import Tensor, nn

import torch_tvm

pytestmark = pytest.mark.usefixtures("nothing_compiled")


@pytest.fixture(scope="module")
def convolution() -> Callable[[Tensor], Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()).eval().requires_grad_(False)
    return torch.jit.trace(network, torch.randn(1, 32, 56, 56), check_trace=False)


def images() -> dict[str, Tensor]:
    plain = torch.randn(1, 32, 56, 56)
    return {
        "contiguous": plain,
        "channels_last": plain.contiguous(memory_format=torch.channels_last),
        "every second column": torch.randn(1, 32, 56, 112)[..., ::2],
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("order", images())
def test_what_is_not_finite_stays_where_it_belongs(
    convolution: Callable[[Tensor], Tensor], order: str, value: float
) -> None:
    image = images()[order]
    finite = convolution(image)
    assert torch_tvm.stats()["fallbacks"] == 0
    image[0, 3, 10, 55] = value
    actual = convolution(image)
    with torch_tvm.disabled():
        expected = convolution(image)
    torch.testing.assert_close(actual, expected, equal_nan=True)
    assert torch.equal(actual[..., 12:, :].isfinite(), torch.ones_like(actual[..., 12:, :], dtype=torch.bool))
    ((reason, calls),) = torch_tvm.stats()["fallback_reasons"].items()
    assert "NaN or an infinity" in reason
    assert calls == 1
    image[0, 3, 10, 55] = 0
    assert convolution(image).isfinite().all()
    same(finite[..., 20:, :], convolution(image)[..., 20:, :])
    assert torch_tvm.stats()["fallbacks"] == 1


def test_direct_convolution_needs_no_check(convolution: Callable[[Tensor], Tensor]) -> None:
    image = images()["contiguous"]
    image[0, 3, 10, 55] = math.nan
    with torch_tvm.disabled():
        expected = convolution(image)
    with torch_tvm.enabled(winograd="off"):
        torch.testing.assert_close(convolution(image), expected, equal_nan=True)
    assert torch_tvm.stats()["fallbacks"] == 0
