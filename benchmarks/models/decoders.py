"""Transformer decoders of the package ``transformers``: its default configurations, random weights."""

from __future__ import annotations

from typing import Any

from torch import nn

from benchmarks.models.encoders import FirstOutput


def gpt2(attention: str = "sdpa", **config: Any) -> nn.Module:
    """Build a GPT-2 with its language head, without cache; GPT-2 small without further configuration.

    Parameters
    ----------
    attention
        ``"sdpa"`` (scaled_dot_product_attention) or ``"eager"`` (matrix products and softmax).
    **config
        Fields of ``transformers.GPT2Config``.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    settings = {"use_cache": False, **config}
    return FirstOutput(GPT2LMHeadModel(GPT2Config(attn_implementation=attention, **settings)))
