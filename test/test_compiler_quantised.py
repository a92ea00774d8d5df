"""Relay's qnn operators compute what the integers stand for, in float64, up to rounding."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from compiler_cases import check
from torch import Tensor

from torch_tvm import relay


def scalar(value: float, dtype: str = "float32") -> relay.Expr:
    return relay.const(value, dtype)


def integers(*shape: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    low, high = (0, 256) if dtype == torch.uint8 else (-128, 128)
    return torch.randint(low, high, shape, dtype=dtype)


def real(values: Tensor, scale: Tensor | float, point: Tensor | int, axis: int = -1) -> Tensor:
    """What integers stand for."""
    shape = [1] * values.dim()
    shape[axis] = -1
    scale, point = (torch.as_tensor(each).double().reshape(shape) for each in (scale, point))
    return (values.double() - point) * scale


def quantised(values: Tensor, scale: float, point: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    bounds = torch.iinfo(dtype)
    return ((values / scale).round() + point).clamp(bounds.min, bounds.max).to(dtype)


def call(name: str, args: Sequence[relay.Expr], **attrs: object) -> relay.Call:
    return relay.Call(name, list(args), attrs)


def test_scales() -> None:
    x, sums = integers(3, 5, 4), torch.randint(-9000, 9000, (3, 5, 4), dtype=torch.int32)
    scales = torch.rand(5) * 0.01 + 0.01
    floats = torch.randn(3, 5, 4) * 4
    out = (scalar(0.25), scalar(100, "int32"))
    check(
        [
            (
                "requantize",
                lambda x, sums, scales, floats: call(
                    "qnn.requantize", [sums, scales, scalar(0, "int32"), *out], axis=1, out_dtype="uint8"
                ),
                lambda x, sums, scales, floats: quantised(real(sums, scales, 0, 1), 0.25, 100),
            ),
            (
                "requantize of bytes",
                lambda x, sums, scales, floats: call(
                    "qnn.requantize", [x, scalar(0.5), scalar(7, "int32"), *out], out_dtype="int8"
                ),
                lambda x, sums, scales, floats: quantised(real(x, 0.5, 7), 0.25, 100, torch.int8),
            ),
            (
                "quantize",
                lambda x, sums, scales, floats: call(
                    "qnn.quantize", [floats, scalar(0.5), scalar(9, "int32")], out_dtype="int8"
                ),
                lambda x, sums, scales, floats: quantised(floats, 0.5, 9, torch.int8),
            ),
        ],
        [x, sums, scales, floats],
    )


def test_arithmetic() -> None:
    a, b = integers(3, 7), integers(3, 7)
    points = [scalar(value, "int32") for value in (7, 200, 90)]
    scales = [scalar(value) for value in (0.5, 0.25, 0.75)]
    operands = [each for pair in zip(scales, points, strict=True) for each in pair]
    left, right = real(a, 0.5, 7), real(b, 0.25, 200)
    check(
        [
            (
                name,
                lambda a, b, name=name: call(f"qnn.{name}", [a, b, *operands]),
                lambda a, b, value=value: quantised(value, 0.75, 90),
            )
            for name, value in [("add", left + right), ("subtract", left - right), ("mul", left * right)]
        ],
        [a, b],
    )


@pytest.mark.parametrize("terms", [8, 11])
def test_dense(terms: int) -> None:
    """Zero points on both sides, one for each column, and terms that fill no quad."""
    data, weight = integers(6, terms), integers(9, terms, dtype=torch.int8)
    points = torch.randint(-9, 9, (9,), dtype=torch.int32)
    check(
        [
            (
                "dense",
                lambda data, weight, points: call(
                    "qnn.dense",
                    [data, weight, scalar(31, "int32"), points, scalar(1.0), scalar(1.0)],
                    units=9,
                    out_dtype="int32",
                ),
                lambda data, weight, points: (real(data, 1, 31) @ real(weight, 1, points, 0).T).int(),
            )
        ],
        [data, weight, points],
    )


@pytest.mark.parametrize(("groups", "channels", "filters"), [(1, 6, 5), (6, 6, 12), (2, 6, 4)])
@pytest.mark.parametrize("point", [0, 77])
def test_conv2d(groups: int, channels: int, filters: int, point: int) -> None:
    data, weight = integers(2, channels, 7, 6), integers(filters, channels // groups, 3, 2, dtype=torch.int8)
    check(
        [
            (
                "conv2d",
                lambda data, weight: call(
                    "qnn.conv2d",
                    [data, weight, scalar(point, "int32"), scalar(0, "int32"), scalar(1.0), scalar(1.0)],
                    padding=[1, 2, 0, 1],
                    strides=[1, 2],
                    groups=groups,
                    channels=filters,
                    kernel_size=[3, 2],
                    out_dtype="int32",
                ),
                lambda data, weight: torch.nn.functional.conv2d(
                    torch.nn.functional.pad(real(data, 1, point), [2, 1, 1, 0]),
                    weight.double(),
                    stride=(1, 2),
                    groups=groups,
                ).int(),
            )
        ],
        [data, weight],
    )


def test_concatenate() -> None:
    a, b = integers(3, 2, 4), integers(3, 5, 4)
    points = [scalar(7, "int32"), scalar(9, "int32")]
    scales = [scalar(0.5), scalar(0.25)]
    check(
        [
            (
                "concatenate",
                lambda a, b: call(
                    "qnn.concatenate",
                    [
                        relay.Tuple([a, b]),
                        relay.Tuple(scales),
                        relay.Tuple(points),
                        scalar(0.5),
                        scalar(7, "int32"),
                    ],
                    axis=1,
                ),
                lambda a, b: torch.cat([a, quantised(real(b, 0.25, 9), 0.5, 7)], 1),
            )
        ],
        [a, b],
    )
