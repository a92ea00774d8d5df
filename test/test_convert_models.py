"""Whole networks as Relay: every node converts, the text reads back, the values are eager PyTorch's."""

from __future__ import annotations

import pytest
import torch
from relay_eval import evaluate
from torch import nn

import torch_tvm
from torch_tvm import relay


class Bottleneck(nn.Module):
    """MobileNetV2's inverted residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 3 * channels
        self.body = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(inplace=True),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(inplace=True),
            nn.Conv2d(wide, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


def convolutional() -> tuple[nn.Module, list[torch.Tensor]]:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 7, stride=2, padding=3),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        Bottleneck(8),
        nn.Hardswish(),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(8, 5),
        nn.Softmax(-1),
    )
    return network, [torch.randn(2, 3, 32, 32)]


def transformer(norm_first: bool = False, activation: str = "gelu") -> tuple[nn.Module, list[torch.Tensor]]:
    layer = nn.TransformerEncoderLayer(
        16, 4, 32, activation=activation, batch_first=True, norm_first=norm_first
    )
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), [torch.randn(2, 5, 16)]


def attention() -> tuple[nn.Module, list[torch.Tensor]]:
    class SelfAttention(nn.MultiheadAttention):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(x, x, x, need_weights=False)[0]

    return SelfAttention(16, 4, batch_first=True), [torch.randn(2, 5, 16)]


def bert(attention: str) -> tuple[nn.Module, list[torch.Tensor]]:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        attn_implementation=attention,
        return_dict=False,
    )
    mask = torch.ones(2, 7, dtype=torch.int64)
    mask[1, 5:] = 0
    return transformers.BertModel(config), [torch.randint(0, 100, (2, 7)), mask]


def vit(attention: str) -> tuple[nn.Module, list[torch.Tensor]]:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        attn_implementation=attention,
        return_dict=False,
    )
    return transformers.ViTModel(config), [torch.randn(2, 3, 32, 32)]


MODELS = {
    "convolutional": convolutional,
    "transformer": transformer,
    "transformer_norm_first": lambda: transformer(norm_first=True, activation="relu"),
    "attention": attention,
    "bert_eager": lambda: bert("eager"),
    "bert_sdpa": lambda: bert("sdpa"),
    "vit_eager": lambda: vit("eager"),
    "vit_sdpa": lambda: vit("sdpa"),
}


def randomise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name, low in (("running_mean", -0.5), ("running_var", 0.5)):
                nn.init.uniform_(module.get_buffer(name), low, low + 1)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore")
def test_model(name: str) -> None:
    network, inputs = MODELS[name]()
    network.eval()
    randomise(network)
    with torch.no_grad():
        expected = network(*inputs)
        function = torch_tvm.to_relay(network, inputs)
    expected = [expected] if isinstance(expected, torch.Tensor) else list(expected)
    for got, want in zip(evaluate(function, inputs), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert relay.structural_equal(relay.parse_expr(function.astext()), function)
