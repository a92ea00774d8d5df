"""Operators that move, cut or join data, and those that create it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch_tvm.relay.ty import TensorType, TupleType, Type

from .registry import ANY, CallSite, agree, broadcast, is_any, plus, relation, times


def _over(total: int, part: int) -> int:
    if part == 1:
        return total
    return ANY if ANY in (total, part) else total // part


def _split_dim(call: CallSite, size: int, first: int, second: int) -> list[int]:
    call.demand(first != -1 or second != -1, "expected one size behind -4 in newshape, got -1 twice")
    first = _over(size, second) if first == -1 else first
    second = _over(size, first) if second == -1 else second
    call.demand(agree(times([first, second]), size), f"expected {first} * {second} to be {size}")
    return [first, second]


def _read_codes(
    call: CallSite, dims: list[int], newshape: Sequence[int], copies_zero: bool
) -> tuple[list[int | None], list[int], list[int]]:
    """Read newshape from left to right with a cursor over the dims.

    Returns the new sizes, None for the one to infer; those of them that come from no dim; and the dims that become none.
    """
    result: list[int | None] = []
    made, left = [], dict(enumerate(dims))
    entries, cursor = list(newshape), 0

    def take(count: int) -> list[int]:
        nonlocal cursor
        for dim in range(cursor, cursor + count):
            left.pop(dim, None)
        cursor += count
        call.demand(cursor <= len(dims), f"expected newshape to name {len(dims)} dims, got {list(newshape)}")
        return dims[cursor - count : cursor]

    while entries:
        entry = entries.pop(0)
        if entry == -2:
            result += take(len(dims) - cursor)
        elif entry == -3:
            result.append(times(take(2)))
        elif entry == -4:
            call.demand(len(entries) >= 2, "expected two sizes behind -4 in newshape")
            result += _split_dim(call, take(1)[0], entries.pop(0), entries.pop(0))
        elif entry == 0 and copies_zero:
            result += take(1)
        else:
            call.demand(entry >= -1, f"expected a code from -4 to 0 in newshape, got {entry}")
            result.append(None if entry == -1 else entry)
            made += [entry] if entry != -1 else []
            cursor += 1
    return result, made, list(left.values())


def _reshaped(call: CallSite, dims: list[int], newshape: Sequence[int], copies_zero: bool) -> list[int]:
    sizes, made, left = _read_codes(call, dims, newshape, copies_zero)
    open_sizes = sum(size is None for size in sizes)
    call.demand(open_sizes <= 1, f"expected at most one -1 in newshape, got {list(newshape)}")
    total = times(dims)
    if open_sizes:
        # What is copied is the same on both sides, known or not.
        known, rest = times(made), times(left)
        fits = ANY in (rest, known) or (known != 0 and rest % known == 0)
        call.demand(fits, f"expected a shape for {total} elements, got newshape={list(newshape)}")
        inferred = _over(rest, known)
        return [inferred if size is None else size for size in sizes]
    known = times([size for size in sizes if size is not None])
    message = f"expected a shape for {total} elements, got newshape={list(newshape)}"
    call.demand(agree(total, known), message)
    return [size for size in sizes if size is not None]


@relation("reshape")
def _reshape(call: CallSite) -> Type:
    newshape = call.attr("newshape")
    return TensorType(_reshaped(call, call.shape(), newshape, not call.attr("allowzero")), call.dtype())


@relation("contrib_reverse_reshape")
def _reverse_reshape(call: CallSite) -> Type:
    shape = _reshaped(call, call.shape()[::-1], call.attr("newshape")[::-1], not call.attr("allowzero"))
    return TensorType(shape[::-1], call.dtype())


@relation("reshape_like")
def _reshape_like(call: CallSite) -> Type:
    data, like = call.shape(), call.shape(1)

    def place(name: str, shape: list[int]) -> int:
        value = call.attr(name)
        return len(shape) if value is None else value + len(shape) * (value < 0)

    taken = like[place("rhs_begin", like) : place("rhs_end", like)]
    shape = data[: place("lhs_begin", data)] + taken + data[place("lhs_end", data) :]
    same = agree(times(shape), times(data))
    call.demand(same, f"expected a shape for {times(data)} elements, got {tuple(shape)}")
    return TensorType(shape, call.dtype())


@relation("transpose")
def _transpose(call: CallSite) -> Type:
    shape = call.shape()
    axes = call.axes("axes") if call.attr("axes") else list(range(len(shape)))[::-1]
    message = f"expected axes to be a permutation of {len(shape)} axes, got {call.attr('axes')}"
    call.demand(len(axes) == len(shape), message)
    return TensorType([shape[axis] for axis in axes], call.dtype())


@relation("expand_dims")
def _expand_dims(call: CallSite) -> Type:
    shape, count = call.shape(), call.attr("num_newaxis")
    call.demand(count >= 0, f"expected num_newaxis to be 0 or more, got {count}")
    at = call.axis(len(shape) + 1)
    return TensorType(shape[:at] + [1] * count + shape[at:], call.dtype())


@relation("squeeze")
def _squeeze(call: CallSite) -> Type:
    shape = call.shape()
    if call.attr("axis") is None:
        call.demand(ANY not in shape, f"expected axis, as sizes of {call.types[0]!r} are unknown")
        return TensorType([size for size in shape if size != 1], call.dtype())
    axes = call.axes()
    for axis in axes:
        call.demand(agree(shape[axis], 1), f"expected size 1 on axis {axis}, got {shape[axis]}")
    return TensorType([size for axis, size in enumerate(shape) if axis not in axes], call.dtype())


def _joined(call: CallSite) -> list[TensorType]:
    fields = call.fields()
    call.demand(bool(fields), "expected a tuple of at least one tensor, got ()")
    dtypes = {str(field.dtype) for field in fields}
    call.demand(len(dtypes) == 1, f"expected tensors of one dtype, got {', '.join(sorted(dtypes))}")
    ranks = {len(field.shape) for field in fields}
    call.demand(len(ranks) == 1, f"expected tensors of one rank, got {call.types[0]!r}")
    return fields


@relation("concatenate")
def concatenate(call: CallSite) -> Type:
    """Join tensors along an axis."""
    fields = _joined(call)
    shape = fields[0].sizes
    axis = call.axis(len(shape))
    for field in fields[1:]:
        for dim, size in enumerate(field.sizes):
            if dim == axis:
                shape[dim] = ANY if ANY in (shape[dim], size) else shape[dim] + size
                continue
            message = f"expected one size on axis {dim}, got {shape[dim]} and {size}"
            call.demand(agree(shape[dim], size), message)
            shape[dim] = size if is_any(shape[dim]) else shape[dim]
    return TensorType(shape, str(fields[0].dtype))


@relation("stack")
def _stack(call: CallSite) -> Type:
    fields = _joined(call)
    for field in fields[1:]:
        same = all(map(agree, fields[0].shape, field.shape))
        call.demand(same, f"expected tensors of one shape, got {fields[0]!r} and {field!r}")
    shape = fields[0].sizes
    axis = call.axis(len(shape) + 1)
    return TensorType([*shape[:axis], len(fields), *shape[axis:]], str(fields[0].dtype))


@relation("split")
def _split(call: CallSite) -> Type:
    shape, axis, cuts = call.shape(), call.axis(), call.attr("indices_or_sections")
    size = shape[axis]
    if isinstance(cuts, int):
        call.demand(cuts > 0, f"expected at least one section, got {cuts}")
        call.demand(size == ANY or size % cuts == 0, f"expected {cuts} equal parts of {size} elements")
        sizes = [_over(size, cuts)] * cuts
    else:
        ends = [0, *cuts, size]
        for begin, end in itertools.pairwise(ends):
            rising = begin < end or end == ANY
            call.demand(rising, f"expected rising places below {size}, got {cuts}")
        sizes = [ANY if ANY in pair else pair[1] - pair[0] for pair in itertools.pairwise(ends)]
    return TupleType([TensorType([*shape[:axis], part, *shape[axis + 1 :]], call.dtype()) for part in sizes])


def _sliced(call: CallSite, size: int, begin: int, end: int, stride: int) -> int:
    call.demand(stride != 0, "expected strides that are not 0")
    if size == ANY:
        return ANY
    low, high = (0, size) if stride > 0 else (-1, size - 1)
    first = min(max(begin + size if begin < 0 else begin, low), high)
    last = min(max(end + size if end < 0 else end, low), high)
    length = last - first if stride > 0 else first - last
    call.demand(length >= 0, f"expected begin not to pass end, got {begin} and {end} of {size}")
    return math.ceil(length / abs(stride))


@relation("strided_slice")
def _strided_slice(call: CallSite) -> Type:
    shape, begin, end = call.shape(), call.attr("begin"), call.attr("end")
    strides, mode = call.attr("strides") or [], call.attr("slice_mode")
    call.one_of("slice_mode", mode, "end", "size")
    if begin is None or end is None:
        raise TypeError("expected begin and end to be given")
    axes = call.axes("axes") if call.attr("axes") is not None else list(range(len(begin)))
    call.demand(len(axes) <= len(shape), f"expected at most {len(shape)} entries of begin, got {len(begin)}")
    lengths = (len(begin), len(end))
    message = f"expected {len(axes)} entries of begin and end, got {lengths[0]} and {lengths[1]}"
    call.demand(lengths == (len(axes), len(axes)), message)
    strides = [*strides, *[1] * (len(axes) - len(strides))]
    for axis, first, last, stride in zip(axes, begin, end, strides, strict=True):
        if mode == "size":
            fits = shape[axis] == ANY or first <= shape[axis]
            call.demand(fits, f"expected begin to be at most {shape[axis]}, got {first}")
            whole = plus(shape[axis], -first)
            shape[axis] = whole if last < 0 else last
        else:
            shape[axis] = _sliced(call, shape[axis], first, last, stride)
    return TensorType(shape, call.dtype())


@relation("slice_like")
def _slice_like(call: CallSite) -> Type:
    shape, like = call.shape(), call.shape(1)
    for axis in call.axes("axes") if call.attr("axes") else range(len(like)):
        fits = ANY in (shape[axis], like[axis]) or like[axis] <= shape[axis]
        call.demand(fits, f"expected at most {shape[axis]} elements on axis {axis}, got {like[axis]}")
        shape[axis] = like[axis]
    return TensorType(shape, call.dtype())


def _broadcast_to(call: CallSite, shape: list[int]) -> Type:
    joint = broadcast(call.shape(), shape)
    fits = joint is not None and len(joint) == len(shape) and all(map(agree, joint, shape))
    call.demand(fits, f"expected a shape that {call.types[0]!r} broadcasts to, got {tuple(shape)}")
    return TensorType(shape, call.dtype())


@relation("broadcast_to")
def _broadcast(call: CallSite) -> Type:
    return _broadcast_to(call, call.attr("shape"))


@relation("broadcast_to_like")
def _broadcast_to_like(call: CallSite) -> Type:
    return _broadcast_to(call, call.shape(1))


@relation("collapse_sum_like")
def _like(call: CallSite) -> Type:
    return call.tensor(1)


@relation("tile")
def _tile(call: CallSite) -> Type:
    shape, reps = call.shape(), call.attr("reps")
    call.demand(all(rep > 0 for rep in reps), f"expected reps above 0, got {reps}")
    rank = max(len(shape), len(reps))
    shape, reps = [1] * (rank - len(shape)) + shape, [1] * (rank - len(reps)) + reps
    return TensorType([times(pair) for pair in zip(shape, reps, strict=True)], call.dtype())


@relation("repeat")
def _repeat(call: CallSite) -> Type:
    shape, axis, repeats = call.shape(), call.axis(), call.attr("repeats")
    call.demand(repeats > 0, f"expected repeats above 0, got {repeats}")
    shape[axis] = times([shape[axis], repeats])
    return TensorType(shape, call.dtype())


@relation("reverse")
def _reverse(call: CallSite) -> Type:
    call.axis()
    return call.tensor()


@relation("meshgrid")
def _meshgrid(call: CallSite) -> Type:
    fields = _same_dtype(call)
    call.demand(all(len(field.shape) <= 1 for field in fields), "expected tensors of rank 0 or 1")
    call.one_of("indexing", call.attr("indexing"), "ij", "xy")
    shape = [times(field.sizes) for field in fields]
    if call.attr("indexing") == "xy":
        shape[:2] = shape[1::-1]
    return TupleType([TensorType(shape, str(field.dtype)) for field in fields])


def _same_dtype(call: CallSite) -> list[TensorType]:
    fields = call.fields()
    dtypes = {str(field.dtype) for field in fields}
    call.demand(len(dtypes) == 1, f"expected tensors of one dtype, got {', '.join(sorted(dtypes)) or 'none'}")
    return fields


@relation("einsum")
def _einsum(call: CallSite) -> Type:
    fields, equation = _same_dtype(call), call.attr("equation").replace(" ", "")
    terms, arrow, result = equation.partition("->")
    call.demand("..." not in equation, "expected an equation without '...'")
    subscripts = terms.split(",")
    message = f"expected {len(fields)} subscripts in the equation, got {terms!r}"
    call.demand(len(subscripts) == len(fields), message)
    sizes: dict[str, int] = {}
    for subscript, field in zip(subscripts, fields, strict=True):
        call.demand(len(subscript) == len(field.shape), f"expected {len(subscript)} dims, got {field!r}")
        for letter, size in zip(subscript, field.sizes, strict=True):
            before = sizes.get(letter, size)
            message = f"expected one size of {letter!r}, got {before} and {size}"
            call.demand(agree(before, size) or 1 in (before, size), message)
            joint = broadcast([before], [size])
            sizes[letter] = before if joint is None else joint[0]
    if not arrow:
        result = "".join(sorted(letter for letter in sizes if terms.count(letter) == 1))
    call.demand(set(result) <= set(sizes), f"expected a result of the letters of {terms!r}, got {result!r}")
    return TensorType([sizes[letter] for letter in result], str(fields[0].dtype))


def _dims_of(layout: str) -> list[tuple[str, int]]:
    """Read a layout: "NCHW16c" is [("N", 0), ("C", 0), ("H", 0), ("W", 0), ("c", 16)]."""
    dims, factor = [], ""
    for letter in layout:
        if letter.isdigit():
            factor += letter
            continue
        dims.append((letter, int(factor or 0)))
        factor = ""
    return dims


@relation("layout_transform")
def _layout_transform(call: CallSite) -> Type:
    source, target = _dims_of(call.attr("src_layout")), _dims_of(call.attr("dst_layout"))
    shape = call.demand_rank(len(source))
    sizes: dict[str, int] = {}
    for (letter, _), size in zip(source, shape, strict=True):
        sizes[letter.upper()] = times([sizes.get(letter.upper(), 1), size])
    inner = {letter.upper(): factor for letter, factor in target if factor}
    message = f"expected a layout of the axes of {call.attr('src_layout')}, got {call.attr('dst_layout')}"
    call.demand({letter.upper() for letter, _ in target} == set(sizes), message)
    result = []
    for letter, factor in target:
        size = sizes[letter.upper()]
        result.append(factor or (_over(size, inner[letter]) if letter in inner else size))
    return TensorType(result, call.dtype())


@relation("full")
def _full(call: CallSite) -> Type:
    call.demand_rank(0)
    return TensorType(call.attr("shape"), call.dtype_attr())


@relation("full_like")
def _full_like(call: CallSite) -> Type:
    call.demand_rank(0, 1)
    return call.tensor()


@relation("zeros", "ones")
def _zeros(call: CallSite) -> Type:
    call.demand(bool(call.attr("dtype")), "expected dtype to be given")
    return TensorType(call.attr("shape"), call.attr("dtype"))


@relation("arange")
def _arange(call: CallSite) -> Type:
    dtype, size = call.attr("dtype"), ANY
    for index in range(3):
        call.demand_rank(0, index)
        call.demand(
            call.dtype(index) == dtype, f"expected operands of dtype {dtype}, got {call.dtype(index)}"
        )
    numbers = [constant.numpy().item() for constant in call.constants if constant is not None]
    if len(numbers) == 3:
        start, stop, step = numbers
        call.demand(step != 0, "expected a step that is not 0")
        size = math.ceil((stop - start) / step)
        call.demand(size > 0, f"expected at least one number, got arange({start}, {stop}, {step})")
    return TensorType([size], dtype)


@relation("shape_of", "ndarray_size")
def _shape_of(call: CallSite) -> Type:
    dtype = call.dtype_attr(default="int32")
    return TensorType([call.rank()] if call.name == "shape_of" else [], dtype)
