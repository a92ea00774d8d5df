"""Sorting, searching and scattering kernels against torch."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import torch
from kernel_runs import TARGETS, get_target, random_tensor, run, torch_dtype, unaligned

from torch_tvm.kernels import scatter, search, sort
from torch_tvm.kernels.target import CpuTarget


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> CpuTarget:
    return get_target(request.param)


def test_sorted_rows(target: CpuTarget) -> None:
    """All dtypes; rows of one element, of powers of two and between; merging and selecting; several tasks."""
    shapes = [((3, 17, 1), 17), ((2, 40, 3), 5), ((1, 64, 2), 64), ((5, 1, 1), 1)]
    functions: dict[str, Any] = {}
    cases: dict[str, tuple[sort.Sort, list[torch.Tensor]]] = {}
    for number, dtype in enumerate(sort.DTYPES):
        shape, k = shapes[number % len(shapes)]
        for descending in (False, True):
            workload = sort.Sort(shape, k, descending, dtype, "int64" if descending else "int32")
            name = f"sort_{dtype}_{descending}"
            schedule = sort.Schedule(min(3, workload.rows), select=k < 10)
            functions[name] = sort.build(workload, schedule, name)
            x = unaligned(random_tensor(shape, dtype, special=True))
            results = [
                torch.empty(workload.result_shape, dtype=t)
                for t in (x.dtype, torch_dtype(workload.index_dtype))
            ]
            cases[name] = workload, [x, *results]
    run(functions, {name: tensors for name, (_, tensors) in cases.items()}, target)
    for name, (workload, (x, found, positions)) in cases.items():
        expected = torch.sort(x, dim=1, descending=workload.descending, stable=True)
        torch.testing.assert_close(found, expected.values[:, : workload.k], equal_nan=True, rtol=0, atol=0)
        assert torch.equal(positions.long(), expected.indices[:, : workload.k]), name


def test_sorting_extremes(target: CpuTarget) -> None:
    """The keys of the largest and smallest integers, of both zeros and of infinities."""
    special = [0.0, -0.0, float("inf"), -float("inf"), float("nan"), 1e-42, -1e-42, 3.4e38]
    xs = [
        torch.tensor([-(2**63), 2**63 - 1, 0, -1, 2**63 - 1, 5, -(2**63), 1]),
        torch.tensor(special),
        torch.tensor(special, dtype=torch.float64),
    ]
    functions, arguments = {}, {}
    for (i, x), select in itertools.product(enumerate(xs), (False, True)):
        name = f"extremes_{i}_{select}"
        workload = sort.Sort((1, 8, 1), 8, i == 0, str(x.dtype).removeprefix("torch."))
        functions[name] = sort.build(workload, sort.Schedule(1, select), name)
        arguments[name] = [
            x.reshape(1, 8, 1),
            torch.empty(1, 8, 1, dtype=x.dtype),
            torch.empty(1, 8, 1, dtype=torch.int64),
        ]
    run(functions, arguments, target)
    for name, (x, _, positions) in arguments.items():
        expected = torch.sort(x, dim=1, descending=x.dtype == torch.int64, stable=True).indices
        assert torch.equal(positions, expected), name


def test_schedules() -> None:
    assert sort.default_schedule(sort.Sort((1, 1000, 1), 5), 2).select
    assert not sort.default_schedule(sort.Sort((1, 1000, 1), 500), 2).select
    assert sort.default_schedule(sort.Sort((1, 8, 1), 8), 2).tasks == 1
    assert sort.default_schedule(sort.Sort((64, 1000, 1), 1000), 2).tasks > 1
    with pytest.raises(ValueError, match="k=9"):
        sort.Sort((1, 8, 1), 9)


def test_scatter_with_bad_indices(target: CpuTarget) -> None:
    """Updates outside of the tensor are left out, in one dimension and in several."""
    functions, arguments = {}, {}
    x = torch.arange(12.0).reshape(4, 3)
    index = torch.tensor([[0, 7, -1], [-9, 1, 2]])
    updates = torch.arange(100.0, 106).reshape(2, 3)
    elements = scatter.Scatter((4, 3), (2, 3), 0, "add")
    places = torch.tensor([[0, 2], [4, 0], [3, -1], [1, 3]])
    nested = scatter.Scatter((4, 3), (4, 2), None, "update")
    for schedule in (scatter.Schedule(1, 1, False), scatter.Schedule(2, 2, True)):
        for name, workload, arrays in (
            (f"elements{schedule.parts}", elements, [x, index, updates]),
            (f"nested{schedule.parts}", nested, [x, places, torch.tensor([5.0, 6, 7, 8])]),
        ):
            functions[name] = scatter.build(workload, schedule, name)
            arguments[name] = [*arrays, torch.empty(4, 3)]
    run(functions, arguments, target)
    added, put = x.clone(), x.clone()
    added[0, 0] += 100
    added[3, 2] += 102
    added[1, 1] += 104
    added[2, 2] += 105
    put[0, 2], put[3, 2] = 5, 7
    for name, (*_, result) in arguments.items():
        assert torch.equal(result, added if name.startswith("elements") else put), name


def test_random_scatters(target: CpuTarget) -> None:
    """All reductions and dtypes, along each dimension, against scatter_reduce; odd sizes and sizes of 1."""
    rng = random.Random(0)
    torch_names = {"add": "sum", "mul": "prod", "min": "amin", "max": "amax"}
    functions, arguments, expected = {}, {}, {}
    for number, (reduction, dtype) in enumerate(
        itertools.product(scatter.REDUCTIONS, ["float32", "float64", "int32", "int64", "uint8"])
    ):
        shape = tuple(rng.choice([1, 2, 5, 17]) for _ in range(rng.randint(1, 3)))
        axis = rng.randrange(len(shape))
        walked = shape[axis] if reduction == "update" else rng.choice([1, 3, 20])
        index_shape = tuple(walked if d == axis else rng.randint(1, n) for d, n in enumerate(shape))
        x, updates = unaligned(random_tensor(shape, dtype)), random_tensor(index_shape, dtype)
        # Which of several updates of one place stays is nobody's promise: those of "update" differ.
        index = torch.rand(index_shape).argsort(axis) if reduction == "update" else None
        index = torch.randint(shape[axis], index_shape) if index is None else index
        workload = scatter.Scatter(shape, index_shape, axis, reduction, dtype)
        name = f"scatter{number}"
        schedule = scatter.default_schedule(workload, threads=1 + number % 3)
        functions[name] = scatter.build(workload, schedule, name)
        arguments[name] = [x, index, updates, torch.empty_like(x)]
        expected[name] = (
            x.scatter(axis, index, updates)
            if reduction == "update"
            else x.scatter_reduce(axis, index, updates, torch_names[reduction])
        )
    run(functions, arguments, target)
    for name, result in expected.items():
        torch.testing.assert_close(arguments[name][-1], result)


def test_search(target: CpuTarget) -> None:
    functions, arguments, expected = {}, {}, {}
    for number, (dtype, size) in enumerate(itertools.product(["float32", "float16", "int64"], [1, 2, 7, 64])):
        right = number % 2 == 0
        sequences = random_tensor((3, size), dtype).sort(-1).values
        sought = torch.cat([random_tensor((3, 9), dtype), sequences], 1)
        workload = search.Search((3, size), tuple(sought.shape), right, dtype, "int64")
        name = f"search{number}"
        functions[name] = search.build(workload, search.Schedule(1 + number % 3), name)
        arguments[name] = [sequences, sought, torch.empty(sought.shape, dtype=torch.int64)]
        expected[name] = torch.searchsorted(sequences, sought, right=right)
    run(functions, arguments, target)
    for name, result in expected.items():
        assert torch.equal(arguments[name][-1], result), name
