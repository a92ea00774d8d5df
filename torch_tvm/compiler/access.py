"""Which elements of a stored tensor a value is: moves of data that cost nothing.

A chain of reshapes, permutations, slices and broadcasts over a stored tensor is one strided view of
it, as long as strides can say so. Kernels that read strided operands take such a chain as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tvm import relax

from .graph import Node, Tensor
from .rewrite import size_of

MOVES = ("reshape", "permute_dims", "strided_slice", "broadcast_to")


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides, in elements, of a tensor in row-major order."""
    sizes = itertools.accumulate(reversed([*shape[1:], 1]), lambda a, b: a * b)
    return tuple(sizes)[::-1] if shape else ()


@dataclass(frozen=True)
class Access:
    """Element (i, j, ...) of a value is element ``offset + i * strides[0] + ...`` of its base."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def contiguous(self) -> bool:
        """Whether the value is the base's memory in order, from its beginning."""
        return self.offset == 0 and self.same_order(contiguous_strides(self.shape))

    @property
    def reach(self) -> int:
        """Distance from the first element to the last one in memory; strides are not negative."""
        return sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))

    @property
    def unit(self) -> bool:
        """Whether neighbours along the last dim are neighbours in memory."""
        return not self.shape or self.shape[-1] == 1 or self.strides[-1] == 1

    def same_order(self, strides: Sequence[int]) -> bool:
        """Whether other strides reach the same elements; those of single elements do not matter."""
        if 0 in self.shape:
            return True
        triples = zip(self.shape, self.strides, strides, strict=True)
        return all(a == b for size, a, b in triples if size != 1)

    def permuted(self, order: Sequence[int]) -> Access:
        """Reorder the dims."""
        return Access(tuple(self.shape[i] for i in order), tuple(self.strides[i] for i in order), self.offset)

    def broadcast(self, shape: Sequence[int]) -> Access:
        """Repeat along leading dims and dims of one element."""
        missing = len(shape) - len(self.shape)
        strides = [0] * missing + [
            0 if old == 1 and new != 1 else stride
            for old, new, stride in zip(self.shape, shape[missing:], self.strides, strict=True)
        ]
        return Access(tuple(shape), tuple(strides), self.offset)

    def sliced(self, axis: int, begin: int, extent: int, step: int) -> Access:
        """Take `extent` elements along an axis."""
        shape, strides = list(self.shape), list(self.strides)
        offset = self.offset + begin * strides[axis] if extent else 0
        shape[axis], strides[axis] = extent, strides[axis] * step
        return Access(tuple(shape), tuple(strides), offset)

    def reshaped(self, shape: Sequence[int]) -> Access | None:
        """Give the elements other dims; None where strides cannot."""
        if 0 in self.shape:
            return Access(tuple(shape), contiguous_strides(shape), 0)
        old = [(size, stride) for size, stride in zip(self.shape, self.strides, strict=True) if size != 1]
        chunks: list[list[int]] = []  # [elements, innermost stride] of dims that run through as one
        for size, stride in old:
            if chunks and chunks[-1][1] == stride * size:
                chunks[-1] = [chunks[-1][0] * size, stride]
            else:
                chunks.append([size, stride])
        strides = [0] * len(shape)
        left, step = 1, 0
        for axis in reversed(range(len(shape))):
            size = shape[axis]
            if size == 1:
                continue
            if left == 1:
                left, step = chunks.pop()
            if left % size:
                return None
            strides[axis] = step
            left, step = left // size, step * size
        return Access(tuple(shape), tuple(strides), self.offset)


def stored(tensor: Tensor) -> Access:
    """Access of a tensor that is its own base."""
    return Access(tensor.shape, contiguous_strides(tensor.shape))


def rebroadcast(
    operand: tuple[int, ...], shape: tuple[int, ...], target: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Shape in which a stored operand that broadcasts to `shape` broadcasts to its reshape `target`."""
    if shape == target:
        return operand
    access = Access(operand, contiguous_strides(operand)).broadcast(shape).reshaped(target)
    if access is None:
        return None
    found = tuple(1 if stride == 0 else size for size, stride in zip(target, access.strides, strict=True))
    same = size_of(found) == size_of(operand)
    return (
        found
        if same and access.same_order(Access(found, contiguous_strides(found)).broadcast(target).strides)
        else None
    )


def _slice(node: Node, access: Access) -> Access:
    axes, begins, _, *rest = ([int(v) for v in arg.fields] for arg in _tuples(node.call))
    strides = rest[0] if rest else [1] * len(axes)
    for axis, begin, step in zip(axes, begins, strides, strict=True):
        size = access.shape[axis]
        first = begin + size if begin < 0 else begin
        first = min(max(first, 0), size) if step > 0 else min(max(first, -1), size - 1)
        access = access.sliced(axis, first, node.output.shape[axis], step)
    return access


def _tuples(call: relax.Call) -> list[relax.Tuple]:
    return [arg for arg in call.args[1:] if isinstance(arg, relax.Tuple)]


def moved(node: Node, access: Access) -> Access | None:
    """Return what a move makes of an access to its operand; None where strides cannot say it."""
    if node.op == "reshape":
        return access.reshaped(node.output.shape)
    if node.op == "permute_dims":
        axes = node.attrs.axes
        order = [int(a) for a in axes] if axes is not None else list(range(len(access.shape)))[::-1]
        return access.permuted(order)
    if node.op == "broadcast_to":
        return access.broadcast(node.output.shape)
    return _slice(node, access)


def is_move(node: Node | None) -> bool:
    """Say whether a node only moves data."""
    return node is not None and node.op in MOVES


class AccessMap:
    """The base of each tensor and how it is read from there."""

    def __init__(
        self,
        stored_tensors: Iterable[Tensor] = (),
        placed: Mapping[Tensor, tuple[Tensor, Access]] | None = None,
    ) -> None:
        self._known: dict[Tensor, tuple[Tensor, Access]] = {t: (t, stored(t)) for t in stored_tensors}
        self._known.update(placed or {})

    def of(self, tensor: Tensor) -> tuple[Tensor, Access]:
        """Return the stored tensor that `tensor` is a view of, and the view."""
        chain: list[Tensor] = []
        while tensor not in self._known and is_move(tensor.node):
            chain.append(tensor)
            assert tensor.node is not None
            tensor = tensor.node.args[0]
        found = self._known.get(tensor) or (tensor, stored(tensor))
        self._known[tensor] = found
        for link in reversed(chain):
            assert link.node is not None
            access = moved(link.node, found[1])
            found = (link, stored(link)) if access is None else (found[0], access)
            self._known[link] = found
        return found
