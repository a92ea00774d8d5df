"""Element-wise operators, comparisons, casts."""

from __future__ import annotations

from torch_tvm.relay.ty import TensorType, Type

from .registry import CallSite, broadcast, relation

_SAME = (
    "abs acos acosh asin asinh atan atanh bitwise_not ceil clip copy cos cosh erf exp fast_erf fast_exp fast_tanh "
    "floor log log10 log2 logical_not negative nn.leaky_relu nn.relu ones_like round rsqrt sigmoid sign sin sinh "
    "sqrt tan tanh trunc zeros_like annotation.stop_fusion fixed_point_multiply on_device device_copy"
)
_BROADCAST = (
    "add bitwise_and bitwise_or bitwise_xor divide floor_divide floor_mod left_shift logical_and logical_or "
    "logical_xor maximum minimum mod multiply power right_shift subtract trunc_divide trunc_mod"
)
_COMPARE = "equal greater greater_equal less less_equal not_equal"


@relation(*_SAME.split())
def _same(call: CallSite) -> Type:
    return call.tensor()


@relation("isnan", "isinf", "isfinite")
def _question(call: CallSite) -> Type:
    return TensorType(call.shape(), "bool")


def _broadcast_all(call: CallSite, *indices: int) -> list[int]:
    shape = call.shape(indices[0])
    for index in indices[1:]:
        joint = broadcast(shape, call.shape(index))
        if joint is None:
            raise TypeError(
                f"expected shapes that broadcast, got {tuple(shape)} and {tuple(call.shape(index))}"
            )
        shape = joint
    return shape


@relation(*_BROADCAST.split())
def _arithmetic(call: CallSite) -> Type:
    return TensorType(_broadcast_all(call, 0, 1), call.one_dtype(0, 1))


@relation(*_COMPARE.split())
def _comparison(call: CallSite) -> Type:
    call.one_dtype(0, 1)
    return TensorType(_broadcast_all(call, 0, 1), "bool")


@relation("where")
def _where(call: CallSite) -> Type:
    return TensorType(_broadcast_all(call, 0, 1, 2), call.one_dtype(1, 2))


@relation("cast")
def _cast(call: CallSite) -> Type:
    dtype = call.attr("dtype")
    call.demand(bool(dtype), "expected dtype to be given")
    return TensorType(call.shape(), dtype)


@relation("reinterpret")
def _reinterpret(call: CallSite) -> Type:
    to = TensorType(call.shape(), call.attr("dtype"))
    same = to.dtype.bits == call.tensor().dtype.bits
    call.demand(same, f"expected a dtype of as many bits as {call.dtype()}, got {to.dtype}")
    return to


@relation("cast_like")
def _cast_like(call: CallSite) -> Type:
    return TensorType(call.shape(), call.dtype(1))


@relation("nn.prelu")
def _prelu(call: CallSite) -> Type:
    call.one_dtype(0, 1)
    call.assign_shape(1, [call.shape()[call.axis()]])
    return call.tensor()


@relation("nn.bias_add")
def _bias_add(call: CallSite) -> Type:
    call.one_dtype(0, 1)
    call.assign_shape(1, [call.shape()[call.axis()]])
    return call.tensor()
