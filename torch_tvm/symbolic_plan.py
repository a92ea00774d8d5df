"""Plans for all values of some dimensions, as Python sees them.

The compiler makes a `SymbolicPlan`, csrc/runtime turns it into an ordinary `torch_tvm.runtime.Plan` for each new value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import tvm_ffi
from tvm_ffi.dataclasses import c_class

from torch_tvm.arrays import from_numpy
from torch_tvm.runtime import PackedPart, PartDescription, Plan, Step

#: A size as an expression of the dimensions, as csrc/runtime/extent.h reads it: a sum of products. The number of terms,
#: then of each term its factor, the number of its atoms and these. An atom is the number of a dimension, or -1, a
#: divisor and the expression that it divides (rounded down).
ExtentCode = Sequence[int]


def constant(value: int) -> tuple[int, ...]:
    """Return the code of a number.

    Examples
    --------
    >>> from torch_tvm.symbolic_plan import constant
    >>> constant(7)
    (1, 7, 0)
    """
    return (1, value, 0)


@c_class("torch_tvm.runtime.SymbolicBuffer", init=False)
class SymbolicBuffer(tvm_ffi.Object):
    """Where a kernel argument lies whose shape depends on the dimensions.

    Parameters
    ----------
    kind, index, dtype
        As of `torch_tvm.runtime.Buffer`.
    shape
        The code of each extent.
    memory
        Which memory of the plan it lies in, for the arena of a call; else -1.
    offset
        The code of the bytes into that memory, into the packed block or into the arena of the packing steps.
    """

    kind: str
    index: int
    memory: int
    offset: ExtentCode
    shape: Sequence[ExtentCode]
    dtype: tvm_ffi.dtype

    if TYPE_CHECKING:

        def __ffi_init__(self, *fields: Any) -> None: ...

    def __init__(
        self,
        kind: str,
        shape: Sequence[ExtentCode],
        dtype: str,
        *,
        index: int = -1,
        memory: int = -1,
        offset: ExtentCode = (0,),
    ) -> None:
        self.__ffi_init__(
            kind, index, memory, list(offset), [list(size) for size in shape], tvm_ffi.dtype(dtype)
        )


@c_class("torch_tvm.runtime.Memory", init=False)
class Memory(tvm_ffi.Object):
    """Bytes in the arena that hold something from one step of a call to another.

    Parameters
    ----------
    bytes
        The code of their number.
    first, last
        The steps between which nothing else may lie there.
    """

    bytes: ExtentCode
    first: int
    last: int

    if TYPE_CHECKING:

        def __ffi_init__(self, *fields: Any) -> None: ...

    def __init__(self, bytes: ExtentCode, first: int, last: int) -> None:
        self.__ffi_init__(list(bytes), first, last)


@c_class("torch_tvm.runtime.SymbolicPlan", init=False)
class SymbolicPlan(tvm_ffi.Object):
    """What signatures were compiled to that differ in the values of some dimensions.

    Parameters
    ----------
    name, packing_steps, packed_parts, constants, num_inputs, num_weights, num_outputs, packing_arena_bytes, info
        As of `torch_tvm.runtime.Plan`.
    bounds
        Least and largest value of each dimension.
    buffers
        All buffers that steps name.
    memory
        What the arena of a call holds.
    steps
        Kernels of every call; `scalars` are the numbers of the dimensions that they take.
    sizes
        The codes of all sizes in the Relay function that was compiled.

    Raises
    ------
    ValueError
        If the plan for the largest values could not run.
    """

    name: str
    least: Sequence[int]
    most: Sequence[int]
    buffers: Sequence[SymbolicBuffer]
    memory: Sequence[Memory]
    steps: Sequence[Step]
    packing_steps: Sequence[Step]
    packed_parts: Sequence[PackedPart]
    sizes: Sequence[ExtentCode]
    info: Mapping[str, Any]

    if TYPE_CHECKING:

        def __ffi_init__(self, *fields: Any) -> None: ...

        def at(self, values: Sequence[int]) -> Plan:
            """Return the plan for values of the dimensions."""

    def __init__(
        self,
        name: str,
        bounds: Sequence[tuple[int, int]],
        buffers: Sequence[SymbolicBuffer],
        memory: Sequence[Memory],
        steps: Sequence[Step],
        *,
        num_inputs: int,
        num_outputs: int,
        num_weights: int = 0,
        packing_steps: Sequence[Step] = (),
        packed_parts: Sequence[PackedPart] = (),
        constants: Sequence[Any] = (),
        packing_arena_bytes: int = 0,
        sizes: Sequence[ExtentCode] = (),
        info: Mapping[str, Any] | None = None,
    ) -> None:
        self.__ffi_init__(
            name,
            [least for least, _ in bounds],
            [most for _, most in bounds],
            list(buffers),
            list(memory),
            list(steps),
            list(packing_steps),
            list(packed_parts),
            list(constants),
            num_inputs,
            num_weights,
            num_outputs,
            packing_arena_bytes,
            [list(size) for size in sizes],
            dict(info or {}),
        )


@dataclass(frozen=True)
class SymbolicPlanDescription:
    """All of a symbolic plan but its code, as plain values: what one process can tell another.

    Attributes
    ----------
    name, constants, info
        Those of the `SymbolicPlan`.
    bounds
        Least and largest value of each dimension.
    buffers
        The arguments of each `SymbolicBuffer`: kind, shape, dtype, index, memory, offset.
    memory
        The arguments of each `Memory`.
    steps, packing_steps
        The name of each kernel call's function, its arguments' numbers in `buffers` and the dimensions that it takes.
    packed_parts
        The arguments of each `PackedPart`.
    counts
        ``num_inputs``, ``num_weights``, ``num_outputs`` and ``packing_arena_bytes``.
    sizes
        The codes of all sizes in the Relay function.
    """

    name: str
    bounds: Sequence[tuple[int, int]]
    buffers: Sequence[tuple[str, Sequence[ExtentCode], str, int, int, ExtentCode]]
    memory: Sequence[tuple[ExtentCode, int, int]]
    steps: Sequence[tuple[str, Sequence[int], Sequence[int]]]
    packing_steps: Sequence[tuple[str, Sequence[int], Sequence[int]]]
    packed_parts: Sequence[PartDescription]
    constants: Sequence[np.ndarray]
    counts: Mapping[str, int]
    sizes: Sequence[ExtentCode]
    info: Mapping[str, Any] = field(default_factory=dict)

    def plan(self, function: Callable[[str], Callable[..., None]]) -> SymbolicPlan:
        """Make the plan, with the functions that `function` gives for their names."""

        def made(steps: Sequence[tuple[str, Sequence[int], Sequence[int]]]) -> list[Step]:
            return [Step(name, function(name), args, dims) for name, args, dims in steps]

        return SymbolicPlan(
            self.name,
            self.bounds,
            [
                SymbolicBuffer(kind, shape, dtype, index=index, memory=memory, offset=offset)
                for kind, shape, dtype, index, memory, offset in self.buffers
            ],
            [Memory(*each) for each in self.memory],
            made(self.steps),
            packing_steps=made(self.packing_steps),
            packed_parts=[PackedPart(*part) for part in self.packed_parts],
            constants=[from_numpy(np.ascontiguousarray(constant)) for constant in self.constants],
            sizes=self.sizes,
            info=self.info,
            **self.counts,
        )
