"""EfficientNet-B0 (Tan and Le, arXiv:1905.11946)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from benchmarks.models.weights import initialise

# Table 1 of the paper: expansion, kernel, stride of the first block, channels, blocks.
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)

# Scales of batch normalisations that keep activations at their size behind convolutions made for ReLU: of a normal
# distribution SiLU leaves 0.36 of the square where ReLU leaves 0.5, and untrained excitation halves each channel.
_AFTER_LINEAR, _AFTER_SILU, _AFTER_EXCITATION = 0.71, 1.19, 2.38


def _conv(
    inputs: int,
    outputs: int,
    size: int,
    scale: float,
    stride: int = 1,
    groups: int = 1,
    *,
    activation: bool = True,
) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    norm = nn.BatchNorm2d(outputs)
    nn.init.constant_(norm.weight, scale)
    return nn.Sequential(conv, norm, nn.SiLU(inplace=True)) if activation else nn.Sequential(conv, norm)


class SqueezeExcite(nn.Module):
    """Scale each channel by what two 1x1 convolutions make of all channels' means (Hu et al., arXiv:1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.fc2(self.activation(self.fc1(self.avgpool(x)))).sigmoid()
        return scale * x


class MBConv(nn.Module):
    """Expand, convolve each channel by itself, squeeze and excite, project; a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [_conv(inputs, hidden, 1, _AFTER_LINEAR)]
        layers += [
            _conv(hidden, hidden, kernel, _AFTER_SILU, stride, groups=hidden),
            SqueezeExcite(hidden, max(1, inputs // 4)),
            _conv(hidden, outputs, 1, _AFTER_EXCITATION, activation=False),
        ]
        self.layers = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + x if self.has_shortcut else self.layers(x)


class EfficientNet(nn.Module):
    """A stem, the stages of inverted residuals, a 1x1 convolution and a linear classifier."""

    def __init__(
        self,
        classes: int = 1000,
        stages: Sequence[tuple[int, int, int, int, int]] = _STAGES,
        last: int = 1280,
    ) -> None:
        super().__init__()
        channels = 32
        layers: list[nn.Module] = [_conv(3, channels, 3, _AFTER_LINEAR, stride=2)]
        for expansion, kernel, first_stride, outputs, blocks in stages:
            for index in range(blocks):
                stride = first_stride if index == 0 else 1
                layers.append(MBConv(channels, outputs, kernel, stride, expansion))
                channels = outputs
        layers.append(_conv(channels, last, 1, _AFTER_LINEAR))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2, inplace=True), nn.Linear(last, classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))
