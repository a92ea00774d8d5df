"""Normalisations and rotary embeddings as models write them out, in the form that takes one pass."""

from __future__ import annotations

import numpy as np
from tvm import relax
from tvm.relax import op

from ..operators import te_operators
from ..rewrite import Rule, Site, ints, is_constant, size_of

# -- Normalisation ---------------------------------------------------------------------------------


def _number(expr: relax.Expr) -> float | None:
    """Value of a floating-point constant of one element."""
    if not is_constant(expr):
        return None
    value = expr.value.numpy()
    return float(value.reshape(())) if value.size == 1 and value.dtype.kind == "f" else None


def _axes(site: Site, mean: relax.Call) -> list[int]:
    rank = len(site.shape(mean.args[0]))
    axes = mean.attrs.axis
    return sorted(axis % rank for axis in ints(axes)) if axes is not None else list(range(rank))


def _is_square(site: Site, expr: relax.Expr, x: relax.Expr) -> bool:
    call = site.block.definition(expr, "multiply", "square")
    return call is not None and all(arg.same_as(x) for arg in call.args)


def _mean_of(site: Site, expr: relax.Expr) -> tuple[relax.Expr, list[int]] | None:
    """Return what a value is the mean of, and the axes; a variance is a sum that is divided."""
    mean = site.block.definition(expr, "mean")
    if mean is None:
        divided = site.block.definition(expr, "divide")
        mean = site.block.definition(divided.args[0], "sum") if divided is not None else None
        if divided is None or mean is None:
            return None
        shape = site.shape(mean.args[0])
        if _number(divided.args[1]) != size_of(tuple(shape[axis] for axis in _axes(site, mean))):
            return None
    return (mean.args[0], _axes(site, mean)) if mean.attrs.keepdims else None


def _mean_square(site: Site, expr: relax.Expr, x: relax.Expr) -> tuple[list[int], float] | None:
    """Return axes and epsilon if a value is mean(x * x) + epsilon."""
    total = site.block.definition(expr, "add")
    if total is None:
        return None
    for value, epsilon in (total.args, list(total.args)[::-1]):
        mean, number = _mean_of(site, value), _number(epsilon)
        if mean is not None and number is not None and _is_square(site, mean[0], x):
            return mean[1], number
    return None


def _centred(site: Site, x: relax.Expr, axes: list[int]) -> relax.Expr | None:
    """Return y if x is y - mean(y) over the same axes."""
    difference = site.block.definition(x, "subtract")
    if difference is None:
        return None
    y, mean = difference.args[0], _mean_of(site, difference.args[1])
    return y if mean is not None and mean[0].same_as(y) and mean[1] == axes else None


def _normalized(site: Site, x: relax.Expr, divisor: relax.Expr) -> relax.Expr | None:
    """Return x / sqrt(`divisor`) in one pass, if the divisor is the mean of the squares of x."""
    found = _mean_square(site, divisor, x)
    if found is None or site.shape(x) != site.result_shape():
        return None
    axes, epsilon = found
    centred = _centred(site, x, axes)
    attrs = {"axes": axes, "epsilon": epsilon, "center": centred is not None}
    return te_operators.call("normalize", [x if centred is None else centred], attrs)


def _inverse_root(site: Site, factor: relax.Expr) -> relax.Expr | None:
    """Return y if a value is 1 / sqrt(y); PyTorch computes 1.0 / x as reciprocal(x) * 1.0."""
    product = site.block.definition(factor, "multiply")
    if product is not None and _number(product.args[1]) == 1.0:
        factor = product.args[0]
    root = site.block.definition(factor, "rsqrt")
    inverse = site.block.definition(factor, "divide")
    if root is None and inverse is not None and _number(inverse.args[0]) == 1.0:
        root = site.block.definition(inverse.args[1], "sqrt")
    return None if root is None else root.args[0]


def _multiply(site: Site) -> relax.Expr | None:
    """x * rsqrt(mean(x^2) + epsilon), or with the root's inverse written as a division."""
    for x, factor in (site.args, site.args[::-1]):
        square = _inverse_root(site, factor) if site.block.used_once(factor) else None
        found = None if square is None else _normalized(site, x, square)
        if found is not None:
            return found
    return None


def _divide(site: Site) -> relax.Expr | None:
    """x / sqrt(mean(x^2) + epsilon)."""
    x, divisor = site.args
    root = site.block.definition(divisor, "sqrt") if site.block.used_once(divisor) else None
    return None if root is None else _normalized(site, x, root.args[0])


# -- Rotary embedding ------------------------------------------------------------------------------


def _half(site: Site, expr: relax.Expr) -> tuple[relax.Expr, int] | None:
    """Return what a value is half of along the last axis, and which half."""
    call = site.block.definition(expr, "strided_slice")
    if call is None:
        return None
    source, axes, begins, _, *strides = call.args
    shape, size = site.shape(source), site.shape(expr)[-1]
    if any(int(step) != 1 for tuple_ in strides for step in tuple_.fields) or len(axes.fields) != 1:
        return None
    if int(axes.fields[0]) % len(shape) != len(shape) - 1 or shape[-1] != 2 * size:
        return None
    begin = int(begins.fields[0])
    first = begin + shape[-1] if begin < 0 else begin
    return (source, first // size) if first in (0, size) else None


def _rotate_half(site: Site) -> relax.Expr | None:
    """concat(-x2, x1) of the halves x1, x2 of the last axis as (x2, x1) * (-1, 1), where (x2, x1) is a view of x.

    A concatenation is stored before anything can read it; a view with a negative stride is not.
    """
    rank, axis = len(site.result_shape()), site.attrs.axis
    fields = site.data.fields
    if axis is None or int(axis) % rank != rank - 1 or len(fields) != 2:
        return None
    minus = site.block.definition(fields[0], "negative")
    upper = _half(site, minus.args[0]) if minus is not None else None
    lower = _half(site, fields[1])
    if upper is None or lower is None or (upper[1], lower[1]) != (1, 0) or not upper[0].same_as(lower[0]):
        return None
    x, order = lower[0], None
    moved = site.block.definition(x, "permute_dims")
    if moved is not None and moved.attrs.axes is not None and ints(moved.attrs.axes)[-1] == rank - 1:
        # What reads both x and its halves is computed before the permutation too.
        x, order = moved.args[0], ints(moved.attrs.axes)
    rotated = _swapped_halves(site, x)
    return rotated if order is None else op.permute_dims(site.emit(rotated), order)


def _swapped_halves(site: Site, x: relax.Expr) -> relax.Expr:
    shape = site.shape(x)
    rank, halves = len(shape), (*shape[:-1], 2, shape[-1] // 2)
    swapped = site.emit(op.strided_slice(site.reshape(x, halves), [rank - 1], [1], [-3], [-1]))
    signs = relax.const(np.array([[-1.0], [1.0]]), str(x.ty.dtype))
    return op.reshape(site.emit(op.multiply(swapped, signs)), list(shape))


def _concat(site: Site) -> relax.Expr | None:
    known = str(site.call.ty.dtype) in ("float32", "float64") and size_of(site.result_shape()) > 0
    return _rotate_half(site) if known else None


IDIOMS: dict[str, Rule] = {"multiply": _multiply, "divide": _divide, "concat": _concat}
