"""A sample of every family through the compiler: values, dtype, sizes and strides are eager PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from convert_checks import assert_same, flatten, values

import torch_tvm

LAST = torch.channels_last
f32, f64, i64, bf16 = torch.float32, torch.float64, torch.int64, torch.bfloat16


def image(dtype: torch.dtype = f32) -> torch.Tensor:
    return values([2, 4, 7, 6], dtype)


CASES: dict[str, tuple[Callable[..., Any], list[torch.Tensor]]] = {
    "promotion": (lambda a, b: (a + b, a * 2.5, b / 2, a - b), [values([3, 4], f32), values([4], i64)]),
    "counting": (
        lambda a: (
            torch.arange(4, -4, -1) * a,
            torch.arange(9, -6, -2) * a,
            torch.arange(-3, 1, 3) + a,
            torch.arange(1.0, -1.0, -0.3) * a,
        ),
        [values([1], f32)],
    ),
    "special": (
        lambda a: (torch.relu(a), torch.clamp(a, -1, 1), a.abs(), torch.maximum(a, -a)),
        [values([40], f32, special=True)],
    ),
    "special_sums": (
        lambda a: (a.amax(-1), a.max(0), a.argmax(1), a.sum(0)),
        [values([8, 9], f32, special=True)],
    ),
    "bfloat16": (lambda a: (F.gelu(a * 0.1), a.softmax(-1), a.sum(0)), [values([5, 8], bf16)]),
    "bfloat16_constants": (
        lambda a: (torch.full_like(a, 2.5), torch.logical_not(a), a.tril(), a.masked_fill(a > 0, 1.5)),
        [values([5, 8], bf16)],
    ),
    "bfloat16_known": (  # before any kernel runs, as what a plan gives back
        lambda a: (torch.full_like(a[0, 0], 2.5), a[0] * 1.5),
        [values([5, 8], bf16)],
    ),
    "bfloat16_epilogues": (
        lambda c, a, b, v: (torch.addmm(c, a, b), torch.addmv(c[:, 0], a, v), torch.addmm(c[:1, :1], a, b)),
        [values([3, 5], bf16), values([3, 6], bf16), values([6, 5], bf16), values([6], bf16)],
    ),
    "comparison": (lambda a, b: ((a > b) & (a != 0), ~(a <= b)), [values([3, 5], f32), values([5], i64)]),
    "integers": (
        lambda a: (a // 3, a % -4, torch.div(a, 3, rounding_mode="trunc"), a**3),
        [values([30], i64)],
    ),
    "activations": (
        lambda a: (F.gelu(a), F.silu(a), F.hardswish(a), F.leaky_relu(a), F.relu6(a), a.erf()),
        [values([3, 50], f32)],
    ),
    "reductions": (
        lambda a: (a.sum((1, 2)), a.mean(0, keepdim=True), a.var(-1), a.std(), a.prod(1), a.cumsum(2)),
        [values([3, 4, 5], f32)],
    ),
    "indices": (
        lambda a: (a.argmax(), a.argmin(1), a.max(2), a.min(0, keepdim=True)),
        [values([3, 4, 5], f32)],
    ),
    "bools": (lambda a: (a.sum(), a.any(1), a.all(), a.amax(0)), [values([3, 4], torch.bool)]),
    "linear": (F.linear, [values([2, 3, 8], f32), values([5, 8], f32), values([5], f32)]),
    "vectors": (
        lambda a, b: (a @ b, a[0] @ b, torch.outer(a[0], b)),
        [values([3, 8], f32), values([8], f32)],
    ),
    "batches": (
        lambda a, b: (a @ b, a[:, 0] @ b[0, 0]),
        [values([2, 3, 4, 5], f32), values([2, 1, 5, 6], f32)],
    ),
    "addmm": (
        lambda c, a, b: torch.addmm(c, a, b, beta=0.5, alpha=2),
        [values([6], f32), values([4, 5], f32), values([5, 6], f32)],
    ),
    "conv": (lambda x, w, b: F.conv2d(x, w, b, 2, 1), [image(), values([8, 4, 3, 3], f32), values([8], f32)]),
    "conv_last": (
        lambda x, w: F.conv2d(x, w, padding="same"),
        [image().to(memory_format=LAST), values([8, 4, 2, 3], f32)],
    ),
    "conv_grouped": (lambda x, w: F.conv2d(x, w, groups=4, dilation=2), [image(), values([8, 1, 2, 2], f32)]),
    "conv_1d": (lambda x, w: F.conv1d(x, w, padding=1), [values([2, 3, 9], f32), values([4, 3, 3], f32)]),
    "conv_3d": (F.conv3d, [values([1, 2, 5, 5, 5], f32), values([3, 2, 3, 3, 3], f32)]),
    "conv_3d_same": (
        lambda x, w, b: F.conv3d(x, w, b, padding="same", groups=2).relu(),
        [values([1, 4, 5, 4, 6], f32), values([6, 2, 3, 2, 3], f32), values([6], f32)],
    ),
    "conv_transposed": (
        lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1),
        [image(), values([4, 3, 3, 3], f32)],
    ),
    "conv_transposed_output_padding": (
        lambda x, w: F.conv_transpose2d(
            x, w, stride=(1, 2), dilation=(3, 1), padding=2, output_padding=(2, 1)
        ),
        [image(), values([4, 3, 3, 3], f32)],
    ),
    "conv_transposed_last": (
        lambda x, w, b: F.conv_transpose2d(x, w, b, stride=(3, 2), groups=2).relu(),
        [image().to(memory_format=LAST), values([4, 3, 2, 4], f32), values([6], f32)],
    ),
    "conv_transposed_1d": (
        lambda x, w, v: F.conv1d(F.leaky_relu(F.conv_transpose1d(x, w, stride=4, padding=2)), v, dilation=3),
        [values([2, 3, 9], f32), values([3, 5, 8], f32), values([4, 5, 3], f32)],
    ),
    "conv_transposed_3d": (
        lambda x, w, b: F.conv_transpose3d(
            x, w, b, stride=(2, 2, 1), padding=(0, 1, 1), output_padding=(1, 0, 0)
        ),
        [values([2, 3, 3, 4, 5], f32), values([3, 4, 2, 3, 3], f32), values([4], f32)],
    ),
    "pools_3d": (
        lambda x: (
            F.max_pool3d(x, 3, 2, 1),
            F.avg_pool3d(x, (1, 2, 3), ceil_mode=True),
            F.avg_pool3d(x, 3, 2, 1, count_include_pad=False),
            F.adaptive_avg_pool3d(x, 1),
        ),
        [values([2, 3, 5, 6, 7], f32)],
    ),
    "conv_f64": (F.conv2d, [image(f64), values([3, 4, 3, 3], f64)]),
    "batch_norm": (
        F.batch_norm,
        [image(), values([4], f32), values([4], f32).abs() + 1],
    ),
    "batch_norm_last": (
        F.batch_norm,
        [image().to(memory_format=LAST), values([4], f32), values([4], f32).abs() + 1],
    ),
    "norms": (
        lambda x: (F.layer_norm(x, [7, 6]), F.group_norm(x, 2), F.instance_norm(x), F.rms_norm(x, [6])),
        [image()],
    ),
    "pools": (
        lambda x: (
            F.max_pool2d(x, 3, 2, 1),
            F.avg_pool2d(x, 2, ceil_mode=True),
            F.adaptive_avg_pool2d(x, (3, 2)),
            F.adaptive_max_pool2d(x, 2),
        ),
        [image()],
    ),
    "pools_last": (
        lambda x: (F.max_pool2d(x, 2), F.avg_pool2d(x, 3, 2, 1), F.adaptive_avg_pool2d(x, 1)),
        [image().to(memory_format=LAST)],
    ),
    "views": (
        lambda x: (
            x.permute(0, 2, 1).reshape(2, -1),
            x.transpose(0, 1) + 1,
            x[:, 1::2] * 2,
            x.flatten(1) + 1,
        ),
        [values([2, 3, 4], f32)],
    ),
    "joins": (
        lambda x, y: (torch.cat([x, y], 1), torch.stack([x, x]), torch.cat([x, x.double()])),
        [values([2, 3], f32), values([2, 4], f32)],
    ),
    "splits": (
        lambda x: [part + 1 for part in (*x.chunk(3, 1), *x.split([1, 3], 0), *x.unbind(0))],
        [values([4, 6], f32)],
    ),
    "repetition": (
        lambda x: (x.repeat(2, 3), x.flip(0), x.repeat_interleave(2, 1), F.pad(x, (1, 2), value=3.0)),
        [values([2, 3], f32)],
    ),
    "lookups": (
        lambda i, t: (F.embedding(i, t), t[i], t.index_select(0, i[0]), torch.gather(t, 0, i)),
        [torch.randint(0, 3, (2, 3)), values([5, 3], f32)],
    ),
    "masks": (
        lambda x: (x.masked_fill(x > 0, -1.0), torch.where(x > 0, x, 0.5), x.tril(), x.triu(1)),
        [values([4, 5], f32)],
    ),
    "creation": (
        lambda x: (x + torch.arange(4), torch.zeros_like(x), x + torch.ones(4), x.new_full((2,), 3)),
        [values([3, 4], f32)],
    ),
    "casts": (
        lambda x: (x.to(i64), x.bool(), x.double(), x.half(), x.to(torch.uint8)),
        [values([3, 4], f32).abs()],
    ),
    "attention": (F.scaled_dot_product_attention, [values([2, 2, n, 8], f32) for n in (3, 4, 4)]),
    "attention_heads": (
        lambda x: F.scaled_dot_product_attention(*[x.view(2, 5, 2, 8).transpose(1, 2)] * 3),
        [values([2, 5, 16], f32)],
    ),
    "attention_masked": (
        lambda x, m: F.scaled_dot_product_attention(x, x, x, m),
        [values([2, 2, 3, 8], f32), torch.tensor([[True, False, True], [False] * 3, [True] * 3])],
    ),
    "attention_causal": (
        lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
        [values([2, 5, 8], f32)],
    ),
    "scalars": (lambda x: (x + 1, x.softmax(0), x.sum(), x.exp().reshape(1, 1)), [torch.tensor(0.5)]),
    "empty": (lambda x: (x + 1, x.sum(0), x.mean(), x.t() * 2, torch.cat([x, x])), [torch.zeros(0, 3)]),
    "empty_product": (lambda a, b: a @ b, [torch.zeros(3, 0), torch.zeros(0, 4)]),
    "transposed_input": (lambda x: (x + 1, x * x.t(), x.exp()), [values([4, 4], f32).t()]),
    "expanded_input": (lambda x: (x + 1, x.sum(0)), [values([1, 4], f32).expand(3, 4)]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_case(name: str) -> None:
    fn, inputs = CASES[name]
    with torch_tvm.enabled(strict=True, min_group_size=1), torch.no_grad():
        traced = torch.jit.trace(fn, tuple(inputs), check_trace=False, strict=False)
        results = flatten(traced(*inputs))
        assert torch_tvm.stats()["groups"] > 0
    for got, expected in zip(results, flatten(fn(*inputs)), strict=True):
        assert_same(got, expected)
        assert got.numel() == 0 or got.stride() == expected.stride()
