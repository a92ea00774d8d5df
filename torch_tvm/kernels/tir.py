"""Shorthands over TVM's IRBuilder that every kernel generator uses: vectors, accumulators, loops, functions.

Lanes of 1 mean scalars throughout, so that a generator's tail is the same code with `lanes=1`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import extent
from torch_tvm.kernels.extent import Extent, Size, UndecidableError

Buffer = Any
Index = Any  # int or PrimExpr
Value = Any  # PrimExpr
Chain = TypeVar("Chain")

# Function attribute: there is no block below the root, so that the short pass pipeline of module.py will do.
NO_INNER_BLOCKS = "torch_tvm.no_inner_blocks"
# Function attributes of kernels with symbolic sizes: names of the dimensions, whose values are the last parameters, and the
# tensor parameters as text.
DIMS, PARAMETERS = "torch_tvm.dims", "torch_tvm.parameters"

# Loops and indices are 32 bits wide: half the registers and instructions of 64 bits.
_MOST_ELEMENTS = 2**31 - 1

# Waking a second thread costs 0.8 us when it spins and 20 us when it sleeps: a parallel region must save more.
PARALLEL_MIN_NANOSECONDS = 8_000


@dataclass(frozen=True)
class Parameter:
    """A tensor parameter of a kernel: contiguous, aligned to its elements only.

    Parameters
    ----------
    lies_in
        Name of the parameter, an output, in whose memory the tensor lies: the function then has none for it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    lies_in: str = ""

    def __post_init__(self) -> None:
        """Refuse a symbolic tensor that may have more elements than indices reach: narrower bounds may do."""
        least, most = extent.bounds(math.prod(self.shape))
        if least <= _MOST_ELEMENTS < most:
            raise UndecidableError(f"{self.name} of shape {self.shape} may have up to {most} elements")


def kernel(name: str, parameters: Sequence[Parameter], body: Callable[..., None]) -> PrimFunc:
    """Make the function `name` whose body is what `body(*buffers)` emits.

    Its last parameters are an int64 for each dimension of the shapes and of what is emitted, in order of their names.

    LLVM is told that no two parameters overlap, so that a tensor that an output overwrites must not be one of its own
    (`Parameter.lies_in`): both are then accesses to one parameter, which LLVM keeps in order.
    """
    for p in parameters:
        if extent.bounds(math.prod(p.shape))[1] > _MOST_ELEMENTS:
            raise ValueError(
                f"{name}: {p.name} of shape {p.shape} has more elements than 32-bit indices reach"
            )
    scalars = _Scalars()
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        T.func_attr({"global_symbol": name, "tirx.noalias": True, NO_INNER_BLOCKS: True})
        with extent.bound(scalars):
            own = {
                p.name: T.arg(p.name, unaligned_buffer(p.shape, p.dtype)) for p in parameters if not p.lies_in
            }
            body(
                *(
                    reshaped(own[p.lies_in], p.shape, p.dtype) if p.lies_in else own[p.name]
                    for p in parameters
                )
            )
    function = builder.get()
    if not scalars:
        return function
    names = sorted(scalars)
    params = [*function.params, *(scalars.parameters[dim] for dim in names)]
    function = PrimFunc(params, function.body, function.ret_type, function.attrs)
    tensors = [(p.shape, p.dtype) for p in parameters if not p.lies_in]
    return function.with_attrs(symbolic_attributes(names, tensors))


class _Scalars(dict[str, Value]):
    """The values of the dimensions that a kernel asks for, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.parameters: dict[str, tirx.Var] = {}

    def __missing__(self, dim: str) -> Value:
        self.parameters[dim] = tirx.Var(f"size_{dim}", "int64")
        self[dim] = T.cast(self.parameters[dim], "int32")
        return self[dim]


def symbolic_attributes(
    dims: Sequence[str], parameters: Sequence[tuple[tuple[int, ...], str]]
) -> dict[str, Any]:
    """Return the attributes of a function with scalars for some dimensions behind its tensors."""
    return {DIMS: list(dims), PARAMETERS: str(list(parameters))}


def expressions(sizes: Sequence[Size | Index]) -> tuple[Index, ...]:
    """Return sizes as TVM takes them."""
    return tuple(size.asobject() if isinstance(size, Extent) else size for size in sizes)


def unaligned_buffer(shape: Sequence[int], dtype: str) -> Buffer:
    """A buffer that promises no more than its elements' alignment: torch tensors begin anywhere."""
    return T.buffer(expressions(shape), dtype, align=element_bytes(dtype))


def element_bytes(dtype: str) -> int:
    """The size of one element in memory."""
    return max(1, tvm.DataType(dtype).bits // 8)


def vector_dtype(dtype: str, lanes: int) -> str:
    """Name the dtype of a vector."""
    return f"{dtype}x{lanes}" if lanes > 1 else dtype


def broadcast(value: Value, lanes: int) -> Value:
    """Repeat a scalar in every lane.

    bfloat16 is repeated as the integers that it is kept as: TVM's code generator crashes on vectors of one such value.
    """
    if lanes == 1:
        return value
    if value.ty.dtype == "bfloat16":
        bits = T.broadcast(T.reinterpret("uint16", value), lanes)
        return T.reinterpret(vector_dtype("bfloat16", lanes), bits)
    return T.broadcast(value, lanes)


def constant(value: float, dtype: str, lanes: int = 1) -> Value:
    """Make a constant of `dtype` in every lane."""
    return broadcast(tvm.tirx.const(value, dtype), lanes)


def size_as(size: Size, dtype: str, lanes: int = 1) -> Value:
    """Make a size a value of `dtype` in every lane."""
    if isinstance(size, Extent):
        return broadcast(T.cast(size.asobject(), dtype), lanes)
    return constant(float(size) if dtype.startswith("float") else size, dtype, lanes)


def zero(dtype: str, lanes: int) -> Value:
    """Zeros of `dtype`; TVM's storage pass has no constants of bfloat16."""
    if dtype == "bfloat16":
        return T.reinterpret(vector_dtype(dtype, lanes), constant(0, "uint16", lanes))
    return constant(0, dtype, lanes)


def load(buffer: Buffer, indices: Sequence[Index], lanes: int) -> Value:
    """Load `lanes` elements, contiguous in the last dimension."""
    *outer, last = expressions(indices)
    return buffer[(*outer, T.ramp(last, 1, lanes) if lanes > 1 else last)]


def store(buffer: Buffer, value: Value, indices: Sequence[Index], lanes: int) -> None:
    """Store a vector of `lanes` elements, contiguous in the last dimension."""
    *outer, last = expressions(indices)
    T.buffer_store(buffer, value, [*outer, T.ramp(last, 1, lanes) if lanes > 1 else last])


def scratch(dtype: str, elements: int) -> Buffer:
    """Allocate a small buffer that LLVM turns into registers.

    scope="local" would become a heap workspace, and so would 1024 bytes or more of scope="global".
    """
    return T.alloc_buffer((elements,), dtype, scope="global", align=64)


def prefetch(buffer: Buffer, indices: Sequence[Index]) -> None:
    """Ask for a cache line that will be read soon; the address may lie behind the buffer's end."""
    T.evaluate(T.call_intrin("void", "tirx.prefetch", T.address_of(buffer[expressions(indices)]), 0, 3, 1))


def materialise(value: Value, dtype: str, lanes: int) -> Value:
    """Compute `value` once, here.

    StmtSimplify inlines every pure T.bind, so that expressions grow exponentially: 50 s for a softmax.
    """
    buffer = scratch(dtype, lanes)
    store(buffer, value, (0,), lanes)
    return load(buffer, (0,), lanes)


def load_partial(buffer: Buffer, indices: Sequence[Index], *, count: int, dtype: str, lanes: int) -> Value:
    """Load the first `count` lanes of a vector, the others are zero."""
    if count == lanes:
        return load(buffer, indices, lanes)
    whole = scratch(dtype, lanes)
    store(whole, zero(dtype, lanes), (0,), lanes)
    store(whole, load(buffer, indices, count), (0,), count)
    return load(whole, (0,), lanes)


def store_partial(
    buffer: Buffer, value: Value, indices: Sequence[Index], *, count: int, dtype: str, lanes: int
) -> None:
    """Store the first `count` lanes of `value`."""
    if count == lanes:
        store(buffer, value, indices, lanes)
        return
    if dtype in ("float32", "float64"):
        # Else LLVM computes the lanes that are stored alone, all the way back into the loop that made them: a product of
        # 3136x96x24 took 112 us instead of 44.
        value = T.call_llvm_pure_intrin(vector_dtype(dtype, lanes), "llvm.arithmetic.fence", value)
    whole = scratch(dtype, lanes)
    store(whole, value, (0,), lanes)
    store(buffer, load(whole, (0,), count), indices, count)


def reshaped(buffer: Buffer, shape: Sequence[int], dtype: str, first: int = 0) -> Buffer:
    """Declare another shape for the elements of a contiguous buffer, from element `first` on."""
    offset = buffer.elem_offset + first
    return T.decl_buffer(
        expressions(shape), dtype, data=buffer.data, elem_offset=offset, align=element_bytes(dtype)
    )


def for_run(count: Size, lanes: int, step: Callable[[Index, int], None]) -> None:
    """Emit `step(first, width)` for `count` contiguous elements, `lanes` at a time and the rest as one vector.

    Of a symbolic count the rest are single elements.
    """
    whole, rest = divmod(count, lanes)
    if not extent.same(whole, 0):
        with loop(whole) as i:
            step(i * lanes, lanes)
    if isinstance(rest, Extent):
        with loop(rest) as i:
            step(whole * lanes + i, 1)
    elif rest:
        step(whole * lanes, rest)


def chained_loop(steps: Size, chains: Sequence[Chain], step: Callable[[Chain, Index], None]) -> None:
    """Emit `step(chain, k)` for each k below `steps`, the chains in turn."""
    rounds, rest = divmod(steps, len(chains))
    if isinstance(rounds, Extent) or rounds:
        with loop(rounds) as k:
            for c, chain in enumerate(chains):
                step(chain, k * len(chains) + c)
    if isinstance(rest, Extent):
        with loop(rest) as k:
            step(chains[0], rounds * len(chains) + k)
        return
    for c in range(rest):
        step(chains[c], rounds * len(chains) + c)


class Accumulators:
    """`count` vectors that live in registers across loops."""

    def __init__(self, count: int, dtype: str, lanes: int) -> None:
        self._lanes = lanes
        self._buffers = [scratch(dtype, lanes) for _ in range(count)]

    def __len__(self) -> int:
        return len(self._buffers)

    def __getitem__(self, index: int) -> Value:
        return load(self._buffers[index], (0,), self._lanes)

    def __setitem__(self, index: int, value: Value) -> None:
        store(self._buffers[index], value, (0,), self._lanes)

    def fill(self, value: Value) -> None:
        """Set every accumulator to `value`."""
        for index in range(len(self)):
            self[index] = value


def multiply_add(a: Value, b: Value, c: Value, dtype: str, lanes: int, *, fused: bool) -> Value:
    """Compute a * b + c; `fused` (CpuTarget.has_fma) as llvm.fma, which no flag of LLVM splits."""
    if not fused or not dtype.startswith("float"):
        return a * b + c
    return T.call_llvm_pure_intrin(vector_dtype(dtype, lanes), "llvm.fma", a, b, c)


@contextlib.contextmanager
def loop(extent: Size | Index, *, parallel: bool = False) -> Iterator[Index]:
    """Open a loop; none at all when it runs once."""
    if isinstance(extent, int) and extent == 1:
        yield 0
        return
    with (T.parallel if parallel else T.serial)(0, extent) as index:
        yield index


@contextlib.contextmanager
def loop_between(first: Index, last: Index) -> Iterator[Index]:
    """Open a serial loop from `first` to before `last`; none at all when these are constants one apart."""
    if isinstance(first, int) and isinstance(last, int) and last - first == 1:
        yield first
        return
    with T.serial(first, last) as index:
        yield index


def reaches(a: Size | Index, b: Size | Index) -> bool | Value:
    """Return a >= b, as a bool where it holds always or never."""
    if isinstance(a, (int, Extent)) and isinstance(b, (int, Extent)):
        low, high = extent.bounds(a - b)
        if low >= 0 or high < 0:
            return low >= 0
    return T.GE(*expressions([a, b]))


def either(decision: bool | Value, then: Callable[[], None], otherwise: Callable[[], None]) -> None:
    """Emit one of two things: both, in branches, where the decision falls at run time."""
    if isinstance(decision, bool):
        (then if decision else otherwise)()
        return
    with T.If(decision):
        with T.Then():
            then()
        with T.Else():
            otherwise()


def clamp_index(index: Index, low: int, high: Size) -> Index:
    """Limit an index to low <= index <= high."""
    if isinstance(index, int) and isinstance(high, int):
        return min(max(index, low), high)
    return T.min(T.max(index, low), high)


def loops_between(counts: Sequence[Size], low: Index, high: Index) -> Iterator[tuple[int, Index, Index]]:
    """Emit a loop for each group of items over those of them that are numbers `low` to `high` of all groups.

    Yields the group, the number of the item in it and among all.
    """
    first: Index = 0
    for group, count in enumerate(counts):
        begin, end = (clamp_index(edge - first, 0, count) for edge in (low, high))
        with loop_between(begin, end) as i:
            yield group, i, first + i
        first = first + count


def unravel(index: Index, shape: Sequence[int]) -> list[Index]:
    """Return the position in `shape` of element number `index` in row-major order."""
    position: list[Index] = []
    for axis in range(len(shape) - 1, -1, -1):
        outermost = all(extent.same(size, 1) for size in shape[:axis])
        single = extent.same(shape[axis], 1)
        position.append(0 if single else index if outermost else index % shape[axis])
        index = index // shape[axis]
    return position[::-1]


def split_evenly(extent: int, largest: int) -> list[tuple[int, int]]:
    """Split into tiles of nearly equal size, none above `largest`: [(how many, size), ...], larger ones first."""
    if extent == 0:
        return []
    tiles = -(-extent // largest)
    small, larger = divmod(extent, tiles)
    return [(n, size) for n, size in ((larger, small + 1), (tiles - larger, small)) if n]


def transpose_square(rows: Sequence[Value], dtype: str, lanes: int) -> list[Value]:
    """Transpose `lanes` vectors of `lanes` elements in registers, a power of two: 15 ns for 16 x 16 floats.

    Round h exchanges the off-diagonal blocks of h x h elements, h = lanes / 2 ... 1.
    """
    rows = list(rows)
    half = lanes // 2
    while half:
        low = [c - half + lanes if c & half else c for c in range(lanes)]
        high = [c + lanes if c & half else c + half for c in range(lanes)]
        for i in range(lanes):
            if i & half == 0:
                pair = [rows[i], rows[i + half]]
                rows[i] = materialise(T.Shuffle(pair, low), dtype, lanes)
                rows[i + half] = materialise(T.Shuffle(pair, high), dtype, lanes)
        half //= 2
    return rows
