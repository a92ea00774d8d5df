"""Matrix products of symbolic rows, columns, terms and batches: packed, copied and read in place, with epilogues."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kernel_runs import TARGETS, get_target, random_tensor
from symbolic_runs import Case, Shape, Values, at, check, grid

from torch_tvm.kernels import matmul
from torch_tvm.kernels.epilogue import PlacedExpression
from torch_tvm.kernels.expression import Expression, Instruction, Operand
from torch_tvm.kernels.extent import Dim, UndecidableError
from torch_tvm.kernels.matmul import Matmul, Schedule
from torch_tvm.kernels.matrix_view import MatrixView, Part
from torch_tvm.kernels.module import compile_kernels
from torch_tvm.kernels.target import CpuTarget

S, B = (dim.extent for dim in (Dim("s", 2, 1100, hint=64), Dim("b", 2, 5, hint=4)))
VALUES = grid(b=[2, 5], s=[2, 7, 15, 16, 17, 33, 65])
LONG = [{"b": 2, "s": 513}, {"b": 2, "s": 1100}]
HINT = {"b": 4, "s": 64}


def static(view: MatrixView) -> MatrixView:
    axes = tuple(Part(a.axis, *at((a.first, a.size), HINT)) if isinstance(a, Part) else a for a in view.axes)
    return MatrixView(at(view.shape, HINT), axes)


def schedule_of(workload: Matmul, cpu: CpuTarget, threads: int) -> Schedule:
    """What the compiler chooses for the hint."""
    views = (static(view) for view in (workload.a, workload.b, workload.c))
    return matmul.default_schedule(Matmul(*views, workload.packed, workload.dtype), cpu, threads)


def bias_gelu(shape: Shape) -> Expression:
    return Expression(
        (Operand(shape, "float32"), Operand(shape[-1:], "float32")),
        (Instruction("add", (0, 1), "float32"), Instruction("gelu", (2,), "float32")),
        (3,),
        shape,
    )


def sum_and_relu(shape: Shape) -> Expression:
    """relu(product + residual): cheap, so that it is emitted for each vector."""
    return Expression(
        (Operand(shape, "float32"), Operand(shape, "float32")),
        (Instruction("add", (0, 1), "float32"), Instruction("relu", (2,), "float32")),
        (3,),
        shape,
    )


# Rows of many tokens, of one token each, and of all tokens of a batch.
LINEAR: dict[str, Shape] = {"tokens": (B, S), "batch": (B,), "images": (3, S)}


@pytest.mark.parametrize("target", TARGETS)
def test_packed_weights(target: str) -> None:
    cpu = get_target(target)
    n, k = 70, 40
    weight = random_tensor((n, k), "float32")
    cases: dict[str, Case] = {}
    for threads, (name, rows) in enumerate(LINEAR.items(), start=1):
        names = (*(f"b{i}" for i in range(len(rows) - 1)), "m")
        for epilogue, reference in (
            (bias_gelu, lambda x, bias: torch.nn.functional.gelu(x + bias)),
            (sum_and_relu, lambda x, residual: torch.relu(x + residual)),
        ):
            workload = Matmul(
                MatrixView((*rows, k), (*names, "k")),
                MatrixView((n, k), ("n", "k")),
                MatrixView((*rows, n), (*names, "n")),
                packed=True,
            )
            schedule = schedule_of(workload, cpu, threads)
            key = f"{name}_{epilogue.__name__}"
            pack = matmul.build_pack(workload, schedule, cpu, "pack")
            packed = torch.empty(matmul.packed_shape(workload, schedule))
            compile_kernels({"pack": pack}, cpu)["pack"](weight, packed)

            def tensors(
                values: Values,
                rows: Shape = rows,
                epilogue: Any = epilogue,
                reference: Any = reference,
                packed: torch.Tensor = packed,
            ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
                x = random_tensor((*at(rows, values), k), "float32")
                other = random_tensor(at(epilogue((*rows, n)).inputs[1].shape, values), "float32")
                return [x, packed, other], [reference(x @ weight.T, other)]

            built = matmul.build(workload, schedule, cpu, key, epilogue((*rows, n)))
            cases[key] = Case(built, tensors, rtol=1e-4, atol=1e-4)
    check(cases, VALUES, cpu)


def heads(rows: Any, columns: str, size: int) -> MatrixView:
    """Two heads that lie side by side in each token."""
    return MatrixView((B, S, 2, size), ("b0", rows, "b1", columns))


PRODUCTS: dict[str, tuple[Matmul, Any]] = {
    # Scores and values of attention that is not one kernel.
    "scores": (
        Matmul(heads("m", "k", 24), heads("n", "k", 24), MatrixView((B, 2, S, S), ("b0", "b1", "m", "n"))),
        lambda q, k: torch.einsum("bmhk,bnhk->bhmn", q, k),
    ),
    "values": (
        Matmul(MatrixView((B, 2, S, S), ("b0", "b1", "m", "k")), heads("k", "n", 24), heads("m", "n", 24)),
        lambda p, v: torch.einsum("bhmk,bkhn->bmhn", p, v),
    ),
    "outer": (
        Matmul(
            MatrixView((S, 3), ("m", "k")), MatrixView((3, S), ("k", "n")), MatrixView((S, S), ("m", "n"))
        ),
        lambda a, b: a @ b,
    ),
    "gram": (
        Matmul(
            MatrixView((S, 9), ("k", "m")), MatrixView((S, 20), ("k", "n")), MatrixView((9, 20), ("m", "n"))
        ),
        lambda a, b: a.T @ b,
    ),
    "transposed": (
        Matmul(
            MatrixView((S, 9), ("m", "k")), MatrixView((9, 20), ("k", "n")), MatrixView((20, S), ("n", "m"))
        ),
        lambda a, b: (a @ b).T,
    ),
    "part": (
        Matmul(
            MatrixView((B, 2 * S, 9), ("b0", Part("m", S, S), "k")),
            MatrixView((B, 9, S + 3), ("b0", "k", Part("n", 3, S))),
            MatrixView((B, S, S), ("b0", "m", "n")),
        ),
        lambda a, b: a[:, a.shape[1] // 2 :] @ b[:, :, 3:],
    ),
}


@pytest.mark.parametrize("target", TARGETS)
def test_run_time_operands(target: str) -> None:
    cpu = get_target(target)
    cases = {}
    for number, (name, (workload, reference)) in enumerate(PRODUCTS.items()):

        def tensors(
            values: Values, workload: Matmul = workload, reference: Any = reference
        ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
            a, b = (random_tensor(at(view.shape, values), "float32") for view in (workload.a, workload.b))
            return [a, b], [reference(a, b)]

        schedule = schedule_of(workload, cpu, threads=[1, 2, 3][number % 3])
        built = matmul.build(workload, schedule, cpu, name)
        cases[name] = Case(built, tensors, rtol=1e-4, atol=2e-3)
    check(cases, VALUES, cpu)
    check({"gram": cases["gram"]}, LONG, cpu)


def test_rows_that_are_computed_twice_overwrite_nothing() -> None:
    shape = (S, 20)
    epilogue = PlacedExpression(sum_and_relu(shape), (None, None))
    assert epilogue.overwritable == []
    with pytest.raises(UndecidableError, match="cannot take the memory of input 1"):
        PlacedExpression(sum_and_relu(shape), (None, None), overwritten=1)


def test_any_number_of_rows() -> None:
    """Fewer than a tile has, and every number left over; panels are prefetched by as many tiles as there are."""
    cpu, n, k = get_target(TARGETS[0]), 40, 70
    rows = Dim("s", 1, 64, hint=50).extent
    workload = Matmul(
        MatrixView((rows, k), ("m", "k")),
        MatrixView((n, k), ("n", "k")),
        MatrixView((rows, n), ("m", "n")),
        packed=True,
    )
    cases = {}
    weight = random_tensor((n, k), "float32")
    any_height = Schedule(1, 2, 16, "packed")
    packed = torch.empty(matmul.packed_shape(workload, any_height))
    pack = matmul.build_pack(workload, any_height, cpu, "pack")
    compile_kernels({"pack": pack}, cpu)["pack"](weight, packed)
    for height, blocks in ((1, 1), (3, 3), (6, 2), (13, 1)):
        schedule = Schedule(height, 2, 16, "packed", blocks, parallel=blocks > 1, prefetch=k)
        name = f"height_{height}"
        built = matmul.build(workload, schedule, cpu, name)

        def tensors(values: Values) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
            x = random_tensor((values["s"], k), "float32")
            return [x, packed], [x @ weight.T]

        cases[name] = Case(built, tensors, rtol=1e-4, atol=1e-4)
    check(cases, grid(s=range(1, 45)), cpu)
