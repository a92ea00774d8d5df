"""Max pooling with indices, written out as reductions of windows, as one operator.

Windows are elements taken by a table for each dimension. The largest element is their maximum; its number is the least of
the numbers of elements equal to it, or the greatest of those of NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from torch_tvm.kernels import window_maximum

from ..operators import te_operators
from ..rewrite import Rule, Site, ints, is_constant

_NAME = "torch_tvm.window_maximum"
_NO_NUMBER = 2**63 - 1


def _array(expr: relax.Expr) -> np.ndarray | None:
    return expr.value.numpy() if is_constant(expr) else None


def _windows(site: Site, expr: relax.Expr) -> tuple[relax.Expr, list[np.ndarray]] | None:
    """Return what a value holds windows of, and the tables: elements taken on axes 1, 2, ..., the last one first."""
    tables: list[np.ndarray] = []
    while (call := site.block.definition(expr, "torch_tvm.take")) is not None:
        table = _array(call.args[1])
        plain = int(call.attrs["batch_dims"] or 0) == 0 and call.attrs["axis"] is not None
        if not plain or int(call.attrs["axis"]) != len(tables) + 1 or table is None or table.ndim != 2:
            break
        tables.append(table)
        expr = call.args[0]
    return (expr, tables) if tables and len(site.shape(expr)) == len(tables) + 1 else None


def _over_places(call: relax.Call, dims: int) -> bool:
    """Say whether a reduction runs over the elements of windows."""
    axes = [2 * d + 2 for d in range(dims)]
    return call.attrs.axis is not None and ints(call.attrs.axis) == axes


def _maximum(site: Site) -> relax.Expr | None:
    """Largest elements of windows whose tables ascend, so that the least number is the first element's."""
    found = _windows(site, site.data)
    if found is None or not site.attrs.keepdims or not _over_places(site.call, len(found[1])):
        return None
    data, tables = found
    if any(np.any(np.diff(table, axis=1) < 0) for table in tables):
        return None
    try:
        window_maximum.workload(site.shape(data), tables, str(data.ty.dtype))
    except ValueError:
        return None
    operands = [data, *(relax.const(table.astype(np.int32), "int32") for table in tables)]
    return relax.TupleGetItem(site.emit(te_operators.call("window_maximum", operands)), 0)


class _Numbers:
    """The numbers of the elements of the windows whose maximum a value is."""

    def __init__(self, site: Site, largest: relax.Expr, pooled: relax.Call) -> None:
        self.site = site
        self.largest = largest
        self.data = pooled.args[0]
        self.tables = [table.value.numpy() for table in pooled.args[1:]]

    def _are_windows(self, expr: relax.Expr) -> bool:
        found = _windows(self.site, expr)
        return (
            found is not None
            and found[0].same_as(self.data)
            and len(found[1]) == len(self.tables)
            and all(np.array_equal(a, b) for a, b in zip(found[1], self.tables, strict=True))
        )

    def _are_numbers(self, expr: relax.Expr) -> bool:
        """Say whether a value is the sum of the tables, each times its dimension's stride, the last one innermost."""
        parts: list[Any] = []
        while (total := self.site.block.definition(expr, "add")) is not None:
            parts.append(total.args[1])
            expr = total.args[0]
        arrays = [_array(part) for part in (*parts, expr)]
        sizes, dims = self.site.shape(self.data)[1:], len(self.tables)
        if len(arrays) != dims:
            return False
        stride = 1
        for dim in reversed(range(dims)):
            shape = [1] * (2 * dims)
            shape[2 * dim : 2 * dim + 2] = self.tables[dim].shape
            array = arrays[dim]
            own = self.tables[dim].astype(np.int64) * stride
            if (
                array is None
                or list(array.shape) != shape
                or not np.array_equal(array.reshape(own.shape), own)
            ):
                return False
            stride *= sizes[dim]
        return True

    def _chosen(self, expr: relax.Expr, reduction: str, otherwise: int) -> relax.Call | None:
        """Return the condition of the elements whose least or greatest number a value is."""
        reduced = self.site.block.definition(expr, reduction)
        if reduced is None or not _over_places(reduced, len(self.tables)):
            return None
        chosen = self.site.block.definition(reduced.args[0], "where")
        if chosen is None or not self._are_numbers(chosen.args[1]):
            return None
        rest = _array(chosen.args[2])
        known = rest is not None and rest.size == 1 and int(rest.reshape(())) == otherwise
        return self.site.block.definition(chosen.args[0], "equal", "isnan") if known else None

    def are_first(self, expr: relax.Expr) -> bool:
        """Say whether a value is the least number of those that equal the largest element."""
        condition = self._chosen(expr, "min", _NO_NUMBER)
        return (
            condition is not None
            and len(condition.args) == 2
            and self._are_windows(condition.args[0])
            and condition.args[1].same_as(self.largest)
        )

    def are_last_nan(self, expr: relax.Expr) -> bool:
        """Say whether a value is the greatest number of a NaN."""
        condition = self._chosen(expr, "max", -1)
        return condition is not None and len(condition.args) == 1 and self._are_windows(condition.args[0])


def _number_of_float(site: Site) -> relax.Expr | None:
    """where(isnan(largest), last NaN, first of the largest)."""
    condition, last, first = site.args
    nan = site.block.definition(condition, "isnan")
    found = site.block.field(nan.args[0], _NAME) if nan is not None else None
    if nan is None or found is None or found[2] != 0:
        return None
    numbers = _Numbers(site, nan.args[0], found[1])
    known = numbers.are_first(first) and numbers.are_last_nan(last)
    return relax.TupleGetItem(found[0], 1) if known else None


def _number_of_integer(site: Site) -> relax.Expr | None:
    """The first of the largest."""
    chosen = site.block.definition(site.data, "where")
    equal = site.block.definition(chosen.args[0], "equal") if chosen is not None else None
    found = site.block.field(equal.args[1], _NAME) if equal is not None else None
    if equal is None or found is None or found[2] != 0 or not site.attrs.keepdims:
        return None
    if str(equal.args[1].ty.dtype).startswith("float"):
        return None
    value = site.emit(site.call)
    return (
        relax.TupleGetItem(found[0], 1) if _Numbers(site, equal.args[1], found[1]).are_first(value) else value
    )


WINDOWS: dict[str, Rule] = {"max": _maximum, "where": _number_of_float, "min": _number_of_integer}
