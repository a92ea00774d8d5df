"""Plans as Python sees them: the objects that the compiler makes and the C++ executor runs.

Where it stands in the data's way: torch_tvm.compiler makes a `Plan`; csrc/runtime checks it when it is
constructed and runs it at every call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import tvm_ffi
from tvm_ffi.dataclasses import c_class

from torch_tvm.arrays import from_numpy

if TYPE_CHECKING:
    import torch

#: The arguments of a `PackedPart`.
PartDescription: TypeAlias = tuple[str, Sequence[int], int, int, Sequence[int]]

#: Offsets into the arena and the packed block are multiples of this (bytes).
ALIGNMENT = 64


@c_class("torch_tvm.runtime.Buffer", init=False)
class Buffer(tvm_ffi.Object):
    """Where one kernel argument lies.

    Several buffers may share one place, to give it several shapes.

    Parameters
    ----------
    kind
        "input", "output", "weight", "packed", "arena" or "constant".
    shape
        Extents as the kernel sees them: those of a tensor in its physical order, outermost first.
    dtype
        DLPack dtype, for example "float32".
    index
        Which input, output, weight or constant; -1 for "packed" and "arena".
    offset
        Bytes into the packed block or the arena, a multiple of 64; 0 for the other kinds.

    Raises
    ------
    ValueError
        If the kind, the dtype, an extent, the index or the offset cannot be.

    Examples
    --------
    >>> from torch_tvm.runtime import Buffer
    >>> Buffer("arena", [4, 4], "float32", offset=64).offset
    64
    """

    kind: str
    index: int
    offset: int
    shape: Sequence[int]
    dtype: tvm_ffi.dtype

    if TYPE_CHECKING:

        def __ffi_init__(self, *fields: Any) -> None: ...

    def __init__(
        self, kind: str, shape: Sequence[int], dtype: str, *, index: int = -1, offset: int = 0
    ) -> None:
        self.__ffi_init__(kind, index, offset, list(shape), tvm_ffi.dtype(dtype))


@c_class("torch_tvm.runtime.Step", init=False)
class Step(tvm_ffi.Object):
    """One kernel call.

    Parameters
    ----------
    name
        What messages, profiles and timings call the kernel.
    function
        A packed function; it is given one DLTensor for each of `args`.
    args
        Indices into `Plan.buffers`: what the kernel reads, then what it writes.
    scalars
        Numbers that the function takes behind the tensors: the values of its dimensions.
    """

    name: str
    function: Callable[..., None]
    args: Sequence[int]
    scalars: Sequence[int]

    if TYPE_CHECKING:

        def __ffi_init__(self, *fields: Any) -> None: ...

    def __init__(
        self, name: str, function: Callable[..., None], args: Sequence[int], scalars: Sequence[int] = ()
    ) -> None:
        self.__ffi_init__(name, function, list(args), list(scalars))


@c_class("torch_tvm.runtime.PackedPart", init=False)
class PackedPart(tvm_ffi.Object):
    """A piece of the packed block, which all plans share that want the same of the same weights.

    Parameters
    ----------
    key
        What makes it: parts of equal keys, made of equal weights, have equal bytes.
    weights
        Numbers of the weights that it is made of, in an order that belongs to the key.
    offset, bytes
        Where it lies in the packed block; multiples of 64.
    steps
        Numbers of the packing steps that make it, rising.

    Raises
    ------
    ValueError
        If the offset or the size cannot be.

    Examples
    --------
    >>> from torch_tvm.runtime import PackedPart
    >>> PackedPart("doubled", [0], 0, 128, [0]).bytes
    128
    """

    key: str
    weights: Sequence[int]
    offset: int
    bytes: int
    steps: Sequence[int]

    if TYPE_CHECKING:

        def __ffi_init__(self, *fields: Any) -> None: ...

    def __init__(
        self, key: str, weights: Sequence[int], offset: int, bytes: int, steps: Sequence[int]
    ) -> None:
        self.__ffi_init__(key, list(weights), offset, bytes, list(steps))


@c_class("torch_tvm.runtime.Plan", init=False)
class Plan(tvm_ffi.Object):
    """What a signature was compiled to: kernels in order, and the buffers they read and write.

    Parameters
    ----------
    name
        Name of the group.
    buffers
        All buffers that steps name.
    steps
        Kernels of every call, in order.
    num_inputs, num_weights, num_outputs
        How many tensors a call brings and gives.
    packing_steps
        Kernels that run once for what is packed; they read weights and constants and write packed buffers.
    packed_parts
        The packed block, one part behind the other.
    constants
        Tensors that do not depend on the weights.
    arena_bytes, packing_arena_bytes
        Sizes of the call's arena and of the arena that packing steps see.
    info
        What the compiler wants to remember (figures, texts); the executor does not read it.

    Raises
    ------
    ValueError
        If a step names a buffer that does not exist or does not fit, or no step writes an output.

    Examples
    --------
    >>> from torch_tvm.runtime import Buffer, Plan, Step
    >>> a, y = Buffer("input", [4], "float32", index=0), Buffer("output", [4], "float32", index=0)
    >>> plan = Plan("copy", [a, y], [Step("copy", lambda a, y: None, [0, 1])], num_inputs=1, num_outputs=1)
    >>> plan.steps[0].name
    'copy'
    """

    name: str
    buffers: Sequence[Buffer]
    steps: Sequence[Step]
    packing_steps: Sequence[Step]
    packed_parts: Sequence[PackedPart]
    constants: Sequence[tvm_ffi.Tensor]
    num_inputs: int
    num_weights: int
    num_outputs: int
    arena_bytes: int
    packing_arena_bytes: int
    info: Mapping[str, Any]

    if TYPE_CHECKING:

        def __ffi_init__(self, *fields: Any) -> None: ...

    def __init__(
        self,
        name: str,
        buffers: Sequence[Buffer],
        steps: Sequence[Step],
        *,
        num_inputs: int,
        num_outputs: int,
        num_weights: int = 0,
        packing_steps: Sequence[Step] = (),
        packed_parts: Sequence[PackedPart] = (),
        constants: Sequence[Any] = (),
        arena_bytes: int = 0,
        packing_arena_bytes: int = 0,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        self.__ffi_init__(
            name,
            list(buffers),
            list(steps),
            list(packing_steps),
            list(packed_parts),
            list(constants),
            num_inputs,
            num_weights,
            num_outputs,
            arena_bytes,
            packing_arena_bytes,
            dict(info or {}),
        )

    @property
    def packed_bytes(self) -> int:
        """Size of the packed block."""
        return sum(part.bytes for part in self.packed_parts)


@dataclass(frozen=True)
class PlanDescription:
    """All of a plan but its code, as plain values: what one process can tell another.

    Attributes
    ----------
    name
        Name of the group.
    buffers
        The arguments of each `Buffer`: kind, shape, dtype, index, offset.
    steps, packing_steps
        The name of each kernel call's function, and its arguments' numbers in `buffers`.
    packed_parts
        The arguments of each `PackedPart`.
    constants
        Tensors that do not depend on the weights.
    sizes
        ``num_inputs``, ``num_weights``, ``num_outputs``, ``arena_bytes`` and ``packing_arena_bytes`` of the `Plan`.
    info
        That of the `Plan`.
    """

    name: str
    buffers: Sequence[tuple[str, tuple[int, ...], str, int, int]]
    steps: Sequence[tuple[str, Sequence[int]]]
    packing_steps: Sequence[tuple[str, Sequence[int]]]
    packed_parts: Sequence[PartDescription]
    constants: Sequence[np.ndarray]
    sizes: Mapping[str, int]
    info: Mapping[str, Any] = field(default_factory=dict)

    def plan(self, function: Callable[[str], Callable[..., None]]) -> Plan:
        """Make the plan, with the functions that `function` gives for their names."""

        def made(steps: Sequence[tuple[str, Sequence[int]]]) -> list[Step]:
            return [Step(name, function(name), args) for name, args in steps]

        return Plan(
            self.name,
            [
                Buffer(kind, shape, dtype, index=index, offset=offset)
                for kind, shape, dtype, index, offset in self.buffers
            ],
            made(self.steps),
            packing_steps=made(self.packing_steps),
            packed_parts=[PackedPart(*part) for part in self.packed_parts],
            constants=[from_numpy(np.ascontiguousarray(constant)) for constant in self.constants],
            info=self.info,
            **self.sizes,
        )


class Executor:
    """A plan ready to run on torch tensors.

    Thread-safe; the interpreter lock is released while kernels run.

    Parameters
    ----------
    plan
        The plan. Its input and output buffers have the physical order of these examples.
    inputs, weights, outputs
        Tensors (on any device, also "meta") with the dtype, sizes and strides that the plan was compiled
        for, and those of the results that it shall return.

    Raises
    ------
    ValueError
        If a buffer of the plan has another number of bytes than its tensor.
    """

    def __init__(
        self,
        plan: Plan,
        inputs: Sequence[torch.Tensor],
        outputs: Sequence[torch.Tensor],
        weights: Sequence[torch.Tensor] = (),
    ) -> None:
        import torch  # the process that compiles has none

        self._core = torch.classes.torch_tvm.Executor(
            plan.__chandle__(), list(inputs), list(weights), list(outputs)
        )

    def __call__(
        self, *inputs: torch.Tensor, weights: Sequence[torch.Tensor] = (), timed: bool = False
    ) -> list[torch.Tensor]:
        """Run the plan.

        Parameters
        ----------
        inputs
            Tensors of the sizes and dtypes that the plan was compiled for; copied where strides differ.
        weights
            Packed at the first call and when they changed.
        timed
            Time every kernel, for ``stats()["kernels"]``, and show it to torch.profiler.
        """
        return self._core.run(list(inputs), list(weights), timed)


def arena_bytes() -> int:
    """Bytes that are kept for the intermediates of coming calls."""
    return tvm_ffi.get_global_func("torch_tvm.runtime.arena_bytes")()


def release_memory() -> None:
    """Give back idle arenas and what was packed from weights that are gone."""
    tvm_ffi.get_global_func("torch_tvm.runtime.release_memory")()


def usable_cpus() -> set[int]:
    """Return the numbers of the CPUs that this process may use.

    Those of the thread that calls may be fewer: GOMP_CPU_AFFINITY and OMP_PROC_BIND bind the main thread to one.

    Returns
    -------
    set of int
        At least one number.

    Examples
    --------
    >>> import os
    >>> from torch_tvm.runtime import usable_cpus
    >>> usable_cpus() >= os.sched_getaffinity(0)
    True
    """
    return {*os.sched_getaffinity(0), *tvm_ffi.get_global_func("torch_tvm.runtime.thread_cpus")()}
