"""Constant padding ahead of convolutions and pools as their own padding, which no kernel stores.

Ports of TensorFlow networks pad so ("same" padding is not symmetric where strides are even), and
`nn.ZeroPad2d` does. Whoever else reads the padded tensor still gets it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm import relax
from tvm.relax import op

from ..rewrite import Rule, Site, ints, static_shape


@dataclass(frozen=True)
class _Padded:
    """What is padded, how much (all of the spatial dims before, then all after), and with what."""

    source: relax.Expr
    before: list[int]
    after: list[int]
    value: float


def _padded(site: Site, layout: str) -> _Padded | None:
    """Return how the first operand of a call is padded, if it is, with a constant and in spatial dims alone."""
    pad = site.block.definition(site.data, "nn.pad")
    if pad is None or str(pad.attrs.pad_mode) != "constant":
        return None
    widths = ints(pad.attrs.pad_width)
    pairs = dict(zip(layout, zip(widths[::2], widths[1::2], strict=True), strict=True))
    if min(widths) < 0 or any(pairs[axis] != (0, 0) for axis in "NC"):
        return None
    spatial = [pairs[axis] for axis in layout if axis not in "NC"]
    value = float(pad.attrs.pad_value)
    return _Padded(pad.args[0], [first for first, _ in spatial], [last for _, last in spatial], value)


def _sum(padding: list[int], found: _Padded) -> list[int]:
    """Add padding to an operator's own: (before, after) of all dims, or one number for each dim."""
    count = len(found.before)
    own = (padding * 2)[: 2 * count] if len(padding) > 1 else padding * 2 * count
    return [a + b for a, b in zip(own, [*found.before, *found.after], strict=True)]


def _same_result(site: Site, call: relax.Call) -> relax.Expr | None:
    made = site.block.builder.normalize(call)
    return made if static_shape(made) == site.result_shape() else None


def _convolution(site: Site) -> relax.Expr | None:
    """Zeros that are multiplied with (finite) weights add nothing."""
    a = site.attrs
    found = _padded(site, str(a.data_layout))
    if found is None or found.value != 0:
        return None
    make = op.nn.conv1d if site.name == "nn.conv1d" else op.nn.conv2d
    call = make(
        found.source,
        site.args[1],
        ints(a.strides),
        _sum(ints(a.padding), found),
        ints(a.dilation),
        int(a.groups),
        a.data_layout,
        a.kernel_layout,
        a.out_layout,
        a.out_dtype,
    )
    return _same_result(site, call)


def _pool(site: Site, found: _Padded, *, include: bool) -> relax.Expr | None:
    a = site.attrs
    call = getattr(op.nn, site.name.removeprefix("nn."))(
        found.source,
        ints(a.pool_size),
        ints(a.strides),
        _sum(ints(a.padding), found),
        ints(a.dilation),
        False,
        include,
        a.layout,
        a.out_layout,
    )
    return _same_result(site, call)


def _average(site: Site) -> relax.Expr | None:
    """Zeros that count are padding that counts; in `ceil_mode` a window beyond it would not count whole."""
    a = site.attrs
    found = _padded(site, str(a.layout))
    counted = bool(a.count_include_pad) or not any(ints(a.padding))
    if found is None or found.value != 0 or not counted or bool(a.ceil_mode):
        return None
    return _pool(site, found, include=True)


def _maximum(site: Site) -> relax.Expr | None:
    """Minus infinity never is the maximum; zero is not where nothing is less and no window holds only padding."""
    a = site.attrs
    found = _padded(site, str(a.layout))
    if found is None or bool(a.ceil_mode):
        return None
    ignored = found.value == -math.inf
    if not ignored and not (found.value == 0 and _not_negative(site, found.source)):
        return None
    return _pool(site, found, include=False) if ignored or _reach_inside(site, found) else None


def _reach_inside(site: Site, found: _Padded) -> bool:
    """Say whether every window of a pool holds a pixel that is not padding."""
    a = site.attrs
    layout, shape, result = str(a.layout), static_shape(found.source), site.result_shape()
    spatial = [axis for axis, letter in enumerate(layout) if letter not in "NC"]
    padding = _sum(ints(a.padding), found)
    windows = zip(spatial, ints(a.pool_size), ints(a.strides), ints(a.dilation), padding, strict=False)
    return all(
        dilation == 1 and before < size and (result[axis] - 1) * stride - before < shape[axis]
        for axis, size, stride, dilation, before in windows
    )


def _not_negative(site: Site, value: relax.Expr) -> bool:
    """Say whether all elements of a value are at least zero, or NaN."""
    if site.block.definition(value, "nn.relu", "sigmoid", "exp", "abs", "square") is not None:
        return True
    clipped = site.block.definition(value, "clip")
    return clipped is not None and float(clipped.args[1].value) >= 0


def _pad(site: Site) -> relax.Expr | None:
    """Padding of what was padded with the same constant."""
    inner = site.block.definition(site.data, "nn.pad")
    calls = [site.call] if inner is None else [site.call, inner]
    if not any(ints(site.attrs.pad_width)):
        return site.data
    if inner is None or any(str(call.attrs.pad_mode) != "constant" for call in calls):
        return None
    if float(inner.attrs.pad_value) != float(site.attrs.pad_value):
        return None
    widths = [a + b for a, b in zip(*(ints(call.attrs.pad_width) for call in calls), strict=True)]
    return op.nn.pad(inner.args[0], widths, "constant", float(site.attrs.pad_value))


PADDING: dict[str, Rule] = {
    "nn.pad": _pad,
    "nn.conv1d": _convolution,
    "nn.conv2d": _convolution,
    "nn.avg_pool1d": _average,
    "nn.avg_pool2d": _average,
    "nn.max_pool1d": _maximum,
    "nn.max_pool2d": _maximum,
}
