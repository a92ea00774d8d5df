"""The table from Relay operators to Relax expressions, and what a lowering is given.

One lowering is one function `(Lowering) -> relax.Expr`; operators of one family stand in one
file beside this one. A lowering keeps Relay's meaning one to one; making it fast is the business
of the passes that follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax, tirx

LoweringFunction = Callable[["Lowering"], Any]

LOWERINGS: dict[str, LoweringFunction] = {}
# Of functions with these names in their attribute Composite, which the compiler takes whole.
COMPOSITES: dict[str, LoweringFunction] = {}


def lowers(*names: str) -> Callable[[LoweringFunction], LoweringFunction]:
    """Register a function as the lowering of the Relay operators `names`."""
    return _register(LOWERINGS, names)


def lowers_composite(*names: str) -> Callable[[LoweringFunction], LoweringFunction]:
    """Register a function as the lowering of calls of the composite functions `names`, whose attributes it sees."""
    return _register(COMPOSITES, names)


def _register(
    table: dict[str, LoweringFunction], names: Sequence[str]
) -> Callable[[LoweringFunction], LoweringFunction]:
    def register(function: LoweringFunction) -> LoweringFunction:
        for name in names:
            if name in table:
                raise ValueError(f"operator {name!r} has a lowering already")
            table[name] = function
        return function

    return register


class UnsupportedOperatorError(NotImplementedError):
    """A Relay operator, or one of its attribute values, that the compiler cannot lower."""


class BindingEmitter:
    """Emits into the dataflow block that a BlockBuilder has open."""

    def __init__(self, builder: relax.BlockBuilder) -> None:
        self._builder = builder

    def emit(self, value: relax.Expr) -> relax.Expr:
        """Bind one call to a fresh dataflow variable."""
        return self._builder.emit(value)


@dataclass
class Lowering:
    """One Relay call on its way to Relax.

    Attributes
    ----------
    name
        Operator name.
    args
        Operands as Relax expressions; a tuple operand is a `relax.Tuple`.
    attrs
        Attributes as plain Python values, complete.
    constants
        For each operand its value where it is a Relay constant, else None.
    emitter
        Where intermediate values go.

    """

    name: str
    args: list[relax.Expr]
    attrs: dict[str, Any]
    constants: Sequence[np.ndarray | None]
    emitter: BindingEmitter

    @property
    def data(self) -> relax.Expr:
        """The first operand."""
        return self.args[0]

    def emit(self, value: relax.Expr) -> relax.Expr:
        """Name an intermediate value, so that its type can be asked for."""
        return self.emitter.emit(value)

    def dims(self, expr: relax.Expr | None = None) -> list[Any]:
        """Extents of a tensor operand (default the first): ints, or expressions where unknown."""
        ty = (self.data if expr is None else expr).ty
        if ty.shape is None:
            raise self.unsupported(f"needs the rank of its operand, which is of type {ty}")
        return [int(d) if isinstance(d, tirx.IntImm) else d for d in ty.shape.values]

    def shape(self, expr: relax.Expr | None = None) -> list[int]:
        """Extents of a tensor operand (default the first) that must all be known."""
        dims = self.dims(expr)
        if not all(isinstance(d, int) for d in dims):
            raise self.unsupported(f"needs a static shape, got {dims}")
        return dims

    def rank(self, expr: relax.Expr | None = None) -> int:
        """Rank of a tensor operand (default the first)."""
        return int((self.data if expr is None else expr).ty.ndim)

    def dtype(self, expr: relax.Expr | None = None) -> str:
        """Name of the element type of a tensor operand (default the first)."""
        return str((self.data if expr is None else expr).ty.dtype)

    def axis(self, name: str = "axis", rank: int | None = None) -> int:
        """Integer attribute `name` as an axis counted from the front."""
        rank = self.rank() if rank is None else rank
        axis = int(self.attrs[name])
        if not -rank <= axis < rank:
            raise ValueError(f"{self.name}: {name}={axis} is out of range for rank {rank}")
        return axis + rank if axis < 0 else axis

    def scalar(self, index: int) -> Any:
        """Value of operand `index`, which must be a constant of one element."""
        value = self.constants[index]
        if value is None or value.size != 1:
            raise self.unsupported(f"needs a scalar constant as operand {index}")
        return value.reshape(()).item()

    def fields(self, index: int = 0) -> list[relax.Expr]:
        """Members of the tuple operand `index`."""
        operand = self.args[index]
        if isinstance(operand, relax.Tuple):
            return list(operand.fields)
        if isinstance(operand.ty, relax.TupleType):
            count = len(operand.ty.fields)
            return [self.emit(relax.TupleGetItem(operand, i)) for i in range(count)]
        raise TypeError(f"{self.name}: expected a tuple as operand {index}, got {operand.ty}")

    def unsupported(self, reason: str) -> UnsupportedOperatorError:
        """Make the error that says why this call cannot be lowered."""
        return UnsupportedOperatorError(f"{self.name} {reason}")
