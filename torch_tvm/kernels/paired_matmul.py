"""Two products of one left operand as one kernel: out = f(A B0, A B1), as in the gated layers of a transformer.

Panels hold columns of both right operands side by side, so that a register tile has the two results that f takes for
each element: A is read once, and neither product is ever stored.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import epilogue as epilogues
from torch_tvm.kernels import matmul, tir
from torch_tvm.kernels.epilogue import PlacedExpression
from torch_tvm.kernels.expression import Expression
from torch_tvm.kernels.matmul import Matmul, Product, Schedule
from torch_tvm.kernels.matrix_view import MatrixView
from torch_tvm.kernels.panel import PanelCopy
from torch_tvm.kernels.register_tile import RegisterTile
from torch_tvm.kernels.target import CpuTarget


@dataclass(frozen=True)
class PairedMatmul:
    """Two products of one left operand with weights of one shape, which are packed ahead.

    Parameters
    ----------
    a
        Where the left operand lies; axes "m" and "k".
    b
        Where the right operands lie; axes "k" and "n".
    dtype
        Of the operands, the sums and the result.

    Examples
    --------
    SwiGLU's first layer for 16 tokens, 768 to 2048 features:

    >>> from torch_tvm.kernels.matrix_view import MatrixView
    >>> from torch_tvm.kernels.paired_matmul import PairedMatmul
    >>> weight = MatrixView((2048, 768), ("n", "k"))
    >>> swiglu = PairedMatmul(MatrixView((16, 768), ("m", "k")), (weight, weight))
    >>> swiglu.shape
    (16, 2048)
    """

    a: MatrixView
    b: tuple[MatrixView, MatrixView]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Check that the views agree."""
        for view in self.b:
            extents = {"m": self.shape[0], "n": self.shape[1], "k": self.k}
            if any({**self.a.extents, **view.extents}[axis] != size for axis, size in extents.items()):
                raise ValueError(f"expected axes of extents {extents} in {self.a} and {view}")

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of each product and of the result."""
        return self.a.extents["m"], self.b[0].extents["n"]

    @property
    def k(self) -> int:
        """Terms of each sum."""
        return self.a.extents["k"]

    @property
    def flops(self) -> int:
        """Floating-point operations of both products."""
        return self.as_one(2 * self.shape[1]).flops

    def as_one(self, columns: int) -> Matmul:
        """Return the product with so many columns of both right operands side by side."""
        m, k = self.shape[0], self.k
        right, result = MatrixView((columns, k), ("n", "k")), MatrixView((m, columns), ("m", "n"))
        return Matmul(self.a, right, result, packed=True, dtype=self.dtype)


def default_schedule(workload: PairedMatmul, target: CpuTarget, threads: int = 1) -> Schedule:
    """Choose the schedule of the product with both right operands; each has half of a tile's vectors."""
    lanes = target.lanes(workload.dtype)
    columns = -(-workload.shape[1] // lanes) * lanes
    return matmul.default_schedule(workload.as_one(2 * columns), target, threads, multiple=2)


def _panels(workload: PairedMatmul, schedule: Schedule) -> int:
    return -(-workload.shape[1] // (schedule.width // 2))


def _as_one(workload: PairedMatmul, schedule: Schedule) -> Matmul:
    return workload.as_one(_panels(workload, schedule) * schedule.width)


def packed_shape(workload: PairedMatmul, schedule: Schedule) -> tuple[int, ...]:
    """Shape of the packed right operands: [panel, k, column of the first or of the second]."""
    return matmul.packed_shape(_as_one(workload, schedule), schedule)


def build_pack(workload: PairedMatmul, schedule: Schedule, name: str) -> PrimFunc:
    """Build the kernel (first right operand, second, packed)."""
    w, half = workload, schedule.width // 2

    def body(first: tir.Buffer, second: tir.Buffer, packed: tir.Buffer) -> None:
        def load(source: tir.Buffer, view: MatrixView, k: tir.Index, n: tir.Index, lanes: int) -> tir.Value:
            return tir.load(source, view.index({"k": k, "n": n}), lanes)

        with tir.loop(_panels(w, schedule), parallel=schedule.parallel) as panel:

            def store(begin: int, value: tir.Value, k: tir.Index, column: tir.Index, lanes: int) -> None:
                tir.store(packed, value, (panel, k, begin + column), lanes)

            for number, (source, view) in enumerate(zip((first, second), w.b, strict=True)):
                copy = PanelCopy(
                    rows=w.k,
                    columns=w.shape[1],
                    width=half,
                    inner=view.inner,
                    dtype=w.dtype,
                    lanes=schedule.lanes,
                    load=functools.partial(load, source, view),
                    store=functools.partial(store, number * half),
                )
                copy.emit(panel * half)

    parameters = [
        *(tir.Parameter(f"b{i}", view.shape, w.dtype) for i, view in enumerate(w.b)),
        tir.Parameter("packed", packed_shape(w, schedule), w.dtype),
    ]
    return tir.kernel(name, parameters, body)


def build(
    workload: PairedMatmul,
    schedule: Schedule,
    target: CpuTarget,
    name: str,
    epilogue: Expression | PlacedExpression,
) -> PrimFunc:
    """Build the kernel (a, packed, extra inputs of the epilogue ..., outputs ...).

    Parameters
    ----------
    epilogue
        Its shape is that of the result, its inputs 0 and 1 are the products.
    """
    w = workload
    expression = epilogues.resolve(epilogue, w.shape, w.dtype, results=2)
    operands = [
        tir.Parameter("a", w.a.shape, w.dtype),
        tir.Parameter("b", packed_shape(w, schedule), w.dtype),
    ]

    def body(a: tir.Buffer, b: tir.Buffer, *rest: tir.Buffer) -> None:
        finish = epilogues.bind(expression, rest, schedule.lanes)
        _Pair(_as_one(w, schedule), schedule, target, a, b, finish, w.shape[1]).emit()

    return epilogues.kernel(name, operands, expression, body)


@dataclass(frozen=True)
class _Pair(Product):
    """Emits the product of both right operands, and of each tile the `columns` of the result that it makes."""

    columns: int

    def _store(
        self,
        tile: RegisterTile,
        batch: Mapping[str, tir.Index],
        first_row: tir.Index,
        panel: tir.Index,
        columns: int | None,
    ) -> None:
        half = self.schedule.width // 2

        def store(count: int) -> None:
            tile.store(self.epilogue, lambda row: [first_row + row], panel * half, count)

        rest = self.columns % half
        if not rest or self.panels == 1:
            store(rest or half)
            return
        with T.If(panel < self.panels - 1):
            with T.Then():
                store(half)
            with T.Else():
                store(rest)
