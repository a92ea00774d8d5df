"""What constants alone say about a mask: which scores are minus infinity whatever the inputs are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .access import is_move, moved, stored
from .graph import Node, Tensor

# Larger masks are not looked at: 8192 x 8192 booleans take 0.1 s.
_MAX_ELEMENTS = 1 << 26

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "negative": np.negative,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_not": np.logical_not,
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_not": np.bitwise_not,
    "where": np.where,
}


def _concat(node: Node, *parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts, int(node.attrs.axis))


def _cumsum(node: Node, data: np.ndarray) -> np.ndarray | None:
    return None if node.attrs["exclusive"] else np.cumsum(data, int(node.attrs["axis"]))


def _gather(_: Node, data: np.ndarray, *indices: np.ndarray) -> np.ndarray | None:
    inside = all(
        ((index >= 0) & (index < size)).all() for index, size in zip(indices, data.shape, strict=False)
    )
    return data[tuple(indices)] if inside else None


def _clip(node: Node, data: np.ndarray) -> np.ndarray:
    low, high = (float(bound.value) for bound in node.call.args[1:3])
    return np.clip(data, low, high)


# Operators that need the operands in their whole shape, or attributes.
_NODE_FUNCTIONS: dict[str, Callable[..., np.ndarray | None]] = {
    "concat": _concat,
    "torch_tvm.cumsum": _cumsum,
    "torch_tvm.adv_index": _gather,
    "clip": _clip,
    "full": lambda node, value: np.broadcast_to(value, node.output.shape),
    "zeros": lambda node: np.zeros(node.output.shape),
    "ones": lambda node: np.ones(node.output.shape),
}


def diagonal(scores: Tensor) -> int | None:
    """Return the least d for which scores[..., m, n] are minus infinity wherever n > m + d; None if all n are reached."""
    rows, columns = scores.shape[-2:]
    if rows * columns > _MAX_ELEMENTS:
        return None
    hidden = _Known().hidden(scores)
    if hidden is None:
        return None
    whole = np.broadcast_to(hidden, (*hidden.shape[:-2], rows, columns))
    everywhere = np.all(whole.reshape(-1, rows, columns), axis=0)
    last = columns - 1 - np.argmax(~everywhere[:, ::-1], axis=1)
    last[np.all(everywhere, axis=1)] = -1
    furthest = int((last - np.arange(rows)).max())
    return furthest if furthest < columns - 1 else None


class _Known:
    """Looks back from a tensor; arrays broadcast against the tensor's shape, None means that nothing is known."""

    def __init__(self) -> None:
        self._values: dict[Tensor, np.ndarray | None] = {}

    def hidden(self, tensor: Tensor) -> np.ndarray | None:
        """Return where a tensor is minus infinity."""
        value = self.value(tensor)
        if value is not None:
            return value == -np.inf if value.dtype.kind == "f" else None
        node = tensor.node
        if node is None:
            return None
        if is_move(node):
            return _moved(node, self.hidden(node.args[0]))
        if node.op == "where":
            condition, then, otherwise = node.args
            return _either(
                _both(self.surely(condition, True), self.hidden(then)),
                _both(self.surely(condition, False), self.hidden(otherwise)),
            )
        if node.op in ("multiply", "divide"):
            factor = node.args[1].scalar
            positive = factor is not None and 0 < factor < np.inf
            return self.hidden(node.args[0]) if positive else None
        return None

    def surely(self, tensor: Tensor, truth: bool) -> np.ndarray | None:
        """Return where a boolean tensor has a certain value."""
        value = self.value(tensor)
        if value is not None:
            return value == truth
        node = tensor.node
        if node is None or tensor.dtype != "bool":
            return None
        if is_move(node):
            return _moved(node, self.surely(node.args[0], truth))
        if node.op == "logical_not":
            return self.surely(node.args[0], not truth)
        if node.op in ("logical_and", "bitwise_and", "logical_or", "bitwise_or"):
            left, right = (self.surely(arg, truth) for arg in node.args)
            return (_both if truth == node.op.endswith("and") else _either)(left, right)
        return None

    def value(self, tensor: Tensor) -> np.ndarray | None:
        """Return the value of a tensor that constants determine."""
        if tensor not in self._values:
            self._values[tensor] = self._value(tensor) if tensor.size <= _MAX_ELEMENTS else None
        return self._values[tensor]

    def _value(self, tensor: Tensor) -> np.ndarray | None:
        if tensor.data is not None:
            return tensor.data
        node = tensor.node
        if node is None or not tensor.weight_only:
            return None
        if is_move(node):
            return _moved(node, self.value(node.args[0]))
        known = node.op in _FUNCTIONS or node.op in _NODE_FUNCTIONS or node.op == "astype"
        args = [self.value(arg) for arg in node.args] if known else [None]
        if any(arg is None for arg in args):
            return None
        if node.op in _NODE_FUNCTIONS:
            whole = (np.broadcast_to(value, arg.shape) for value, arg in zip(args, node.args, strict=True))  # type: ignore[arg-type]
            value = _NODE_FUNCTIONS[node.op](node, *whole)
        else:
            value = args[0] if node.op == "astype" else np.asarray(_FUNCTIONS[node.op](*args))
        return None if value is None else value.astype(tensor.dtype, copy=False)


def _moved(node: Node, value: np.ndarray | None) -> np.ndarray | None:
    """Return what a move makes of a value."""
    if value is None or node.op == "broadcast_to":
        return value
    source = node.args[0]
    access = moved(node, stored(source))
    assert access is not None, "strides say any one move of a stored tensor"
    whole = np.ascontiguousarray(np.broadcast_to(value, source.shape))
    strides = [stride * whole.itemsize for stride in access.strides]
    return np.lib.stride_tricks.as_strided(whole.reshape(-1)[access.offset :], access.shape, strides)


def _both(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    return None if a is None or b is None else a & b


def _either(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    if a is None or b is None:
        return b if a is None else a
    return a | b
