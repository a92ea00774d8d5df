"""Element-wise operators and reductions of the reference evaluator."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from relay_eval_registry import dtype_of, operator, same_dtypes

Tensor = torch.Tensor


def arithmetic(*names: str, keep_bool: bool = False) -> Callable[..., Any]:
    def register(compute: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Any]:
        def run(a: Tensor, b: Tensor) -> Tensor:
            same_dtypes(a, b)
            result = compute(a, b)
            assert result.dtype == a.dtype or keep_bool
            return result

        return operator(*names)(run)

    return register


for _name in (
    "add",
    "subtract",
    "multiply",
    "maximum",
    "minimum",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
):
    arithmetic(_name)(getattr(torch, _name))
for _name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
    _short = {"equal": "eq"}.get(_name, _name)
    arithmetic(_name, keep_bool=True)(getattr(torch, _short))
arithmetic("power")(torch.pow)
arithmetic("left_shift")(torch.bitwise_left_shift)
arithmetic("right_shift")(torch.bitwise_right_shift)
arithmetic("floor_mod")(torch.remainder)
arithmetic("trunc_mod")(torch.fmod)
arithmetic("floor_divide")(lambda a, b: torch.div(a, b, rounding_mode="floor"))
arithmetic("trunc_divide")(lambda a, b: torch.div(a, b, rounding_mode="trunc"))


@arithmetic("divide")
def divide(a: Tensor, b: Tensor) -> Tensor:
    assert a.is_floating_point(), "Relay divides integers with truncation"
    return a / b


def logical(name: str) -> None:
    compute = getattr(torch, name)

    def run(a: Tensor, b: Tensor) -> Tensor:
        assert a.dtype == b.dtype == torch.bool
        return compute(a, b)

    operator(name)(run)


for _name in ("logical_and", "logical_or", "logical_xor"):
    logical(_name)

UNARY = [
    "exp",
    "log",
    "log2",
    "log10",
    "sqrt",
    "rsqrt",
    "sin",
    "cos",
    "tan",
    "tanh",
    "sinh",
    "cosh",
    "asin",
    "acos",
    "atan",
    "asinh",
    "acosh",
    "atanh",
    "erf",
    "sigmoid",
    "floor",
    "ceil",
    "trunc",
    "round",
]


def float_unary(name: str) -> None:
    compute = getattr(torch, name)

    def run(x: Tensor) -> Tensor:
        assert x.dtype in (torch.float32, torch.float64), f"math on {x.dtype}"
        return compute(x)

    operator(name)(run)


for _name in UNARY:
    float_unary(_name)
for _name in ("abs", "negative", "sign", "isnan", "isinf", "isfinite", "logical_not", "bitwise_not"):
    operator(_name)(getattr(torch, _name))
operator("nn.relu")(torch.relu)


@operator("nn.leaky_relu")
def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    return F.leaky_relu(x, alpha)


@operator("clip")
def clip(x: Tensor, a_min: float, a_max: float) -> Tensor:
    assert a_min <= a_max
    if not x.is_floating_point():
        return torch.clamp(x, int(a_min), int(a_max))
    return torch.clamp(x, a_min, a_max)


@operator("cast")
def cast(x: Tensor, dtype: str) -> Tensor:
    assert dtype_of(dtype) != torch.bool, "a cast to bool is != 0 in Relay's neighbours only"
    return x.to(dtype_of(dtype))


@operator("reinterpret")
def reinterpret(x: Tensor, dtype: str) -> Tensor:
    assert x.element_size() == dtype_of(dtype).itemsize
    return x.view(dtype_of(dtype))


@operator("where")
def where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    same_dtypes(x, y)
    assert condition.dtype == torch.bool
    return torch.where(condition, x, y)


@operator("nn.softmax")
def softmax(x: Tensor, axis: int) -> Tensor:
    return torch.softmax(x, axis)


@operator("nn.log_softmax")
def log_softmax(x: Tensor, axis: int) -> Tensor:
    return torch.log_softmax(x, axis)


def reducer(name: str, compute: Callable[[Tensor, list[int], bool], Tensor]) -> None:
    def run(x: Tensor, axis: Any, keepdims: bool, exclude: bool) -> Tensor:
        assert not exclude
        assert x.numel() > 0, "a reduction of nothing"
        axes = [a % x.dim() for a in axis] if axis else list(range(x.dim()))
        result = compute(x, axes, keepdims)
        assert result.dtype == x.dtype
        return result

    operator(name)(run)


reducer("sum", lambda x, axes, keep: torch.sum(x, axes, keepdim=keep, dtype=x.dtype))
reducer("mean", lambda x, axes, keep: torch.mean(x, axes, keepdim=keep))
reducer("max", lambda x, axes, keep: torch.amax(x, axes, keepdim=keep))
reducer("min", lambda x, axes, keep: torch.amin(x, axes, keepdim=keep))


def each_axis(step: Callable[[Tensor, int], Tensor]) -> Callable[[Tensor, list[int], bool], Tensor]:
    def run(x: Tensor, axes: list[int], keep: bool) -> Tensor:
        for axis in axes:
            x = step(x, axis)
        return x if keep else x.reshape([n for i, n in enumerate(x.shape) if i not in axes])

    return run


reducer("prod", each_axis(lambda x, axis: torch.prod(x, axis, keepdim=True, dtype=x.dtype)))
reducer("any", each_axis(lambda x, axis: torch.any(x, axis, keepdim=True)))
reducer("all", each_axis(lambda x, axis: torch.all(x, axis, keepdim=True)))


@operator("variance")
def variance(x: Tensor, mean: Tensor, axis: Any, keepdims: bool, exclude: bool, unbiased: bool) -> Tensor:
    assert mean.dim() == x.dim() and not exclude
    count = math.prod(x.shape[a] for a in axis)
    return torch.sum((x - mean) ** 2, axis, keepdim=keepdims) / (count - unbiased)


def index_reducer(name: str, compute: Any) -> None:
    def run(x: Tensor, axis: Any, keepdims: bool, select_last_index: bool, exclude: bool) -> Tensor:
        assert len(axis) == 1 and not exclude and not select_last_index
        return compute(x, axis[0], keepdim=keepdims).to(torch.int32)

    operator(name)(run)


index_reducer("argmax", torch.argmax)
index_reducer("argmin", torch.argmin)
