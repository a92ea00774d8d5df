"""Launches with memory and compiled code: the plan that the runtime executes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tvm.tirx import PrimFunc

from torch_tvm import runtime
from torch_tvm.kernels.module import check_arguments, compile_kernels, link_kernels
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.tir import DIMS

from .launch import Argument, Kernel, Launch
from .memory import live_bytes, overwrite_dying_inputs, plan_arena
from .packed_parts import plan_packed


def name_kernels(launches: Sequence[Launch]) -> dict[Kernel, str]:
    """Give every kernel its unique name."""
    names: dict[Kernel, str] = {}
    count: Counter[str] = Counter()
    for kernel in dict.fromkeys(launch.kernel for launch in launches):
        names[kernel] = f"{kernel.name}_{count[kernel.name]}"
        count[kernel.name] += 1
    return names


def scalars_of(function: PrimFunc) -> list[str]:
    """Return the names of the dimensions that a kernel takes behind its tensors."""
    return [str(dim) for dim in function.attrs[DIMS]] if DIMS in function.attrs else []


def build_kernels(launches: Sequence[Launch], names: Mapping[Kernel, str]) -> dict[str, PrimFunc]:
    """Build every kernel once, and check that all its launches suit it."""
    functions = {name: kernel.build(name=name) for kernel, name in names.items()}
    for launch in launches:
        function = functions[names[launch.kernel]]
        arguments = [(a.shape, a.dtype) for a in (*launch.inputs, *launch.outputs)]
        check_arguments(function, arguments, scalars_of(function))
    return functions


def move_to_packed(packing: Sequence[Launch], steps: Sequence[Launch]) -> None:
    """What packing writes and calls read lies in the packed block."""
    read = {argument.storage for launch in steps for argument in launch.inputs}
    for launch in packing:
        for argument in launch.outputs:
            if argument.storage in read:
                argument.storage.kind = "packed"


class _Buffers:
    """Numbers the plan's buffers; equal ones are one."""

    def __init__(self) -> None:
        self.buffers: list[tuple[str, tuple[int, ...], str, int, int]] = []
        self._known: dict[tuple[Any, ...], int] = {}

    def index(self, argument: Argument) -> int:
        storage = argument.storage
        buffer = (
            storage.kind,
            argument.shape,
            argument.dtype,
            storage.index,
            storage.offset + argument.offset,
        )
        if buffer not in self._known:
            self._known[buffer] = len(self.buffers)
            self.buffers.append(buffer)
        return self._known[buffer]


def kernel_info(launches: Sequence[Launch], names: Mapping[Kernel, str]) -> list[dict[str, Any]]:
    """Return what to remember of each kernel."""
    runs = Counter(launch.kernel for launch in launches)
    packing = {launch.kernel: launch.packing for launch in launches}
    return [
        {
            "name": name,
            "workload": str(kernel.key),
            "flops": kernel.flops,
            "launches": runs[kernel],
            "packing": packing[kernel],
        }
        for kernel, name in names.items()
    ]


def _describe(
    name: str,
    packing: Sequence[Launch],
    steps: Sequence[Launch],
    names: Mapping[Kernel, str],
    constants: Sequence[np.ndarray],
    counts: tuple[int, int, int],
    target: CpuTarget,
) -> runtime.PlanDescription:
    """Place what the launches work on in memory, and write down what runs on it."""
    sizes = {
        "num_inputs": counts[0],
        "num_weights": counts[1],
        "num_outputs": counts[2],
        "packing_arena_bytes": plan_arena(packing),
        "arena_bytes": plan_arena(steps),
    }
    packed_parts = plan_packed(packing, constants, target)
    buffers = _Buffers()

    def step(launch: Launch) -> tuple[str, list[int]]:
        return names[launch.kernel], [buffers.index(a) for a in (*launch.inputs, *launch.outputs)]

    return runtime.PlanDescription(
        name=name,
        packing_steps=[step(launch) for launch in packing],
        packed_parts=packed_parts,
        steps=[step(launch) for launch in steps],
        buffers=buffers.buffers,
        constants=constants,
        sizes=sizes,
        info={
            "kernels": kernel_info([*packing, *steps], names),
            "target": target.spec,
            "live_bytes": live_bytes(steps),
            "spreads_nonfinite": any(launch.kernel.spreads_nonfinite for launch in steps),
        },
    )


@dataclass(frozen=True)
class UncompiledPlan:
    """A plan whose kernels are functions of TVM's IR.

    Attributes
    ----------
    description
        All but the kernels.
    functions
        The kernels by name.
    target
        What to generate code for.
    """

    description: runtime.PlanDescription
    functions: Mapping[str, PrimFunc]
    target: CpuTarget

    def compile(self) -> runtime.Plan:
        """Generate code in this process."""
        compiled = compile_kernels(self.functions, self.target, cpus=runtime.usable_cpus(), checked=False)
        return self.description.plan(compiled.__getitem__)

    def link(self, library: Path, cpus: Collection[int]) -> runtime.PlanDescription:
        """Generate code into a shared library, for another process."""
        link_kernels(self.functions, self.target, library, cpus=cpus)
        return self.description


def make_plan(
    name: str,
    launches: Sequence[Launch],
    constants: Sequence[np.ndarray],
    counts: tuple[int, int, int],
    target: CpuTarget,
) -> UncompiledPlan:
    """Plan memory, and build the kernels.

    Parameters
    ----------
    counts
        Numbers of inputs, weights and outputs.
    """
    packing = [launch for launch in launches if launch.packing]
    steps = [launch for launch in launches if not launch.packing]
    move_to_packed(packing, steps)
    overwrite_dying_inputs(steps)
    names = name_kernels(launches)
    description = _describe(name, packing, steps, names, constants, counts, target)
    return UncompiledPlan(description, build_kernels(launches, names), target)
