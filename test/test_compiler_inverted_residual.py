"""Inverted residuals: expansion and depthwise convolution become one kernel where that pays, and only there."""

from __future__ import annotations

import pytest
import torch
from compiler_cases import assert_close, compile_plan
from torch import Tensor, nn

import torch_tvm


class Block(nn.Module):
    """An inverted residual; `squeeze`: with squeeze and excitation; `shared`: the expanded tensor is read twice."""

    def __init__(
        self,
        channels: int,
        activation: type[nn.Module] = nn.ReLU6,
        *,
        kernel: int = 3,
        stride: int = 1,
        squeeze: bool = False,
        shared: bool = False,
    ) -> None:
        super().__init__()
        wide, pad = 6 * channels, kernel // 2
        self.expand = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), activation()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(wide, wide, kernel, stride, pad, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            activation(),
        )
        self.gate = nn.Conv2d(wide, wide, 1) if squeeze else None
        self.project = nn.Conv2d(wide, channels, 1)
        self.shared = shared
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.bias.data.uniform_(0.5, 1.5)  # act(bias) must not reach the padding
                module.running_var.uniform_(0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        expanded = self.expand(x)
        y = self.depthwise(expanded)
        if self.gate is not None:
            y = y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        if self.shared:
            y = y + expanded
        y = self.project(y)
        return x + y if y.shape == x.shape else y


def kernels(block: nn.Module, x: Tensor, threads: int = 2, **options: object) -> list[str]:
    """Compile a block for some threads, compare with eager, and return the names of its kernels."""
    block.eval()
    with torch.no_grad():
        expected = block(x)
        traced = torch_tvm.to_relay(block, (x,))
        compiled = compile_plan(traced.body, list(traced.params), 1, [expected], threads=threads, **options)
        assert_close(compiled([x], [], [expected])[0], expected)
    return [step.name.rpartition("_")[0] for step in compiled.plan.steps]


def fused(names: list[str]) -> int:
    return sum(name.startswith("pointwise_depthwise") for name in names)


@pytest.mark.parametrize("activation", [nn.ReLU6, nn.SiLU, nn.Hardswish])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 2)])
def test_expansion_and_depthwise_are_one_kernel(
    activation: type[nn.Module], kernel: int, stride: int
) -> None:
    torch.manual_seed(kernel + stride)
    names = kernels(Block(16, activation, kernel=kernel, stride=stride), torch.randn(1, 16, 65, 67))
    assert fused(names) == 1, names


def test_number_of_kernels() -> None:
    """One less than without, on an input that lies as the kernels want it."""
    torch.manual_seed(0)
    x, orders = torch.randn(1, 16, 64, 64), [[0, 2, 3, 1]]
    together = kernels(Block(16), x, input_orders=orders)
    apart = kernels(Block(16, shared=True), x, input_orders=orders)
    assert fused(together) == 1 and fused(apart) == 0
    assert len(together) == len(apart) - 1, (together, apart)


def test_squeeze_and_excitation_reads_the_result() -> None:
    torch.manual_seed(1)
    names = kernels(Block(16, nn.SiLU, squeeze=True), torch.randn(2, 16, 64, 64))
    assert fused(names) == 1 and any("mean" in name for name in names), names


@pytest.mark.parametrize(("threads", "count"), [(1, 1), (4, 1), (64, 0)])
def test_threads_share_the_rows(threads: int, count: int) -> None:
    """Among 64 threads what each computes twice, and what little it would save, decide otherwise."""
    torch.manual_seed(threads)
    names = kernels(Block(8), torch.randn(1, 8, 112, 112), threads)
    assert fused(names) == count, names


def test_two_readers_keep_the_expanded_tensor() -> None:
    torch.manual_seed(2)
    assert fused(kernels(Block(16, shared=True), torch.randn(1, 16, 64, 64))) == 0


def test_small_tensors_and_other_types_stay_apart() -> None:
    torch.manual_seed(3)
    assert fused(kernels(Block(64), torch.randn(1, 64, 14, 14))) == 0
    assert fused(kernels(Block(16).double(), torch.randn(1, 16, 64, 64, dtype=torch.float64))) == 0
    assert fused(kernels(Block(16), torch.randn(1, 16, 64, 64), opt_level=0)) == 0
