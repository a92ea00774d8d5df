"""Moves of data that cancel or can be views, and arithmetic of constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import relax
from tvm.relax import op

from ..expressions import FILLED, OPERATORS
from ..rewrite import Rule, Site, ints, is_constant, merged_dims, size_of
from .layout import TO_NCHW


def _moved(order: Sequence[int], shape: Sequence[int]) -> list[int]:
    """The axes of more than one element, in the order that a permutation gives them."""
    return [axis for axis in order if shape[axis] != 1]


def _permute(site: Site) -> relax.Expr | None:
    shape = site.shape()
    order = list(reversed(range(len(shape)))) if site.attrs.axes is None else ints(site.attrs.axes)
    if _moved(order, shape) == sorted(_moved(order, shape)):
        return site.reshape(site.data, site.result_shape())
    before = site.block.definition(site.data, "permute_dims")
    if before is not None and before.attrs.axes is not None:
        inner = ints(before.attrs.axes)
        return op.permute_dims(before.args[0], [inner[axis] for axis in order])
    merged = site.block.definition(site.data, "reshape")
    return None if merged is None else _permute_unmerged(site, merged, order)


def _permute_unmerged(site: Site, merged: relax.Call, order: Sequence[int]) -> relax.Expr | None:
    """Permute before dims are merged, not behind: the reshape may then meet the product or reshape that undoes it.

    Not before dims of an element-wise result are merged: that permutation can sink below what reads it.
    """
    if site.block.definition(merged.args[0], *OPERATORS) is not None:
        return None
    before = site.shape(merged.args[0])
    groups = merged_dims(before, site.shape())
    if groups is None or all(sum(before[axis] != 1 for axis in group) <= 1 for group in groups):
        return None
    moved = op.permute_dims(merged.args[0], [axis for position in order for axis in groups[position]])
    return site.reshape(site.emit(moved), site.result_shape())


def _reshape(site: Site) -> relax.Expr | None:
    shape = site.result_shape()
    if shape == site.shape():
        return site.data
    before = site.block.definition(site.data, "reshape")
    if before is not None:
        return site.reshape(before.args[0], shape)
    product = site.block.definition(site.data, "matmul")
    if product is not None and site.block.used_once(site.data):
        return _product_with_batch(site, product, shape)
    moved = site.block.definition(site.data, "permute_dims")
    return None if moved is None else _unmerged(site, moved, shape)


def _unmerged(site: Site, moved: relax.Call, shape: tuple[int, ...]) -> relax.Expr | None:
    """Permute the dims that a reshape merged, where a later reshape splits them again."""
    merged = site.block.definition(moved.args[0], "reshape")
    if merged is None or moved.attrs.axes is None:
        return None
    before = site.shape(merged.args[0])
    groups = merged_dims(before, site.shape(moved.args[0]))
    if groups is None:
        return None
    order = [axis for position in ints(moved.attrs.axes) for axis in groups[position]]
    if tuple(before[axis] for axis in order) != shape:
        return None
    return op.permute_dims(merged.args[0], order)


def _matmul(site: Site) -> relax.Expr | None:
    """Give both operands at least two dims; rows of all batches are one matrix if the right side has no batch."""
    left, right = site.args
    rows, columns = site.shape(left), site.shape(right)
    if len(columns) > 2 and len(rows) > 1:
        return None
    if len(columns) == 2 and len(rows) == 2:
        return None
    inner = rows[-1]
    left = site.reshape(left, (size_of(rows[:-1]) if len(columns) <= 2 else 1, inner))
    if len(columns) == 1:
        right = site.reshape(right, (inner, 1))
    product = site.emit(op.matmul(left, right, site.attrs.out_dtype))
    return site.reshape(product, site.result_shape())


def _product_with_batch(site: Site, product: relax.Call, shape: tuple[int, ...]) -> relax.Expr | None:
    """Let a batched product have the batch dims that its result is reshaped to; operands are views."""
    old = site.shape()
    left, right = product.args
    same_matrix = len(shape) > 2 and len(old) > 2 and shape[-2:] == old[-2:]
    whole = all(site.shape(x)[:-2] == old[:-2] for x in (left, right))
    if not same_matrix or not whole:
        return None
    sides = [site.reshape(x, (*shape[:-2], *site.shape(x)[-2:])) for x in (left, right)]
    return relax.Call(product.op, sides, product.attrs, product.ty_args)


def _slice(site: Site) -> relax.Expr | None:
    if site.result_shape() == site.shape() and _forward(site):
        return site.data
    moved = site.block.definition(site.data, "permute_dims")
    if moved is None or moved.attrs.axes is None or ints(moved.attrs.axes) != TO_NCHW:
        return None
    # What reads channels last then reads the slice as it lies.
    axes, *bounds = ([int(v) for v in arg.fields] for arg in site.args[1:])
    piece = op.strided_slice(moved.args[0], [TO_NCHW[axis] for axis in axes], *bounds)
    return op.permute_dims(site.emit(piece), TO_NCHW)


def _forward(site: Site) -> bool:
    strides = site.args[4].fields if len(site.args) > 4 else []
    return all(int(s) > 0 for s in strides)


def _concat(site: Site) -> relax.Expr | None:
    fields = site.data.fields
    return fields[0] if len(fields) == 1 else None


def _broadcast(site: Site) -> relax.Expr | None:
    return site.data if site.shape() == site.result_shape() else None


def _cast(site: Site) -> relax.Expr | None:
    return site.data if str(site.data.ty.dtype) == str(site.call.ty.dtype) else None


# Exact in numpy: one rounding, as in PyTorch.
_SCALAR_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "negative": np.negative,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "sqrt": np.sqrt,
}


def _scalar_value(expr: relax.Expr) -> np.ndarray | None:
    if is_constant(expr) and size_of(tuple(int(d) for d in expr.ty.shape.values)) == 1:
        value = expr.value.numpy()
        return value if value.dtype.kind in "fi" and value.dtype != np.float16 else None
    return None


def _fold_scalars(site: Site) -> relax.Expr | None:
    values = [value for value in map(_scalar_value, site.args) if value is not None]
    if len(values) < len(site.args):
        return None
    if site.name == "divide":
        if values[0].dtype.kind != "f":
            return None
        function: Callable[..., Any] = np.divide
    else:
        function = _SCALAR_ARITHMETIC[site.name]
    with np.errstate(all="ignore"):
        return relax.const(np.asarray(function(*values)), str(site.call.ty.dtype))


def _sink_permutation(site: Site) -> relax.Expr | None:
    """Apply an element-wise operator before a permutation of its operands instead of behind it."""
    shape = site.result_shape()
    moves = [site.block.definition(arg, "permute_dims") for arg in site.args]
    orders = {tuple(ints(m.attrs.axes)) for m in moves if m is not None and m.attrs.axes is not None}
    if len(orders) != 1:
        return None
    (order,) = orders
    if len(order) != len(shape):
        return None
    operands: list[relax.Expr] = []
    for arg, move in zip(site.args, moves, strict=True):
        operand = _before_permutation(site, arg, move, order)
        if operand is None:
            return None
        operands.append(operand)
    call = relax.Call(site.call.op, operands, site.attrs, site.call.ty_args)
    return op.permute_dims(site.emit(call), list(order))


def _before_permutation(
    site: Site, arg: relax.Expr, move: relax.Call | None, order: tuple[int, ...]
) -> relax.Expr | None:
    """Return the operand that becomes `arg` when the result is permuted, if that takes no copy."""
    if not isinstance(arg.ty, relax.TensorType):
        return arg
    shape = site.shape(arg)
    if move is not None and shape == site.result_shape():
        return move.args[0]
    padded = (1,) * (len(order) - len(shape)) + shape
    back = sorted(range(len(order)), key=lambda axis: order[axis])
    moved = [axis for axis in back if padded[axis] != 1]
    if moved == sorted(moved):
        return arg if size_of(shape) == 1 else site.reshape(arg, [padded[axis] for axis in back])
    if not site.block.weight_only(arg):
        return None
    return site.emit(op.permute_dims(site.reshape(arg, padded), back))


def _all(*rules: Rule) -> Rule:
    """Try rules in order."""

    def first(site: Site) -> relax.Expr | None:
        return next((found for rule in rules if (found := rule(site)) is not None), None)

    return first


CLEAN: dict[str, Rule] = {
    **dict.fromkeys(OPERATORS - FILLED.keys() - {"full"}, _sink_permutation),
    **dict.fromkeys([*_SCALAR_ARITHMETIC, "divide"], _all(_fold_scalars, _sink_permutation)),
    "matmul": _matmul,
    "permute_dims": _permute,
    "reshape": _reshape,
    "strided_slice": _slice,
    "concat": _concat,
    "broadcast_to": _broadcast,
    "astype": _all(_cast, _sink_permutation),
}
