"""Runs a plan step by step in Python: the simplest reading of what a plan means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tvm_ffi

from torch_tvm.runtime import Buffer, Plan

_NUMPY = {"bool": np.bool_}


def _aligned(size: int) -> np.ndarray:
    """Memory of `size` bytes at an address that is a multiple of 64, full of rubbish."""
    memory = np.full(size + 64, 0xA5, np.uint8)
    begin = -memory.ctypes.data % 64
    return memory[begin : begin + size]


class Interpreter:
    """One plan with the weights of one binding."""

    def __init__(self, plan: Plan, weights: Sequence[np.ndarray]) -> None:
        self.plan = plan
        self.weights = weights
        self.packed = _aligned(plan.packed_bytes)
        arena = _aligned(plan.packing_arena_bytes)
        for step in plan.packing_steps:
            step.function(*[self._tensor(plan.buffers[i], arena, [], []) for i in step.args])

    def _tensor(
        self, buffer: Buffer, arena: np.ndarray, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]
    ) -> tvm_ffi.Tensor:
        dtype = np.dtype(_NUMPY.get(str(buffer.dtype), str(buffer.dtype)))
        shape = tuple(buffer.shape)
        size = int(np.prod(shape)) * dtype.itemsize
        if buffer.kind in ("arena", "packed"):
            block = arena if buffer.kind == "arena" else self.packed
            array = block[buffer.offset : buffer.offset + size].view(dtype).reshape(shape)
        elif buffer.kind == "constant":
            array = np.from_dlpack(self.plan.constants[buffer.index]).reshape(shape)
        else:
            source = {"input": inputs, "output": outputs, "weight": self.weights}[buffer.kind][buffer.index]
            array = source.reshape(-1).view(dtype)[: int(np.prod(shape))].reshape(shape)
        return tvm_ffi.from_dlpack(array)

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        """Fill `outputs`, arrays in their physical order."""
        arena = _aligned(self.plan.arena_bytes)
        for step in self.plan.steps:
            step.function(*[self._tensor(self.plan.buffers[i], arena, inputs, outputs) for i in step.args])
