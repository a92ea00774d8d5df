"""Densely connected networks (Huang et al., arXiv:1608.06993), with bottlenecks and compression."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.models.weights import initialise


class DenseLayer(nn.Module):
    """Add `growth` channels, made from all that are there."""

    def __init__(self, inputs: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, bottleneck * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(bottleneck * growth)
        self.conv2 = nn.Conv2d(bottleneck * growth, growth, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: list[Tensor]) -> Tensor:
        y = self.conv1(self.relu(self.bn1(torch.cat(features, 1))))
        return self.conv2(self.relu(self.bn2(y)))


class DenseBlock(nn.Module):
    """Layers of which each sees what all before it have made."""

    def __init__(self, layers: int, inputs: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DenseLayer(inputs + index * growth, growth, bottleneck) for index in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(features))
        return torch.cat(features, 1)


def _transition(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(inputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.AvgPool2d(2),
    )


class DenseNet(nn.Module):
    """A stem, dense blocks with transitions between them, and a linear classifier; by default DenseNet-121."""

    def __init__(
        self,
        depths: Sequence[int] = (6, 12, 24, 16),
        classes: int = 1000,
        growth: int = 32,
        bottleneck: int = 4,
    ) -> None:
        super().__init__()
        channels = 2 * growth
        layers: list[nn.Module] = [
            nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        for stage, depth in enumerate(depths):
            if stage > 0:
                layers.append(_transition(channels, channels // 2))
                channels //= 2
            layers.append(DenseBlock(depth, channels, growth, bottleneck))
            channels += depth * growth
        layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))
