"""How the matrices of a product lie in tensors, so that views of a tensor need no copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch_tvm.kernels import tir


@dataclass(frozen=True)
class MatrixView:
    """A matrix, or a batch of them, in a contiguous tensor.

    Parameters
    ----------
    shape
        Shape of the tensor.
    axes
        What each dimension of the tensor runs over: "m", "n" or "k", a batch axis "b0", "b1" ..., or an int when the
        view takes that one index.

    Examples
    --------
    Queries stored as [batch, sequence, 3, head, depth] together with keys and values, as a matrix of sequence x depth
    for each batch and head:

    >>> from torch_tvm.kernels.matrix_view import MatrixView
    >>> queries = MatrixView((8, 128, 3, 12, 64), ("b0", "m", 0, "b1", "k"))
    >>> queries.extents
    {'b0': 8, 'm': 128, 'b1': 12, 'k': 64}
    """

    shape: tuple[int, ...]
    axes: tuple[str | int, ...]

    def __post_init__(self) -> None:
        """Check that every dimension is named once and every fixed index exists."""
        names = [axis for axis in self.axes if isinstance(axis, str)]
        if len(self.shape) != len(self.axes) or len(set(names)) != len(names):
            raise ValueError(f"axes {self.axes} do not name the dimensions of shape {self.shape} once each")
        for size, axis in zip(self.shape, self.axes, strict=True):
            if isinstance(axis, int) and not 0 <= axis < size:
                raise ValueError(f"index {axis} is outside a dimension of size {size} in {self}")

    @property
    def extents(self) -> dict[str, int]:
        """Size of each axis that the view runs over."""
        pairs = zip(self.axes, self.shape, strict=True)
        return {axis: size for axis, size in pairs if isinstance(axis, str)}

    @property
    def inner(self) -> str | int:
        """The axis that is contiguous in memory."""
        return self.axes[-1]

    def index(self, position: Mapping[str, tir.Index]) -> list[tir.Index]:
        """Return the tensor's index for a position along each axis."""
        return [axis if isinstance(axis, int) else position[axis] for axis in self.axes]

    def stride(self, axis: str) -> int:
        """Elements between neighbours along an axis."""
        stride = 1
        for size, name in zip(reversed(self.shape), reversed(self.axes), strict=True):
            if name == axis:
                return stride
            stride *= size
        raise KeyError(axis)

    def merged(self, outer: str, inner: str) -> MatrixView | None:
        """Return the view with two axes as one, named as the inner one; `None` where they do not step evenly."""
        extents = self.extents
        if outer not in extents:
            return None
        if extents[inner] == 1:
            kept = [(n, axis) for n, axis in zip(self.shape, self.axes, strict=True) if axis != inner]
            shape, axes = [n for n, _ in kept], [axis for _, axis in kept]
            return MatrixView(tuple(shape), tuple(inner if axis == outer else axis for axis in axes))
        position = self.axes.index(outer)
        if self.axes[position + 1 : position + 2] != (inner,):
            return None
        rows = self.shape[position] * self.shape[position + 1]
        return MatrixView(
            (*self.shape[:position], rows, *self.shape[position + 2 :]),
            (*self.axes[:position], inner, *self.axes[position + 2 :]),
        )

    def renamed(self, names: Mapping[str, str]) -> MatrixView:
        """Return the view with other names for some axes."""
        return MatrixView(self.shape, tuple(names.get(a, a) if isinstance(a, str) else a for a in self.axes))
