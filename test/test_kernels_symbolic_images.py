"""Pooling and convolutions of images of any number and size with one function."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kernel_runs import TARGETS, get_target, random_tensor
from symbolic_runs import Case, Shape, Values, at, check, grid

from torch_tvm.kernels import pooling
from torch_tvm.kernels.extent import Dim
from torch_tvm.kernels.nest import Schedule
from torch_tvm.kernels.pooling import Pool2d

B, H, W = (Dim(name, least, 40, hint=12).extent for name, least in (("b", 2), ("h", 5), ("w", 6)))
VALUES = [*grid(b=[2], h=[5, 6, 31], w=[6, 16, 33]), {"b": 3, "h": 14, "w": 40}]
F = torch.nn.functional

POOLS: dict[str, tuple[Pool2d, Any]] = {
    "stem": (
        Pool2d((B, H, W, 24), "max", (3, 3), (2, 2), (1, 1, 1, 1)),
        lambda x: F.max_pool2d(x, 3, 2, 1),
    ),
    "halved": (
        Pool2d((1, H, 2 * W, 20), "avg", (2, 2), (2, 2)),
        lambda x: F.avg_pool2d(x, 2),
    ),
    "padded": (
        Pool2d((2, H, W, 7), "avg", (3, 3), (1, 1), (1, 1, 1, 1), count_include_pad=False),
        lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    ),
    "whole": (
        Pool2d((B, H, W, 33), "avg", output_size=(1, 1)),
        lambda x: F.adaptive_avg_pool2d(x, 1),
    ),
    "adaptive": (
        Pool2d((2, H, W, 16), "max", output_size=(3, 4)),
        lambda x: F.adaptive_max_pool2d(x, (3, 4)),
    ),
    "batch": (
        Pool2d((B, 9, 11, 16), "max", (3, 3), (2, 2), (1, 1, 1, 1)),
        lambda x: F.max_pool2d(x, 3, 2, 1),
    ),
}


def planar(reference: Any, x: torch.Tensor) -> torch.Tensor:
    """An operator on NCHW, of an NHWC image."""
    return reference(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@pytest.mark.parametrize("target", TARGETS)
def test_pooling(target: str) -> None:
    cpu = get_target(target)
    cases = {}
    for number, (name, (workload, reference)) in enumerate(POOLS.items()):

        def tensors(
            values: Values, shape: Shape = workload.shape, reference: Any = reference
        ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
            x = random_tensor(at(shape, values), "float32")
            return [x], [planar(reference, x)]

        schedule = Schedule(cpu.lanes("float32"), [1, 8][number % 2])
        cases[name] = Case(pooling.build(workload, schedule, cpu, name), tensors)
    check(cases, VALUES, cpu)
