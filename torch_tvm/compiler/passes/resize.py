"""Resizing one dimension after the other, each by a table of elements and weights that is made here.

Of an image twice as large, that takes half the loads of the formula for all dimensions at once, and no place is computed
while the kernel runs. Tables are computed as PyTorch computes them, in the dtype of the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax
from tvm.relax import op

from ..operators import te_operators
from ..rewrite import Rule, Site


@dataclass(frozen=True)
class _Rules:
    """The attributes of a resize that say where the elements of the result lie."""

    method: str
    coordinates: str
    rounding: str
    cubic_alpha: float

    @property
    def known(self) -> bool:
        if self.method == "nearest_neighbor":
            return (self.coordinates, self.rounding) in (
                ("asymmetric", "floor"),
                ("half_pixel", "round_prefer_ceil"),
            )
        return self.method in ("linear", "cubic") and self.coordinates in ("half_pixel", "align_corners")

    def table(self, size: int, result: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
        """Return, for each element of the result, the elements that it is made of, and their weights."""
        if self.method == "nearest_neighbor":
            return self._nearest(size, result), np.ones((result, 1), dtype)
        number = np.dtype(dtype).type
        places = np.arange(result, dtype=dtype)
        if self.coordinates == "align_corners":
            step = number(size - 1) / number(result - 1) if result > 1 else number(0)
            source = places * step
        else:
            source = (number(size) / number(result)) * (places + number(0.5)) - number(0.5)
        if self.method == "linear":
            source = np.maximum(source, number(0))
        first = np.floor(source).astype(np.int64)
        if self.method == "linear":
            first = np.minimum(first, size - 1)
            rest = np.clip(source - first.astype(dtype), number(0), number(1))
            index, weights = first[:, None] + [0, 1], np.stack([number(1) - rest, rest], axis=1)
        else:
            index = first[:, None] + [-1, 0, 1, 2]
            weights = _cubic(source - first.astype(dtype), number(self.cubic_alpha))
        return np.clip(index, 0, size - 1), weights.astype(dtype)

    def _nearest(self, size: int, result: int) -> np.ndarray:
        step = np.float32(size) / np.float32(result)
        offset = np.float32(0.5 if self.coordinates == "half_pixel" else 0)
        places = np.arange(result, dtype=np.float32) + offset
        return np.minimum(np.floor(places * step).astype(np.int64), size - 1)[:, None]


def _cubic(t: np.ndarray, a: Any) -> np.ndarray:
    """Weights of the elements t + 1, t, 1 - t and 2 - t away."""

    def near(x: np.ndarray) -> np.ndarray:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: np.ndarray) -> np.ndarray:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return np.stack([far(t + 1), near(t), near(1 - t), far(2 - t)], axis=1)


def _repeated(site: Site, data: relax.Expr, axis: int, times: int) -> relax.Expr:
    """Repeat along an axis by broadcasting an axis behind it, which is a view."""
    shape = site.shape(data)
    spread = site.reshape(data, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    wide = site.emit(op.broadcast_to(spread, [*shape[: axis + 1], times, *shape[axis + 1 :]]))
    return site.reshape(wide, (*shape[:axis], shape[axis] * times, *shape[axis + 1 :]))


def _resized(site: Site, data: relax.Expr, axis: int, result: int, rules: _Rules) -> relax.Expr:
    size, dtype = site.shape(data)[axis], str(data.ty.dtype)
    if size == result:
        return data
    nearest = rules.method == "nearest_neighbor"
    index, weights = rules.table(size, result, "float32" if nearest else dtype)
    if nearest and result % size == 0 and np.array_equal(index[:, 0], np.arange(result) // (result // size)):
        return _repeated(site, data, axis, result // size)
    operands = [data, relax.const(index.astype(np.int32), "int32")]
    if not nearest:
        operands.append(relax.const(weights, dtype))
    return site.emit(te_operators.call("resample", operands, {"axis": axis}))


def _resize(site: Site) -> relax.Expr | None:
    attrs = site.attrs
    get = attrs.__getitem__ if site.name == "torch_tvm.resize1d" else lambda name: getattr(attrs, name)
    rules = _Rules(
        str(get("method")),
        str(get("coordinate_transformation_mode")),
        str(get("rounding_method")),
        float(get("cubic_alpha")),
    )
    dtype, result = str(site.data.ty.dtype), site.result_shape()
    floats = dtype in ("float32", "float64")
    plain = rules.method == "nearest_neighbor" or (floats and not int(get("cubic_exclude")))
    if not rules.known or not plain or str(site.call.ty.dtype) != dtype:
        return None
    data = site.data
    axes = [axis for axis, letter in enumerate(str(get("layout"))) if letter in "DHW"]
    for axis in reversed(axes):
        data = _resized(site, data, axis, result[axis], rules)
    return data


RESIZE: dict[str, Rule] = dict.fromkeys(("torch_tvm.resize1d", "image.resize2d", "image.resize3d"), _resize)
