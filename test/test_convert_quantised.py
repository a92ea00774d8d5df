"""Quantised operators against PyTorch's own kernels, through the JIT; and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from convert_checks import operators
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torch_tvm
from torch_tvm import relay

quantized = torch.ops.quantized

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated")


class Packed(nn.Module):
    """A function of a tensor and of packed weights."""

    def __init__(self, packed: Any, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.packed = packed
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs, self.packed)


def quantised_weight(shape: tuple[int, ...], *, per_channel: bool = True, zero_point: int = 0) -> Tensor:
    weight = torch.randn(shape)
    if not per_channel:
        return torch.quantize_per_tensor(weight, 0.02, zero_point, torch.qint8)
    scales, points = torch.rand(shape[0]) * 0.02 + 0.01, torch.full((shape[0],), zero_point)
    return torch.quantize_per_channel(weight, scales.double(), points, 0, torch.qint8)


def run(module: nn.Module | Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What a traced module gives when it is compiled, and in eager mode."""
    with torch_tvm.enabled(strict=True, min_group_size=1), torch.no_grad():
        traced = torch.jit.trace(module, inputs, check_trace=False)
        got = traced(*inputs)
        assert torch_tvm.stats()["groups"] > 0
    with torch_tvm.disabled(), torch.no_grad():
        expected = module(*inputs)
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert got.numel() == 0 or got.stride() == expected.stride()
    return got, expected


def check_quanta(module: nn.Module | Callable[..., Tensor], scale: float, *inputs: Tensor) -> None:
    """Compare results that stand for multiples of a scale: nearly all are equal, none is more than one away."""
    got, expected = run(module, *inputs)
    quanta = ((got - expected) / scale).round().abs()
    assert quanta.max() <= 1
    assert (quanta != 0).sum() <= 0.01 * quanta.numel()


@settings(max_examples=5, deadline=None)
@given(
    rows=st.sampled_from([(1,), (5,), (2, 3)]),
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    options=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    exponent=st.sampled_from([-7.0, -5.0, -4.0, 0.0, 4.0]),
    shift=st.sampled_from([-3.0, 0.0, 3.0]),
)
def test_dynamic_linear(
    rows: tuple[int, ...],
    sizes: tuple[int, int],
    options: tuple[bool, bool, bool, bool],
    exponent: float,
    shift: float,
) -> None:
    """Equal up to the rounding of the last addition, which PyTorch fuses: of any range, that without zero included."""
    inputs, units = sizes
    per_channel, bias, relu, reduce_range = options
    weight = quantised_weight((units, inputs), per_channel=per_channel)
    packed = quantized.linear_prepack(weight, torch.randn(units) if bias else None)
    op = quantized.linear_relu_dynamic if relu else quantized.linear_dynamic
    module = Packed(packed, lambda x, weights: op(x, weights, reduce_range))
    got, expected = run(module, (torch.randn(*rows, inputs) + shift) * 10**exponent)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6 * expected.abs().max().item())


def test_a_million_elements_are_quantised_as_pytorch_does() -> None:
    """Each that is not changes a row: ten or so, if the zero point were added behind rounding or the product rounded."""
    packed = quantized.linear_prepack(quantised_weight((8, 1024)), None)
    module = Packed(packed, lambda x, weights: quantized.linear_dynamic(x, weights, True))
    got, expected = run(module, torch.randn(1024, 1024))
    assert torch.equal(got, expected)


def test_dynamic_linear_of_odd_tensors() -> None:
    """Constants, no rows, transposed rows, and weights whose zero is not 0."""
    packed = quantized.linear_prepack(quantised_weight((7, 6), per_channel=False, zero_point=5), None)
    module = Packed(packed, lambda x, weights: quantized.linear_dynamic(x, weights, False))
    for x in [torch.zeros(3, 6), torch.full((3, 6), -2.0), torch.empty(0, 6), torch.randn(6, 4).T]:
        got, expected = run(module, x)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_values_that_have_no_range_are_left_to_pytorch() -> None:
    packed = quantized.linear_prepack(quantised_weight((7, 6)), None)
    module = Packed(packed, lambda x, weights: quantized.linear_dynamic(x, weights, True))
    with torch_tvm.enabled(min_group_size=1), torch.no_grad():
        traced = torch.jit.trace(module, torch.randn(3, 6), check_trace=False)
        traced(torch.randn(3, 6))
        for value in (float("nan"), float("inf")):
            x = torch.randn(3, 6)
            x[1, 2] = value
            torch_tvm.reset_stats()
            assert traced(x).shape == (3, 7)
            (reason,) = torch_tvm.stats()["fallback_reasons"]
            assert "X has a NaN or an infinity" in reason
        with pytest.raises(RuntimeError, match="min should be less than or equal to max"):
            traced(torch.full((3, 6), float("nan")))


def test_relay() -> None:
    """What is emitted are Relay's quantised operators, which the parser reads again."""
    conv = quantized.conv2d_prepack(quantised_weight((5, 4, 3, 3)), torch.randn(5), [1, 1], [1, 1], [1, 1], 1)
    linear = quantized.linear_prepack(quantised_weight((5, 5)), torch.randn(5))
    dynamic = Packed(linear, lambda x, weights: quantized.linear_dynamic(x, weights, True))
    for module, x, expected in [
        (Images(conv, linear, 3, True), torch.randn(1, 4, 6, 6), {"qnn.quantize", "qnn.conv2d", "qnn.dense"}),
        (dynamic, torch.randn(3, 5), {"min", "max", "qnn.quantize", "qnn.dense", "qnn.dequantize"}),
    ]:
        function = torch_tvm.to_relay(module, [x])
        assert expected <= set(operators(function))
        assert relay.structural_equal(relay.parse_expr(function.astext()), function)


def test_new_weights_take_effect() -> None:
    """Packed weights count by identity: other ones in their place are compiled anew."""
    packs = [quantized.linear_prepack(quantised_weight((7, 6)), torch.randn(7)) for _ in range(2)]
    modules = [
        Packed(packed, lambda x, weights: quantized.linear_dynamic(x, weights, True)) for packed in packs
    ]
    x = torch.randn(4, 6)
    with torch_tvm.enabled(strict=True, min_group_size=1), torch.no_grad():
        traced = torch.jit.trace(modules[0].eval(), x, check_trace=False)
        frozen = torch.jit.freeze(traced)
        torch_tvm.reset_stats()
        for module in modules:
            traced.packed = module.packed
            for _ in range(2):
                torch.testing.assert_close(traced(x), module(x))
            torch.testing.assert_close(frozen(x), modules[0](x))
        assert torch_tvm.stats()["compiled"] == 3
        assert torch_tvm.stats()["fallbacks"] == 0


class Images(nn.Module):
    """Convolutions of quantised images, some of what stands around them, and a linear layer."""

    def __init__(self, conv: Any, linear: Any, zero_point: int, relu: bool) -> None:
        super().__init__()
        self.conv, self.linear = conv, linear
        self.zero_point, self.relu = zero_point, relu

    def forward(self, x: Tensor) -> Tensor:
        q = torch.quantize_per_tensor(x, 0.03, self.zero_point, torch.quint8)
        conv = quantized.conv2d_relu if self.relu else quantized.conv2d
        y = conv(q, self.conv, 0.1, 40)
        z = torch.nn.functional.max_pool2d(torch.relu(y), 2)
        pooled = torch.flatten(torch.nn.functional.adaptive_avg_pool2d(z, (1, 1)), 1)
        scores = quantized.linear(pooled, self.linear, 0.05, 100)
        both = [y.dequantize().flatten(1), z.dequantize().flatten(1), scores.dequantize() * 2]
        return torch.cat(both, 1)


@settings(max_examples=5, deadline=None)
@given(
    channels=st.sampled_from([1, 3, 4, 8, 10]),
    filters=st.sampled_from([1, 5, 16, 33]),
    kernel=st.sampled_from([(1, 1), (3, 3), (2, 5)]),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    zero_point=st.sampled_from([0, 7, 255]),
    options=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_convolutions(
    channels: int,
    filters: int,
    kernel: tuple[int, int],
    stride: int,
    padding: int,
    dilation: int,
    zero_point: int,
    options: tuple[bool, bool, bool],
) -> None:
    per_channel, relu, channels_last = options
    conv = quantized.conv2d_prepack(
        quantised_weight((filters, channels, *kernel), per_channel=per_channel),
        torch.randn(filters),
        [stride] * 2,
        [padding] * 2,
        [dilation] * 2,
        1,
    )
    linear = quantized.linear_prepack(quantised_weight((5, filters)), torch.randn(5))
    x = torch.randn(2, channels, 11, 14) * 3
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    check_quanta(Images(conv, linear, zero_point, relu), 0.1, x)


@pytest.mark.parametrize(("groups", "channels"), [(6, 6), (2, 6)])
def test_grouped_convolutions(groups: int, channels: int) -> None:
    weight = quantised_weight((12, channels // groups, 3, 3))
    conv = quantized.conv2d_prepack(weight, torch.randn(12), [1, 1], [1, 1], [1, 1], groups)

    def function(x: Tensor, weights: Any) -> Tensor:
        q = torch.quantize_per_tensor(x, 0.03, 9, torch.quint8)
        return quantized.conv2d(q, weights, 0.1, 40).dequantize()

    check_quanta(Packed(conv, function), 0.1, torch.randn(1, channels, 9, 8))


@pytest.mark.parametrize(
    ("groups", "filters", "options"),
    [
        (1, 5, ([1, 1], [0, 0], [0, 0], [1, 1])),
        (2, 3, ([2, 3], [1, 0], [1, 2], [1, 1])),
        (6, 1, ([2, 2], [1, 2], [0, 1], [2, 1])),
    ],
)
@pytest.mark.parametrize("inputs", [6, 72])
def test_transposed_convolutions(groups: int, filters: int, options: Any, inputs: int) -> None:
    """Sums that are exact in float32, and of more terms.

    The expected result is of numbers: for some counts of channels fbgemm's kernels, PyTorch's on x86, give noise.
    """
    weight = torch.quantize_per_tensor(torch.randn(inputs, filters, 3, 3), 0.03, 0, torch.qint8)
    stride, padding, output_padding, dilation = options
    conv = quantized.conv_transpose2d_prepack(
        weight, torch.randn(filters * groups), stride, padding, output_padding, dilation, groups
    )

    def function(x: Tensor, weights: Any) -> Tensor:
        q = torch.quantize_per_tensor(x, 0.03, 9, torch.quint8)
        return quantized.conv_transpose2d(q, weights, 0.2, 120).dequantize()

    x = torch.randn(2, inputs, 5, 4)
    numbers = (
        torch.quantize_per_tensor(x, 0.03, 9, torch.quint8).dequantize(),
        weight.dequantize(),
        conv.unpack()[1],
    )
    exact = torch.nn.functional.conv_transpose2d(*numbers, stride, padding, output_padding, groups, dilation)
    expected = torch.quantize_per_tensor(exact, 0.2, 120, torch.quint8).dequantize()
    with torch_tvm.enabled(strict=True, min_group_size=1), torch.no_grad():
        module = Packed(conv, function)
        got = torch.jit.trace(module, x, check_trace=False)(x)
    quanta = ((got - expected) / 0.2).abs().round()
    assert quanta.max() <= 1
    assert (quanta != 0).sum() <= 0.01 * quanta.numel()
    eager = module(x)
    assert eager.stride() == got.stride()
    if filters * groups == 6 and inputs == 6:
        assert ((got - eager) / 0.2).abs().max() <= 1.5


def test_transposed_convolutions_that_are_refused() -> None:
    def function(x: Tensor, weights: Any) -> Tensor:
        q = torch.quantize_per_tensor(x, 0.03, 9, torch.quint8)
        return quantized.conv_transpose2d(q, weights, 0.2, 120).dequantize()

    for zero_point, output_padding, dilation, reason in [
        (3, 0, 1, "zero points other than 0"),
        (0, 2, 3, r"output_padding=2 with stride=2"),
    ]:
        weight = torch.quantize_per_tensor(torch.randn(4, 3, 3, 3), 0.03, zero_point, torch.qint8)
        conv = quantized.conv_transpose2d_prepack(
            weight, None, [2, 2], [1, 1], [output_padding] * 2, [dilation] * 2, 1
        )
        with pytest.raises(torch_tvm.NotConvertibleError, match=reason):
            torch_tvm.to_relay(Packed(conv, function), [torch.randn(1, 4, 5, 5)])


@pytest.mark.parametrize("dtype", [torch.quint8, torch.qint8])
@pytest.mark.parametrize("channels_last", [False, True])
def test_arithmetic_with_numbers(dtype: torch.dtype, channels_last: bool) -> None:
    """Numbers that move the zero point, within 8 bits and beyond either end; those that mirror; zero."""

    def function(x: Tensor) -> tuple[Tensor, ...]:
        a = torch.quantize_per_tensor(x, 0.031, 7, dtype)
        return tuple(
            op(a, number).dequantize()
            for op in (
                quantized.add_scalar,
                quantized.add_scalar_relu,
                quantized.mul_scalar,
                quantized.mul_scalar_relu,
            )
            for number in (0.7, -0.3, 1, 40.0, -25.0, 0.0)
        )

    x = torch.randn(2, 3, 5, 4) * 3
    x = x.to(memory_format=torch.channels_last) if channels_last else x
    with torch_tvm.enabled(strict=True, min_group_size=1), torch.no_grad():
        got = torch.jit.trace(function, x, check_trace=False)(x)
    for one, other in zip(got, function(x), strict=True):
        assert one.stride() == other.stride()
        # Requantised, a value that is half way may be one quantum of its own scale away.
        scale = torch.unique(other).diff().min() if other.unique().numel() > 1 else torch.tensor(1.0)
        quanta = ((one - other) / scale).abs().round()
        assert quanta.max() <= 1
        assert (quanta != 0).sum() <= 0.02 * quanta.numel()


@pytest.mark.parametrize("dtype", [torch.quint8, torch.qint8])
def test_arithmetic_and_views(dtype: torch.dtype) -> None:
    """Two tensors of different quantisers; results that saturate on both sides; moves; means with ties."""
    points = (17, 120) if dtype == torch.quint8 else (-17, 100)

    def function(x: Tensor, y: Tensor) -> Tensor:
        a = torch.quantize_per_tensor(x, 0.021, points[0], dtype)
        b = torch.quantize_per_tensor(y, 0.043, points[1], dtype)
        binary = [quantized.add, quantized.add_relu, quantized.mul, quantized.mul_relu]
        parts = [op(a, b, 0.05, 60) for op in binary]
        parts += [
            a.transpose(1, 2).reshape(x.shape),
            a[:, 1:].unsqueeze(1).mean([3, 4], True).expand(2, 1, 2, 7, 8),
        ]
        return torch.cat([part.dequantize().flatten() for part in parts])

    x, y = torch.randn(2, 3, 7, 8) * 4, torch.randn(2, 3, 7, 8) * 4
    got, expected = run(function, x, y)
    quanta = ((got - expected).abs() / 0.02).round()
    assert quanta.max() <= 0.05 / 0.02 + 1
    assert (quanta != 0).sum() <= 0.01 * quanta.numel()


@pytest.mark.parametrize("dtype", [torch.quint8, torch.qint8])
def test_activations_and_joins(dtype: torch.dtype) -> None:
    def function(x: Tensor, y: Tensor) -> Tensor:
        a = torch.quantize_per_tensor(x, 0.031, 7, dtype)
        b = torch.quantize_per_tensor(y, 0.05, 3, dtype)
        parts = [
            quantized.hardswish(a, 0.02, 11),
            quantized.leaky_relu(a, 0.1, False, 0.03, 50),
            quantized.relu6(a),
            quantized.cat([a, b], 1, 0.05, 3),
            quantized.cat([a, b], -1, None, None),
            torch.cat([a, a[:, 1:]], 1),
        ]
        return torch.cat([part.int_repr().float().flatten() for part in parts])

    x, y = torch.randn(2, 3, 5) * 3, torch.randn(2, 3, 5) * 3
    with torch_tvm.disabled():
        expected = function(x, y)

    def representation(x: Tensor, y: Tensor) -> Tensor:
        """The same without int_repr, which is not converted."""
        a = torch.quantize_per_tensor(x, 0.031, 7, dtype)
        b = torch.quantize_per_tensor(y, 0.05, 3, dtype)
        parts = [
            quantized.hardswish(a, 0.02, 11).dequantize() / 0.02 + 11,
            quantized.leaky_relu(a, 0.1, False, 0.03, 50).dequantize() / 0.03 + 50,
            quantized.relu6(a).dequantize() / 0.031 + 7,
            quantized.cat([a, b], 1, 0.05, 3).dequantize() / 0.05 + 3,
            quantized.cat([a, b], -1, None, None).dequantize() / 0.031 + 7,
            torch.cat([a, a[:, 1:]], 1).dequantize() / 0.031 + 7,
        ]
        return torch.cat([part.flatten() for part in parts])

    got, _ = run(representation, x, y)
    assert torch.equal(got.round(), expected)


class ByBuffers(nn.Module):
    """Quantises by a scale and a zero point that are buffers, as the graph mode of PyTorch's quantisation has them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(0.07))
        self.register_buffer("point", torch.tensor(9))

    def forward(self, x: Tensor) -> Tensor:
        return torch.quantize_per_tensor(x, self.scale, self.point, torch.quint8).dequantize() + 1


def test_buffers_of_a_frozen_module_are_a_quantiser() -> None:
    x, module = torch.randn(3, 5) * 4, ByBuffers().eval()
    with torch_tvm.enabled(min_group_size=1), torch.no_grad():
        traced = torch.jit.trace(module, x, check_trace=False)
        torch_tvm.reset_stats()
        assert torch.equal(torch.jit.freeze(traced)(x), module(x))
        assert torch_tvm.stats()["fallbacks"] == 0
        assert torch.equal(traced(x), module(x))
        assert any("known only at run time" in reason for reason in torch_tvm.stats()["fallback_reasons"])


def quantise(x: Tensor) -> Tensor:
    return torch.quantize_per_tensor(x, 0.1, 5, torch.quint8)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: torch.sigmoid(quantise(x)).dequantize(), "quantised tensor, on which it is not converted"),
        (
            lambda x: torch.quantize_per_tensor(x, 0.1, 5, torch.qint32).dequantize(),
            "dtype=.*quint8 and qint8",
        ),
    ],
)
def test_refusals(function: Callable[[Tensor], Tensor], reason: str) -> None:
    """The reason names what it is about; PyTorch computes the result."""
    x = torch.randn(3, 4)
    with torch_tvm.enabled(min_group_size=1), torch.no_grad():
        traced = torch.jit.trace(function, x, check_trace=False)
        torch_tvm.reset_stats()
        got = traced(x)
        reasons = " ".join(torch_tvm.stats()["fallback_reasons"])
    assert torch.equal(got.dequantize(), function(x).dequantize())
    assert len(reasons) > 0
    assert re.search(reason, reasons)


def test_quantised_tensors_enter_and_leave_groups() -> None:
    """Quantisers are part of a signature, and of results; views and parts of tensors come as they are."""

    def function(q: Tensor) -> tuple[Tensor, Tensor]:
        return quantized.add(q, q, 0.3, 9), torch.relu(q).dequantize() + 1

    whole = torch.randn(4, 5, 3, 3) * 3
    with torch_tvm.enabled(strict=True, min_group_size=1), torch.no_grad():
        traced = torch.jit.trace(function, quantise(whole), check_trace=False)
        torch_tvm.reset_stats()
        for scale, dtype in [(0.1, torch.quint8), (0.2, torch.quint8), (0.1, torch.qint8)]:
            q = torch.quantize_per_tensor(whole, scale, 5, dtype)
            for x in (q, q[1:, 2:4], q.contiguous(memory_format=torch.channels_last)):
                (got, floats), (expected, expected_floats) = traced(x), function(x)
                assert (got.dtype, got.q_scale(), got.q_zero_point()) == (dtype, 0.3, 9)
                assert got.stride() == expected.stride()
                assert torch.equal(got.int_repr(), expected.int_repr())
                assert torch.equal(floats, expected_floats)
        assert torch_tvm.stats()["compiled"] == 2 * 9  # for each of the two results
        assert torch_tvm.stats()["fallbacks"] == 0


def test_tensors_that_are_quantised_otherwise_are_left_to_pytorch() -> None:
    per_channel = torch.quantize_per_channel(
        torch.randn(3, 2), torch.rand(3) + 0.1, torch.zeros(3), 0, torch.qint8
    )
    with torch_tvm.enabled(min_group_size=1), torch.no_grad():
        traced = torch.jit.trace(lambda q: q.dequantize() + 1, per_channel, check_trace=False)
        torch_tvm.reset_stats()
        assert torch.equal(traced(per_channel), per_channel.dequantize() + 1)
        assert any("quantised per channel" in reason for reason in torch_tvm.stats()["fallback_reasons"])
