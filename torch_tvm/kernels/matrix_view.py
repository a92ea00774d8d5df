"""How the matrices of a product lie in tensors, so that views of a tensor need no copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch_tvm.kernels import extent, tir


@dataclass(frozen=True)
class Part:
    """Some indices of a dimension of a tensor: `size` of them from `first` on, over which an axis runs."""

    axis: str
    first: int
    size: int


@dataclass(frozen=True)
class MatrixView:
    """A matrix, or a batch of them, in a contiguous tensor.

    Parameters
    ----------
    shape
        Shape of the tensor.
    axes
        What each dimension of the tensor runs over: "m", "n" or "k", a batch axis "b0", "b1" ..., a `Part` when the view
        takes some indices of it, or an int when it takes one.

    Examples
    --------
    Queries stored as [batch, sequence, 3, head, depth] together with keys and values, as a matrix of sequence x depth
    for each batch and head:

    >>> from torch_tvm.kernels.matrix_view import MatrixView
    >>> queries = MatrixView((8, 128, 3, 12, 64), ("b0", "m", 0, "b1", "k"))
    >>> queries.extents
    {'b0': 8, 'm': 128, 'b1': 12, 'k': 64}

    Keys of 4 heads that lie behind queries of 12 and before values of 4:

    >>> from torch_tvm.kernels.matrix_view import Part
    >>> MatrixView((128, 20, 64), ("m", Part("b0", 12, 4), "k")).extents
    {'m': 128, 'b0': 4, 'k': 64}
    """

    shape: tuple[int, ...]
    axes: tuple[str | int | Part, ...]

    def __post_init__(self) -> None:
        """Check that every dimension is named once and every index exists."""
        names = [name for axis in self.axes if (name := _name(axis)) is not None]
        if len(self.shape) != len(self.axes) or len(set(names)) != len(names):
            raise ValueError(f"axes {self.axes} do not name the dimensions of shape {self.shape} once each")
        for size, axis in zip(self.shape, self.axes, strict=True):
            first, count = _range(axis, size)
            if first < 0 or count < 0 or first + count > size:
                raise ValueError(f"index {axis} is outside a dimension of size {size} in {self}")

    @property
    def extents(self) -> dict[str, int]:
        """Size of each axis that the view runs over."""
        pairs = zip(self.axes, self.shape, strict=True)
        return {name: _range(axis, size)[1] for axis, size in pairs if (name := _name(axis)) is not None}

    @property
    def inner(self) -> str | None:
        """The axis that is contiguous in memory, if there is one."""
        return _name(self.axes[-1])

    def index(self, position: Mapping[str, tir.Index]) -> list[tir.Index]:
        """Return the tensor's index for a position along each axis."""
        found: list[tir.Index] = []
        for axis in self.axes:
            if isinstance(axis, Part):
                found.append(position[axis.axis] + axis.first)
            else:
                found.append(axis if isinstance(axis, int) else position[axis])
        return found

    def stride(self, axis: str) -> int:
        """Elements between neighbours along an axis."""
        stride = 1
        for size, own in zip(reversed(self.shape), reversed(self.axes), strict=True):
            if _name(own) == axis:
                return stride
            stride *= size
        raise KeyError(axis)

    def merged(self, outer: str, inner: str) -> MatrixView | None:
        """Return the view with two axes as one, named as the inner one; `None` where they do not step evenly."""
        extents = self.extents
        if outer not in extents:
            return None
        if extent.same(extents[inner], 1) and inner in self.axes:
            kept = [(n, axis) for n, axis in zip(self.shape, self.axes, strict=True) if axis != inner]
            return MatrixView(tuple(n for n, _ in kept), tuple(axis for _, axis in kept)).renamed(
                {outer: inner}
            )
        names = [_name(axis) for axis in self.axes]
        position = names.index(outer)
        if names[position + 1 : position + 2] != [inner] or self.axes[position + 1] != inner:
            return None
        size = self.shape[position + 1]
        first, count = _range(self.axes[position], self.shape[position])
        rows = self.shape[position] * size
        axis = inner if extent.same(count, self.shape[position]) else Part(inner, first * size, count * size)
        return MatrixView(
            (*self.shape[:position], rows, *self.shape[position + 2 :]),
            (*self.axes[:position], axis, *self.axes[position + 2 :]),
        )

    def renamed(self, names: Mapping[str, str]) -> MatrixView:
        """Return the view with other names for some axes."""

        def name(axis: str | int | Part) -> str | int | Part:
            if isinstance(axis, Part):
                return replace(axis, axis=names.get(axis.axis, axis.axis))
            return names.get(axis, axis) if isinstance(axis, str) else axis

        return MatrixView(self.shape, tuple(name(axis) for axis in self.axes))


def _name(axis: str | int | Part) -> str | None:
    return axis.axis if isinstance(axis, Part) else axis if isinstance(axis, str) else None


def _range(axis: str | int | Part, size: int) -> tuple[int, int]:
    """First index that is taken of a dimension, and how many."""
    if isinstance(axis, Part):
        return axis.first, axis.size
    return (axis, 1) if isinstance(axis, int) else (0, size)
