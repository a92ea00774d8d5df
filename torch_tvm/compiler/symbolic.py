"""From the Relay functions of a few examples to one plan for all sizes within bounds."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tvm.tirx import PrimFunc

from torch_tvm import relay
from torch_tvm.kernels.extent import Dim, Extent, Quotient, Size, UndecidableError
from torch_tvm.kernels.module import compile_kernels, link_kernels
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.runtime import usable_cpus
from torch_tvm.symbolic_plan import ExtentCode, SymbolicPlan, SymbolicPlanDescription

from .choices import Choices
from .fit import Fitter, known_of_fewer
from .generalise import generalise_launches, same_constants
from .launch import Argument, Kernel, Launch
from .memory import lifetimes, plan_arena
from .packed_parts import plan_packed
from .pipeline import Program, Stages, lower_to_launches
from .plan import build_kernels, kernel_info, move_to_packed, name_kernels, scalars_of
from .relay_to_relax import Orders

_logger = logging.getLogger("torch_tvm")

# Sizes of one element have kernels of their own (broadcasts), and none is no work at all. A kernel may be one for sizes
# from its tiles on (16), a network of strides for images that leave its last layer more than a pixel (64).
_LEAST = (2, 16, 64)
# Larger sizes than those that were seen are likely to come, but not arbitrarily larger ones.
_GROWTH = 4


def encode(size: Size, numbers: Mapping[str, int]) -> ExtentCode:
    """Return a size as csrc/runtime/extent.h reads it, given the numbers of the dimensions by name.

    Examples
    --------
    >>> from torch_tvm.compiler.symbolic import encode
    >>> from torch_tvm.kernels.extent import Dim
    >>> encode(3 * Dim("s", 2, 9).extent + 1, {"s": 0})
    (2, 1, 0, 3, 1, 0)
    """
    terms = size.terms if isinstance(size, Extent) else (((), size),)
    code = [len(terms)]
    for atoms, factor in terms:
        code += [factor, len(atoms)]
        for atom in atoms:
            if isinstance(atom, Quotient):
                code += [-1, atom.divisor, *encode(atom.numerator, numbers)]
            else:
                code.append(numbers[atom.name])
    return tuple(code)


def bounds_to_try(
    seen: Sequence[tuple[int, int]], numbers: Collection[int] = ()
) -> Iterator[list[tuple[int, int]]]:
    """Yield bounds of the dimensions, wide ones first: not all kernels take sizes below a tile, or very large ones.

    Parameters
    ----------
    seen
        The smallest and largest value of each dimension so far.
    numbers
        Sizes that do not change; one of a table, such as that of positions, may be the largest value there can be.

    Examples
    --------
    >>> from torch_tvm.compiler.symbolic import bounds_to_try
    >>> list(bounds_to_try([(12, 200)], {512, 64}))
    [[(2, 800)], [(2, 512)], [(2, 400)], [(2, 200)], [(12, 800)], [(12, 512)], [(12, 400)], [(12, 200)]]
    """
    largest = [
        sorted(
            {most, 2 * most, _GROWTH * most, *(n for n in numbers if most < n < _GROWTH * most)}, reverse=True
        )
        for _, most in seen
    ]
    tried = set()
    for start in (*_LEAST, max(least for least, _ in seen)):
        for k in range(max(map(len, largest))):
            bounds = [
                (min(start, least), tops[min(k, len(tops) - 1)])
                for tops, (least, _) in zip(largest, seen, strict=True)
            ]
            if tuple(bounds) not in tried:
                yield bounds
            tried.add(tuple(bounds))


def lower_symbolic(
    functions: Sequence[relay.Function],
    num_inputs: int,
    input_orders: Orders,
    output_orders: Orders,
    options: Mapping[str, Any],
    examples: Sequence[Sequence[int]],
    seen: Sequence[Sequence[int]],
    sizes: Sequence[Sequence[int]],
) -> UncompiledSymbolicPlan:
    """Bring Relay functions that differ in sizes to one plan for all values of these sizes.

    Parameters
    ----------
    functions
        A Relay function for each example.
    num_inputs, input_orders, output_orders, options
        As of `torch_tvm.compiler.pipeline.lower_function`; the same for all examples.
    examples
        The values of the dimensions in each example, then in more cases of which only the sizes are given. What is
        chosen for speed is chosen for the first one.
    seen
        The smallest and largest value of each dimension so far.
    sizes
        The numbers in each Relay function and the sizes of all that it computes, in a fixed order.

    Raises
    ------
    DifferentProgramsError
        If the functions are compiled to different kernels.
    ValueError
        If no kernel can be made for sizes that are known when it runs.
    """
    options = {str(key): value for key, value in options.items()}
    examples, seen, sizes = (
        [tuple(int(number) for number in row) for row in rows] for rows in (examples, seen, sizes)
    )
    stages = Stages(bool(options.get("debug", False)))
    choices: Choices | None = None
    programs: list[Program] = []
    for function in functions:
        choices = Choices(choices)
        arguments = (function, num_inputs, input_orders, output_orders, options)
        programs.append(lower_to_launches(*arguments, stages, choices))
    name = str(options.get("name", "plan"))
    same = {numbers[0] for numbers in zip(*sizes, strict=True) if len(set(numbers)) == 1}
    trials = list(bounds_to_try([(least, most) for least, most in seen], same))
    for number, bounds in enumerate(trials):
        try:
            plan = stages.run("kernels", partial(_make_plan, name, programs, examples, sizes, bounds))
            break
        except UndecidableError:
            if number == len(trials) - 1:
                raise
    _logger.debug("lowered in %s", {name: f"{seconds:.3f} s" for name, seconds in stages.seconds.items()})
    return plan


def compile_symbolic(*arguments: Any) -> SymbolicPlan:
    """Compile Relay functions that differ in sizes in this process; the arguments are those of `lower_symbolic`."""
    return lower_symbolic(*arguments).compile()


@dataclass(frozen=True)
class UncompiledSymbolicPlan:
    """A symbolic plan whose kernels are functions of TVM's IR: as `torch_tvm.compiler.plan.UncompiledPlan`."""

    description: SymbolicPlanDescription
    functions: Mapping[str, PrimFunc]
    target: CpuTarget

    def compile(self) -> SymbolicPlan:
        """Generate code in this process."""
        compiled = compile_kernels(self.functions, self.target, cpus=usable_cpus(), checked=False)
        return self.description.plan(compiled.__getitem__)

    def link(self, library: Path, cpus: Collection[int]) -> SymbolicPlanDescription:
        """Generate code into a shared library, for another process."""
        link_kernels(self.functions, self.target, library, cpus=cpus)
        return self.description


def _make_plan(
    name: str,
    programs: Sequence[Program],
    examples: Sequence[Sequence[int]],
    sizes: Sequence[Sequence[int]],
    bounds: Sequence[tuple[int, int]],
) -> UncompiledSymbolicPlan:
    dims = [
        Dim(f"d{i}", least, most, min(max(hint, least), most))
        for i, ((least, most), hint) in enumerate(zip(bounds, examples[0], strict=True))
    ]
    names = [dim.name for dim in dims]
    values = [dict(zip(names, example, strict=True)) for example in examples]
    everywhere = Fitter(dims, values)
    relay_sizes = [everywhere.fit(numbers) for numbers in zip(*sizes, strict=True)]
    count = len(programs)
    fitter = Fitter(dims, values[:count], known_of_fewer(everywhere.known, count), values[count:])
    launches = generalise_launches([program.launches for program in programs], fitter)
    constants = same_constants([program.constants for program in programs])
    first = programs[0]
    packing = [launch for launch in launches if launch.packing]
    steps = [launch for launch in launches if not launch.packing]
    move_to_packed(packing, steps)
    kernels = name_kernels(launches)
    functions = build_kernels(launches, kernels)
    writer = _Writer(names, kernels, functions)
    spans = lifetimes(steps, "arena")
    counts = dict(zip(("num_inputs", "num_weights", "num_outputs"), first.counts, strict=True))
    counts["packing_arena_bytes"] = plan_arena(packing)
    packed_parts = plan_packed(packing, constants, first.target)
    packing_steps = [writer.step(launch) for launch in packing]
    writer.memory = {storage: number for number, storage in enumerate(spans)}
    description = SymbolicPlanDescription(
        name=name,
        bounds=bounds,
        packing_steps=packing_steps,
        packed_parts=packed_parts,
        steps=[writer.step(launch) for launch in steps],
        memory=[(writer.code(storage.bytes), *span) for storage, span in spans.items()],
        buffers=list(writer.buffers),
        constants=constants,
        counts=counts,
        sizes=[writer.code(size) for size in relay_sizes],
        info={
            "kernels": kernel_info([*packing, *steps], kernels),
            "target": first.target.spec,
            "spreads_nonfinite": any(launch.kernel.spreads_nonfinite for launch in steps),
        },
    )
    return UncompiledSymbolicPlan(description, functions, first.target)


class _Writer:
    """Writes launches down as plain values; equal buffers are one."""

    def __init__(
        self, dims: Sequence[str], kernels: Mapping[Kernel, str], functions: Mapping[str, PrimFunc]
    ) -> None:
        self.memory: Mapping[Any, int] = {}
        self.buffers: dict[tuple[Any, ...], int] = {}
        self._numbers = {name: number for number, name in enumerate(dims)}
        self._kernels = kernels
        self._functions = functions

    def code(self, size: Size) -> ExtentCode:
        return encode(size, self._numbers)

    def step(self, launch: Launch) -> tuple[str, list[int], list[int]]:
        name = self._kernels[launch.kernel]
        arguments = [self._buffer(argument) for argument in (*launch.inputs, *launch.outputs)]
        return name, arguments, [self._numbers[dim] for dim in scalars_of(self._functions[name])]

    def _buffer(self, argument: Argument) -> int:
        storage = argument.storage
        buffer = (
            storage.kind,
            tuple(self.code(size) for size in argument.shape),
            argument.dtype,
            storage.index,
            self.memory.get(storage, -1),
            self.code(storage.offset + argument.offset),
        )
        return self.buffers.setdefault(buffer, len(self.buffers))
