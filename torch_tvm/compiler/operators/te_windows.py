"""Maxima of windows that tables of positions describe, as TE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx, topi


def window_maximum(_: dict[str, Any], data: te.Tensor, *tables: te.Tensor) -> list[te.Tensor]:
    """Largest elements of windows, NaN before all, and their numbers in a plane: the first one of equals, the last NaN.

    Element [i, k] of a table is the k-th position of window i along one dimension; the first dimension of the data has
    none. Results keep a dimension of 1 behind each dimension of windows.
    """
    shape = [size for table in tables for size in table.shape]
    axes = [2 * d + 2 for d in range(len(tables))]

    def positions(place: tuple[Any, ...]) -> list[Any]:
        return [table[place[2 * d], place[2 * d + 1]] for d, table in enumerate(tables)]

    def number(*place: Any) -> Any:
        total: Any = tirx.const(0, "int64")
        for position, size in zip(positions(place), data.shape[1:], strict=True):
            total = total * tirx.Cast("int64", size) + tirx.Cast("int64", position)
        return total

    windows = te.compute(
        [data.shape[0], *shape], lambda plane, *place: data(plane, *positions(place)), name="windows"
    )
    numbers = te.compute(shape, number, name="numbers")
    largest = topi.max(windows, axes, keepdims=True)

    def chosen(condition: Callable[..., Any], otherwise: int) -> te.Tensor:
        """Numbers of the elements for which a condition holds."""
        rest = tirx.const(otherwise, "int64")
        return te.compute(
            windows.shape,
            lambda plane, *place: tirx.Select(condition(plane, *place), numbers(*place), rest),
            name="chosen",
        )

    def is_largest(plane: Any, *place: Any) -> Any:
        window = [0 if d % 2 else at for d, at in enumerate(place)]
        return tirx.EQ(windows(plane, *place), largest(plane, *window))

    first = topi.min(chosen(is_largest, 2**63 - 1), axes, keepdims=True)
    if not str(data.dtype).startswith("float"):
        return [largest, first]
    last = topi.max(chosen(lambda *place: tirx.isnan(windows(*place)), -1), axes, keepdims=True)
    return [largest, topi.where(topi.isnan(largest), last, first)]
