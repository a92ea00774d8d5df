"""Operators on quantised numbers: integers with a scale and a zero point."""

from __future__ import annotations

from torch_tvm.relay.ty import TensorType, TupleType, Type

from .linear import batch_matmul_shape, convolution_shape, dense_shape
from .nn import pooled_shape
from .registry import CallSite, broadcast, relation
from .shape import concatenate

_STORED = ("int8", "uint8", "int16", "uint16", "int32")


def _demand_dtype(call: CallSite, index: int, *allowed: str) -> None:
    call.one_of(f"the dtype of operand {index}", call.dtype(index), *allowed)


def _demand_scalar(call: CallSite, index: int, dtype: str) -> None:
    wanted = TensorType([], dtype)
    fits = call.dtype(index) == dtype and call.rank(index) == 0
    call.demand(fits, f"expected {wanted!r} as operand {index}, got {call.types[index]!r}")


def _demand_parameter(call: CallSite, index: int, dtype: str, channels: int) -> None:
    """Demand one number, or one for each channel."""
    _demand_dtype(call, index, dtype)
    shape = call.shape(index)
    fits = shape in ([], [1]) or (len(shape) == 1 and call.sizes.unify(shape[0], channels) is not None)
    call.demand(fits, f"expected one number or {channels} as operand {index}, got {call.types[index]!r}")


def _channels(call: CallSite) -> int:
    # TVM takes axis=-1 as the last one, and any axis for a tensor of rank 0.
    return call.shape()[call.axis()] if call.rank() else 1


@relation("qnn.quantize")
def _quantize(call: CallSite) -> Type:
    _demand_dtype(call, 0, "float32")
    _demand_parameter(call, 1, "float32", _channels(call))
    _demand_parameter(call, 2, "int32", _channels(call))
    call.one_of("out_dtype", call.attr("out_dtype"), *_STORED)
    return TensorType(call.shape(), call.attr("out_dtype"))


@relation("qnn.dequantize")
def _dequantize(call: CallSite) -> Type:
    _demand_dtype(call, 0, *_STORED)
    _demand_parameter(call, 1, "float32", _channels(call))
    _demand_parameter(call, 2, "int32", _channels(call))
    call.one_of("out_dtype", call.attr("out_dtype"), "float32", "float16")
    return TensorType(call.shape(), call.attr("out_dtype"))


@relation("qnn.requantize")
def _requantize(call: CallSite) -> Type:
    _demand_dtype(call, 0, "int8", "uint8", "int16", "int32", "int64")
    _demand_parameter(call, 1, "float32", _channels(call))
    _demand_parameter(call, 2, "int32", _channels(call))
    _demand_scalar(call, 3, "float32")
    _demand_scalar(call, 4, "int32")
    call.one_of("out_dtype", call.attr("out_dtype"), "int8", "uint8", "int16", "int32")
    call.one_of("rounding", call.attr("rounding"), "None", "UPWARD", "TONEAREST")
    call.one_of("compute_dtype", call.attr("compute_dtype"), "None", "int64", "float32", "float64")
    return TensorType(call.shape(), call.attr("out_dtype"))


def _demand_product(call: CallSite, outputs: int) -> None:
    """Demand zero points and scales of a product: (data, weight, zero points, scales)."""
    _demand_scalar(call, 2, "int32")
    _demand_parameter(call, 3, "int32", outputs)
    _demand_scalar(call, 4, "float32")
    _demand_parameter(call, 5, "float32", outputs)


@relation("qnn.conv2d", "qnn.conv2d_transpose")
def _convolution(call: CallSite) -> Type:
    for index in (0, 1):
        _demand_dtype(call, index, "int8", "uint8", "int16")
    shape = convolution_shape(call)
    layout = call.attr("out_layout") or call.attr("data_layout")
    _demand_product(call, shape[layout.index("C")])
    call.one_of("out_dtype", call.attr("out_dtype"), "int16", "int32", "int64")
    return TensorType(shape, call.attr("out_dtype"))


@relation("qnn.dense")
def _dense(call: CallSite) -> Type:
    _demand_dtype(call, 0, "int8", "uint8", "int16", "uint16")
    _demand_dtype(call, 1, "int8", "uint8")
    shape = dense_shape(call)
    _demand_product(call, shape[-1])
    call.one_of("out_dtype", call.attr("out_dtype"), "int32", "int64")
    return TensorType(shape, call.attr("out_dtype"))


@relation("qnn.batch_matmul")
def _batch_matmul(call: CallSite) -> Type:
    for index in (0, 1):
        _demand_dtype(call, index, "int8", "uint8")
    for index, dtype in ((2, "int32"), (3, "int32"), (4, "float32"), (5, "float32")):
        _demand_scalar(call, index, dtype)
    call.one_of("out_dtype", call.attr("out_dtype"), "int32")
    return TensorType(batch_matmul_shape(call), "int32")


@relation("qnn.add", "qnn.subtract", "qnn.mul")
def _arithmetic(call: CallSite) -> Type:
    dtype = call.one_dtype(0, 1)
    shape = broadcast(call.shape(), call.shape(1))
    if shape is None:
        raise TypeError(f"expected shapes that broadcast, got {call.types[0]!r} and {call.types[1]!r}")
    for operand, name in ((0, "lhs_axis"), (1, "rhs_axis")):
        rank = call.rank(operand)
        channels = call.shape(operand)[call.axis(rank, name)] if rank else 1
        _demand_parameter(call, 2 + 2 * operand, "float32", channels)
        _demand_parameter(call, 3 + 2 * operand, "int32", channels)
    _demand_scalar(call, 6, "float32")
    _demand_scalar(call, 7, "int32")
    return TensorType(shape, dtype)


def _demand_scales(call: CallSite) -> None:
    """Demand scale and zero point of the operand and of the result."""
    for index, dtype in ((1, "float32"), (2, "int32"), (3, "float32"), (4, "int32")):
        _demand_scalar(call, index, dtype)


_UNARY = "abs erf exp hardswish leaky_relu log rsqrt sigmoid sqrt tanh"


@relation(*[f"qnn.{name}" for name in _UNARY.split()])
def _unary(call: CallSite) -> Type:
    _demand_dtype(call, 0, *_STORED)
    _demand_scales(call)
    return call.tensor()


@relation("qnn.softmax")
def _softmax(call: CallSite) -> Type:
    _demand_dtype(call, 0, "int8")
    _demand_scales(call)
    call.axis()
    return call.tensor()


@relation("qnn.avg_pool2d")
def _pool(call: CallSite) -> Type:
    _demand_dtype(call, 0, *_STORED)
    _demand_scales(call)
    return TensorType(pooled_shape(call), call.dtype())


@relation("qnn.concatenate")
def _concatenate(call: CallSite) -> Type:
    data = call.fields()
    for index, dtype in ((1, "float32"), (2, "int32")):
        fields = call.fields(index)
        scalars = all(str(field.dtype) == dtype and len(field.shape) == 0 for field in fields)
        message = f"expected {len(data)} numbers of {dtype} as operand {index}, got {call.types[index]!r}"
        call.demand(scalars and len(fields) == len(data), message)
    _demand_scalar(call, 3, "float32")
    _demand_scalar(call, 4, "int32")
    return concatenate(CallSite(call.name, [TupleType(data)], call.attributes, [None]))
