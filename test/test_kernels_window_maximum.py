"""Maxima of windows against torch: targets, dtypes, lengths of runs, tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from kernel_runs import TARGETS, get_target, random_tensor, run, torch_dtype, unaligned
from torch.nn import functional as F

from torch_tvm.kernels import window_maximum
from torch_tvm.kernels.target import CpuTarget


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> CpuTarget:
    return get_target(request.param)


def tables(size: int, kernel: int, stride: int) -> np.ndarray:
    """Windows that lie inside."""
    first = np.arange((size - kernel) // stride + 1) * stride
    return first[:, None] + np.arange(kernel)[None]


def test_pooling(target: CpuTarget) -> None:
    """Rows shorter than a vector, of whole vectors, and with a rest; one task and several; NaN and infinities."""
    functions: dict[str, Any] = {}
    cases: dict[str, tuple[tuple[int, int], list[torch.Tensor]]] = {}
    widths = (3, 5, 19, 33, 66, 40, 11)
    for number, dtype in enumerate(window_maximum.DTYPES):
        width, kernel, stride = widths[number], 2 + number % 2, 1 + number % 3
        rows, columns = tables(7, kernel, stride), tables(width, kernel, stride)
        workload = window_maximum.workload((5, 7, width), [rows, columns], dtype)
        assert workload.run[0] == 0
        assert workload.run[1] in (0, len(columns))
        for tasks in (1, 3):
            name = f"pool_{dtype}_{tasks}"
            lanes = window_maximum.default_schedule(workload, target, 1).lanes
            functions[name] = window_maximum.build(workload, window_maximum.Schedule(lanes, tasks), name)
            x = unaligned(random_tensor(workload.shape, dtype, special=True))
            given = [torch.from_numpy(table.astype(np.int32)) for table in (rows, columns)]
            results = [torch.empty(workload.result, dtype=t) for t in (torch_dtype(dtype), torch.int64)]
            cases[name] = (kernel, stride), [x, *given, *results]
    run(functions, {name: tensors for name, (_, tensors) in cases.items()}, target)
    for (kernel, stride), (x, _, _, largest, numbers) in cases.values():
        expected = F.max_pool2d(x, kernel, stride, return_indices=True)
        torch.testing.assert_close((largest, numbers), expected, rtol=0, atol=0, equal_nan=True)


def test_runs() -> None:
    """Windows at even steps, clamped ones at both ends, and of varying sizes."""
    padded = np.clip(np.arange(-1, 8, 2)[:, None] + np.arange(3)[None], 0, 8)
    workload = window_maximum.workload((1, 9), [padded], "float32")
    assert (workload.run, workload.step) == ((1, 4), 2)
    adaptive = np.array([[0, 1, 2], [1, 2, 3], [3, 4, 4]])
    assert window_maximum.workload((1, 5), [adaptive], "int8").run == (0, 2)
    assert window_maximum.workload((1, 5), [adaptive[:1]], "int8").run == (0, 0)


@pytest.mark.parametrize(
    ("shape", "table", "dtype", "message"),
    [
        ((1, 4), np.array([[0, 4]]), "float32", "table"),
        ((1, 4), np.array([[-1, 0]]), "float32", "table"),
        ((1, 4), np.array([[0, 1]]), "bool", "bool"),
        ((0, 4), np.array([[0, 1]]), "float32", "zero"),
    ],
)
def test_bad_workloads(shape: tuple[int, ...], table: np.ndarray, dtype: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        window_maximum.workload(shape, [table], dtype)
