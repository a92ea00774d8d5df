"""Operators whose sizes are operands: the results have as many dims as these name, of sizes not known here."""

from __future__ import annotations

from torch_tvm.relay.ty import TensorType, TupleType, Type

from .registry import ANY, CallSite, relation


def _length(call: CallSite, index: int) -> int:
    """Give the number of entries of an operand that is a list of integers."""
    (size,) = call.demand_rank(1, index)
    call.demand_integers(index)
    call.demand(size != ANY, f"expected operand {index} of known size, got {call.types[index]!r}")
    return size


@relation("dyn.reshape", "dyn.broadcast_to")
def _reshape(call: CallSite) -> Type:
    return TensorType([ANY] * _length(call, 1), call.dtype())


@relation("dyn.full")
def _full(call: CallSite) -> Type:
    call.demand_rank(0)
    return TensorType([ANY] * _length(call, 1), call.dtype_attr())


@relation("dyn.zeros", "dyn.ones")
def _zeros(call: CallSite) -> Type:
    call.demand(bool(call.attr("dtype")), "expected dtype to be given")
    return TensorType([ANY] * _length(call, 0), call.attr("dtype"))


@relation("dyn.tile")
def _tile(call: CallSite) -> Type:
    return TensorType([ANY] * max(call.rank(), _length(call, 1)), call.dtype())


@relation("dyn.squeeze")
def _squeeze(call: CallSite) -> Type:
    rank = call.rank() - _length(call, 1)
    call.demand(rank >= 0, f"expected at most {call.rank()} axes")
    return TensorType([ANY] * rank, call.dtype())


@relation("dyn.strided_slice")
def _strided_slice(call: CallSite) -> Type:
    shape, count = call.shape(), _length(call, 1)
    call.demand(count <= len(shape), f"expected at most {len(shape)} entries of begin, got {count}")
    for index in (2, 3):
        call.demand_shape(index, [count])
    return TensorType([ANY] * count + shape[count:], call.dtype())


@relation("dyn.topk")
def _topk(call: CallSite) -> Type:
    shape, axis = call.shape(), call.axis()
    shape[axis] = ANY
    values, indices = TensorType(shape, call.dtype()), TensorType(shape, call.dtype_attr(default="int32"))
    call.one_of("ret_type", call.attr("ret_type"), "both", "values", "indices")
    return {"both": TupleType([values, indices]), "values": values, "indices": indices}[call.attr("ret_type")]


@relation("dyn.one_hot")
def _one_hot(call: CallSite) -> Type:
    indices = call.shape()
    at = call.axis(len(indices) + 1)
    return TensorType([*indices[:at], ANY, *indices[at:]], call.dtype_attr(default=call.dtype(1)))


@relation("dyn.nn.pad")
def _pad(call: CallSite) -> Type:
    call.demand_shape(1, [call.rank(), 2])
    return TensorType([ANY] * call.rank(), call.dtype())


@relation("dyn.nn.upsampling", "dyn.nn.upsampling3d", "dyn.image.resize2d")
def _resize(call: CallSite) -> Type:
    layout = call.attr("layout")
    shape = call.demand_rank(len(layout))
    sizes = [ANY if letter in "DHW" else size for letter, size in zip(layout, shape, strict=True)]
    resized = call.name == "dyn.image.resize2d"
    return TensorType(sizes, call.dtype_attr("out_dtype") if resized else call.dtype())
