"""Relay operators that move, cut, join, index or create data."""

from __future__ import annotations

from typing import Any

from tvm import relax
from tvm.relax import op

from . import te_operators
from .registry import Lowering, lowers


def _product(dims: list[Any]) -> Any:
    size: Any = 1
    for dim in dims:
        size = size * dim
    return size


def reshaped(dims: list[Any], newshape: list[int], allowzero: bool) -> list[Any]:
    """Resolve the special entries of Relay's `newshape` (0, -1 ... -4) against the input's `dims`."""
    result: list[Any] = []
    cursor, inferred, entries = 0, -1, list(newshape)
    while entries:
        entry = entries.pop(0)
        if entry == -2:
            result += dims[cursor:]
            cursor = len(dims)
        elif entry == -3:
            result.append(dims[cursor] * dims[cursor + 1])
            cursor += 2
        elif entry == -4:
            first, second = entries.pop(0), entries.pop(0)
            first = dims[cursor] // second if first == -1 else first
            result += [first, dims[cursor] // first if second == -1 else second]
            cursor += 1
        else:
            if entry == -1:
                inferred = len(result)
            copied = entry == 0 and not allowzero
            result.append(dims[cursor] if copied else (1 if entry == -1 else entry))
            cursor += 1
    if inferred >= 0:
        known = _product(result)
        result[inferred] = 0 if isinstance(known, int) and known == 0 else _product(dims) // known
    return result


@lowers("reshape")
def _reshape(call: Lowering) -> relax.Expr:
    newshape = [int(d) for d in call.attrs["newshape"]]
    return op.reshape(call.data, reshaped(call.dims(), newshape, bool(call.attrs["allowzero"])))


@lowers("reshape_like")
def _reshape_like(call: Lowering) -> relax.Expr:
    a, data, like = call.attrs, call.dims(), call.dims(call.args[1])
    lhs_end = len(data) if a["lhs_end"] is None else a["lhs_end"]
    rhs_end = len(like) if a["rhs_end"] is None else a["rhs_end"]
    shape = data[: a["lhs_begin"]] + like[a["rhs_begin"] : rhs_end] + data[lhs_end:]
    return op.reshape(call.data, shape)


@lowers("transpose")
def _transpose(call: Lowering) -> relax.Expr:
    rank = call.rank()
    axes = [a % rank for a in call.attrs["axes"] or reversed(range(rank))] if rank else []
    return op.permute_dims(call.data, axes) if rank else call.data


@lowers("expand_dims")
def _expand_dims(call: Lowering) -> relax.Expr:
    count, rank = int(call.attrs["num_newaxis"]), call.rank()
    axis = int(call.attrs["axis"])
    if not -rank - 1 <= axis <= rank:
        raise ValueError(f"expand_dims: axis={axis} is out of range for rank {rank}")
    first = axis if axis >= 0 else axis + rank + 1
    return op.expand_dims(call.data, [first + i for i in range(count)]) if count else call.data


@lowers("squeeze")
def _squeeze(call: Lowering) -> relax.Expr:
    axis = call.attrs["axis"]
    if axis is None:
        return op.squeeze(call.data)
    return op.squeeze(call.data, [a % call.rank() for a in axis]) if axis else call.data


@lowers("broadcast_to")
def _broadcast_to(call: Lowering) -> relax.Expr:
    return op.broadcast_to(call.data, [int(d) for d in call.attrs["shape"]])


@lowers("broadcast_to_like")
def _broadcast_to_like(call: Lowering) -> relax.Expr:
    return op.broadcast_to(call.data, call.dims(call.args[1]))


@lowers("concatenate")
def _concatenate(call: Lowering) -> relax.Expr:
    fields = call.fields()
    return op.concat(fields, call.axis(rank=call.rank(fields[0])))


@lowers("stack")
def _stack(call: Lowering) -> relax.Expr:
    fields = call.fields()
    return op.stack(fields, call.axis(rank=call.rank(fields[0]) + 1))


@lowers("split")
def _split(call: Lowering) -> relax.Expr:
    sections = call.attrs["indices_or_sections"]
    return op.split(call.data, sections if isinstance(sections, int) else list(sections), call.axis())


@lowers("strided_slice")
def _strided_slice(call: Lowering) -> relax.Expr:
    a, dims = call.attrs, call.dims()
    axes = list(range(len(a["begin"]))) if a["axes"] is None else [x % len(dims) for x in a["axes"]]
    begin = [0 if b is None else int(b) for b in a["begin"]]
    end = list(a["end"])
    strides = [int(s) for s in a["strides"]] or [1]
    strides += [1] * (len(axes) - len(strides))
    if a["slice_mode"] == "size":
        strides = [1] * len(axes)
        end = [dims[x] if e < 0 else b + e for x, b, e in zip(axes, begin, end, strict=True)]
    return op.strided_slice(call.data, axes, begin, end, strides)


@lowers("slice_like")
def _slice_like(call: Lowering) -> relax.Expr:
    like = call.dims(call.args[1])
    axes = [x % call.rank() for x in call.attrs["axes"] or range(len(like))]
    return op.strided_slice(call.data, axes, [0] * len(axes), [like[x] for x in axes])


@lowers("tile")
def _tile(call: Lowering) -> relax.Expr:
    return op.tile(call.data, [int(r) for r in call.attrs["reps"]])


@lowers("repeat")
def _repeat(call: Lowering) -> relax.Expr:
    return op.repeat(call.data, int(call.attrs["repeats"]), call.axis())


@lowers("reverse")
def _reverse(call: Lowering) -> relax.Expr:
    return op.flip(call.data, call.axis())


@lowers("layout_transform")
def _layout_transform(call: Lowering) -> relax.Expr:
    source, target = call.attrs["src_layout"], call.attrs["dst_layout"]
    if len(source) == len(target) == call.rank():
        return op.permute_dims(call.data, [source.index(letter) for letter in target])
    return te_operators.call("layout_transform", [call.data], call.attrs)


@lowers("meshgrid")
def _meshgrid(call: Lowering) -> relax.Expr:
    """Each result is a view: a vector repeated along all dimensions but its own."""
    vectors = call.fields()
    sizes = [_product(call.dims(vector)) for vector in vectors]
    places = list(range(len(vectors)))
    if call.attrs["indexing"] == "xy":
        places[:2] = places[1::-1]
    shape = [sizes[places.index(dim)] for dim in range(len(vectors))]

    def spread(size: Any, place: int) -> list[Any]:
        return [size if dim == place else 1 for dim in range(len(vectors))]

    return relax.Tuple(
        [
            call.emit(op.broadcast_to(call.emit(op.reshape(vector, spread(size, place))), shape))
            for vector, size, place in zip(vectors, sizes, places, strict=True)
        ]
    )


@lowers("einsum")
def _einsum(call: Lowering) -> relax.Expr:
    return op.einsum(relax.Tuple(call.fields()), call.attrs["equation"])


@lowers("take")
def _take(call: Lowering) -> relax.Expr:
    data, indices = call.args
    axis = call.attrs["axis"]
    attrs = {
        "axis": None if axis is None else call.axis(),
        "batch_dims": int(call.attrs["batch_dims"] or 0),
        "mode": call.attrs["mode"],
    }
    return te_operators.call("take", [data, indices], attrs)


@lowers("gather")
def _gather(call: Lowering) -> relax.Expr:
    return op.gather_elements(call.data, call.args[1], call.axis())


def _coordinates_last(call: Lowering, indices: relax.Expr) -> relax.Expr:
    """Relay's coordinates stand on axis 0, Relax wants them on the last axis."""
    rank = call.rank(indices)
    return call.emit(op.permute_dims(indices, [*range(1, rank), 0])) if rank > 1 else indices


@lowers("gather_nd")
def _gather_nd(call: Lowering) -> relax.Expr:
    indices = _coordinates_last(call, call.args[1])
    return op.gather_nd(call.data, indices, int(call.attrs["batch_dims"] or 0))


@lowers("scatter_elements")
def _scatter_elements(call: Lowering) -> relax.Expr:
    return op.scatter_elements(*call.args, call.axis(), call.attrs["reduction"])


@lowers("scatter_nd")
def _scatter_nd(call: Lowering) -> relax.Expr:
    data, indices, updates = call.args
    return op.scatter_nd(data, _coordinates_last(call, indices), updates, call.attrs["mode"])


@lowers("adv_index")
def _adv_index(call: Lowering) -> relax.Expr:
    return te_operators.call("adv_index", call.fields())


@lowers("one_hot")
def _one_hot(call: Lowering) -> relax.Expr:
    dtype = call.attrs["dtype"] or call.dtype(call.args[1])
    on, off = (relax.prim_value(call.scalar(i)) for i in (1, 2))
    hot = call.emit(op.one_hot(call.data, on, off, int(call.attrs["depth"]), int(call.attrs["axis"])))
    return hot if call.dtype(hot) == dtype else op.astype(hot, dtype)


@lowers("trilu")
def _trilu(call: Lowering) -> relax.Expr:
    return (op.triu if call.attrs["upper"] else op.tril)(call.data, int(call.scalar(1)))


@lowers("full")
def _full(call: Lowering) -> relax.Expr:
    dtype = call.attrs["dtype"] or call.dtype()
    return op.full([int(d) for d in call.attrs["shape"]], call.data, dtype)


@lowers("full_like")
def _full_like(call: Lowering) -> relax.Expr:
    return op.full(call.dims(), call.args[1], call.dtype())


@lowers("zeros", "ones")
def _zeros(call: Lowering) -> relax.Expr:
    make = op.zeros if call.name == "zeros" else op.ones
    return make([int(d) for d in call.attrs["shape"]], call.attrs["dtype"] or "float32")


@lowers("arange")
def _arange(call: Lowering) -> relax.Expr:
    start, stop, step = (call.scalar(i) for i in range(3))
    dtype = call.attrs["dtype"]
    if isinstance(step, int) and step < 0:
        # Relax infers one or two elements too many for negative whole steps.
        counted = op.arange(0, len(range(int(start), int(stop), step)), 1, dtype)
        return op.add(op.multiply(counted, relax.const(step, dtype)), relax.const(start, dtype))
    return op.arange(start, stop, step, dtype)


@lowers("image.resize1d")
def _resize1d(call: Lowering) -> relax.Expr:
    return te_operators.call("resize1d", [call.data], call.attrs)


def _resize(call: Lowering, make: Any) -> relax.Expr:
    a = call.attrs
    return make(
        call.data,
        a["size"],
        a["roi"],
        a["layout"],
        a["method"],
        a["coordinate_transformation_mode"],
        a["rounding_method"],
        a["cubic_alpha"],
        a["cubic_exclude"],
        a["extrapolation_value"],
        a["out_dtype"] or None,
    )


@lowers("image.resize2d")
def _resize2d(call: Lowering) -> relax.Expr:
    return _resize(call, op.image.resize2d)


@lowers("image.resize3d")
def _resize3d(call: Lowering) -> relax.Expr:
    return _resize(call, op.image.resize3d)


@lowers("image.grid_sample")
def _grid_sample(call: Lowering) -> relax.Expr:
    a, data, grid = call.attrs, call.data, call.args[1]
    layouts, methods = {4: "NCHW", 5: "NCDHW"}, ("nearest", "bilinear", "bicubic")
    if a["layout"] != layouts.get(call.rank()) or a["method"] not in methods:
        raise call.unsupported(f"with layout={a['layout']!r} and method={a['method']!r} cannot be lowered")
    if a["method"] == "bicubic" and call.rank() == 5:
        raise call.unsupported("with method='bicubic' takes images, not volumes")
    mode = {"padding_mode": a["padding_mode"], "method": a["method"]}
    rules = {**mode, "align_corners": a["align_corners"], "size": call.shape()[2:]}
    places = call.emit(te_operators.call("grid_places", [grid], rules))
    taps = call.emit(te_operators.call("grid_taps", [places], rules))
    index, weight = (call.emit(relax.TupleGetItem(taps, i)) for i in range(2))
    return te_operators.call("grid_values", [data, index, weight], mode)
