"""The networks that torch_tvm is measured and tested with: standard layers, random weights.

Plain definitions in PyTorch, so that no model package has to be installed; the transformers are built from the
configurations that the package ``transformers`` has by default.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.models.convnext import ConvNeXt
from benchmarks.models.decoders import gpt2
from benchmarks.models.densenet import DenseNet
from benchmarks.models.efficientnet import EfficientNet
from benchmarks.models.encoders import bert, vit
from benchmarks.models.mobilenet import MobileNetV2
from benchmarks.models.resnet import BasicBlock, Bottleneck, ResNet
from benchmarks.models.vgg import VGG


@dataclass(frozen=True)
class Model:
    """A network by name: how to build it, and an input of a given batch size for it."""

    build: Callable[[], nn.Module]
    make_input: Callable[[int], Tensor]


def _image(batch: int) -> Tensor:
    return torch.rand(batch, 3, 224, 224)


def _tokens(vocabulary: int) -> Callable[[int], Tensor]:
    return lambda batch: torch.randint(0, vocabulary, (batch, 128))


def find_model(name: str) -> Model:
    """Return a model of `MODELS`, or one that a module of the user's has, as ``"package.module:attribute"``."""
    if ":" in name:
        module, _, attribute = name.partition(":")
        model = getattr(importlib.import_module(module), attribute)
        if not isinstance(model, Model):
            raise ValueError(f"{name} is a {type(model).__name__}, not a Model")
        return model
    if name not in MODELS:
        raise ValueError(f"no model {name!r}; there are {', '.join(MODELS)}")
    return MODELS[name]


MODELS = {
    "resnet18": Model(lambda: ResNet(BasicBlock, (2, 2, 2, 2)), _image),
    "resnet34": Model(lambda: ResNet(BasicBlock, (3, 4, 6, 3)), _image),
    "resnet50": Model(lambda: ResNet(Bottleneck, (3, 4, 6, 3)), _image),
    "vgg11": Model(lambda: VGG(11), _image),
    "vgg16": Model(lambda: VGG(16), _image),
    "mobilenet_v2": Model(MobileNetV2, _image),
    "efficientnet_b0": Model(EfficientNet, _image),
    "densenet121": Model(DenseNet, _image),
    "convnext_t": Model(ConvNeXt, _image),
    "bert": Model(lambda: bert("sdpa"), _tokens(30522)),
    "bert_eager": Model(lambda: bert("eager"), _tokens(30522)),
    "vit": Model(vit, _image),
    "gpt2": Model(lambda: gpt2("sdpa"), _tokens(50257)),
    "gpt2_eager": Model(lambda: gpt2("eager"), _tokens(50257)),
}
