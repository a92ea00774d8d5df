"""Launch lists of examples as one list for all sizes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

from torch_tvm.compiler.choices import Choices, DifferentProgramsError
from torch_tvm.compiler.fit import Fitter
from torch_tvm.compiler.generalise import generalise_launches, generalised, same_constants
from torch_tvm.compiler.launch import Argument, Kernel, Launch, Storage
from torch_tvm.kernels.extent import Dim

SIZES = (40, 37, 23, 61)
FITTER = Fitter([Dim("s", 2, 400)], [{"s": size} for size in SIZES])
S = Dim("s", 2, 400).extent


@dataclass(frozen=True)
class Workload:
    shape: tuple[int, ...]
    dtype: str = "float32"
    fused: bool = True


def build(workload: Workload, name: str) -> Any:
    pytest.fail("never built")


def other(workload: Workload, name: str) -> Any:
    pytest.fail("never built")


def launch(
    shape: tuple[int, ...], source: Storage, result: Storage, generator: Any = build, **fields: Any
) -> Launch:
    workload = Workload(shape)
    kernel = Kernel("kernel", workload, partial(generator, workload=workload))
    reads = Argument(source, shape, "float32")
    return Launch(kernel, [reads], [Argument(result, shape, "float32")], **fields)


def test_numbers_become_extents_and_all_else_is_equal() -> None:
    made = generalised([Workload((2, s, 3 * s)) for s in SIZES], FITTER)
    assert made == Workload((2, S, 3 * S))
    assert generalised([Workload((2, 3))] * 4, FITTER) == Workload((2, 3))
    for values in (
        [Workload((s,), "float32" if s > 30 else "float16") for s in SIZES],
        [Workload((s,), fused=s > 30) for s in SIZES],
        [(s,) * (1 + s % 2) for s in SIZES],
        [s if s > 30 else "many" for s in SIZES],
    ):
        with pytest.raises(DifferentProgramsError):
            generalised(values, FITTER)


def test_launches_share_kernels_and_memory_as_the_examples_do() -> None:
    programs = []
    for s in SIZES:
        x, y, z = Storage("input", 0), Storage("arena", bytes=4 * s), Storage("output", 0)
        programs.append([launch((s,), x, y), launch((s,), y, z)])
    first, second = generalise_launches(programs, FITTER)
    assert first.kernel == second.kernel
    assert first.kernel.build.keywords["workload"] == Workload((S,))
    assert first.outputs[0].storage is second.inputs[0].storage
    assert first.outputs[0].storage.bytes == 4 * S
    assert second.outputs[0].shape == (S,)


def test_what_depends_on_weights_and_sizes_is_computed_at_every_call() -> None:
    programs = []
    for s in SIZES:
        weight, fixed, table = Storage("weight", 0), Storage("arena", bytes=32), Storage("arena", bytes=4 * s)
        behind = Storage("arena", bytes=32)
        programs.append(
            [
                launch((8,), weight, fixed, packing=True),
                launch((s,), weight, table, packing=True),
                launch((8,), table, behind, packing=True),
            ]
        )
    assert [each.packing for each in generalise_launches(programs, FITTER)] == [True, False, False]


def test_other_kernels_or_other_memory_are_refused() -> None:
    def program(s: int, generator: Any, shared: bool) -> list[Launch]:
        x, y = Storage("input", 0), Storage("output", 0)
        first = Storage("arena", bytes=4 * s)
        second = first if shared else Storage("arena", bytes=4 * s)
        return [launch((s,), x, first), launch((s,), x, second, generator), launch((s,), first, y)]

    alike = [program(s, build, shared=False) for s in SIZES]
    assert len(generalise_launches(alike, FITTER)) == 3
    with pytest.raises(DifferentProgramsError, match="kernel: generators"):
        generalise_launches([program(s, build if s > 30 else other, shared=False) for s in SIZES], FITTER)
    with pytest.raises(DifferentProgramsError, match="share memory for some sizes only"):
        generalise_launches([program(s, build, shared=s < 30) for s in SIZES], FITTER)
    with pytest.raises(DifferentProgramsError, match="numbers of kernels"):
        generalise_launches([program(s, build, False)[: 2 + s % 2] for s in SIZES], FITTER)


def test_constants_are_the_same() -> None:
    assert same_constants([[np.arange(3)], [np.arange(3)]])[0].shape == (3,)
    for others in ([np.arange(4)], [np.arange(3.0)], [np.arange(3) + 1], []):
        with pytest.raises(DifferentProgramsError, match="constants"):
            same_constants([[np.arange(3)], others])


def test_choices_are_repeated() -> None:
    first = Choices()
    assert [first.make(max, 1, 2), first.make(min, 1, 2)] == [2, 1]
    again = Choices(first)
    assert [again.make(max, 5, 6), again.make(min, 5, 6)] == [2, 1]
    with pytest.raises(DifferentProgramsError):
        again.make(max, 1, 2)
    with pytest.raises(DifferentProgramsError):
        Choices(first).make(min, 1, 2)
