"""TE functions that sample an image or a volume at the places of a grid, with PyTorch's rules.

The places are turned into indices and weights once for all channels. No index leaves the image, whatever the grid holds.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable
from typing import Any

from tvm import te, tirx

OUTSIDE = -1  # index of an element that counts as zero


def _named(value: Any, dtype: str, use: Callable[[Any], Any]) -> Any:
    """Compute a value once, however often it is used: TVM takes a second for what grows by nesting."""
    name = tirx.Var("value", dtype)
    return tirx.Let(name, value, use(name))


def _clipped(x: Any, last: Any, dtype: str) -> Any:
    """Clip to the image; NaN becomes 0, as in eager."""
    zero = tirx.const(0.0, dtype)
    raised = _named(x, dtype, lambda x: tirx.Select(x > zero, x, zero))
    return _named(raised, dtype, lambda x: tirx.Select(x < last, x, last))


def _reflected(x: Any, last: Any, dtype: str, align_corners: bool) -> Any:
    """Reflect at the centers of the outermost elements, or at their outer edges."""
    zero, half, one = (tirx.const(number, dtype) for number in (0.0, 0.5, 1.0))
    low, span = (zero, last) if align_corners else (tirx.const(-0.5, dtype), last + one)

    def turned(distance: Any, turns: Any) -> Any:
        rest = distance - turns * span
        even = tirx.EQ(tirx.floor(turns * half) * tirx.const(2.0, dtype), turns)
        reflected = tirx.Select(even, rest + low, span - rest + low)
        return tirx.Select(span > zero, reflected, zero)

    def by_distance(distance: Any) -> Any:
        return _named(tirx.floor(distance / span), dtype, lambda turns: turned(distance, turns))

    return _named(tirx.abs(x - low), dtype, by_distance)


def _cubic(t: Any, tap: Any, dtype: str) -> Any:
    """The weight of element `tap` of four, the second of which lies t before the place."""

    def c(number: float) -> Any:
        return tirx.const(number, dtype)

    def near(x: Any) -> Any:
        return (c(1.25) * x - c(2.25)) * x * x + c(1.0)

    def far(x: Any) -> Any:
        return ((c(-0.75) * x + c(3.75)) * x - c(6.0)) * x + c(3.0)

    weights = (far(t + c(1.0)), near(t), near(c(1.0) - t), far(c(2.0) - t))
    inner = tirx.Select(tirx.EQ(tap, 1), weights[1], weights[2])
    return tirx.Select(tirx.EQ(tap, 0), weights[0], tirx.Select(tirx.EQ(tap, 3), weights[3], inner))


def _last(dim: Any, sizes: list[int], dtype: str) -> Any:
    """The number of the last element of a dimension, as a float."""
    *others, result = [tirx.const(float(size - 1), dtype) for size in sizes]
    for number, other in reversed(list(enumerate(others))):
        result = tirx.Select(tirx.EQ(dim, number), other, result)
    return result


def _inside(x: Any, last: Any, attrs: dict[str, Any], dtype: str) -> Any:
    """Move a place into the image, as `padding_mode` says."""
    if attrs["padding_mode"] == "zeros":
        return x
    if attrs["padding_mode"] == "reflection":
        x = _reflected(x, last, dtype, bool(attrs["align_corners"]))
    return _clipped(x, last, dtype)


def leaves_image(attrs: dict[str, Any]) -> bool:
    """Say whether indices may be `OUTSIDE`: of a clipped place, the element behind the last one may be asked for."""
    return attrs["padding_mode"] == "zeros" or attrs["method"] == "bilinear"


def grid_places(attrs: dict[str, Any], grid: te.Tensor) -> te.Tensor:
    """Turn coordinates from -1 to 1 into places among the elements, (dims, N, places...).

    The attribute `size` has the extents of the image; `method`, `padding_mode` and `align_corners` are those of Relay.
    """
    sizes, dtype = [int(size) for size in attrs["size"]], str(grid.dtype)

    def element(dim: Any, n: Any, *places: Any) -> Any:
        one, half = tirx.const(1.0, dtype), tirx.const(0.5, dtype)
        last, coordinate = _last(dim, sizes, dtype), grid(n, len(sizes) - 1 - dim, *places)
        aligned = bool(attrs["align_corners"])
        scaled = (coordinate + one) * (last if aligned else last + one)
        x = (scaled if aligned else scaled - one) * half
        # The elements that a bicubic weighs are moved one by one.
        return x if attrs["method"] == "bicubic" else _inside(x, last, attrs, dtype)

    return te.compute([len(sizes), grid.shape[0], *grid.shape[2:]], element, name="places")


def grid_taps(attrs: dict[str, Any], found: te.Tensor) -> list[te.Tensor]:
    """Turn places into indices (int32) and weights of elements, both (dims, N, taps, places...)."""
    sizes, dtype, method = [int(size) for size in attrs["size"]], str(found.dtype), attrs["method"]
    count = {"nearest": 1, "bilinear": 2, "bicubic": 4}[method]

    def index(dim: Any, n: Any, tap: Any, *places: Any) -> Any:
        x, last = found(dim, n, *places), _last(dim, sizes, dtype)
        at = tirx.nearbyint(x) if method == "nearest" else tirx.floor(x) + tirx.Cast(dtype, tap)
        if method == "bicubic":
            at = _inside(at - tirx.const(1.0, dtype), last, attrs, dtype)
        if not leaves_image(attrs):
            return tirx.Cast("int32", at)
        zero = tirx.const(0.0, dtype)
        valid = tirx.all(at >= zero, at <= last)
        return tirx.Select(valid, tirx.Cast("int32", _clipped(at, last, dtype)), tirx.const(OUTSIDE, "int32"))

    def weight(dim: Any, n: Any, tap: Any, *places: Any) -> Any:
        x = found(dim, n, *places)
        one, rest = tirx.const(1.0, dtype), x - tirx.floor(x)
        if method == "nearest":
            return one
        if method == "bicubic":
            return _cubic(rest, tap, dtype)
        return tirx.Select(tirx.EQ(tap, 0), one - rest, rest)

    shape = [len(sizes), found.shape[1], count, *found.shape[2:]]
    return [te.compute(shape, index, name="index"), te.compute(shape, weight, name="weight")]


def grid_values(attrs: dict[str, Any], data: te.Tensor, index: te.Tensor, weight: te.Tensor) -> te.Tensor:
    """Weighted sums of the elements that `grid_taps` names; those outside are zeros."""
    dims, count = int(index.shape[0]), int(index.shape[2])

    def element(n: Any, c: Any, *places: Any) -> Any:
        parts = []
        for taps in itertools.product(range(count), repeat=dims):
            at = [index(d, n, k, *places) for d, k in enumerate(taps)]
            factor = functools.reduce(operator.mul, [weight(d, n, k, *places) for d, k in enumerate(taps)])
            if leaves_image(attrs):
                # Not a Select: it reads either way, and under its condition TVM simplifies an index made safe back to x.
                found = tirx.all(*[x >= 0 for x in at])
                value = tirx.if_then_else(found, data(n, c, *at), tirx.const(0.0, str(data.dtype)))
            else:
                value = data(n, c, *at)
            parts.append(value * factor)
        return functools.reduce(operator.add, parts)

    return te.compute([*data.shape[:2], *index.shape[3:]], element, name="values")
