"""Transformer encoders of the package ``transformers``: its default configurations, random weights."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class FirstOutput(nn.Module):
    """A model of ``transformers`` as a function from one tensor to one tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x, return_dict=False)[0]


def bert(attention: str = "sdpa", **config: Any) -> nn.Module:
    """Build a BERT encoder; BERT-base without further configuration.

    Parameters
    ----------
    attention
        ``"sdpa"`` (scaled_dot_product_attention) or ``"eager"`` (matrix products and softmax).
    **config
        Fields of ``transformers.BertConfig``.
    """
    from transformers import BertConfig, BertModel

    return FirstOutput(BertModel(BertConfig(attn_implementation=attention, **config)))


def vit(attention: str = "sdpa", **config: Any) -> nn.Module:
    """Build a vision transformer with classifier; ViT-B/16 with 1000 classes without further configuration.

    Parameters
    ----------
    attention
        As of `bert`.
    **config
        Fields of ``transformers.ViTConfig``.
    """
    from transformers import ViTConfig, ViTForImageClassification

    settings = {"num_labels": 1000, **config}
    return FirstOutput(ViTForImageClassification(ViTConfig(attn_implementation=attention, **settings)))
