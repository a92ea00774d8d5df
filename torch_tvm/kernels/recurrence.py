"""Recurrent layers in one direction: all steps of an LSTM, a GRU or a plain RNN in one kernel.

A step multiplies the last hidden state with weights that are packed ahead: a panel has the columns of all gates for the
same units, so that a register tile holds all that these units' new state takes. It is computed as soon as the tile is
summed up, and stored as a row of the result and as what the next step reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import instructions, tiling, tir
from torch_tvm.kernels.expression import Instruction
from torch_tvm.kernels.extent import Extent, Size
from torch_tvm.kernels.recurrence_shape import (
    DTYPES,
    GATES,
    Panels,
    Recurrence,
    Schedule,
    default_schedule,
    panels,
    projection_panels,
    state_shapes,
)
from torch_tvm.kernels.register_tile import RegisterTile, Summation, memory_of_parts
from torch_tvm.kernels.target import CpuTarget

__all__ = [
    "DTYPES",
    "GATES",
    "Panels",
    "Recurrence",
    "Schedule",
    "build",
    "build_pack",
    "default_schedule",
    "panels",
    "projection_panels",
    "state_shapes",
]

Index = Any
Value = Any


def build_pack(form: Panels, name: str) -> PrimFunc:
    """Build the kernel `name`(weight, bias if there is one, packed)."""
    rows = form.gates * form.units
    parameters = [tir.Parameter("weight", (rows, form.terms), form.dtype)]
    if form.biased:
        parameters.append(tir.Parameter("bias", (rows,), form.dtype))
    parameters.append(tir.Parameter("packed", form.shape, form.dtype))
    width = form.vectors * form.lanes

    def body(weight: tir.Buffer, *others: tir.Buffer) -> None:
        packed = others[-1]

        def row_of_panel(panel: Index, k: Index, source: Callable[[Index], Value]) -> None:
            """Fill row k of a panel with what the source has for rows of the matrix."""
            with tir.loop(form.gates) as gate, tir.loop(width) as column:
                unit = panel * width + column
                place = [panel, k, gate * width + column]
                tir.either(
                    form.units == form.count * width or T.LT(unit, form.units),
                    lambda: T.buffer_store(packed, source(gate * form.units + unit), place),
                    lambda: T.buffer_store(packed, tir.constant(0, form.dtype), place),
                )

        parallel = math.prod(form.shape) > tir.PARALLEL_MIN_NANOSECONDS
        with tir.loop(form.count, parallel=parallel) as panel:
            with tir.loop(form.terms) as k:
                row_of_panel(panel, k, lambda row: weight[row, k])
            if form.biased:
                row_of_panel(panel, form.terms, lambda row: others[0][row])

    return tir.kernel(name, parameters, body)


def build(workload: Recurrence, schedule: Schedule, target: CpuTarget, name: str) -> PrimFunc:
    """Build the kernel of all steps.

    Its parameters are inputs, hidden, [cell], weight, [projection], then results: outputs, last_hidden, [last_cell],
    and the memory of `state_shapes`.
    """
    w = workload
    hidden, cell = (w.batch, w.outputs), (w.batch, w.units)
    shapes: dict[str, tuple[Size, ...]] = {
        "inputs": (w.steps, w.batch, w.gates * w.units),
        "hidden": hidden,
        **({"cell": cell} if w.has_cell_state else {}),
        "weight": panels(w, schedule).shape,
        **({"projection": projection_panels(w, schedule).shape} if w.projected else {}),
        "outputs": (w.steps, w.batch, w.outputs),
        "last_hidden": hidden,
        **({"last_cell": cell} if w.has_cell_state else {}),
        **dict(zip(("states", "unprojected"), state_shapes(w), strict=False)),
    }
    parameters = [tir.Parameter(each, shape, w.dtype) for each, shape in shapes.items()]

    def body(*buffers: tir.Buffer) -> None:
        _Steps(w, schedule, target, dict(zip(shapes, buffers, strict=True))).emit()

    return tir.kernel(name, parameters, body)


class _Cells:
    """The arithmetic that makes new states of vectors of sums."""

    def __init__(self, workload: Recurrence, lanes: int) -> None:
        self._dtype, self._rounded, self._lanes = workload.dtype, workload.rounded, lanes

    def held(self, load: Value) -> Value:
        return instructions.unpack(load, self._dtype, self._lanes)

    def apply(self, op: str, *args: Value) -> Value:
        instruction = Instruction(op, tuple(range(len(args))), self._dtype)
        return instructions.apply(instruction, args, [self._dtype] * len(args), self._lanes)

    def round(self, value: Value) -> Value:
        """Round to the dtype of the network."""
        if self._rounded == self._dtype:
            return value
        return instructions.apply(
            Instruction("cast", (0,), self._rounded), (value,), [self._dtype], self._lanes
        )

    def rnn(self, function: str, given: Value, product: Value) -> Value:
        total = self.round(self.apply("add", given, product))
        return self.round(self.apply(function, total))

    def lstm(self, inputs: Sequence[Value], products: Sequence[Value], cell: Value) -> tuple[Value, Value]:
        """Return the new hidden state and cell state."""
        pairs = zip(inputs, products, strict=True)
        admit, keep, fresh, show = (self.round(self.apply("add", a, b)) for a, b in pairs)
        admitted = self.apply("multiply", self.apply("sigmoid", admit), self.apply("tanh", fresh))
        kept = self.apply("multiply", self.apply("sigmoid", keep), cell)
        new = self.round(self.apply("add", kept, admitted))
        shown = self.apply("multiply", self.apply("sigmoid", show), self.apply("tanh", new))
        return self.round(shown), new

    def gru(
        self, inputs: Sequence[Value], products: Sequence[Value], biases: Sequence[Value], state: Value
    ) -> Value:
        if biases:
            products = [self.apply("add", a, b) for a, b in zip(products, biases, strict=True)]
        products = [self.round(product) for product in products]
        reset = self.apply("sigmoid", self.apply("add", inputs[0], products[0]))
        update = self.apply("sigmoid", self.apply("add", inputs[1], products[1]))
        fresh = self.apply("tanh", self.apply("add", inputs[2], self.apply("multiply", reset, products[2])))
        change = self.apply("multiply", self.apply("subtract", state, fresh), update)
        return self.round(self.apply("add", change, fresh))


@dataclass(frozen=True)
class _Steps:
    """Emits the loops of all steps."""

    workload: Recurrence
    schedule: Schedule
    target: CpuTarget
    buffers: dict[str, tir.Buffer]

    def emit(self) -> None:
        w, s, b = self.workload, self.schedule, self.buffers
        size = w.batch * w.outputs
        self._copy(b["hidden"], 0, b["states"], 0, size)
        if w.has_cell_state:
            self._copy(b["cell"], 0, b["last_cell"], 0, w.batch * w.units)
        with (
            tir.loop(s.row_tasks, parallel=s.row_tasks > 1) as task,
            T.serial(0, *tir.expressions([w.steps])) as step,
        ):
            self._step(task, step)
        (last,) = tir.expressions([w.steps])
        self._copy(b["states"], last % 2 * size, b["last_hidden"], 0, size)

    def _copy(self, source: tir.Buffer, first: Index, target: tir.Buffer, start: Index, size: Size) -> None:
        """Copy `size` elements of contiguous tensors."""
        w = self.workload
        a, b = (tir.reshaped(each, (2 * size,), w.dtype) for each in (source, target))

        def run(at: Index, lanes: int) -> None:
            tir.store(b, tir.load(a, (first + at,), lanes), (start + at,), lanes)

        tir.for_run(size, self.schedule.lanes, run)

    def _step(self, task: Index, step: Index) -> None:
        w, s, b = self.workload, self.schedule, self.buffers
        parity = step % 2
        place = w.steps - 1 - step if w.reverse else step
        form = panels(w, s)
        with tir.loop(form.count, parallel=s.parallel) as panel:

            def load_hidden(row: Index, k: Index) -> Value:
                return tir.load(b["states"], (parity, row, k), 1)

            def new_states(first_row: Index, rows: int) -> None:
                sums = self._products(form, b["weight"], panel, rows, first_row, load_hidden)
                self._each_vector(
                    form,
                    panel,
                    rows,
                    lambda row, v, count: self._cell(
                        form, sums, (place, parity), (first_row, row), (panel, v), count
                    ),
                )

            self._row_tiles(task, new_states)
        if w.projected:
            self._project(task, place, parity)

    def _project(self, task: Index, place: Index, parity: Index) -> None:
        """Make hidden states of those that were stored unprojected."""
        w, s, b = self.workload, self.schedule, self.buffers
        form, lanes = projection_panels(w, s), s.lanes
        cells = _Cells(w, lanes)
        with tir.loop(form.count, parallel=s.parallel) as panel:

            def load_unprojected(row: Index, k: Index) -> Value:
                return tir.load(b["unprojected"], (row, k), 1)

            def tile(first_row: Index, rows: int) -> None:
                sums = self._products(form, b["projection"], panel, rows, first_row, load_unprojected)

                def store(row: Index, v: Index, count: int) -> None:
                    value = cells.round(cells.held(tir.load(sums, (row, v * lanes), lanes)))
                    first = (panel * form.vectors + v) * lanes
                    self._store_hidden(value, (place, parity), first_row + row, first, count)

                self._each_vector(form, panel, rows, store)

            self._row_tiles(task, tile)

    def _row_tiles(self, task: Index, emit: Callable[[Index, int], None]) -> None:
        """Emit `emit(first row, rows)` for the tiles of a task."""
        batch, rows, tasks = self.workload.batch, self.schedule.rows, self.schedule.row_tasks
        if isinstance(batch, Extent):
            sizes: list[tuple[Size, int]] = [(batch // rows, rows), (batch % rows, 1)] if rows > 1 else []
            sizes = sizes or [(batch, 1)]
        else:
            sizes = list(tir.split_evenly(batch, rows))
        tiles: Size = sum((count for count, _ in sizes), start=0)
        low, high = tir.expressions([task * tiles // tasks, (task + 1) * tiles // tasks])
        first_tile: Size = 0
        first_row: Size = 0
        for count, height in sizes:
            if tasks == 1:
                with tir.loop(count) as i:
                    emit(first_row + i * height, height)
            else:
                begin, end = (tir.clamp_index(edge - first_tile, 0, count) for edge in (low, high))
                with tir.loop_between(begin, end) as i:
                    emit(first_row + i * height, height)
            first_tile = first_tile + count
            first_row = first_row + count * height

    def _products(
        self,
        form: Panels,
        packed: tir.Buffer,
        panel: Index,
        rows: int,
        first_row: Index,
        load: Callable[[Index, Index], Value],
    ) -> tir.Buffer:
        """Multiply rows, of which `load(row, k)` gives the elements, with a panel; return the sums in memory."""
        width, lanes = form.tile_vectors, form.lanes
        chains = [
            RegisterTile(rows, width, form.dtype, lanes, fused=self.target.has_fma)
            for _ in range(tiling.chains(rows, width, form.terms))
        ]
        sums = Summation(chains, memory_of_parts(form.terms, (rows, width * lanes), form.dtype))
        sums.begin()

        def term(tile: RegisterTile, k: Index) -> None:
            vectors = [T.bind(tir.load(packed, (panel, k, v * lanes), lanes)) for v in range(width)]
            for row in range(rows):
                tile.multiply_add(row, load(first_row + row, k), vectors)

        sums.add(form.terms, term)
        spilled: tir.Buffer = T.alloc_buffer((rows, width * lanes), form.dtype, align=64)
        sums.total().spill(spilled, lambda row: [row], 0)
        return spilled

    def _each_vector(
        self, form: Panels, panel: Index, rows: int, emit: Callable[[Index, Index, int], None]
    ) -> None:
        """Emit `emit(row, v, count)` for the vectors of units in a panel; the last one may have fewer than all lanes."""
        whole, rest = divmod(form.units, form.lanes)
        with tir.loop(rows) as row, tir.loop(form.vectors) as v:
            if not rest and whole % form.vectors == 0:
                emit(row, v, form.lanes)
                return
            vector = panel * form.vectors + v

            def last() -> None:
                behind = T.GE(vector, whole + 1) if not isinstance(vector, int) else vector > whole
                if rest:
                    tir.either(behind, lambda: T.evaluate(0), lambda: emit(row, v, rest))

            inside = vector < whole
            if whole:
                tir.either(inside, lambda: emit(row, v, form.lanes), last)
            else:
                last()

    def _cell(
        self,
        form: Panels,
        sums: tir.Buffer,
        time: tuple[Index, Index],
        rows: tuple[Index, Index],
        vector: tuple[Index, Index],
        count: int,
    ) -> None:
        """Make a vector of new states of its sums."""
        w, b, lanes = self.workload, self.buffers, form.lanes
        (place, parity), (first_row, row), (panel, v) = time, rows, vector
        unit, batch_row = (panel * form.vectors + v) * lanes, first_row + row
        cells = _Cells(w, lanes)

        def read(name: str, *index: Index) -> Value:
            load = tir.load_partial(b[name], index, count=count, dtype=w.dtype, lanes=lanes)
            return cells.held(load)

        columns = [(gate * form.vectors + v) * lanes for gate in range(w.gates)]
        products = [cells.held(tir.load(sums, (row, column), lanes)) for column in columns]
        inputs = [read("inputs", place, batch_row, gate * w.units + unit) for gate in range(w.gates)]
        if w.cell == "lstm":
            hidden, cell = cells.lstm(inputs, products, read("last_cell", batch_row, unit))
            at = (batch_row, unit)
            tir.store_partial(b["last_cell"], cell, at, count=count, dtype=w.dtype, lanes=lanes)
            if w.projected:
                tir.store_partial(b["unprojected"], hidden, at, count=count, dtype=w.dtype, lanes=lanes)
                return
        elif w.cell == "gru":
            state = read("states", parity, batch_row, unit)
            row_of_bias = (panel, form.terms)
            biases = [
                cells.held(tir.load(b["weight"], (*row_of_bias, column), lanes))
                for column in columns
                if form.biased
            ]
            hidden = cells.gru(inputs, products, biases, state)
        else:
            hidden = cells.rnn(w.cell.removeprefix("rnn_"), inputs[0], products[0])
        self._store_hidden(hidden, time, batch_row, unit, count)

    def _store_hidden(
        self, value: Value, time: tuple[Index, Index], row: Index, column: Index, count: int
    ) -> None:
        """Store hidden states as a part of the result and for the next step."""
        w, b, lanes = self.workload, self.buffers, self.schedule.lanes
        place, parity = time
        for name, index in (("outputs", (place, row, column)), ("states", (1 - parity, row, column))):
            tir.store_partial(b[name], value, index, count=count, dtype=w.dtype, lanes=lanes)
