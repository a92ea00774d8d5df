"""Interleaving against torch: any number of operands, dtypes, slices, permutations, tails, both vector widths."""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch
from kernel_runs import TARGETS, assert_close, get_target, random_tensor, run, unaligned

from torch_tvm.kernels import interleave
from torch_tvm.kernels.interleave import Interleave
from torch_tvm.kernels.views import View, contiguous, contiguous_strides, permuted


def reference(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(parts, -1).flatten(-2)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16", "int16", "int64"])
def test_slices_of_one_tensor(target: str, dtype: str) -> None:
    random.seed(4)
    cpu = get_target(target)
    functions, arguments, expected = {}, {}, {}
    for number in range(14):
        shape = (random.choice([1, 2]), random.choice([1, 5, 14]), random.choice([1, 2, 7, 16, 29, 58, 100]))
        count = random.choice([2, 2, 3, 4, 8])
        width = count * shape[-1] + 3
        whole = random_tensor((*shape[:-1], width), dtype)
        strides = contiguous_strides(whole.shape)
        starts = [random.randrange(width - shape[-1] + 1) for _ in range(count)]
        views = tuple(View(tuple(whole.shape), strides, start) for start in starts)
        workload = Interleave(shape, views, dtype)
        schedule = interleave.default_schedule(workload, cpu, 2)
        schedule = dataclasses.replace(schedule, tasks=random.choice([1, 8]))
        name = f"k{number}"
        functions[name] = interleave.build(workload, schedule, cpu, name)
        result = unaligned(torch.zeros(workload.result_shape, dtype=whole.dtype))
        arguments[name] = [*[unaligned(whole)] * count, result]
        expected[name] = reference([whole[..., start : start + shape[-1]] for start in starts])
    run(functions, arguments, cpu)
    for name, tensors in arguments.items():
        assert_close(name, tensors[-1], expected[name], 0, 0)


@pytest.mark.parametrize("target", TARGETS)
def test_operands_that_lie_differently(target: str) -> None:
    """One as it is, one with channels outermost, one that is repeated along the rows."""
    cpu, shape = get_target(target), (3, 4, 21)
    plain, planar, row = torch.randn(shape), torch.randn(21, 3, 4), torch.randn(21)
    views = (contiguous(shape), permuted((21, 3, 4), (1, 2, 0)), View((21,), (0, 0, 1)))
    workload, result = Interleave(shape, views), torch.zeros(3, 4, 63)
    function = interleave.build(workload, interleave.default_schedule(workload, cpu, 2), cpu, "k")
    run({"k": function}, {"k": [plain, planar, row, result]}, cpu)
    assert_close("k", result, reference([plain, planar.permute(1, 2, 0), row.expand(shape)]), 0, 0)


def test_impossible_workloads() -> None:
    with pytest.raises(ValueError, match="2 to 8 operands, got 1"):
        Interleave((2, 3), (contiguous((2, 3)),))
    with pytest.raises(ValueError, match=r"elements, got shape \(0, 3\)"):
        Interleave((0, 3), (contiguous((0, 3)),) * 2)
    with pytest.raises(ValueError, match="input reads elements 0 to 5 of a tensor"):
        Interleave((2, 3), (View((5,), (3, 1)),) * 2)
