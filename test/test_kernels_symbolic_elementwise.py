"""Element-wise kernels whose sizes are known when they run: one function for many values."""

from __future__ import annotations

import pytest
import torch
from kernel_runs import TARGETS, get_target, random_tensor
from symbolic_runs import Case, Shape, Values, at, check, grid

from torch_tvm.kernels import elementwise, views
from torch_tvm.kernels.elementwise import Elementwise, Schedule
from torch_tvm.kernels.expression import Expression, Instruction, Operand, Scalar
from torch_tvm.kernels.extent import Dim
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.views import View

S, B = (dim.extent for dim in (Dim("s", 2, 65, hint=64), Dim("b", 2, 9, hint=4)))
VALUES = grid(b=[2, 9], s=[2, 7, 8, 15, 16, 17, 33, 64, 65])


def product_and_sum(shape: Shape, other: Shape) -> Expression:
    """x * y and x * y + 1."""
    steps = (
        Instruction("multiply", (0, 1), "float32"),
        Instruction("add", (2, Scalar(1.0, "float32")), "float32"),
    )
    return Expression((Operand(shape, "float32"), Operand(other, "float32")), steps, (2, 3), shape)


def function(workload: Elementwise, cpu: CpuTarget, tasks: int, name: str) -> object:
    lanes = elementwise.preferred_lanes(workload.expression, cpu)
    return elementwise.build(workload, Schedule(lanes, tasks), cpu, name)


# Shapes of x and of y, and the dimensions of x from the outermost to the innermost in memory.
BROADCASTS: dict[str, tuple[Shape, Shape, tuple[int, ...]]] = {
    "rows": ((B, S, 24), (24,), (0, 1, 2)),
    "columns": ((B, 5, S), (B, 1, S), (0, 1, 2)),
    "scores": ((B, 3, S, S), (B, 1, 1, S), (0, 1, 2, 3)),
    "heads": ((B, 3, S, 8), (3, S, 8), (0, 2, 1, 3)),
    "transposed": ((B, 40, S), (40, 1), (0, 2, 1)),
    "both_symbolic": ((S, B), (B,), (1, 0)),
    "scalar": ((S,), (), (0,)),
    "composed": ((B, 3 * S, 2 * S + 1), (3 * S, 1), (0, 1, 2)),
}


@pytest.mark.parametrize("target", TARGETS)
def test_broadcasts_and_permutations(target: str) -> None:
    cpu = get_target(target)
    cases = {}
    for number, (name, (shape, other, order)) in enumerate(BROADCASTS.items()):
        stored = tuple(shape[d] for d in order)
        inverse = [order.index(d) for d in range(len(order))]
        workload = Elementwise(product_and_sum(shape, other), (views.permuted(stored, inverse), None))

        def tensors(
            values: Values,
            stored: Shape = stored,
            other: Shape = other,
            inverse: list[int] = inverse,
        ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
            x, y = (random_tensor(at(each, values), "float32") for each in (stored, other))
            result = x.permute(inverse) * y
            return [x, y], [result, result + 1]

        cases[name] = Case(function(workload, cpu, [1, 8, 8][number % 3], name), tensors)
    check(cases, VALUES, cpu)


@pytest.mark.parametrize("target", TARGETS)
def test_slices_and_places(target: str) -> None:
    cpu = get_target(target)
    half = (B, S, 6)
    last = Elementwise(product_and_sum((B, 6), (6,)), (View(half, (6 * S, 1), 6 * S - 6), None))
    into = Elementwise(
        product_and_sum(half, (6,)),
        (),
        (View((B, 2 * S, 6), (12 * S, 6, 1), 6 * S), View((B, S, 7), (7 * S, 7, 1), 1)),
    )

    def last_token(values: Values) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        x, y = random_tensor(at(half, values), "float32"), random_tensor((6,), "float32")
        return [x, y], [x[:, -1] * y, x[:, -1] * y + 1]

    def placed(values: Values) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        x, y = random_tensor(at(half, values), "float32"), random_tensor((6,), "float32")
        rows = torch.full(at((B, 2 * S, 6), values), 7.0)
        rows[:, values["s"] :] = x * y
        columns = torch.full(at((B, S, 7), values), 7.0)
        columns[:, :, 1:] = x * y + 1
        return [x, y], [rows, columns]

    check(
        {
            "last": Case(function(last, cpu, 4, "last"), last_token),
            "into": Case(function(into, cpu, 4, "into"), placed),
        },
        VALUES,
        cpu,
    )
