"""Whole networks against float64: rounding with and without Winograd's algorithm beside that of PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from test_models import randomise_statistics
from torch import Tensor, nn

import torch_tvm
from benchmarks.models.densenet import DenseNet
from benchmarks.models.resnet import BasicBlock, ResNet
from benchmarks.models.vgg import VGG

# Half of the usual widths, so that float64 is quick; the images have the usual size, as the choice depends on it.
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: ResNet(BasicBlock, (2, 2, 2, 2), width=32),
    "vgg16": lambda: VGG(16, width=16, hidden=256),
}
# Largest error over the largest output, in units of PyTorch's own. Measured 1.0 to 1.4 with any algorithm.
BOUNDS = {"off": 2, "f2": 10, "auto": 10}


def error(got: Tensor, exact: Tensor) -> float:
    return float((got.double() - exact).abs().max() / exact.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_rounding_of_networks(name: str) -> None:
    torch.manual_seed(3)
    model = NETWORKS[name]().eval()
    randomise_statistics(model)
    x = torch.rand(1, 3, 224, 224)
    eager = model(x)
    exact = model.double()(x.double())
    model.float()
    kernels = {}
    for winograd, bound in BOUNDS.items():
        traced = torch.jit.trace(model, x, check_trace=False)
        with torch_tvm.enabled(strict=True, winograd=winograd, debug_runtime=True):
            got = traced(x)
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                traced(x)
        kernels[winograd] = {event.key for event in profile.key_averages()}
        assert error(got, exact) <= bound * error(eager, exact), winograd
    assert not any("winograd" in kernel for kernel in kernels["off"])
    assert any("winograd2" in kernel for kernel in kernels["f2"])
    assert not any("winograd4" in kernel for kernel in kernels["f2"])
    assert any("winograd4" in kernel for kernel in kernels["auto"])


@torch.no_grad()
def test_rounding_of_densenet() -> None:
    """Sums of up to 1152 terms, one behind another 120 times."""
    torch.manual_seed(3)
    model = DenseNet().eval()
    randomise_statistics(model)
    x = torch.rand(1, 3, 96, 96)
    eager = model(x)
    with torch_tvm.enabled(strict=True, winograd="off"):
        got = torch.jit.trace(model, x, check_trace=False)(x)
    exact = model.double()(x.double())
    assert error(got, exact) <= BOUNDS["off"] * error(eager, exact)


@torch.no_grad()
def test_lower_optimisation_levels_compute_directly() -> None:
    torch.manual_seed(3)
    convolution = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()).eval()
    x = torch.randn(1, 64, 56, 56)
    for level in (0, 2, 3):
        traced = torch.jit.trace(convolution, x, check_trace=False)
        with torch_tvm.enabled(opt_level=level, strict=True, debug_runtime=True):
            traced(x)
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                traced(x)
        used = any("winograd" in event.key for event in profile.key_averages())
        assert used == (level == 3)


@torch.no_grad()
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(25088, 40), (1, 25088)),
        (nn.Linear(5000, 24), (9, 5000)),
        (nn.Conv2d(512, 64, 3, padding=1), (1, 512, 9, 9)),
        (nn.Conv2d(512, 256, 3, padding=2, dilation=2), (1, 512, 14, 14)),
        (nn.Conv2d(1500, 40, 1), (2, 1500, 5, 5)),
    ],
    ids=str,
)
@pytest.mark.parametrize("device", ["llvm", "llvm -mcpu=haswell"])
def test_rounding_of_long_sums(layer: nn.Module, shape: tuple[int, ...], device: str) -> None:
    """Of terms of one sign: in one chain, errors are about ten times PyTorch's."""
    torch.manual_seed(3)
    layer.weight = nn.Parameter(torch.rand_like(layer.weight))  # type: ignore[arg-type]
    x = torch.rand(shape)
    with torch_tvm.enabled(strict=True, winograd="off", device=device):
        got = torch.jit.trace(nn.Sequential(layer, nn.ReLU()), x, check_trace=False)(x)
    eager = layer(x)
    exact = layer.double()(x.double())
    layer.float()
    assert error(got, exact) <= 4 * max(error(eager, exact), 1e-7)
