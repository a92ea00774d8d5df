"""Networks as PyTorch's quantisation in eager mode wants them, quantised with random data."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.ao import quantization
from torch.ao.nn.quantized import FloatFunctional

from benchmarks.models.resnet import BasicBlock, ResNet


class QuantisableBlock(BasicBlock):
    """A `BasicBlock` whose addition is a module, which observes what it gives."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__(inputs, width, stride)
        self.relu1 = nn.ReLU()
        self.residual = FloatFunctional()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.residual.add_relu(self.bn2(self.conv2(y)), self.shortcut(x))


class QuantisableResNet(ResNet):
    """A `ResNet` of `QuantisableBlock` between a quantisation of its input and a dequantisation of its result."""

    def __init__(self, depths: Sequence[int], classes: int = 1000, width: int = 64) -> None:
        super().__init__(QuantisableBlock, depths, classes, width)
        self.quantise, self.dequantise = quantization.QuantStub(), quantization.DeQuantStub()

    def forward(self, x: Tensor) -> Tensor:
        return self.dequantise(super().forward(self.quantise(x)))


def _fusible(network: nn.Module) -> list[list[str]]:
    """Name the convolutions with their batch normalisation, and the activation behind it if there is one."""
    groups = [["conv1", "bn1", "relu"]]
    for name, module in network.named_modules():
        if isinstance(module, QuantisableBlock):
            groups += [[f"{name}.conv1", f"{name}.bn1", f"{name}.relu1"], [f"{name}.conv2", f"{name}.bn2"]]
            if module.downsample is not None:
                groups.append([f"{name}.downsample.0", f"{name}.downsample.1"])
    return groups


def quantise_statically(network: nn.Module, examples: Sequence[Tensor]) -> nn.Module:
    """Fuse, observe and convert a network of this file, with PyTorch's default configuration for x86."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        fused = quantization.fuse_modules(network.eval(), _fusible(network))
        fused.qconfig = quantization.get_default_qconfig("x86")
        quantization.prepare(fused, inplace=True)
        for example in examples:
            fused(example)
        return quantization.convert(fused)


def quantise_dynamically(network: nn.Module) -> nn.Module:
    """Quantise the weights of all linear layers, and their activations as they come."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quantization.quantize_dynamic(network.eval(), {nn.Linear}, dtype=torch.qint8)
