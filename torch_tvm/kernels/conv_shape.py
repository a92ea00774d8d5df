"""The workload of a convolution and the arithmetic of its borders, shared by all algorithms that compute it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

from tvm.tirx.script import builder as T

from torch_tvm.kernels import cover, extent, tir
from torch_tvm.kernels.extent import Extent, Size


@dataclass(frozen=True)
class Depth:
    """The outermost spatial dimension of a three-dimensional convolution.

    Parameters
    ----------
    size
        Planes of the input.
    kernel, stride, padding, dilation
        As those of the other dimensions; padding is (front, back).
    """

    size: int
    kernel: int
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    dilation: int = 1

    @property
    def outputs(self) -> int:
        """Planes of the output."""
        reach = (self.kernel - 1) * self.dilation
        return (self.size + sum(self.padding) - reach - 1) // self.stride + 1

    def inside(self, z: tir.Index) -> tuple[tir.Index, tir.Index]:
        """Return the kernel planes (from, to) that lie in the image for output plane `z`."""
        first = z * self.stride - self.padding[0]
        low = T.max(0, _ceil_divide(-first, self.dilation)) if self.padding[0] else 0
        return low, T.min(self.kernel, _ceil_divide(self.size - first, self.dilation))


@dataclass(frozen=True)
class Conv2d:
    """A two-dimensional convolution (cross-correlation, as PyTorch's); a one-dimensional one has height 1.

    With `depth` it is three-dimensional: rows of the input, of the kernel and of the output are those of all planes.

    Parameters
    ----------
    height, width
        Of the input.
    channels, filters
        Of the input and of the output, over all groups.
    kernel, stride, dilation
        Vertical, horizontal.
    padding
        Top, left, bottom, right; negative padding leaves rows or columns out, and can only be peeled.
    input_layout
        "NHWC" or "NCHW", the order of the input's dimensions; the output is NHWC.
    input_slice
        (first channel, channels of a pixel in memory) where the input is some channels of a larger NHWC tensor.
    depth
        The outermost of three spatial dimensions, if there are three.
    quads
        Whether an element of input and weight, of int32, is four channels of bytes (quads.py); padding is zeros.

    Examples
    --------
    >>> from torch_tvm.kernels.conv2d import Conv2d
    >>> stem = Conv2d(1, 224, 224, 3, 64, kernel=(7, 7), stride=(2, 2), padding=(3, 3, 3, 3))
    >>> stem.output_shape
    (1, 112, 112, 64)
    """

    batch: int
    height: int
    width: int
    channels: int
    filters: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    dtype: str = "float32"
    input_layout: str = "NHWC"
    input_slice: tuple[int, int] | None = None
    depth: Depth | None = None
    quads: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no convolution."""
        sizes = (self.batch, self.height, self.width, self.channels, self.filters, self.groups)
        if any(size < 1 for size in (*sizes, *self.kernel, *self.stride, *self.dilation)):
            raise ValueError(f"expected sizes of at least 1 in {self}")
        if self.channels % self.groups or self.filters % self.groups:
            raise ValueError(f"{self.groups} groups do not divide the channels or filters of {self}")
        if any(size < 1 for size in (self.out_height, self.out_width, *self._out_planes)):
            raise ValueError(f"the kernel is larger than the padded input in {self}")
        if self.input_layout not in ("NHWC", "NCHW"):
            raise ValueError(f"expected input_layout 'NHWC' or 'NCHW', got {self.input_layout!r}")
        if self.input_layout != "NHWC" and not (self.input_slice is None and self.depth is None):
            raise ValueError(f"only an NHWC input can be a slice of channels or have depth, got {self}")
        if self.first_channel < 0 or self.first_channel + self.channels > self.pixel_channels:
            raise ValueError(f"the channels lie outside a pixel in {self}")

    @property
    def first_channel(self) -> int:
        """Where in a pixel the input's channels begin."""
        return self.input_slice[0] if self.input_slice is not None else 0

    @property
    def pixel_channels(self) -> int:
        """Channels of a pixel in memory."""
        return self.input_slice[1] if self.input_slice is not None else self.channels

    @property
    def reach(self) -> tuple[int, int]:
        """Distance from the first to the last tap of the kernel: vertical, horizontal."""
        return (self.kernel[0] - 1) * self.dilation[0], (self.kernel[1] - 1) * self.dilation[1]

    @property
    def out_height(self) -> int:
        """Rows of the output."""
        return (self.height + self.padding[0] + self.padding[2] - self.reach[0] - 1) // self.stride[0] + 1

    @property
    def out_width(self) -> int:
        """Columns of the output."""
        return (self.width + self.padding[1] + self.padding[3] - self.reach[1] - 1) // self.stride[1] + 1

    @property
    def width_padding(self) -> tuple[int, int]:
        """What is padded at the left and at the right."""
        return self.padding[1], self.padding[3]

    @property
    def group_channels(self) -> int:
        """Input channels of a group."""
        return self.channels // self.groups

    @property
    def group_filters(self) -> int:
        """Filters of a group."""
        return self.filters // self.groups

    @property
    def planes(self) -> Size:
        """Planes of an image."""
        return self.depth.size if self.depth is not None else 1

    @property
    def kernel_rows(self) -> int:
        """Rows of the kernel, of all planes."""
        return self.kernel[0] * (self.depth.kernel if self.depth is not None else 1)

    @property
    def taps(self) -> int:
        """Taps of the kernel."""
        return self.kernel_rows * self.kernel[1]

    @property
    def _out_planes(self) -> tuple[int, ...]:
        return (self.depth.outputs,) if self.depth is not None else ()

    @property
    def out_rows(self) -> int:
        """Rows of an output image, of all planes."""
        return self.out_height * math.prod(self._out_planes)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input tensor."""
        if self.input_layout == "NCHW":
            return (self.batch, self.channels, self.height, self.width)
        planes = () if self.depth is None else (self.depth.size,)
        return (self.batch, *planes, self.height, self.width, self.pixel_channels)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight as PyTorch has it."""
        planes = () if self.depth is None else (self.depth.kernel,)
        return (self.filters, self.group_channels, *planes, *self.kernel)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output tensor, NHWC."""
        return (self.batch, *self._out_planes, self.out_height, self.out_width, self.filters)

    @property
    def output_pixels(self) -> int:
        """Pixels of the output, over all images."""
        return self.batch * self.out_rows * self.out_width

    @property
    def flops(self) -> int:
        """Floating-point operations, counting taps that fall outside the image."""
        return 2 * self.output_pixels * self.filters * self.group_channels * self.taps

    @property
    def pointwise(self) -> bool:
        """Whether every output pixel depends on the input pixel at its place alone."""
        return (
            self.kernel == self.stride == (1, 1)
            and self.padding == (0, 0, 0, 0)
            and self.groups == 1
            and self.input_layout == "NHWC"
            and (self.depth is None or self.depth == Depth(self.depth.size, 1))
        )

    def output_row(self, row: tir.Index) -> list[tir.Index]:
        """Return the place in an output image, plane (if there are any) and row, of a row counted over all planes."""
        return [row] if self.depth is None else [row // self.out_height, row % self.out_height]

    @contextlib.contextmanager
    def loop_inside(self, row: tir.Index) -> Iterator[tuple[tir.Index, tir.Index]]:
        """Open the loops over the kernel rows that lie in the image for an output row: (input row, kernel row)."""
        *plane, y = self.output_row(row)
        d = self.depth
        with contextlib.ExitStack() as loops:
            t = loops.enter_context(tir.loop_between(*d.inside(plane[0]))) if d is not None else 0
            r = loops.enter_context(tir.loop_between(*self.rows_inside(y)))
            source = y * self.stride[0] - self.padding[0] + r * self.dilation[0]
            if d is not None:
                z = plane[0] * d.stride - d.padding[0] + t * d.dilation
                source, r = z * self.height + source, t * self.kernel[0] + r
            yield source, r

    def rows_inside(self, y: tir.Index) -> tuple[tir.Index, tir.Index]:
        """Return the kernel rows (from, to) that lie in the image for output row `y`."""
        top = y * self.stride[0] - self.padding[0]
        low: tir.Index = 0
        high: tir.Index = self.kernel[0]
        if self.padding[0]:
            low = T.max(0, _ceil_divide(-top, self.dilation[0]))
        last = (self.out_height - 1) * self.stride[0] - self.padding[0] + self.reach[0]
        if not extent.at_least(self.height - 1, last):
            high = T.min(high, _ceil_divide(self.height - top, self.dilation[0]))
        return low, high

    def outputs_of(self, row: tir.Index) -> tuple[tir.Index, tir.Index]:
        """Return the output rows (from, to) for which kernel row `row` lies in the image."""
        offset = self.padding[0] - row * self.dilation[0]
        low = T.max(0, _ceil_divide(offset, self.stride[0]))
        return low, T.min(self.out_height, _ceil_divide(self.height + offset, self.stride[0]))

    def with_padding_done(self) -> Conv2d:
        """Return the convolution of one image that its padding was already added to."""
        top, left, bottom, right = self.padding
        return dataclasses.replace(
            self,
            batch=1,
            height=self.height + top + bottom,
            width=self.width + left + right,
            padding=(0, 0, 0, 0),
            input_slice=None,
        )


def _ceil_divide(index: tir.Index, divisor: int) -> tir.Index:
    return index if divisor == 1 else (index + (divisor - 1)) // divisor


@dataclass(frozen=True)
class RowTile:
    """`count` neighbouring tiles of `size` pixels, the first at pixel `first`; `edge` ones leave the image."""

    first: tir.Index
    count: tir.Index
    size: int
    edge: bool
    last: tir.Index | None = None  # where the last tile of a symbolic row begins, so that it is whole

    def at(self, i: tir.Index) -> tir.Index:
        """Return the pixel at which tile `i` begins."""
        first = self.first + i * self.size
        return first if self.last is None else T.min(first, self.last)


def tile_rows(w: Conv2d, rows: int) -> list[RowTile]:
    """Return the tiles of an output row; of a symbolic one, emit how many there are of each of three sizes.

    A symbolic row has no edges: the padding is in a copy. The lesser sizes are for what tiles leave over, and for images
    smaller than the one that tiles were chosen for: 3x3 convolution of 512 channels at 4x4 takes 1330 us by single pixels,
    where a tile has 5, and 775 us in tiles of 3.
    """
    if not isinstance(w.out_width, Extent):
        return row_tiles(w, rows)
    tiles = cover.cover(w.out_width, rows, cover.parts(rows, 1))
    return [RowTile(tile.first, tile.count, tile.size, edge=False, last=tile.last) for tile in tiles]


def row_tiles(w: Conv2d, rows: int) -> list[RowTile]:
    """Divide an output row into tiles; those that touch the border stand alone."""
    tiles: list[RowTile] = []
    first = 0
    for count, size in tir.split_evenly(w.out_width, rows):
        for _ in range(count):
            low = first * w.stride[1] - w.padding[1]
            high = (first + size - 1) * w.stride[1] - w.padding[1] + w.reach[1]
            edge = low < 0 or high >= w.width
            last = tiles[-1] if tiles else None
            if last and not edge and not last.edge and last.size == size:
                tiles[-1] = RowTile(last.first, last.count + 1, size, edge=False)
            else:
                tiles.append(RowTile(first, 1, size, edge))
            first += size
    return tiles


def tap_ranges(w: Conv2d, tile: RowTile) -> list[tuple[int, int, tuple[int, ...]]]:
    """Group kernel columns by the pixels of the tile for which they lie in the image: (from, to, pixels)."""
    everything = tuple(range(tile.size))
    if not tile.edge:
        return [(0, w.kernel[1], everything)]
    ranges: list[tuple[int, int, tuple[int, ...]]] = []
    for tap in range(w.kernel[1]):
        offset = tap * w.dilation[1] - w.padding[1]
        inside = tuple(p for p in everything if 0 <= (tile.first + p) * w.stride[1] + offset < w.width)
        if ranges and ranges[-1][2] == inside:
            ranges[-1] = (ranges[-1][0], tap + 1, inside)
        else:
            ranges.append((tap, tap + 1, inside))
    return [taps for taps in ranges if taps[2]]


def copy_padded(
    w: Conv2d, source: tir.Buffer, image: tir.Index, target: tir.Buffer, lanes: int, *, parallel: bool
) -> None:
    """Emit the copy of one image into `target`, which has room for the padding, and set the padding to zero.

    Both are flat: rows of pixels (of one channel each when NCHW).
    """
    top, left, bottom, right = w.padding
    planes, depth = (w.channels, 1) if w.input_layout == "NCHW" else (w.planes, w.channels)
    rows, run = w.height + top + bottom, (left + w.width + right) * depth
    flat_source = tir.reshaped(
        source,
        (w.batch, planes, w.height, math.prod(w.input_shape) // (w.batch * planes * w.height)),
        w.dtype,
    )
    flat_target = tir.reshaped(target, (planes, rows, run), w.dtype)
    with tir.loop(planes * rows, parallel=parallel) as task:
        plane, row = tir.unravel(task, (planes, rows))

        def fill(first: Size, count: Size) -> None:
            tir.for_run(
                count,
                lanes,
                lambda i, n: tir.store(flat_target, tir.constant(0, w.dtype, n), (plane, row, first + i), n),
            )

        def copy(i: tir.Index, n: int) -> None:
            value = tir.load(flat_source, (image, plane, row - top, i), n)
            tir.store(flat_target, value, (plane, row, left * depth + i), n)

        def copy_pixels() -> None:
            with tir.loop(w.width) as x:

                def copy_channels(c: tir.Index, n: int) -> None:
                    at = x * w.pixel_channels + w.first_channel + c
                    value = tir.load(flat_source, (image, plane, row - top, at), n)
                    tir.store(flat_target, value, (plane, row, (left + x) * depth + c), n)

                tir.for_run(depth, lanes, copy_channels)

        def copy_row() -> None:
            fill(0, left * depth)
            if w.input_slice is None:
                tir.for_run(w.width * depth, lanes, copy)
            else:
                copy_pixels()
            fill((left + w.width) * depth, right * depth)

        if not top and not bottom:
            copy_row()
            return
        (bottom_row,) = tir.expressions((top + w.height,))
        with T.If(T.And(row >= top, row < bottom_row)):
            with T.Then():
                copy_row()
            with T.Else():
                fill(0, run)
