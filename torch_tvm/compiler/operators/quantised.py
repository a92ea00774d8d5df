"""Relay's qnn operators as arithmetic: sums of products in int32, rescaled in float32 and rounded to even, as PyTorch does.

(value - zero_point) * scale is what a quantised value stands for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax
from tvm.relax import op

from torch_tvm.kernels.quads import BYTES

from ..rewrite import is_constant
from . import te_operators
from .registry import Lowering, lowers


def _float(call: Lowering, value: relax.Expr) -> relax.Expr:
    return value if call.dtype(value) == "float32" else call.emit(op.astype(value, "float32"))


def _along(call: Lowering, vector: relax.Expr, rank: int, axis: int) -> relax.Expr:
    """Let a scale or zero point, one for all or one for each index of an axis, broadcast to a tensor."""
    if call.rank(vector) == 0 or axis % rank == rank - 1:
        return vector
    return call.emit(op.reshape(vector, [-1, *[1] * (rank - 1 - axis % rank)]))


def _is_zero(call: Lowering, index: int) -> bool:
    """Say whether an operand is known to be zero."""
    value = call.constants[index]
    return value is not None and not value.any()


def _saturated(call: Lowering, whole: relax.Expr, dtype: str) -> relax.Expr:
    """Clip whole numbers. Those beyond 2^24, whose neighbours are not 1 apart, saturate anyway."""
    bounds = np.iinfo(dtype)
    return op.astype(call.emit(op.clip(whole, int(bounds.min), int(bounds.max))), dtype)


def _quantise(call: Lowering, scaled: relax.Expr, zero_point: relax.Expr, dtype: str) -> relax.Expr:
    """Round to even, shift and saturate."""
    shifted = call.emit(op.add(call.emit(op.round(scaled)), _float(call, zero_point)))
    return _saturated(call, shifted, dtype)


@lowers("qnn.quantize")
def _lower_quantize(call: Lowering) -> relax.Expr:
    """Round to even before the zero point is added, or behind it where the scale is computed in the model.

    As PyTorch does: only its dynamically quantised layers compute a scale, and FBGEMM rounds x / scale + zero point there,
    which it computes with one rounding. An element in 100,000 becomes the neighbour of what it would be otherwise, and so
    does a row of the result.
    """
    data, scale, zero_point = call.args
    rank, axis, dtype = call.rank(), int(call.attrs["axis"]), str(call.attrs["out_dtype"])
    inverse = _along(call, call.emit(op.divide(relax.const(1.0, "float32"), scale)), rank, axis)
    zero_point = _along(call, zero_point, rank, axis)
    if call.constants[1] is not None:
        return _quantise(call, call.emit(op.multiply(data, inverse)), zero_point, dtype)
    scaled = te_operators.call("multiply_add", [data, inverse, _float(call, zero_point)])
    return _saturated(call, call.emit(op.round(call.emit(scaled))), dtype)


def _dequantised(call: Lowering, index: int, scale: relax.Expr, axis: int, zero: bool) -> relax.Expr:
    """(operand - zero point) * scale; the zero point is the operand behind the scale, `zero` if it is known to be 0."""
    data, zero_point, rank = call.args[index], call.args[index + 2], call.rank(call.args[index])
    if not zero:
        data, zero_point = (
            each if call.dtype(each) == "int32" else call.emit(op.astype(each, "int32"))
            for each in (data, zero_point)
        )
        data = call.emit(op.subtract(data, _along(call, zero_point, rank, axis)))
    return op.multiply(_float(call, data), _along(call, scale, rank, axis))


@lowers("qnn.dequantize")
def _lower_dequantize(call: Lowering) -> relax.Expr:
    return _dequantised(call, 0, call.args[1], int(call.attrs["axis"]), _is_zero(call, 2))


@lowers("qnn.requantize")
def _lower_requantize(call: Lowering) -> relax.Expr:
    _, scale, _, output_scale, output_zero_point = call.args
    ratio = call.emit(op.divide(scale, output_scale))
    scaled = call.emit(_dequantised(call, 0, ratio, int(call.attrs["axis"]), _is_zero(call, 2)))
    return _quantise(call, scaled, output_zero_point, str(call.attrs["out_dtype"]))


def _padded(call: Lowering, value: relax.Expr, axis: int, multiple: int) -> relax.Expr:
    """Append zeros along an axis until its extent is a multiple."""
    rank, extent = call.rank(value), call.shape(value)[axis]
    missing = -extent % multiple
    if missing == 0:
        return value
    width = [0] * (2 * rank)
    width[2 * (axis % rank) + 1] = missing
    return call.emit(op.nn.pad(value, width))


def _sum(call: Lowering, value: relax.Expr, axes: list[int], keepdims: bool = False) -> relax.Expr:
    return call.emit(op.sum(call.emit(op.astype(value, "int32")), axes, keepdims))


@lowers("qnn.dense")
def _lower_dense(call: Lowering) -> relax.Expr:
    """Sum (data - zero point) * (weight - zero point) as products of bytes and sums of either operand."""
    data, weight, zero_point, weight_zero_point = call.args[:4]
    if (call.dtype(data), call.dtype(weight)) != ("uint8", "int8"):
        raise call.unsupported(f"of {call.dtype(data)} and {call.dtype(weight)}; data is uint8, weights int8")
    terms = call.shape(weight)[1]
    operands = [_padded(call, each, -1, BYTES) for each in (data, weight)]
    sums: Any = te_operators.call("quantised_matmul", operands)
    if not _is_zero(call, 2):
        columns = call.emit(op.multiply(_sum(call, weight, [1]), zero_point))
        sums = op.subtract(call.emit(sums), columns)
    if not _is_zero(call, 3):
        rows = _sum(call, data, [-1], keepdims=True)
        terms_of_zero = call.emit(op.multiply(zero_point, relax.const(terms, "int32")))
        factor = call.emit(op.subtract(rows, terms_of_zero))
        sums = op.subtract(call.emit(sums), call.emit(op.multiply(factor, weight_zero_point)))
    return sums


def _shifted(call: Lowering, value: relax.Expr, zero_point: int) -> relax.Expr:
    """Give the distances from a zero point, in int32."""
    wide = call.emit(op.astype(value, "int32"))
    return wide if zero_point == 0 else call.emit(op.subtract(wide, relax.const(zero_point, "int32")))


def _padded_image(call: Lowering, zero_point: int, groups: int) -> tuple[relax.Expr, list[int]]:
    """Pad an image with what stands for zero and its channels to whole quads; return the padding that is left."""
    padding = [int(size) for size in call.attrs["padding"]]  # top, left, bottom, right
    channels = -call.shape()[1] % BYTES if groups == 1 else 0
    border = [0, 0, 0, 0] if zero_point == 0 else padding
    if zero_point != 0:
        padding = [0, 0, 0, 0]
    width = [0, 0, 0, channels, border[0], border[2], border[1], border[3]]
    if not any(width):
        return call.data, padding
    return call.emit(op.nn.pad(call.data, width, pad_value=zero_point)), padding


def _exact_in_float(terms: int) -> bool:
    """Say whether sums of so many products of bytes are exact in float32."""
    return terms * 255 * 128 < 2**24


@lowers("qnn.conv2d")
def _lower_conv2d(call: Lowering) -> relax.Expr:
    """Sum (data - zero point) * weight: as products of bytes, or of float32 where each channel is on its own."""
    weight, a = call.args[1], call.attrs
    zero_point, groups = int(call.scalar(2)), int(a["groups"])
    if not _is_zero(call, 3):
        raise call.unsupported(
            "takes symmetric weights only: a zero point of weights other than 0 is not lowered"
        )
    if (a["data_layout"], a["kernel_layout"], a["out_layout"]) not in (
        ("NCHW", "OIHW", ""),
        ("NCHW", "OIHW", "NCHW"),
    ):
        raise call.unsupported("takes data of layout NCHW and weights of layout OIHW only")
    if (call.dtype(), call.dtype(weight)) != ("uint8", "int8"):
        raise call.unsupported(f"of {call.dtype()} and {call.dtype(weight)}; data is uint8, weights int8")
    filters, inputs, *kernel = call.shape(weight)
    image, padding = _padded_image(call, zero_point, groups)

    def convolve(data: relax.Expr, filters_of: relax.Expr, out_dtype: str) -> relax.Expr:
        return op.nn.conv2d(
            data,
            filters_of,
            a["strides"],
            padding,
            a["dilation"],
            groups,
            "NCHW",
            "OIHW",
            out_dtype=out_dtype,
        )

    if groups == 1:
        sums = convolve(image, _padded(call, weight, 1, BYTES), "int32")
        if zero_point == 0:
            return sums
        columns = call.emit(op.reshape(_sum(call, weight, [1, 2, 3]), [filters, 1, 1]))
        return op.subtract(call.emit(sums), call.emit(op.multiply(columns, relax.const(zero_point, "int32"))))
    image = _shifted(call, image, zero_point)
    if inputs == 1 and _exact_in_float(kernel[0] * kernel[1]):
        operands = [call.emit(op.astype(each, "float32")) for each in (image, weight)]
        return op.astype(call.emit(convolve(operands[0], operands[1], "float32")), "int32")
    return convolve(image, call.emit(op.astype(weight, "int32")), "int32")


@lowers("qnn.conv2d_transpose")
def _lower_conv2d_transpose(call: Lowering) -> relax.Expr:
    """Sum (data - zero point) * weight as floating point numbers that hold the sums exactly."""
    a = call.attrs
    if not _is_zero(call, 3):
        raise call.unsupported(
            "takes symmetric weights only: a zero point of weights other than 0 is not lowered"
        )
    if (a["data_layout"], a["kernel_layout"]) != ("NCHW", "IOHW") or a["out_layout"] not in ("", "NCHW"):
        raise call.unsupported("takes data of layout NCHW and weights of layout IOHW only")
    inputs, _, *kernel = call.shape(call.args[1])
    groups = int(a["groups"])
    dtype = "float32" if _exact_in_float(inputs // groups * kernel[0] * kernel[1]) else "float64"
    image = _shifted(call, call.data, int(call.scalar(2)))
    operands = [call.emit(op.astype(each, dtype)) for each in (image, call.args[1])]
    sums = op.nn.conv2d_transpose(
        *operands,
        strides=a["strides"],
        padding=a["padding"],
        output_padding=a["output_padding"],
        dilation=a["dilation"],
        groups=groups,
        out_dtype=dtype,
    )
    return op.astype(call.emit(sums), "int32")


def _parameters(call: Lowering, first: int) -> list[relax.Expr]:
    return [call.args[first], call.args[first + 1]]


def _real(call: Lowering, value: relax.Expr, scale: relax.Expr, zero_point: relax.Expr) -> relax.Expr:
    """Return what a quantised value stands for."""
    shifted = call.emit(
        op.subtract(
            call.emit(op.astype(value, "int32")),
            zero_point if call.dtype(zero_point) == "int32" else call.emit(op.astype(zero_point, "int32")),
        )
    )
    return call.emit(op.multiply(_float(call, shifted), scale))


def _requantised(call: Lowering, value: relax.Expr) -> relax.Expr:
    scale, zero_point = _parameters(call, 6)
    inverse = call.emit(op.divide(relax.const(1.0, "float32"), scale))
    return _quantise(call, call.emit(op.multiply(value, inverse)), zero_point, call.dtype())


@lowers("qnn.add", "qnn.subtract")
def _lower_add(call: Lowering) -> relax.Expr:
    left, right = (_real(call, call.args[i], *_parameters(call, 2 + 2 * i)) for i in range(2))
    make = op.add if call.name == "qnn.add" else op.subtract
    return _requantised(call, call.emit(make(left, right)))


@lowers("qnn.mul")
def _lower_mul(call: Lowering) -> relax.Expr:
    """Multiply the integers, which is exact, then rescale once."""
    one = relax.const(1.0, "float32")
    left, right = (_real(call, call.args[i], one, call.args[3 + 2 * i]) for i in range(2))
    scale = call.emit(op.multiply(call.args[2], call.args[4]))
    ratio = call.emit(op.divide(scale, call.args[6]))
    product = call.emit(op.multiply(left, right))
    return _quantise(call, call.emit(op.multiply(product, ratio)), call.args[7], call.dtype())


@lowers("qnn.concatenate")
def _lower_concatenate(call: Lowering) -> relax.Expr:
    """Rescale the parts that are quantised otherwise than the result, then put all side by side."""
    parts, scales, zero_points = (call.fields(i) for i in range(3))
    result = call.args[3:5]
    inverse = call.emit(op.divide(relax.const(1.0, "float32"), result[0]))
    placed = []
    for part, scale, zero_point in zip(parts, scales, zero_points, strict=True):
        own = (scale, zero_point)
        if all(_same_constant(one, other) for one, other in zip(own, result, strict=True)):
            placed.append(part)
            continue
        scaled = call.emit(op.multiply(_real(call, part, scale, zero_point), inverse))
        placed.append(call.emit(_quantise(call, scaled, result[1], call.dtype(part))))
    return op.concat(placed, call.axis(rank=call.rank(parts[0])))


def _same_constant(one: relax.Expr, other: relax.Expr) -> bool:
    return is_constant(one) and is_constant(other) and bool((one.value.numpy() == other.value.numpy()).all())
