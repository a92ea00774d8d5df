"""Reductions, running values, sorting."""

from __future__ import annotations

from torch_tvm.relay.ty import Size, TensorType, TupleType, Type

from .registry import CallSite, agree, relation, times


def _reduced(call: CallSite) -> list[int]:
    rank, given = call.rank(), call.attr("axis")
    axes = call.axes() if given not in (None, []) else list(range(rank))
    if call.attr("exclude"):
        axes = [axis for axis in range(rank) if axis not in axes]
    if call.attr("keepdims"):
        return [1 if axis in axes else size for axis, size in enumerate(call.shape())]
    return [size for axis, size in enumerate(call.shape()) if axis not in axes]


@relation("sum", "mean", "max", "min", "prod")
def _reduce(call: CallSite) -> Type:
    return TensorType(_reduced(call), call.dtype())


@relation("all", "any")
def _logical(call: CallSite) -> Type:
    call.demand(call.dtype() == "bool", f"expected bool, got {call.dtype()}")
    return TensorType(_reduced(call), "bool")


@relation("variance")
def _variance(call: CallSite) -> Type:
    call.one_dtype(0, 1)
    call.demand_rank(call.rank(), 1)
    return TensorType(_reduced(call), call.dtype())


@relation("argmax", "argmin")
def _position(call: CallSite) -> Type:
    # As in TVM: of the type that the first size has.
    bits = Size.of(call.shape()[0]).bits if call.rank() else 32
    return TensorType(_reduced(call), f"int{bits}")


@relation("cumsum", "cumprod")
def _scan(call: CallSite) -> Type:
    dtype = call.dtype_attr()
    if call.attr("axis") is None:
        return TensorType([times(call.shape())], dtype)
    call.axis()
    return TensorType(call.shape(), dtype)


@relation("sort")
def _sort(call: CallSite) -> Type:
    call.axis()
    return call.tensor()


@relation("argsort")
def _argsort(call: CallSite) -> Type:
    call.axis()
    return TensorType(call.shape(), call.dtype_attr(default="int32"))


@relation("topk")
def _topk(call: CallSite) -> Type:
    axis, k, shape = call.axis(), call.attr("k"), call.shape()
    if k is None:
        raise TypeError("expected k to be given")
    call.demand(shape[axis] < 0 or k <= shape[axis], f"expected k to be at most {shape[axis]}, got {k}")
    shape[axis] = k if k >= 1 else shape[axis]
    values = TensorType(shape, call.dtype())
    indices = TensorType(shape, call.dtype_attr(default="int32"))
    call.one_of("ret_type", call.attr("ret_type"), "both", "values", "indices")
    return {"both": TupleType([values, indices]), "values": values, "indices": indices}[call.attr("ret_type")]


@relation("searchsorted")
def _searchsorted(call: CallSite) -> Type:
    call.one_dtype(0, 1)
    sequence, values = call.shape(0), call.shape(1)
    if len(sequence) > 1:
        leading = len(sequence) == len(values) and all(map(agree, sequence[:-1], values[:-1]))
        message = (
            f"expected as many rows of values as of sequences, got {tuple(sequence)} and {tuple(values)}"
        )
        call.demand(leading, message)
    call.one_of("dtype", call.attr("dtype"), "int32", "int64")
    return TensorType(values, call.attr("dtype"))


@relation("unique")
def _unique(call: CallSite) -> Type:
    (size,) = call.demand_rank(1)
    indices = TensorType([size], "int32")
    results = [call.tensor(), indices, indices, TensorType([1], "int32")]
    return TupleType([*results, indices] if call.attr("return_counts") else results)
