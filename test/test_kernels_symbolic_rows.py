"""Softmax, normalisation and reductions of symbolic sizes: rows of any number and length with one function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from kernel_runs import TARGETS, get_target, random_tensor
from symbolic_runs import Case, Shape, Values, at, check, grid

from torch_tvm.kernels import normalization, reduction, softmax
from torch_tvm.kernels.extent import Dim
from torch_tvm.kernels.nest import Schedule
from torch_tvm.kernels.target import CpuTarget

S, B = (dim.extent for dim in (Dim("s", 2, 1023, hint=128), Dim("b", 2, 9, hint=4)))
VALUES = [*grid(b=[2], s=[2, 7, 15, 16, 17, 31, 64, 127]), *grid(b=[9], s=[65, 130]), {"b": 2, "s": 1023}]


def case(
    family: Any,
    workload: Any,
    name: str,
    cpu: CpuTarget,
    shape: Shape,
    reference: Callable[..., torch.Tensor],
    further: tuple[Shape, ...] = (),
    dtype: str = "float32",
    tasks: int = 8,
) -> Case:
    lanes = cpu.lanes("float32")
    built = family.build(workload, Schedule(lanes, tasks), cpu, name)

    def tensors(values: Values) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        inputs = [random_tensor(at(each, values), dtype) for each in (shape, *further)]
        return inputs, [reference(*inputs)]

    precision = {"float32": 2e-5, "float16": 2e-3, "bfloat16": 1e-2}[dtype]
    return Case(built, tensors, rtol=precision, atol=precision)


@pytest.mark.parametrize("target", TARGETS)
def test_softmax(target: str) -> None:
    cpu = get_target(target)
    shapes: dict[str, tuple[Shape, int]] = {
        "rows": ((B, S), -1),
        "planes": ((3, S, 40), 1),
        "columns": ((2, 5, S), 1),
        "static_rows": ((S, 10), 1),
    }
    cases = {
        f"{name}_{log}": case(
            softmax,
            softmax.of(shape, axis, log=log),
            f"{name}_{log}",
            cpu,
            shape,
            lambda x, axis=axis, log=log: (torch.log_softmax if log else torch.softmax)(x, axis),
            tasks=1 if log else 8,
        )
        for (name, (shape, axis)), log in zip(shapes.items(), [False, True, False, True], strict=True)
    }
    for dtype in ("float16", "bfloat16"):
        workload = softmax.of((3, S), 1, dtype)
        cases[dtype] = case(softmax, workload, dtype, cpu, (3, S), lambda x: x.softmax(1), dtype=dtype)
    check(cases, VALUES, cpu)


def test_normalization() -> None:
    cpu = get_target(TARGETS[0])
    cases = {
        "tokens": case(
            normalization,
            normalization.layer_norm((B, S, 48), 1),
            "tokens",
            cpu,
            (B, S, 48),
            lambda x, w, b: torch.layer_norm(x, (48,), w, b),
            ((48,), (48,)),
        ),
        "positions": case(
            normalization,
            normalization.layer_norm((B, S), 1, scale=False, shift=False),
            "positions",
            cpu,
            (B, S),
            lambda x: torch.layer_norm(x, (x.shape[-1],)),
        ),
        "images": case(
            normalization,
            normalization.layer_norm((3, S, 5), 2, scale=False, shift=False),
            "images",
            cpu,
            (3, S, 5),
            lambda x: torch.layer_norm(x, x.shape[1:]),
        ),
    }
    check(cases, VALUES, cpu)


REFERENCES: dict[str, Callable[..., torch.Tensor]] = {
    "sum": torch.sum,
    "mean": torch.mean,
    "variance": torch.var,
    "max": torch.amax,
    "argmin": torch.argmin,
    "prod": torch.prod,
}
REDUCED: list[tuple[Shape, tuple[int, ...], str]] = [
    ((B, S), (1,), "sum"),
    ((B, S, 20), (1,), "mean"),
    ((3, S), (1,), "variance"),
    ((S, 37), (1,), "max"),
    ((S, 5), (0,), "argmin"),
    ((B, S), (1,), "argmin"),
    ((2, S), (0,), "prod"),
    ((S, B, 7), (0, 1), "sum"),
    ((S, B, 7), (0, 2), "mean"),
]


@pytest.mark.parametrize("target", TARGETS)
def test_reductions(target: str) -> None:
    cpu = get_target(target)
    cases = {}
    for number, (shape, axes, operator) in enumerate(REDUCED):

        def reference(x: torch.Tensor, axes: Any = axes, operator: str = operator) -> torch.Tensor:
            which = axes[0] if operator in ("argmin", "prod") else axes
            return REFERENCES[operator](x, which)

        name = f"{operator}_{number}"
        workload = reduction.of(shape, operator, axes)
        tasks = [1, 8][number % 2]
        cases[name] = case(reduction, workload, name, cpu, shape, reference, tasks=tasks)
    check(cases, VALUES, cpu)
