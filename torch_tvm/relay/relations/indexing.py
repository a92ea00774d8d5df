"""Operators that take indices, and those that write where indices say."""

from __future__ import annotations

from torch_tvm.relay.ty import TensorType, Type

from .registry import ANY, CallSite, agree, broadcast, relation


@relation("take")
def _take(call: CallSite) -> Type:
    data, indices, batch = call.shape(), call.shape(1), call.attr("batch_dims") or 0
    call.demand_integers(1)
    call.one_of("mode", call.attr("mode"), "clip", "wrap", "fast")
    if call.attr("axis") is None:
        return TensorType(indices, call.dtype())
    axis = call.axis()
    batch = batch + len(indices) if batch < 0 else batch
    message = f"expected batch_dims to be at most axis={axis} and rank {len(indices)}, got {batch}"
    call.demand(0 <= batch <= min(axis, len(indices)), message)
    return TensorType(data[:axis] + indices[batch:] + data[axis + 1 :], call.dtype())


@relation("gather")
def _gather(call: CallSite) -> Type:
    data, axis = call.shape(), call.axis()
    indices = call.demand_rank(len(data), 1)
    call.demand(call.dtype(1).startswith("int"), f"expected signed integers as indices, got {call.dtype(1)}")
    for dim, (size, count) in enumerate(zip(data, indices, strict=True)):
        same = dim == axis or agree(size, count)
        call.demand(same, f"expected as many indices as data on axis {dim}, got {count} for {size}")
    return TensorType(indices, call.dtype())


@relation("gather_nd")
def _gather_nd(call: CallSite) -> Type:
    data, (coordinates, *places) = call.shape(), call.shape(1)
    call.demand_integers(1)
    batch = call.attr("batch_dims") or 0
    fits = coordinates != ANY and coordinates + batch <= len(data)
    call.demand(fits, f"expected at most {len(data) - batch} coordinates on axis 0, got {coordinates}")
    return TensorType(places + data[coordinates + batch :], call.dtype())


@relation("scatter_elements")
def _scatter_elements(call: CallSite) -> Type:
    call.axis()
    call.one_dtype(0, 2)
    call.demand_integers(1)
    call.demand_rank(call.rank(), 1)
    call.demand_shape(2, call.shape(1), " (one update for each index)")
    call.one_of("reduction", call.attr("reduction"), "update", "add", "mul", "mean", "min", "max")
    return call.tensor()


@relation("scatter_nd")
def _scatter_nd(call: CallSite) -> Type:
    data, (coordinates, *places) = call.shape(), call.shape(1)
    call.one_dtype(0, 2)
    call.demand_integers(1)
    fits = coordinates != ANY and coordinates <= len(data)
    call.demand(fits, f"expected at most {len(data)} coordinates on axis 0, got {coordinates}")
    call.demand_shape(2, places + data[coordinates:])
    call.one_of("mode", call.attr("mode"), "update", "add", "mul", "mean", "min", "max")
    return call.tensor()


@relation("adv_index")
def _adv_index(call: CallSite) -> Type:
    data, *indices = call.fields()
    message = f"expected one to {len(data.shape)} index tensors, got {len(indices)}"
    call.demand(0 < len(indices) <= len(data.shape), message)
    shape: list[int] = []
    for index in indices:
        integers = str(index.dtype).startswith(("int", "uint"))
        call.demand(integers, f"expected integers as indices, got {index!r}")
        joint = broadcast(shape, index.sizes)
        if joint is None:
            raise TypeError(f"expected indices that broadcast, got {call.types[0]!r}")
        shape = joint
    return TensorType(shape + data.sizes[len(indices) :], str(data.dtype))


@relation("argwhere")
def _argwhere(call: CallSite) -> Type:
    return TensorType([ANY, call.rank()], "int32")


@relation("one_hot")
def _one_hot(call: CallSite) -> Type:
    indices, depth = call.shape(), call.attr("depth")
    call.demand_integers(0)
    call.demand_rank(0, 1)
    call.demand_rank(0, 2)
    call.demand(depth > 0, f"expected depth above 0, got {depth}")
    at = call.axis(len(indices) + 1)
    return TensorType([*indices[:at], depth, *indices[at:]], call.dtype_attr(default=call.dtype(1)))


@relation("sequence_mask", "reverse_sequence")
def _sequence(call: CallSite) -> Type:
    batch = 1 - call.attr("axis") if call.name == "sequence_mask" else call.attr("batch_axis")
    message = f"expected axis to be 0 or 1, got {call.attributes}"
    call.demand(call.name != "sequence_mask" or batch in (0, 1), message)
    sizes = [call.shape()[call.normal(batch, call.rank(), "batch axis")]]
    if call.name == "sequence_mask":
        call.assign_shape(1, sizes)
    else:
        call.demand_shape(1, sizes)
    return call.tensor()


@relation("trilu")
def _trilu(call: CallSite) -> Type:
    call.demand(call.rank() >= 2, f"expected a matrix, got {call.types[0]!r}")
    call.demand_rank(0, 1)
    call.demand_integers(1)
    return call.tensor()


@relation("invert_permutation")
def _invert(call: CallSite) -> Type:
    call.demand_rank(1)
    call.demand_integers(0)
    return call.tensor()
