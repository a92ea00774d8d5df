"""Relay's reductions, scans and sorting operators."""

from __future__ import annotations

from tvm import relax
from tvm.relax import op

from . import te_operators
from .registry import Lowering, lowers

REDUCTIONS = {"sum": op.sum, "mean": op.mean, "max": op.max, "min": op.min, "prod": op.prod}


def _axes(call: Lowering) -> list[int]:
    """Return the axes to reduce: no axis means all of them, `exclude` means those not listed."""
    rank, axis = call.rank(), call.attrs["axis"]
    listed = [a % rank for a in ([axis] if isinstance(axis, int) else axis or range(rank))]
    if call.attrs["exclude"]:
        return [a for a in range(rank) if a not in listed] if axis else []
    return listed


@lowers(*REDUCTIONS)
def _reduce(call: Lowering) -> relax.Expr:
    axes = _axes(call)
    return REDUCTIONS[call.name](call.data, axes, bool(call.attrs["keepdims"])) if axes else call.data


@lowers("all", "any")
def _logical_reduce(call: Lowering) -> relax.Expr:
    axes = _axes(call)
    attrs = {"axis": axes, "keepdims": bool(call.attrs["keepdims"])}
    return te_operators.call(call.name, [call.data], attrs) if axes else call.data


@lowers("variance")
def _variance(call: Lowering) -> relax.Expr:
    data, mean = call.args
    axes = _axes(call)
    centred = call.emit(op.subtract(data, mean))
    square = call.emit(op.multiply(centred, centred))
    total = call.emit(op.sum(square, axes, bool(call.attrs["keepdims"]))) if axes else square
    count = 1
    for axis in axes:
        count *= call.shape()[axis]
    divisor = count - 1 if call.attrs["unbiased"] else count
    return op.divide(total, relax.const(float(divisor), call.dtype()))


@lowers("argmax", "argmin")
def _argmax(call: Lowering) -> relax.Expr:
    if call.attrs["select_last_index"]:
        raise call.unsupported("with select_last_index=True cannot be lowered")
    axes, reduce = _axes(call), op.argmax if call.name == "argmax" else op.argmin
    if len(axes) > 1 and len(axes) != call.rank():
        raise call.unsupported(f"takes one axis or all of them, got {axes}")
    axis = axes[0] if len(axes) == 1 else None
    return op.astype(call.emit(reduce(call.data, axis, bool(call.attrs["keepdims"]))), "int32")


@lowers("cumsum", "cumprod")
def _scan(call: Lowering) -> relax.Expr:
    a = call.attrs
    attrs = {
        "axis": None if a["axis"] is None else call.axis(),
        "dtype": a["dtype"] or call.dtype(),
        "exclusive": bool(a["exclusive"]),
    }
    return te_operators.call(call.name, [call.data], attrs)


def _first_in_order(call: Lowering, k: int, dtype: str, *, is_ascend: bool) -> relax.Expr:
    """Values and positions of the first k elements; `sort` and `argsort` of one tensor are one call."""
    attrs = {"k": k, "axis": call.axis(), "is_ascend": is_ascend, "dtype": dtype}
    return call.emit(te_operators.call("topk", [call.data], attrs))


@lowers("sort", "argsort")
def _sort(call: Lowering) -> relax.Expr:
    if call.rank() == 0:
        return call.data if call.name == "sort" else relax.const(0, call.attrs["dtype"] or "int32")
    positions = call.name == "argsort"
    dtype = (call.attrs["dtype"] or "int32") if positions else "int64"
    both = _first_in_order(call, call.shape()[call.axis()], dtype, is_ascend=bool(call.attrs["is_ascend"]))
    return relax.TupleGetItem(both, int(positions))


@lowers("topk")
def _topk(call: Lowering) -> relax.Expr:
    k, ret_type = int(call.attrs["k"]), call.attrs["ret_type"]
    k = k if k > 0 else call.shape()[call.axis()]
    both = _first_in_order(call, k, call.attrs["dtype"] or "int32", is_ascend=bool(call.attrs["is_ascend"]))
    if ret_type == "both":
        return both
    return relax.TupleGetItem(both, 0 if ret_type == "values" else 1)


@lowers("searchsorted")
def _searchsorted(call: Lowering) -> relax.Expr:
    if call.attrs["dtype"] not in ("int32", "int64"):
        raise call.unsupported("gives int32 or int64")
    attrs = {"right": bool(call.attrs["right"]), "dtype": call.attrs["dtype"]}
    return te_operators.call("searchsorted", call.args, attrs)
