"""Random weights that keep activations at their size from layer to layer.

With PyTorch's defaults those of deep networks shrink until the output is the last bias alone, and a comparison with
eager would see nothing else.
"""

from __future__ import annotations

from torch import nn


def initialise(network: nn.Module) -> None:
    """Fill convolutions by He et al. (arXiv:1502.01852) and set the biases of linear layers to zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)
