"""Layers: products, convolutions, normalisation, pooling, attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from convert_checks import FLOATS, check, operators, tensors, values
from hypothesis import assume, given
from hypothesis import strategies as st

import torch_tvm
from torch_tvm import NotConvertibleError

floats = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])


@given(data=st.data())
def test_matmul(data: Any) -> None:
    batch = data.draw(st.lists(st.integers(0, 3), max_size=2))
    rows, inner, columns = (data.draw(st.integers(0, 4)) for _ in range(3))
    left = [1 if data.draw(st.booleans()) else n for n in batch] + [rows, inner]
    right = [1 if data.draw(st.booleans()) else n for n in batch] + [inner, columns]
    left = left[data.draw(st.integers(0, len(batch) + 1)) :]
    right = right[data.draw(st.integers(0, len(batch))) :]
    if data.draw(st.booleans()):
        right = [inner]
    dtype = [data.draw(st.sampled_from([*FLOATS, torch.int64]))]
    check(torch.matmul, data.draw(tensors(left, dtype)), data.draw(tensors(right, dtype)))


@given(data=st.data())
def test_linear(data: Any) -> None:
    lead = data.draw(st.lists(st.integers(0, 3), max_size=3))
    inner, units = data.draw(st.integers(0, 5)), data.draw(st.integers(1, 5))
    dtype = data.draw(floats)
    x, w, b = values([*lead, inner], dtype), values([units, inner], dtype), values([units], dtype)
    check(F.linear, x, w)
    check(F.linear, x, w, b)


@given(data=st.data())
def test_added_products(data: Any) -> None:
    n, k, m = (data.draw(st.integers(0, 4)) for _ in range(3))
    alpha, beta = data.draw(st.sampled_from([1, 0.5])), data.draw(st.sampled_from([0, 1, 2.0]))
    bias = data.draw(
        tensors([[m], [1, m], [n, m], [n, 1]][data.draw(st.integers(0, 3))], [torch.float32], special=True)
    )
    a, b = values([n, k], torch.float32), values([k, m], torch.float32)
    check(lambda c, x, y: torch.addmm(c, x, y, alpha=alpha, beta=beta), bias, a, b)
    batched = (
        values([2, n, m], torch.float32),
        values([2, n, k], torch.float32),
        values([2, k, m], torch.float32),
    )
    check(lambda c, x, y: torch.baddbmm(c, x, y, alpha=alpha, beta=beta), *batched)
    check(torch.bmm, *batched[1:])


def test_products_keep_their_natural_operator() -> None:
    x, w = torch.randn(2, 3, 4), torch.randn(5, 4)
    assert operators(check(F.linear, x, w, torch.randn(5))) == ["nn.dense", "nn.bias_add"]
    assert operators(check(lambda a, b: a @ b.t(), x, w)) == ["nn.dense"]
    assert operators(check(torch.matmul, x, w.t())) == ["nn.matmul"]
    heads = torch.randn(2, 2, 3, 4)
    scores = check(lambda a, b: a @ b.transpose(-1, -2), heads, heads)
    assert operators(scores) == ["reshape", "reshape", "nn.batch_matmul", "reshape"]


@given(data=st.data())
def test_convolution(data: Any) -> None:
    dims = data.draw(st.integers(1, 3))
    groups = data.draw(st.integers(1, 3))
    kernel = [data.draw(st.integers(1, 3)) for _ in range(dims)]
    channels = groups * data.draw(st.integers(1, 2))
    dtype = data.draw(floats)
    x = values(
        [data.draw(st.integers(0, 2)), groups * 2, *[data.draw(st.integers(5, 7)) for _ in kernel]], dtype
    )
    weight, bias = values([channels, 2, *kernel], dtype), values([channels], dtype)
    options = {
        "stride": data.draw(st.integers(1, 2)),
        "padding": data.draw(st.integers(0, 2)),
        "dilation": data.draw(st.integers(1, 2)),
        "groups": groups,
    }
    convolve: Any = [F.conv1d, F.conv2d, F.conv3d][dims - 1]
    check(lambda a, b, c: convolve(a, b, c, **options), x, weight, bias)
    check(lambda a, b: convolve(a, b, padding="same", dilation=options["dilation"], groups=groups), x, weight)
    if x.shape[0]:
        check(lambda a, b: convolve(a[0], b, **options), x, weight)


@given(data=st.data())
def test_transposed_convolution(data: Any) -> None:
    dims = data.draw(st.integers(1, 3))
    groups = data.draw(st.integers(1, 2))
    kernel = [data.draw(st.integers(1, 3)) for _ in range(dims)]
    x = values([2, groups * 2, *[4 for _ in kernel]], torch.float32)
    weight, bias = values([groups * 2, 3, *kernel], torch.float32), values([3 * groups], torch.float32)
    stride = data.draw(st.integers(1, 3))
    options = {
        "stride": stride,
        "padding": data.draw(st.integers(0, 1)),
        "groups": groups,
        "output_padding": data.draw(st.integers(0, 2)),
        "dilation": data.draw(st.integers(1, 2)),
    }
    assume(options["output_padding"] < max(stride, options["dilation"]))
    assume(options["output_padding"] < stride + options["padding"])
    convolve: Any = [F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d][dims - 1]
    check(lambda a, b, c: convolve(a, b, c, **options), x, weight, bias)


def test_output_padding_beyond_the_stride() -> None:
    """Relay, and TVM, want it below the stride; PyTorch below the stride or the dilation."""
    x, weight = values([2, 3, 5, 4], torch.float32), values([3, 2, 3, 2], torch.float32)

    def convolve(x: torch.Tensor, w: torch.Tensor, padding: int) -> torch.Tensor:
        return F.conv_transpose2d(x, w, stride=2, dilation=(1, 4), output_padding=(1, 3), padding=padding)

    text = check(lambda x, w: convolve(x, w, 2), x, weight).astext()
    assert "output_padding=[1, 1]" in text
    assert "padding=[2, 2, 2, 0]" in text
    with pytest.raises(NotConvertibleError, match="output_padding=3 with stride=2 and padding=1"):
        torch_tvm.to_relay(lambda x, w: convolve(x, w, 1), [x, weight])


@given(data=st.data())
def test_batch_norm(data: Any) -> None:
    dtype = data.draw(floats)
    x = values([2, 3, 4, 5][: data.draw(st.integers(2, 4))], dtype)
    mean, var, weight, bias = (values([3], dtype).abs() + 0.5 for _ in range(4))
    check(lambda *a: F.batch_norm(a[0], a[1], a[2], a[3], a[4], eps=1e-3), x, mean, var, weight, bias)
    check(lambda *a: F.batch_norm(a[0], a[1], a[2]), x, mean, var)


def test_training_batch_norm_is_refused() -> None:
    with pytest.raises(NotConvertibleError, match="training=True"):
        torch_tvm.to_relay(torch.nn.BatchNorm2d(3), [torch.ones(2, 3, 4, 4)])


@given(data=st.data())
def test_layer_norm(data: Any) -> None:
    dtype = data.draw(floats)
    x = values([2, 3, 4], dtype)
    shape = [[4], [3, 4], [2, 3, 4]][data.draw(st.integers(0, 2))]
    check(lambda t: F.layer_norm(t, shape), x)
    check(lambda t, w, b: F.layer_norm(t, shape, w, b, 1e-3), x, values(shape, dtype), values(shape, dtype))
    check(lambda t, w: F.rms_norm(t, shape, w), x, values(shape, dtype))
    check(lambda t: F.rms_norm(t, shape, eps=1e-3), x)


def test_other_norms() -> None:
    x, w, b = values([2, 6, 4, 3], torch.float32), values([6], torch.float32), values([6], torch.float32)
    check(lambda *a: F.group_norm(a[0], 3, *a[1:]), x, w, b)
    check(lambda t: F.group_norm(t, 2), x)
    check(F.instance_norm, x)
    check(lambda *a: F.instance_norm(a[0], weight=a[1], bias=a[2]), x, w, b)
    check(lambda t, m, v: F.instance_norm(t, m, v, use_input_stats=False), x, w, b.abs())


@given(data=st.data())
def test_pooling(data: Any) -> None:
    dims = data.draw(st.integers(1, 3))
    x = values(
        [2, 3, *[data.draw(st.integers(5, 9)) for _ in range(dims)]],
        torch.float32 if dims == 3 else data.draw(floats),
    )
    kernel = data.draw(st.integers(1, 4))
    options: dict[str, Any] = {
        "stride": data.draw(st.integers(1, 5)),
        "padding": data.draw(st.integers(0, kernel // 2)),
        "ceil_mode": data.draw(st.booleans()),
    }
    maximum: Any = [F.max_pool1d, F.max_pool2d, F.max_pool3d][dims - 1]
    dilation = data.draw(st.integers(1, 2))
    if dilation * (kernel - 1) < min(x.shape[2:]):
        check(lambda t: maximum(t, kernel, dilation=dilation, **options), x)
    average: Any = [F.avg_pool1d, F.avg_pool2d, F.avg_pool3d][dims - 1]
    for counted in (False, True):
        check(lambda t, c=counted: average(t, kernel, count_include_pad=c, **options), x)
    if dims > 1:
        check(lambda t: average(t, kernel, divisor_override=3, **options), x)
    check(lambda t: maximum(t[0], kernel), x)


@given(data=st.data())
def test_adaptive_pooling(data: Any) -> None:
    dims = data.draw(st.integers(1, 3))
    x = values([2, 3, *[data.draw(st.integers(3, 8)) for _ in range(dims)]], torch.float32)
    size = [data.draw(st.integers(1, 4)) for _ in range(dims)]
    for kind in ("avg", "max"):
        pool: Any = getattr(F, f"adaptive_{kind}_pool{dims}d")
        check(lambda t, p=pool: p(t, size if dims > 1 else size[0]), x)
        check(lambda t, p=pool: p(t[0], 1), x)


@given(data=st.data())
def test_attention(data: Any) -> None:
    batch = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    rows, columns = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    q, k, v = (values([*batch, n, 8], dtype) for n in (rows, columns, columns))
    sdpa = F.scaled_dot_product_attention
    check(sdpa, q, k, v)
    check(lambda *a: sdpa(a[0], a[1], a[2], scale=0.3, is_causal=True), q, k, v)
    boolean = torch.rand(rows, columns) < 0.5
    check(lambda *a: sdpa(a[0], a[1], a[2], a[3]), q, k, v, boolean)
    check(lambda *a: sdpa(a[0], a[1], a[2], a[3]), q, k, v, values([*batch[:-1], 1, rows, columns], dtype))


def test_grouped_query_attention() -> None:
    q, k = values([2, 6, 3, 8], torch.float32), values([2, 2, 3, 8], torch.float32)
    check(lambda a, b: F.scaled_dot_product_attention(a, b, b, enable_gqa=True), q, k)


def test_attention_with_dropout_is_refused() -> None:
    x = torch.ones(1, 1, 2, 4)
    with pytest.raises(NotConvertibleError, match=r"dropout_p=0\.5"):
        torch_tvm.to_relay(lambda t: F.scaled_dot_product_attention(t, t, t, dropout_p=0.5), [x])
