"""TE functions that sample an image or a volume at the places of a grid, with PyTorch's rules.

The places are turned into indices and weights once for all channels. No index leaves the image, whatever the grid holds.
"""

from __future__ import annotations

import functools
import itertools
import operator
from typing import Any

from tvm import te, tirx

OUTSIDE = -1  # index of an element that counts as zero


def _clipped(x: Any, size: int, dtype: str) -> Any:
    """Clip to the image; NaN becomes 0, as in eager."""
    zero, last = tirx.const(0.0, dtype), tirx.const(float(size - 1), dtype)
    raised = tirx.Select(x > zero, x, zero)
    return tirx.Select(raised < last, raised, last)


def _reflected(x: Any, size: int, dtype: str, align_corners: bool) -> Any:
    """Reflect at the centers of the outermost elements, or at their outer edges."""
    low, span = (0.0, float(size - 1)) if align_corners else (-0.5, float(size))
    if span == 0:
        return tirx.const(0.0, dtype)
    low, span = tirx.const(low, dtype), tirx.const(span, dtype)
    distance = tirx.abs(x - low)
    turns = tirx.floor(distance / span)
    rest = distance - turns * span
    half = tirx.const(0.5, dtype)
    even = tirx.floor(turns * half) * tirx.const(2.0, dtype)
    return tirx.Select(tirx.EQ(even, turns), rest + low, span - rest + low)


def _cubic(t: Any, tap: int) -> Any:
    """The weight of element `tap` of four, the second of which lies t before the place."""

    def near(x: Any) -> Any:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: Any) -> Any:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    a = -0.75
    return (far(t + 1), near(t), near(1 - t), far(2 - t))[tap]


def leaves_image(attrs: dict[str, Any]) -> bool:
    """Say whether indices may be `OUTSIDE`: of a clipped place, the element behind the last one may be asked for."""
    return attrs["padding_mode"] == "zeros" or attrs["method"] == "bilinear"


def grid_taps(attrs: dict[str, Any], grid: te.Tensor) -> list[te.Tensor]:
    """Turn places into indices (int32) and weights, both (dims, N, taps, places...).

    The attribute `size` has the extents of the image, `method`, `padding_mode` and `align_corners` are those of Relay.
    """
    sizes, method, padding, align = (
        attrs["size"],
        attrs["method"],
        attrs["padding_mode"],
        bool(attrs["align_corners"]),
    )
    count, dtype = {"nearest": 1, "bilinear": 2, "bicubic": 4}[method], str(grid.dtype)

    def inside(x: Any, size: int) -> Any:
        if padding == "reflection":
            x = _reflected(x, size, dtype, align)
        if padding == "zeros":  # two elements outside of the image are as far as any
            low, high = tirx.const(-3.0, dtype), tirx.const(float(size + 2), dtype)
            raised = tirx.Select(x > low, x, low)
            return tirx.Select(raised < high, raised, high)
        return _clipped(x, size, dtype)

    def tap(dim: int, n: Any, number: int, places: Any) -> tuple[Any, Any]:
        size = int(sizes[dim])
        place = grid(n, len(sizes) - 1 - dim, *places)
        one = tirx.const(1.0, dtype)
        if align:
            x = (place + one) * tirx.const((size - 1) / 2, dtype)
        else:
            x = ((place + one) * tirx.const(float(size), dtype) - one) * tirx.const(0.5, dtype)
        if method != "bicubic":
            x = inside(x, size)
        if method == "nearest":
            at, weight = tirx.nearbyint(x), one
        else:
            first = tirx.floor(x)
            rest = x - first
            at = first + tirx.const(float(number - (method == "bicubic")), dtype)
            weight = _cubic(rest, number) if method == "bicubic" else (one - rest, rest)[number]
            at = inside(at, size) if method == "bicubic" else at
        valid = tirx.all(at >= tirx.const(0.0, dtype), at <= tirx.const(float(size - 1), dtype))
        index = tirx.Cast("int32", at)
        if leaves_image(attrs):
            index = tirx.Select(valid, index, tirx.const(OUTSIDE, "int32"))
        return index, weight

    def choose(which: int) -> Any:
        def element(dim: Any, n: Any, number: Any, *places: Any) -> Any:
            cases = [(d, k) for d in range(len(sizes)) for k in range(count)]
            values = [tap(d, n, k, places)[which] for d, k in cases]
            result = values[-1]
            for (d, k), value in zip(reversed(cases[:-1]), reversed(values[:-1]), strict=True):
                chosen = tirx.all(tirx.EQ(dim, d), tirx.EQ(number, k))
                result = tirx.if_then_else(chosen, value, result)
            return result

        return element

    shape = [len(sizes), grid.shape[0], count, *grid.shape[2:]]
    return [te.compute(shape, choose(0), name="index"), te.compute(shape, choose(1), name="weight")]


def grid_values(attrs: dict[str, Any], data: te.Tensor, index: te.Tensor, weight: te.Tensor) -> te.Tensor:
    """Weighted sums of the elements that `grid_taps` names; those outside are zeros."""
    dims, count = int(index.shape[0]), int(index.shape[2])

    def element(n: Any, c: Any, *places: Any) -> Any:
        parts = []
        for taps in itertools.product(range(count), repeat=dims):
            at = [index(d, n, k, *places) for d, k in enumerate(taps)]
            factor = functools.reduce(operator.mul, [weight(d, n, k, *places) for d, k in enumerate(taps)])
            if leaves_image(attrs):
                safe = [tirx.Select(x >= 0, x, tirx.const(0, "int32")) for x in at]
                found = tirx.all(*[x >= 0 for x in at])
                value = tirx.Select(found, data(n, c, *safe), tirx.const(0.0, str(data.dtype)))
            else:
                value = data(n, c, *at)
            parts.append(value * factor)
        return functools.reduce(operator.add, parts)

    return te.compute([*data.shape[:2], *index.shape[3:]], element, name="values")
