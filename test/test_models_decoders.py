"""Language models of the package ``transformers``, small and untrained: kernels, rounding and memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

import torch_tvm

pytestmark = [pytest.mark.usefixtures("nothing_compiled"), pytest.mark.filterwarnings("ignore")]

Recorder = Callable[[Callable[..., Any]], None]

LAYERS, ROWS = 2, 19
DECODER: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "vocab_size": 300,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "use_cache": False,
}
SHARED = {**DECODER, "num_key_value_heads": 2}
GPT2 = {
    "n_layer": LAYERS,
    "n_embd": 64,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "use_cache": False,
}

# Network, kernels of a layer, other kernels (embedding, last norm, head and the test for finite values; more where said).
Case = tuple[Callable[[], nn.Module], int, int]
CASES: dict[str, Case] = {
    # Norm, projections, two rotary embeddings, attention, output; norm, gate and up, down.
    "llama": (lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SHARED)), 9, 4),
    "llama_eager": (
        lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SHARED, attn_implementation="eager")),
        9,
        4,
    ),
    "qwen2": (lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**SHARED)), 9, 4),
    "mistral": (lambda: hf.MistralForCausalLM(hf.MistralConfig(**SHARED, head_dim=16)), 9, 4),
    # The embedding is scaled.
    "gemma": (lambda: hf.GemmaForCausalLM(hf.GemmaConfig(**SHARED, head_dim=16)), 9, 5),
    # Norms of queries and keys.
    "qwen3": (lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**SHARED, head_dim=16)), 11, 4),
    # One norm; half of a head is not rotated but copied, for queries and keys.
    "phi": (lambda: hf.PhiForCausalLM(hf.PhiConfig(**DECODER)), 10, 4),
    # The embeddings of tokens and positions are added.
    "gpt2": (lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2, vocab_size=300)), 7, 5),
}


class Logits(nn.Module):
    """A language model that gives a tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model(tokens)[0]


def plans_of(compiler: Recorder) -> list[Any]:
    """Return a list that each plan is appended to when it is compiled."""
    plans: list[Any] = []

    def record(real: Callable[..., Any], *arguments: Any) -> Any:
        plans.append(real(*arguments))
        return plans[-1]

    compiler(record)
    return plans


def run(model: nn.Module, tokens: Tensor) -> Tensor:
    traced = torch.jit.trace(model, tokens, strict=False, check_trace=False)
    with torch_tvm.enabled(strict=True):
        traced(tokens)
        return traced(tokens)


def error(got: Tensor, exact: Tensor) -> float:
    return float((got.double() - exact).abs().max() / exact.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_kernels_and_rounding(name: str, batch: int, compiler: Recorder) -> None:
    """One group; as many kernels as said, none of which copies; and no more rounding than twice PyTorch's."""
    build, of_layer, others = CASES[name]
    plans = plans_of(compiler)
    model = Logits(build()).eval()
    tokens = torch.randint(3, 300, (batch, ROWS))
    with torch_tvm.disabled():
        eager = model(tokens)
    got = run(model, tokens)
    exact = model.double()(tokens)
    assert error(got, exact) <= 2 * error(eager, exact)
    assert len(plans) == 1
    names = Counter(step.name.rpartition("_")[0] for step in plans[0].steps)
    assert sum(names.values()) == of_layer * LAYERS + others, names
    assert names["copy"] == (2 * LAYERS if name == "phi" else 0), names


def tied(vocabulary: int) -> dict[str, nn.Module]:
    return {
        "gpt2": hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2, vocab_size=vocabulary)),
        "qwen2": hf.Qwen2ForCausalLM(
            hf.Qwen2Config(**{**SHARED, "vocab_size": vocabulary}, tie_word_embeddings=True)
        ),
    }


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2", "qwen2"])
def test_an_embedding_that_is_the_head_too_is_packed_once(name: str, compiler: Recorder) -> None:
    plans = plans_of(compiler)
    model = Logits(tied(2048)[name]).eval()
    tokens = torch.randint(3, 300, (1, ROWS))
    with torch_tvm.disabled():
        expected = model(tokens)
    torch.testing.assert_close(run(model, tokens), expected, rtol=1e-4, atol=1e-5)
    head = 4 * 2048 * 64
    tensors = sum(4 * parameter.numel() for parameter in model.parameters())
    assert head > tensors / 2, "the head is most of the network, so that a second copy shows"
    assert torch_tvm.stats()["packed_bytes"] == plans[0].packed_bytes < tensors * 1.1
    whole = [
        weight for weight in plans[0].buffers if weight.kind == "weight" and list(weight.shape) == [2048, 64]
    ]
    assert len(whole) == 1, "the call names the shared weight once"


@torch.no_grad()
def test_layers_that_share_weights_share_what_is_packed(compiler: Recorder) -> None:
    plans = plans_of(compiler)
    sizes = {"hidden_size": 64, "embedding_size": 32, "intermediate_size": 112, "num_attention_heads": 4}
    model = Logits(hf.AlbertModel(hf.AlbertConfig(**sizes, num_hidden_layers=3, vocab_size=300))).eval()
    tokens = torch.randint(3, 300, (1, ROWS))
    with torch_tvm.disabled():
        expected = model(tokens)
    torch.testing.assert_close(run(model, tokens), expected, rtol=1e-4, atol=1e-5)
    packing = Counter(step.name.rpartition("_")[0] for step in plans[0].packing_steps)
    # The embedding's projection, then of the one layer: queries, keys and values; output; two of the feed-forward part.
    assert packing["pack_matmul"] == 5, packing
