"""Kernels of recurrent layers against steps of torch: targets, cells, dtypes, tiles, threads, symbolic sizes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from kernel_runs import TARGETS, get_target, run, torch_dtype
from symbolic_runs import Case, Values, check
from torch import Tensor

from torch_tvm.kernels import extent, recurrence
from torch_tvm.kernels.extent import Dim
from torch_tvm.kernels.recurrence import Recurrence, Schedule
from torch_tvm.kernels.target import CpuTarget

TOLERANCES = {"float32": 2e-6, "float64": 1e-13, "float16": 2e-3, "bfloat16": 2e-2}


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> CpuTarget:
    return get_target(request.param)


def concrete(workload: Recurrence, values: Values) -> Recurrence:
    steps, batch = (extent.evaluate(size, values) for size in (workload.steps, workload.batch))
    return dataclasses.replace(workload, steps=steps, batch=batch)


def operands(w: Recurrence) -> dict[str, Tensor]:
    """Everything that a layer is given, by the names of the kernel's parameters; no packed weights yet."""

    def tensor(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64).to(torch_dtype(w.rounded)).to(torch_dtype(w.dtype))

    rows = w.gates * w.units
    given = {"inputs": tensor(w.steps, w.batch, rows), "hidden": tensor(w.batch, w.outputs)}
    if w.has_cell_state:
        given["cell"] = tensor(w.batch, w.units)
    given["weight"] = tensor(rows, w.outputs) / w.outputs**0.5
    if w.biased:
        given["bias"] = tensor(rows)
    if w.projected:
        given["projection"] = tensor(w.outputs, w.units)
    return given


def results(w: Recurrence, given: dict[str, Tensor]) -> list[Tensor]:
    """What the kernel writes: outputs, last states, and what steps leave one another."""
    rounded, dtype = torch_dtype(w.rounded), torch_dtype(w.dtype)

    def round_(x: Tensor) -> Tensor:
        return x.to(rounded).to(dtype)

    hidden = given["hidden"]
    cell = given.get("cell", hidden)
    outputs = torch.empty(w.steps, w.batch, w.outputs, dtype=dtype)
    states = [hidden, hidden]
    unprojected = hidden
    for step in range(w.steps):
        place = w.steps - 1 - step if w.reverse else step
        x = given["inputs"][place]
        products = hidden @ given["weight"].T
        if w.cell == "gru":
            products = round_(products + given.get("bias", torch.zeros((), dtype=dtype)))
            reset, update, fresh = x.chunk(3, 1)
            r, u, f = products.chunk(3, 1)
            new = torch.tanh(fresh + torch.sigmoid(reset + r) * f)
            hidden = round_((hidden - new) * torch.sigmoid(update + u) + new)
        elif w.cell == "lstm":
            admit, keep, fresh, show = round_(x + products).chunk(4, 1)
            kept = torch.sigmoid(keep) * cell
            cell = round_(kept + torch.sigmoid(admit) * torch.tanh(fresh))
            hidden = unprojected = round_(torch.sigmoid(show) * torch.tanh(cell))
            if w.projected:
                hidden = round_(hidden @ given["projection"].T)
        else:
            total = round_(x + products)
            hidden = round_(torch.tanh(total) if w.cell == "rnn_tanh" else torch.relu(total))
        outputs[place] = hidden
        states[(step + 1) % 2] = hidden
    last = [hidden, cell] if w.has_cell_state else [hidden]
    return [outputs, *last, torch.stack(states), *([unprojected] if w.projected else [])]


def packs(w: Recurrence, s: Schedule, given: dict[str, Tensor]) -> dict[str, tuple[Any, list[Tensor]]]:
    """Name, for each packed operand of the kernel, what packs it and the tensors of that."""
    forms = {"weight": recurrence.panels(w, s)}
    if w.projected:
        forms["projection"] = recurrence.projection_panels(w, s)
    return {
        name: (
            form,
            [given[each] for each in (name, "bias") if each in given and (each == name or form.biased)],
        )
        for name, form in forms.items()
    }


def check_all(cases: dict[str, tuple[Recurrence, Schedule]], target: CpuTarget) -> None:
    functions: dict[str, Any] = {}
    packing: dict[str, list[Tensor]] = {}
    running: dict[str, list[Tensor]] = {}
    expected: dict[str, list[Tensor]] = {}
    for name, (w, s) in cases.items():
        given = operands(w)
        expected[name] = results(w, given)
        functions[name] = recurrence.build(w, s, target, name)
        packed = {}
        for which, (form, tensors) in packs(w, s, given).items():
            pack = f"{name}_pack_{which}"
            functions[pack] = recurrence.build_pack(form, pack)
            packed[which] = torch.full(form.shape, 7, dtype=torch_dtype(w.dtype))
            packing[pack] = [*tensors, packed[which]]
        order = [n for n in given if n != "bias"]
        running[name] = [packed.get(n, given[n]) for n in order]
        running[name] += [torch.full_like(tensor, 7) for tensor in expected[name]]
    run(functions, {**packing, **running}, target)  # packs come first
    for name, (w, _) in cases.items():
        tolerance = TOLERANCES[w.rounded if w.rounded != "float32" else w.dtype]
        got = running[name][-len(expected[name]) :]
        for one, other in zip(got, expected[name], strict=True):
            torch.testing.assert_close(
                one, other, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: n + m
            )


def test_cells(target: CpuTarget) -> None:
    """Each cell with units that leave a rest, fill vectors, or are fewer than one; NaN stays in its row."""
    torch.manual_seed(0)
    cases = {}
    sizes = [(5, 3, 20), (4, 1, 32), (3, 2, 1), (2, 5, 7)]
    for number, cell in enumerate(recurrence.GATES):
        steps, batch, units = sizes[number]
        w = Recurrence(cell, steps, batch, units, units, reverse=number % 2 == 1, biased=cell == "gru")
        cases[cell] = w, recurrence.default_schedule(w, target, 1)
    w = Recurrence("lstm", 3, 2, 19, 5, projected=True)
    cases["projected"] = w, recurrence.default_schedule(w, target, 1)
    w = Recurrence("gru", 4, 2, 11, 11, biased=False, dtype="float64", rounded="float64")
    cases["float64"] = w, recurrence.default_schedule(w, target, 1)
    for dtype in ("float16", "bfloat16"):
        w = Recurrence("lstm", 3, 2, 18, 18, rounded=dtype)
        cases[dtype] = w, recurrence.default_schedule(w, target, 1)
    check_all(cases, target)


def test_tiles_and_threads() -> None:
    """Rows and panels that tiles and threads do not divide; sums that are added up in parts."""
    torch.manual_seed(0)
    target = get_target("llvm -mcpu=haswell")
    lanes = target.lanes("float32")
    lstm = Recurrence("lstm", 3, 7, 3 * lanes + 2, 3 * lanes + 2)
    rnn = Recurrence("rnn_tanh", 2, 5, 530, 530)
    projected = Recurrence("lstm", 3, 5, 2 * lanes + 1, lanes + 3, projected=True, reverse=True)
    cases = {
        "panels": (lstm, Schedule(3, 1, lanes, parallel=True)),
        "rows": (lstm, Schedule(3, 2, lanes, row_tasks=2)),
        "more_tasks_than_tiles": (lstm, Schedule(4, 1, lanes, row_tasks=3)),
        "parts": (rnn, Schedule(2, 4, lanes, parallel=True)),
        "projected_rows": (projected, Schedule(2, 1, lanes, row_tasks=2)),
        "projected_panels": (projected, Schedule(5, 2, lanes, parallel=True)),
    }
    check_all(cases, target)


def test_symbolic_sizes(target: CpuTarget) -> None:
    torch.manual_seed(0)
    steps, batch = Dim("t", 1, 100, hint=20).extent, Dim("b", 1, 9, hint=4).extent
    lanes = target.lanes("float32")
    cases: dict[str, Case] = {}
    for name, w, s in (
        ("steps", Recurrence("lstm", steps, 3, 18, 18, reverse=True), Schedule(3, 1, lanes)),
        ("both", Recurrence("gru", steps, batch, 9, 9, biased=True), Schedule(3, 1, lanes, row_tasks=2)),
        ("panels", Recurrence("lstm", 3, batch, 33, 5, projected=True), Schedule(2, 1, lanes, parallel=True)),
    ):

        def tensors(values: Values, w: Recurrence = w, s: Schedule = s) -> tuple[list[Tensor], list[Tensor]]:
            own = concrete(w, values)
            given = operands(own)
            expected = results(own, given)
            for which, (form, parts) in packs(own, s, given).items():
                given[which] = packed_by_torch(form, *parts)
            return [given[n] for n in given if n != "bias"], expected

        cases[name] = Case(recurrence.build(w, s, target, name), tensors, rtol=2e-6, atol=2e-6)
    check(cases, [{"t": t, "b": b} for t, b in ((1, 1), (2, 3), (7, 4), (20, 9))], target)


def packed_by_torch(form: recurrence.Panels, weight: Tensor, *bias: Tensor) -> Tensor:
    rows = torch.cat([weight, *(each[:, None] for each in bias)], 1).reshape(form.gates, form.units, -1)
    width = form.vectors * form.lanes
    padded = torch.zeros(form.gates, form.count * width, rows.shape[2])
    padded[:, : form.units] = rows
    panels = padded.reshape(form.gates, form.count, width, -1)
    return panels.permute(1, 3, 0, 2).reshape(form.shape).contiguous()


def test_schedules() -> None:
    """Few units run on one thread; large steps share panels or rows."""
    cpu = get_target("llvm -mcpu=haswell")
    small = recurrence.default_schedule(Recurrence("lstm", 35, 1, 20, 20), cpu, 2)
    assert (small.row_tasks, small.parallel) == (1, False)
    large = recurrence.default_schedule(Recurrence("lstm", 50, 8, 512, 512), cpu, 2)
    assert large.row_tasks == 2 or large.parallel
    assert recurrence.default_schedule(Recurrence("lstm", 50, 8, 512, 512), cpu, 1).row_tasks == 1


def test_bad_workloads() -> None:
    with pytest.raises(ValueError, match="float16"):
        Recurrence("lstm", 2, 1, 4, 4, dtype="float16")
    with pytest.raises(ValueError, match="4 units have 3 outputs"):
        Recurrence("lstm", 2, 1, 4, 3)
