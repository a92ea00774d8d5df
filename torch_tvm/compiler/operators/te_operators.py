"""Relay operators that Relax has no operator for, as Relax operators defined by a TE function.

Each entry of `TE_FUNCTIONS` is one function `(attrs, *tensors) -> tensor(s)`. It gives the operator
its type (that of the tensors it makes) and its legalisation (the PrimFunc TE makes from it).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, SupportsIndex

import tvm_ffi
from tvm import ir, relax, te, tirx, topi
from tvm.ir import _ffi_api as ir_api
from tvm.relax.transform.legalize_ops.common import register_legalize

from torch_tvm.relay import BoxInt

from .te_grid import grid_places, grid_taps, grid_values
from .te_windows import window_maximum

PREFIX = "torch_tvm."


def _truncated(function: Callable[..., Any]) -> Callable[..., Any]:
    def compute(_: dict[str, Any], lhs: te.Tensor, rhs: te.Tensor) -> te.Tensor:
        return topi.trunc(function(lhs, rhs)) if str(lhs.dtype).startswith("float") else function(lhs, rhs)

    return compute


def _adaptive_max(attrs: dict[str, Any], data: te.Tensor) -> te.Tensor:
    rank = len(data.shape) - 2
    pool = {
        1: topi.nn.adaptive_pool1d,
        2: topi.nn.adaptive_pool,
        3: topi.nn.adaptive_pool3d,
    }[rank]
    return pool(data, attrs["output_size"], "max", attrs["layout"])


def _normalize(attrs: dict[str, Any], data: te.Tensor) -> te.Tensor:
    """(data - mean) / sqrt(variance + epsilon) over some axes; without `center` the mean counts as zero."""
    axes, count = attrs["axes"], 1
    for axis in axes:
        count = count * data.shape[axis]
    count = tirx.Cast(str(data.dtype), count)
    mean = topi.divide(topi.sum(data, axes, keepdims=True), count)
    centred = topi.subtract(data, mean) if attrs["center"] else data
    variance = topi.divide(topi.sum(topi.multiply(centred, centred), axes, keepdims=True), count)
    epsilon = tirx.const(attrs["epsilon"], str(data.dtype))
    return topi.multiply(centred, topi.rsqrt(topi.add(variance, epsilon)))


def _take(attrs: dict[str, Any], data: te.Tensor, indices: te.Tensor) -> te.Tensor:
    return topi.take(data, indices, attrs["axis"], attrs["batch_dims"], attrs["mode"])


def _interleave(attrs: dict[str, Any], *parts: te.Tensor) -> te.Tensor:
    """Elements of all parts in turns along an axis."""
    axis = attrs["axis"]
    shape = list(parts[0].shape)
    shape[axis] = shape[axis] * len(parts)
    return topi.reshape(topi.stack(parts, axis + 1), shape)


def _resize1d(attrs: dict[str, Any], data: te.Tensor) -> te.Tensor:
    return topi.image.resize1d(data, attrs["roi"], attrs["size"], attrs["layout"], attrs["method"],
                               attrs["coordinate_transformation_mode"], attrs["rounding_method"],
                               attrs["cubic_alpha"], attrs["cubic_exclude"],
                               attrs["extrapolation_value"], attrs["out_dtype"] or None)  # fmt: skip


def _resample(attrs: dict[str, Any], data: te.Tensor, index: te.Tensor, *weight: te.Tensor) -> te.Tensor:
    """Sums of elements along an axis; row i of the tables names those of element i and their weights, if any."""
    axis, shape = attrs["axis"], list(data.shape)
    shape[axis] = index.shape[0]

    def element(*place: Any) -> Any:
        own = place[axis]
        taps = range(int(index.shape[1]))
        parts = [data(*place[:axis], index[own, tap], *place[axis + 1 :]) for tap in taps]
        if weight:
            parts = [part * weight[0][own, tap] for tap, part in zip(taps, parts, strict=True)]
        return functools.reduce(operator.add, parts)

    return te.compute(shape, element, name="resample")


def _quantised_matmul(_: dict[str, Any], data: te.Tensor, weight: te.Tensor) -> te.Tensor:
    """Products of bytes [..., k] with bytes [n, k], summed in int32."""
    k = te.reduce_axis((0, weight.shape[1]), "k")

    def element(*place: Any) -> Any:
        *outer, n = place
        return te.sum(data(*outer, k).astype("int32") * weight[n, k].astype("int32"), axis=k)

    return te.compute([*data.shape[:-1], weight.shape[0]], element, name="quantised_matmul")


def _topk(attrs: dict[str, Any], data: te.Tensor) -> Any:
    return list(topi.topk(data, attrs["k"], attrs["axis"], "both", attrs["is_ascend"], attrs["dtype"]))


def _scan(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda attrs, x: function(x, attrs["axis"], attrs["dtype"], attrs["exclusive"])


TE_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "log2": lambda attrs, x: topi.log2(x),
    "log10": lambda attrs, x: topi.log10(x),
    "multiply_add": lambda attrs, a, b, c: topi.add(topi.multiply(a, b), c),
    "reinterpret": lambda attrs, x: topi.reinterpret(x, attrs["dtype"]),
    "trunc_divide": _truncated(topi.divide),
    "trunc_mod": lambda attrs, a, b: topi.mod(a, b),
    "all": lambda attrs, x: topi.all(x, attrs["axis"], attrs["keepdims"]),
    "any": lambda attrs, x: topi.any(x, attrs["axis"], attrs["keepdims"]),
    "adaptive_max_pool": _adaptive_max,
    "normalize": _normalize,
    "take": _take,
    "interleave": _interleave,
    "topk": _topk,
    "searchsorted": lambda attrs, x, values: topi.searchsorted(x, values, attrs["right"], attrs["dtype"]),
    "cumsum": _scan(topi.cumsum),
    "cumprod": _scan(topi.cumprod),
    "layout_transform": lambda attrs, x: topi.layout_transform(x, attrs["src_layout"], attrs["dst_layout"]),
    "space_to_depth": lambda attrs, x: topi.nn.space_to_depth(x, attrs["block_size"], attrs["layout"]),
    "depth_to_space": lambda attrs, x: topi.nn.depth_to_space(
        x, attrs["block_size"], attrs["layout"], attrs["mode"]
    ),
    "mirror_pad": lambda attrs, x: topi.nn.mirror_pad(
        x, [p[0] for p in attrs["pad_width"]], [p[1] for p in attrs["pad_width"]], attrs["mode"]
    ),
    "lrn": lambda attrs, x: topi.nn.lrn(
        x, attrs["size"], attrs["axis"], attrs["alpha"], attrs["beta"], attrs["bias"]
    ),
    "resize1d": _resize1d,
    "resample": _resample,
    "grid_places": grid_places,
    "grid_taps": grid_taps,
    "grid_values": grid_values,
    "window_maximum": window_maximum,
    "quantised_matmul": _quantised_matmul,
    "adv_index": lambda attrs, x, *indices: topi.adv_index(x, list(indices)),
}


def call(name: str, args: list[relax.Expr], attrs: dict[str, Any] | None = None) -> relax.Call:
    """Make a call of the TE operator `name`."""
    return relax.Call(ir.Op.get(PREFIX + name), args, ir.attrs.make_node("ir.DictAttrs", **(attrs or {})))


def plain(value: Any) -> Any:
    """Turn attribute values (arrays, immediates) into plain Python ones."""
    if isinstance(value, tvm_ffi.Array | list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, tirx.IntImm | tirx.FloatImm | BoxInt):
        return value.value
    if isinstance(value, tvm_ffi.dtype):
        return str(value)
    return operator.index(value) if isinstance(value, SupportsIndex) and not isinstance(value, int) else value


def _attributes(call_node: relax.Call) -> dict[str, Any]:
    return {key: plain(call_node.attrs[key]) for key in call_node.attrs.keys()}  # noqa: SIM118


def _register(name: str, function: Callable[..., Any]) -> None:
    full_name = PREFIX + name
    ir_api.RegisterOp(full_name, f"{name}, defined by a TE function")

    def infer_type(call_node: relax.Call, _: Any) -> relax.Type:
        tensors = [te.placeholder(a.ty.shape.values, str(a.ty.dtype)) for a in call_node.args]
        result = function(_attributes(call_node), *tensors)
        if isinstance(result, te.Tensor):
            return relax.TensorType(result.shape, result.dtype)
        return relax.TupleType([relax.TensorType(t.shape, t.dtype) for t in result])

    def legalize(builder: relax.BlockBuilder, call_node: relax.Call) -> relax.Expr:
        attrs = _attributes(call_node)
        return builder.call_te(
            lambda *tensors: function(attrs, *tensors), *call_node.args, primfunc_name_hint=name
        )

    ir.register_op_attr(full_name, "FInferType", infer_type)
    ir.register_op_attr(full_name, "FPurity", True)
    register_legalize(full_name, legalize)


for _name, _function in TE_FUNCTIONS.items():
    _register(_name, _function)
