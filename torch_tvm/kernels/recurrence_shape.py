"""What recurrent kernels compute, the form of their weights, and how a step is shared and tiled."""

from __future__ import annotations

from dataclasses import dataclass

from torch_tvm.kernels import extent, tiling, tir
from torch_tvm.kernels.extent import Size
from torch_tvm.kernels.target import CpuTarget

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
DTYPES = ("float32", "float64")

# Cycles that a vector of new states takes: five functions for an LSTM, three for a GRU.
_CELL_CYCLES = {"lstm": 200, "gru": 150, "rnn_tanh": 50, "rnn_relu": 10}
# What opening a parallel region in each step costs, of two threads that spin.
_REGION_CYCLES = 6_000
_CYCLES_PER_NANOSECOND = 3
# Threads never share all of a step evenly.
_SHARED = 1.1
# Vectors of all gates in a row of a tile. With two of each gate, tiles have fewer rows: a step of LSTM(256) with a batch of 8
# takes 31 us with tiles of 4 x 4 vectors and 42 us with 2 x 8, one row of LSTM(128) 2.1 us with 4 vectors and 2.2 us with 8.
_MOST_VECTORS = 4
# Bytes a cycle at which weights stream into registers, from L2 and from beyond (Emerald Rapids).
_L2_STREAM, _FAR_STREAM = 32, 10


@dataclass(frozen=True)
class Panels:
    """Weights in the form that a step reads: panels of `vectors` * `lanes` units, all gates of a unit in the same panel.

    Parameters
    ----------
    gates, units
        The matrix has gates * units rows.
    terms
        Its columns.
    biased
        Whether a panel has the bias as one more row.
    """

    gates: int
    units: int
    terms: int
    vectors: int
    lanes: int
    biased: bool = False
    dtype: str = "float32"

    @property
    def count(self) -> int:
        """Panels."""
        return -(-self.units // (self.vectors * self.lanes))

    @property
    def tile_vectors(self) -> int:
        """Vectors of a row of a panel."""
        return self.gates * self.vectors

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the packed weights: [panel, column of the matrix, vector of a gate]."""
        return (self.count, self.terms + self.biased, self.tile_vectors * self.lanes)


@dataclass(frozen=True)
class Recurrence:
    """What is computed: all steps of a layer in one direction.

    Parameters
    ----------
    cell
        "lstm", "gru", "rnn_tanh" or "rnn_relu".
    steps, batch
        Of the inputs, which are multiplied with their weights already.
    units
        Of each gate.
    outputs
        Size of the hidden state: `units`, or what an LSTM's is projected to.
    reverse
        Whether the last input is the first one.
    biased
        Whether the hidden part has a bias of its own (GRU).
    projected
        Whether the hidden state of an LSTM is projected.
    dtype, rounded
        Of all tensors, and what sums and states are rounded to.

    Examples
    --------
    >>> from torch_tvm.kernels import host_target, recurrence
    >>> workload = recurrence.Recurrence("lstm", steps=35, batch=4, units=20, outputs=20)
    >>> schedule = recurrence.default_schedule(workload, host_target(), threads=2)
    >>> kernel = recurrence.build(workload, schedule, host_target(), "lstm")
    >>> [parameter.name for parameter in kernel.params][:4]
    ['inputs', 'hidden', 'cell', 'weight']
    """

    cell: str
    steps: Size
    batch: Size
    units: int
    outputs: int
    reverse: bool = False
    biased: bool = False
    projected: bool = False
    dtype: str = "float32"
    rounded: str = "float32"

    def __post_init__(self) -> None:
        """Check the cell, its sizes and dtypes."""
        if self.cell not in GATES or self.dtype not in DTYPES:
            raise ValueError(f"no recurrence of {self.cell!r} in {self.dtype}")
        if not self.projected and self.units != self.outputs:
            raise ValueError(f"{self.units} units have {self.outputs} outputs without a projection")

    @property
    def gates(self) -> int:
        """Products that a new state takes."""
        return GATES[self.cell]

    @property
    def has_cell_state(self) -> bool:
        """Whether there is a state beside the hidden one."""
        return self.cell == "lstm"

    @property
    def flops(self) -> Size:
        """Operations of all products."""
        projection = self.outputs * self.units if self.projected else 0
        return 2 * self.steps * self.batch * (self.gates * self.units * self.outputs + projection)


@dataclass(frozen=True)
class Schedule:
    """How it is computed.

    Parameters
    ----------
    rows, vectors, lanes
        A register tile has `rows` of the batch, and `vectors` of `lanes` units of each gate.
    row_tasks
        Parts of the batch that threads share, each with all steps.
    parallel
        Whether threads share the panels in each step.
    """

    rows: int
    vectors: int
    lanes: int
    row_tasks: int = 1
    parallel: bool = False


def panels(workload: Recurrence, schedule: Schedule) -> Panels:
    """Return the form of the hidden state's weights."""
    w = workload
    return Panels(w.gates, w.units, w.outputs, schedule.vectors, schedule.lanes, w.biased, w.dtype)


def projection_panels(workload: Recurrence, schedule: Schedule) -> Panels:
    """Return the form of the projection's weights."""
    w = workload
    vectors = min(4, -(-w.outputs // schedule.lanes))
    return Panels(1, w.outputs, w.units, vectors, schedule.lanes, False, w.dtype)


def default_schedule(workload: Recurrence, target: CpuTarget, threads: int = 1) -> Schedule:
    """Choose tiles that fit the registers, and what threads share, by the estimated time of a step."""
    lanes, gates = target.lanes(workload.dtype), workload.gates
    most = min(_MOST_VECTORS // gates, -(-workload.units // lanes))
    registers = target.vector_registers
    batch = extent.hint(workload.batch)
    best: tuple[float, Schedule] | None = None
    for vectors in range(1, most + 1):
        width = gates * vectors
        fitting = max(1, min(14, (registers - 1 - width) // width))
        for row_tasks, parallel in _divisions(batch, threads):
            own = -(-batch // row_tasks)
            rows = -(-own // -(-own // fitting))
            schedule = Schedule(rows, vectors, lanes, row_tasks, parallel)
            cost = _step_cycles(workload, schedule, own, threads)
            if best is None or cost < best[0]:
                best = (cost, schedule)
    assert best is not None, "there is always a tile of one vector for each gate"
    return best[1]


def _divisions(batch: int, threads: int) -> list[tuple[int, bool]]:
    if threads == 1:
        return [(1, False)]
    return [(1, False), (1, True), *([(threads, False)] if batch >= threads else [])]


def _step_cycles(workload: Recurrence, schedule: Schedule, batch: int, threads: int) -> float:
    """Estimate the cycles of a step of the busiest thread, which has `batch` rows."""
    w, s, form = workload, schedule, panels(workload, schedule)
    size = tir.element_bytes(w.dtype)
    own_panels = -(-form.count // threads) if s.parallel else form.count
    panel_bytes = w.outputs * form.tile_vectors * s.lanes * size
    tiles = tir.split_evenly(batch, s.rows)
    products = w.outputs * sum(
        count * tiling.cycles_per_step(rows, form.tile_vectors, s.lanes * size, panel_bytes)
        for count, rows in tiles
    )
    # Every step reads all weights.
    weight_bytes = own_panels * panel_bytes
    streaming = weight_bytes / (_L2_STREAM if weight_bytes <= tiling.WARM_BYTES else _FAR_STREAM)
    cells = batch * s.vectors * _CELL_CYCLES[w.cell] * (1 if w.dtype == "float32" else 8)
    regions = (1 + w.projected) * _REGION_CYCLES if s.parallel else 0
    once = tir.PARALLEL_MIN_NANOSECONDS * _CYCLES_PER_NANOSECOND / max(1, extent.hint(w.steps))
    computing = max(own_panels * products, streaming) + own_panels * cells
    if s.parallel or s.row_tasks > 1:
        computing *= _SHARED
    return tiling.with_compile_time(computing, len(tiles)) + regions + (once if s.row_tasks > 1 else 0)


def state_shapes(workload: Recurrence) -> list[tuple[Size, ...]]:
    """Return shapes of the memory that steps leave one another, beside results."""
    w = workload
    shapes: list[tuple[Size, ...]] = [(2, w.batch, w.outputs)]
    return [*shapes, (w.batch, w.units)] if w.projected else shapes
