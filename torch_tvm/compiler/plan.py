"""Launches with memory and compiled code: the plan that the runtime executes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tvm_ffi

from torch_tvm import runtime
from torch_tvm.kernels.module import check_arguments, compile_kernels
from torch_tvm.kernels.target import CpuTarget

from .launch import Argument, Kernel, Launch
from .memory import plan_arena, plan_packed


def build_kernels(launches: Sequence[Launch], target: CpuTarget) -> dict[Kernel, tuple[str, Any]]:
    """Build and compile every kernel once; give each its unique name and its function."""
    names: dict[Kernel, str] = {}
    count: Counter[str] = Counter()
    for kernel in dict.fromkeys(launch.kernel for launch in launches):
        number = count[kernel.name]
        count[kernel.name] += 1
        names[kernel] = f"{kernel.name}_{number}"
    functions = {name: kernel.build(name) for kernel, name in names.items()}
    for launch in launches:
        arguments = [(a.shape, a.dtype) for a in (*launch.inputs, *launch.outputs)]
        check_arguments(functions[names[launch.kernel]], arguments)
    compiled = compile_kernels(functions, target, cpus=runtime.usable_cpus(), checked=False)
    return {kernel: (name, compiled[name]) for kernel, name in names.items()}


def _move_to_packed(packing: Sequence[Launch], steps: Sequence[Launch]) -> None:
    """What packing writes and calls read lies in the packed block."""
    read = {argument.storage for launch in steps for argument in launch.inputs}
    for launch in packing:
        for argument in launch.outputs:
            if argument.storage in read:
                argument.storage.kind = "packed"


class _Buffers:
    """Numbers the plan's buffers; equal ones are one."""

    def __init__(self) -> None:
        self.buffers: list[runtime.Buffer] = []
        self._known: dict[tuple[Any, ...], int] = {}

    def index(self, argument: Argument) -> int:
        storage = argument.storage
        offset = storage.offset + argument.offset
        key = (storage.kind, storage.index, offset, argument.shape, argument.dtype)
        if key not in self._known:
            self._known[key] = len(self.buffers)
            self.buffers.append(
                runtime.Buffer(
                    storage.kind,
                    argument.shape,
                    argument.dtype,
                    index=storage.index,
                    offset=offset,
                )
            )
        return self._known[key]


def _info(launches: Sequence[Launch], kernels: Mapping[Kernel, tuple[str, Any]]) -> list[dict[str, Any]]:
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
        for kernel, (name, _) in kernels.items()
    ]


def make_plan(
    name: str,
    launches: Sequence[Launch],
    constants: Sequence[np.ndarray],
    counts: tuple[int, int, int],
    target: CpuTarget,
) -> runtime.Plan:
    """Plan memory, compile the kernels and put everything together.

    Parameters
    ----------
    counts
        Numbers of inputs, weights and outputs.
    """
    packing = [launch for launch in launches if launch.packing]
    steps = [launch for launch in launches if not launch.packing]
    _move_to_packed(packing, steps)
    packed_bytes = plan_packed(packing)
    packing_arena_bytes, arena_bytes = plan_arena(packing), plan_arena(steps)
    kernels = build_kernels(launches, target)
    buffers = _Buffers()

    def step(launch: Launch) -> runtime.Step:
        kernel_name, function = kernels[launch.kernel]
        arguments = [buffers.index(a) for a in (*launch.inputs, *launch.outputs)]
        return runtime.Step(kernel_name, function, arguments)

    packing_steps, call_steps = [step(launch) for launch in packing], [step(launch) for launch in steps]
    return runtime.Plan(
        name,
        buffers.buffers,
        call_steps,
        packing_steps=packing_steps,
        constants=[tvm_ffi.from_dlpack(np.ascontiguousarray(c)) for c in constants],
        num_inputs=counts[0],
        num_weights=counts[1],
        num_outputs=counts[2],
        arena_bytes=arena_bytes,
        packed_bytes=packed_bytes,
        packing_arena_bytes=packing_arena_bytes,
        info={
            "kernels": _info(launches, kernels),
            "target": target.spec,
            "spreads_nonfinite": any(launch.kernel.spreads_nonfinite for launch in steps),
        },
    )
