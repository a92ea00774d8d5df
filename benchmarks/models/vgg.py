"""The networks of Simonyan and Zisserman (arXiv:1409.1556), without batch normalisation."""

from __future__ import annotations

from torch import Tensor, nn

from benchmarks.models.weights import initialise

# Number of 3x3 convolutions before each of the five poolings, by number of layers with weights.
_STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGG(nn.Module):
    """Five stages of 3x3 convolutions, then three linear layers."""

    def __init__(self, layers: int, classes: int = 1000, width: int = 64, hidden: int = 4096) -> None:
        super().__init__()
        features: list[nn.Module] = []
        channels = 3
        for stage, count in enumerate(_STAGES[layers]):
            outputs = width << min(stage, 3)
            for _ in range(count):
                features += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU(inplace=True)]
                channels = outputs
            features.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(channels * 49, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, classes),
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))
        return self.classifier(x.flatten(1))
