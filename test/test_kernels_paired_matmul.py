"""Two products of one left operand in one kernel, against float64: ragged sizes, views of the weights, both vector widths."""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch
from kernel_runs import get_target, taken, widened

from torch_tvm.kernels import paired_matmul
from torch_tvm.kernels.epilogue import PlacedExpression
from torch_tvm.kernels.expression import Expression, Instruction, Operand
from torch_tvm.kernels.matmul import Schedule
from torch_tvm.kernels.matrix_view import MatrixView
from torch_tvm.kernels.module import compile_kernels
from torch_tvm.kernels.paired_matmul import PairedMatmul
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.views import View

TARGETS = ["llvm -mcpu=skylake-avx512", "llvm -mcpu=haswell", "llvm -mcpu=x86-64"]


def _epilogue(shape: tuple[int, int], dtype: str, gate: str) -> Expression:
    """Gate of the first product with a bias, times the second, plus a residual."""
    whole, row = Operand(shape, dtype), Operand(shape[1:], dtype)
    instructions = (
        Instruction("add", (0, 2), dtype),
        Instruction(gate, (4,), dtype),
        Instruction("multiply", (5, 1), dtype),
        Instruction("add", (6, 3), dtype),
    )
    return Expression((whole, whole, row, whole), instructions, (7,), shape)


def _matrix(tensor: torch.Tensor, view: MatrixView, order: tuple[str, str]) -> torch.Tensor:
    picked = taken(tensor, view)
    names = list(view.extents)
    return picked.permute([names.index(axis) for axis in order]).double()


Case = tuple[PairedMatmul, Schedule, PlacedExpression, str]


def _case(rng: random.Random, target: CpuTarget) -> Case:
    m, n, k = (rng.choice(sizes) for sizes in ([1, 2, 7, 33], [1, 5, 16, 31, 48, 70, 129], [1, 9, 33, 50]))
    dtype, gate = (
        rng.choice(["float32", "float32", "float64"]),
        rng.choice(["relu", "silu", "gelu", "sigmoid"]),
    )

    def right() -> MatrixView:
        axes = rng.choice([("n", "k"), ("k", "n")])
        return widened(MatrixView(tuple({"n": n, "k": k}[axis] for axis in axes), axes), rng)

    left = widened(MatrixView((m, k), ("m", "k")), rng)
    workload = PairedMatmul(left, (right(), right()), dtype)
    schedule = paired_matmul.default_schedule(workload, target, rng.choice([1, 2]))
    schedule = dataclasses.replace(
        schedule, parallel=rng.random() < 0.5, row_blocks=rng.choice([1, 2]), rows_first=rng.random() < 0.5
    )
    place = View((m * (n + 3) + 5,), (n + 3, 1), 2) if rng.random() < 0.3 else None
    overwritten = 3 if place is None and rng.random() < 0.5 else 0
    epilogue = PlacedExpression(_epilogue((m, n), dtype, gate), (None, None, place), overwritten, results=2)
    return workload, schedule, epilogue, gate


@pytest.mark.parametrize("spec", TARGETS)
def test_random_pairs(spec: str) -> None:
    target, rng = get_target(spec), random.Random(7)
    cases = [_case(rng, target) for _ in range(14)]
    functions = {}
    for i, (workload, schedule, epilogue, _) in enumerate(cases):
        functions[f"pair_{i}"] = paired_matmul.build(workload, schedule, target, f"pair_{i}", epilogue)
        functions[f"pack_{i}"] = paired_matmul.build_pack(workload, schedule, f"pack_{i}")
    compiled = compile_kernels(functions, target)
    for i, (workload, schedule, epilogue, gate) in enumerate(cases):
        dtype = getattr(torch, workload.dtype)
        a, *weights = (torch.randn(view.shape, dtype=dtype) for view in (workload.a, *workload.b))
        packed = torch.full(paired_matmul.packed_shape(workload, schedule), torch.nan, dtype=dtype)
        compiled[f"pack_{i}"](*weights, packed)
        bias, residual = torch.randn(workload.shape[1], dtype=dtype), torch.randn(workload.shape, dtype=dtype)
        left = _matrix(a, workload.a, ("m", "k"))
        first, second = (
            left @ _matrix(weight, view, ("k", "n")) for weight, view in zip(weights, workload.b, strict=True)
        )
        function = getattr(torch, gate, None) or getattr(torch.nn.functional, gate)
        expected = function(first + bias) * second + residual
        place = epilogue.views[-1]
        memory = torch.full(place.buffer_shape if place else workload.shape, 7.0, dtype=dtype)
        if epilogue.overwritten:
            memory.copy_(residual)
            compiled[f"pair_{i}"](a, packed, bias, memory)
        else:
            compiled[f"pair_{i}"](a, packed, bias, residual, memory)
        result = memory if place is None else memory.as_strided(workload.shape, place.strides, place.offset)
        scale = max(1.0, float(expected.abs().max()))
        bound = 2e-5 if workload.dtype == "float32" else 1e-13
        assert float((result - expected).abs().max()) <= bound * scale, (workload, schedule, epilogue)
        if place is not None:
            result.fill_(7)
            assert (memory == 7).all(), (workload, schedule)


def test_a_tile_has_as_many_vectors_of_both() -> None:
    weight = MatrixView((2048, 768), ("n", "k"))
    for spec in TARGETS[:2]:
        target = get_target(spec)
        for m in (1, 16, 128):
            workload = PairedMatmul(MatrixView((m, 768), ("m", "k")), (weight, weight))
            schedule = paired_matmul.default_schedule(workload, target, 2)
            assert schedule.vectors % 2 == 0 and schedule.parallel
            assert schedule.rows * schedule.vectors + schedule.vectors + 1 <= target.vector_registers
            assert paired_matmul.packed_shape(workload, schedule)[0] * schedule.width >= 2 * 2048
            assert workload.flops == 2 * 2 * m * 2048 * 768


def test_weights_of_different_shapes() -> None:
    left = MatrixView((2, 8), ("m", "k"))
    views = MatrixView((5, 8), ("n", "k")), MatrixView((6, 8), ("n", "k"))
    with pytest.raises(ValueError, match="expected axes of extents"):
        PairedMatmul(left, views)
