"""Images of the reference evaluator: resizing and sampling."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from relay_eval_registry import operator, same_dtypes

Tensor = torch.Tensor
MODES = {
    ("linear", "half_pixel", ""): {"mode": ["linear", "bilinear", "trilinear"], "align_corners": False},
    ("linear", "align_corners", ""): {"mode": ["linear", "bilinear", "trilinear"], "align_corners": True},
    ("cubic", "half_pixel", ""): {"mode": [None, "bicubic", None], "align_corners": False},
    ("cubic", "align_corners", ""): {"mode": [None, "bicubic", None], "align_corners": True},
    ("nearest_neighbor", "asymmetric", "floor"): {"mode": ["nearest"] * 3},
    ("nearest_neighbor", "half_pixel", "round_prefer_ceil"): {"mode": ["nearest-exact"] * 3},
}


@operator("image.resize1d", "image.resize2d", "image.resize3d")
def resize(
    x: Tensor,
    size: Any,
    roi: Any,
    layout: str,
    method: str,
    coordinate_transformation_mode: str,
    rounding_method: str,
    cubic_alpha: float,
    cubic_exclude: int,
    extrapolation_value: float,
    out_dtype: str,
) -> Tensor:
    assert layout == {1: "NCW", 2: "NCHW", 3: "NCDHW"}[len(size)] and not any(roi) and not out_dtype
    assert cubic_alpha == -0.75 and not cubic_exclude and not extrapolation_value
    options = dict(MODES[method, coordinate_transformation_mode, rounding_method])
    options["mode"] = options["mode"][len(size) - 1]
    return F.interpolate(x, size=tuple(size), **options)


@operator("image.grid_sample")
def grid_sample(
    x: Tensor, grid: Tensor, method: str, layout: str, padding_mode: str, align_corners: bool
) -> Tensor:
    same_dtypes(x, grid)
    assert layout == {4: "NCHW", 5: "NCDHW"}[x.dim()] and grid.shape[1] == x.dim() - 2
    return F.grid_sample(x, grid.movedim(1, -1), method, padding_mode, bool(align_corners))
