"""Resizing by every mode, and sampling at the places of a grid, against eager PyTorch."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from convert_checks import check, operators, run_compiled

import torch_tvm
from torch_tvm import NotConvertibleError

Tensor = torch.Tensor
SIZES = {
    "larger": {"size": (10, 12)},
    "smaller": {"size": (7, 4)},
    "one": {"size": (1, 9)},
    "factor": {"scale_factor": 1.7},
    "factors": {"scale_factor": (2, 0.4)},
    "recomputed": {"scale_factor": 1.7, "recompute_scale_factor": True},
}


def image() -> Tensor:
    return torch.randn(2, 3, 5, 6)


@pytest.mark.parametrize("aligned", [None, False, True])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic"])
def test_images(mode: str, aligned: bool | None) -> None:
    if (aligned is None) != mode.startswith("nearest"):
        return

    def resized(*sizes: str) -> Callable[[Tensor], list[Tensor]]:
        return lambda x: [F.interpolate(x, mode=mode, align_corners=aligned, **SIZES[size]) for size in sizes]

    x = image()
    check(resized(*SIZES), x)
    run_compiled(resized("larger", "smaller", "factors"), x)
    if mode.startswith("nearest"):
        bytes_ = (x * 50).to(torch.uint8)
        run_compiled(lambda x: F.interpolate(x, size=(9, 12), mode=mode), bytes_)


def test_nearest_chooses_the_same_element_for_any_sizes() -> None:
    """PyTorch computes places in float32, whose rounding decides at times which element is nearest."""
    x = torch.arange(50.0)[None, None]
    sizes = [13, 49, 51, 77, 91, 131, 150]
    with torch_tvm.enabled(strict=True, min_group_size=1):
        traced = torch.jit.trace(lambda x: [F.interpolate(x, size=n) for n in sizes], (x,), check_trace=False)
        results = traced(x)
    for size, got in zip(sizes, results, strict=True):
        assert torch.equal(got, F.interpolate(x, size=size))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    def resized(x: Tensor) -> list[Tensor]:
        return [
            F.interpolate(x, scale_factor=1.7, mode="bilinear"),
            F.interpolate(x, size=9, mode="bicubic"),
            F.interpolate(x, size=9),
        ]

    check(resized, image().to(dtype))
    run_compiled(resized, image().to(dtype))


def test_lines_volumes_and_channels_last() -> None:
    line, volume = torch.randn(2, 3, 6), torch.randn(2, 2, 3, 4, 5)
    run_compiled(
        lambda x: [
            F.interpolate(x, size=n, mode=m)
            for n in (4, 8, 9)
            for m in ("linear", "nearest", "nearest-exact", "area")
        ],
        line,
    )
    run_compiled(
        lambda x: (
            F.interpolate(x, size=(4, 5, 9), mode="trilinear"),
            F.interpolate(x, scale_factor=1.5, mode="trilinear", align_corners=True),
            F.interpolate(x, scale_factor=2.3),
            F.interpolate(x, scale_factor=2),
        ),
        volume,
    )
    run_compiled(
        lambda x: (
            F.interpolate(x, scale_factor=2, mode="bilinear"),
            F.interpolate(x, size=9, mode="bicubic"),
            F.interpolate(x, size=10),
        ),
        image().to(memory_format=torch.channels_last),
    )


def test_between_convolutions() -> None:
    run_compiled(
        lambda x, w: F.conv2d(
            F.interpolate(F.conv2d(x, w, padding=1), scale_factor=2, mode="bilinear"), w, padding=1
        ),
        torch.randn(1, 4, 6, 6),
        torch.randn(4, 4, 3, 3) / 6,
    )


def test_antialiased() -> None:
    def resized(x: Tensor) -> list[Tensor]:
        return [
            F.interpolate(x, size=(4, 9), mode="bilinear", antialias=True),
            F.interpolate(x, scale_factor=0.6, mode="bicubic", antialias=True),
            F.interpolate(x, size=(13, 3), mode="bicubic", antialias=True, align_corners=True),
        ]

    check(resized, torch.randn(2, 3, 11, 12))
    run_compiled(resized, torch.randn(2, 3, 11, 12))


def test_operators_of_resizing() -> None:
    x = image()
    assert operators(check(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), x)) == [
        "image.resize2d"
    ]
    assert "take" in operators(check(lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear"), x))


def test_interpolated_bytes_are_refused() -> None:
    with pytest.raises(NotConvertibleError, match="self is Byte; only floats are interpolated"):
        torch_tvm.to_relay(
            lambda x: F.interpolate(x, size=9, mode="bilinear"), [torch.zeros(1, 1, 4, 4, dtype=torch.uint8)]
        )


PADDINGS = ("zeros", "border", "reflection")


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grids(mode: str, aligned: bool) -> None:
    def sampled(x: Tensor, grid: Tensor) -> list[Tensor]:
        return [F.grid_sample(x, grid, mode, padding, aligned) for padding in PADDINGS]

    inputs = image(), torch.randn(2, 4, 7, 2) * 1.2
    check(sampled, *inputs)
    run_compiled(sampled, *inputs)
    if mode != "bicubic" and not aligned:
        run_compiled(sampled, torch.randn(2, 3, 3, 4, 5), torch.randn(2, 3, 4, 2, 3))


def test_grids_that_point_far_away_read_nothing_there() -> None:
    grid = torch.randn(2, 4, 7, 2)
    grid[0, 0, 0], grid[0, 0, 1, 1], grid[1, 2] = float("inf"), -3e9, 1e30
    run_compiled(
        lambda x, g: [
            F.grid_sample(x, g, padding_mode=padding, align_corners=False) for padding in PADDINGS[:2]
        ],
        image(),
        grid,
    )
    modes = ("bilinear", "nearest", "bicubic")
    everything = torch.cat([grid, torch.full_like(grid, float("nan"))], 1)
    with torch_tvm.enabled(strict=True, min_group_size=1):
        traced = torch.jit.trace(
            lambda x, g: [F.grid_sample(x, g, mode, "reflection", True) for mode in modes],
            (image(), everything),
            check_trace=False,
        )
        assert len(traced(image(), everything)) == 3


def test_affine_grids() -> None:
    run_compiled(
        lambda t: (F.affine_grid(t, [2, 3, 5, 7], False), F.affine_grid(t, [2, 3, 5, 1], True)),
        torch.randn(2, 2, 3),
    )
    run_compiled(lambda t: F.affine_grid(t, [2, 3, 5, 7, 2], True), torch.randn(2, 3, 4))


def test_grids_read_nothing_in_front_of_the_image() -> None:
    """The page before the image may not be read: places outside of the image, which are zeros, are not looked at."""
    memory = mmap.mmap(-1, 3 * mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    protect = [ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE)]
    assert libc.mprotect(*protect, 0) == 0
    flat = torch.frombuffer(memory, dtype=torch.float64, offset=mmap.PAGESIZE, count=2 * 5 * 6 * 7)
    image, grid = flat.view(1, 2, 5, 6, 7), torch.randn(1, 9, 8, 7, 3, dtype=torch.float64) * 2
    image.copy_(torch.randn(1, 2, 5, 6, 7))

    def sampled(image: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        return F.grid_sample(image, grid, align_corners=True)

    traced = torch.jit.trace(sampled, (image, grid), check_trace=False)
    with torch_tvm.enabled(strict=True, guard=False, compile_process=False, min_group_size=1):
        result = traced(image, grid)
    torch.testing.assert_close(result, sampled(image, grid))
    assert libc.mprotect(*protect, mmap.PROT_READ) == 0
