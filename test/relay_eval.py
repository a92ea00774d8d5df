"""A reference evaluator of Relay: each operator as facts/relay/TYPE_RELATIONS.md describes it, on torch tensors.

It stands between the converters and the compiler, so that a converter's Relay is tested against eager PyTorch within
microseconds and without a compiler. Where TVM 0.19 would reject a call - operands of two dtypes, a shape that does not
broadcast - the evaluator does too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from torch_tvm import relay

Tensor = torch.Tensor
OPERATORS: dict[str, Callable[..., Any]] = {}


def operator(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            OPERATORS[name] = function
        return function

    return register


def dtype_of(name: str) -> torch.dtype:
    return getattr(torch, str(name))


def plain(value: Any) -> Any:
    """Make a tvm-ffi attribute a Python value."""
    if hasattr(value, "__len__") and not isinstance(value, str):
        return [plain(element) for element in value]
    return value


def evaluate(function: relay.Function, inputs: list[Tensor]) -> list[Tensor]:
    """Run a function; a tuple result gives its fields."""
    params = list(function.params)
    assert len(params) == len(inputs), f"{len(params)} parameters, {len(inputs)} inputs"
    values: dict[Any, Any] = {}
    for param, tensor in zip(params, inputs, strict=True):
        check_type(param.type_annotation, tensor)
        values[param] = tensor
    result = Evaluator(values).value(function.body)
    return list(result) if isinstance(result, tuple | list) else [result]


def operator_name(call: relay.Call) -> str:
    assert isinstance(call.op, relay.Op)
    return str(call.op.name)


def check_type(type_: Any, tensor: Tensor) -> None:
    assert list(type_.shape) == list(tensor.shape), f"{type_} for {tuple(tensor.shape)}"
    assert str(type_.dtype) == str(tensor.dtype).removeprefix("torch."), f"{type_} for {tensor.dtype}"


class Evaluator:
    """Evaluates expressions once each, operands first."""

    def __init__(self, values: dict[Any, Any]) -> None:
        self.values = values

    def value(self, root: relay.Expr) -> Any:
        stack = [root]
        while stack:
            expr = stack[-1]
            if expr in self.values:
                stack.pop()
                continue
            missing = [operand for operand in self.operands(expr) if operand not in self.values]
            if missing:
                stack += missing
                continue
            self.values[expr] = self.compute(expr)
        return self.values[root]

    def operands(self, expr: relay.Expr) -> list[relay.Expr]:
        if isinstance(expr, relay.Call):
            return list(expr.args)
        if isinstance(expr, relay.Tuple):
            return list(expr.fields)
        return [expr.tuple] if isinstance(expr, relay.TupleGetItem) else []

    def compute(self, expr: relay.Expr) -> Any:
        if isinstance(expr, relay.Constant):
            return torch.from_dlpack(expr.data)
        if isinstance(expr, relay.Tuple):
            return tuple(self.values[field] for field in expr.fields)
        if isinstance(expr, relay.TupleGetItem):
            return self.values[expr.tuple][int(expr.index)]
        assert isinstance(expr, relay.Call), f"a {type(expr).__name__} in a converter's Relay"
        args = [self.values[arg] for arg in expr.args]
        attrs = {str(key): plain(value) for key, value in expr.attrs.items()}
        return OPERATORS[operator_name(expr)](*args, **attrs)


def same_dtypes(*tensors: Tensor) -> None:
    assert len({tensor.dtype for tensor in tensors}) == 1, f"dtypes differ: {[t.dtype for t in tensors]}"


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
for _name in ("abs", "negative", "isnan", "isinf", "isfinite", "logical_not", "bitwise_not"):
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


@operator("nn.dense")
def dense(x: Tensor, weight: Tensor, units: int, out_dtype: str) -> Tensor:
    same_dtypes(x, weight)
    assert out_dtype == "" and weight.dim() == 2 and weight.shape[0] == units and x.dim() >= 1
    return x @ weight.T


@operator("nn.matmul")
def matmul(a: Tensor, b: Tensor, units: int, out_dtype: str, transpose_a: bool, transpose_b: bool) -> Tensor:
    same_dtypes(a, b)
    assert out_dtype == "" and b.dim() == 2 and not transpose_a and not transpose_b and b.shape[1] == units
    return a @ b


@operator("nn.batch_matmul")
def batch_matmul(a: Tensor, b: Tensor, out_dtype: str, transpose_a: bool, transpose_b: bool) -> Tensor:
    same_dtypes(a, b)
    assert out_dtype == "" and a.dim() == 3 and b.dim() == 3
    assert a.shape[0] == b.shape[0] or 1 in (a.shape[0], b.shape[0])
    return (a.mT if transpose_a else a) @ (b.mT if transpose_b else b)


@operator("nn.bias_add")
def bias_add(x: Tensor, bias: Tensor, axis: int) -> Tensor:
    same_dtypes(x, bias)
    assert list(bias.shape) == [x.shape[axis]]
    shape = [1] * x.dim()
    shape[axis] = -1
    return x + bias.reshape(shape)


def padded(x: Tensor, padding: list[int], dims: int, value: float) -> Tensor:
    assert len(padding) == 2 * dims, f"padding {padding} for {dims} dims"
    pairs = [edge for i in reversed(range(dims)) for edge in (padding[i], padding[i + dims])]
    return F.pad(x, pairs, value=value)


def convolution(dims: int) -> Callable[..., Tensor]:
    convolve = [F.conv1d, F.conv2d, F.conv3d][dims - 1]

    def run(
        x: Tensor,
        weight: Tensor,
        strides: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        channels: int,
        kernel_size: Any,
        **layouts: str,
    ) -> Tensor:
        same_dtypes(x, weight)
        assert list(weight.shape) == [channels, x.shape[1] // groups, *kernel_size]
        return convolve(padded(x, padding, dims, 0), weight, None, strides, 0, dilation, groups)

    return run


def transposed_convolution(dims: int) -> Callable[..., Tensor]:
    convolve = [F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d][dims - 1]

    def run(
        x: Tensor,
        weight: Tensor,
        channels: int,
        kernel_size: Any,
        strides: Any,
        output_padding: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        **layouts: str,
    ) -> Tensor:
        same_dtypes(x, weight)
        assert list(weight.shape) == [x.shape[1], channels // groups, *kernel_size]
        assert padding[:dims] == padding[dims:]
        return convolve(x, weight, None, strides, padding[:dims], output_padding, groups, dilation)

    return run


def max_pooling(dims: int) -> Callable[..., Tensor]:
    pool = [F.max_pool1d, F.max_pool2d, F.max_pool3d][dims - 1]

    def run(
        x: Tensor,
        pool_size: Any,
        strides: Any,
        dilation: Any,
        padding: Any,
        layout: str,
        out_layout: str,
        ceil_mode: bool,
    ) -> Tensor:
        assert not ceil_mode
        lowest = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
        return pool(padded(x, padding, dims, lowest), pool_size, strides, 0, dilation)

    return run


def average_pooling(dims: int) -> Callable[..., Tensor]:
    pool = [F.avg_pool1d, F.avg_pool2d, F.avg_pool3d][dims - 1]

    def run(
        x: Tensor,
        pool_size: Any,
        strides: Any,
        dilation: Any,
        padding: Any,
        layout: str,
        out_layout: str,
        ceil_mode: bool,
        count_include_pad: bool,
    ) -> Tensor:
        assert not ceil_mode and dilation == [1] * dims
        mean = pool(padded(x, padding, dims, 0), pool_size, strides)
        if count_include_pad:
            return mean
        return mean / pool(padded(torch.ones_like(x), padding, dims, 0), pool_size, strides)

    return run


def adaptive_pooling(kind: str, dims: int) -> Callable[..., Tensor]:
    pool = getattr(F, f"adaptive_{kind}_pool{dims}d")

    def run(x: Tensor, output_size: Any, layout: str, out_layout: str) -> Tensor:
        return pool(x, output_size)

    return run


for _dims in (1, 2, 3):
    operator(f"nn.conv{_dims}d")(convolution(_dims))
    operator(f"nn.conv{_dims}d_transpose")(transposed_convolution(_dims))
    operator(f"nn.max_pool{_dims}d")(max_pooling(_dims))
    operator(f"nn.avg_pool{_dims}d")(average_pooling(_dims))
    operator(f"nn.adaptive_avg_pool{_dims}d")(adaptive_pooling("avg", _dims))
    operator(f"nn.adaptive_max_pool{_dims}d")(adaptive_pooling("max", _dims))


def channelwise(x: Tensor, vector: Tensor, axis: int) -> Tensor:
    same_dtypes(x, vector)
    assert list(vector.shape) == [x.shape[axis]]
    shape = [1] * x.dim()
    shape[axis] = -1
    return vector.reshape(shape)


def affine(x: Tensor, gamma: Tensor, beta: Tensor, axis: int, center: bool, scale: bool) -> Tensor:
    x = x * channelwise(x, gamma, axis) if scale else x
    return x + channelwise(x, beta, axis) if center else x


@operator("nn.batch_norm")
def batch_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    var: Tensor,
    axis: int,
    epsilon: float,
    center: bool,
    scale: bool,
) -> tuple[Tensor, ...]:
    normal = (x - channelwise(x, mean, axis)) / torch.sqrt(channelwise(x, var, axis) + epsilon)
    return affine(normal, gamma, beta, axis, center, scale), mean, var


def normalised(x: Tensor, axes: list[int], epsilon: float) -> Tensor:
    mean = x.mean(axes, keepdim=True)
    var = ((x - mean) ** 2).mean(axes, keepdim=True)
    return (x - mean) / torch.sqrt(var + epsilon)


@operator("nn.layer_norm")
def layer_norm(
    x: Tensor, gamma: Tensor, beta: Tensor, axis: int, epsilon: float, center: bool, scale: bool
) -> Tensor:
    return affine(normalised(x, [axis], epsilon), gamma, beta, axis, center, scale)


@operator("nn.instance_norm")
def instance_norm(
    x: Tensor, gamma: Tensor, beta: Tensor, axis: int, epsilon: float, center: bool, scale: bool
) -> Tensor:
    axes = [i for i in range(2, x.dim())]
    return affine(normalised(x, axes, epsilon), gamma, beta, axis, center, scale)


@operator("nn.group_norm")
def group_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    num_groups: int,
    axis: int,
    epsilon: float,
    center: bool,
    scale: bool,
) -> Tensor:
    grouped = x.reshape(x.shape[0], num_groups, -1)
    return affine(normalised(grouped, [2], epsilon).reshape(x.shape), gamma, beta, axis, center, scale)


@operator("reshape")
def reshape(x: Tensor, newshape: Any, allowzero: Any) -> Tensor:
    assert all(size > 0 for size in newshape), f"{newshape} has entries that Relay reads as codes"
    assert math.prod(newshape) == x.numel()
    return x.reshape(newshape)


@operator("transpose")
def transpose(x: Tensor, axes: Any) -> Tensor:
    return x.permute(axes)


@operator("expand_dims")
def expand_dims(x: Tensor, axis: int, num_newaxis: int) -> Tensor:
    assert num_newaxis == 1
    return x.unsqueeze(axis)


@operator("squeeze")
def squeeze(x: Tensor, axis: Any) -> Tensor:
    assert all(x.shape[a] == 1 for a in axis)
    return x.squeeze(tuple(axis))


@operator("broadcast_to")
def broadcast_to(x: Tensor, shape: Any, dtype: str) -> Tensor:
    return x.expand(shape)


@operator("concatenate")
def concatenate(parts: tuple[Tensor, ...], axis: int) -> Tensor:
    same_dtypes(*parts)
    assert len({part.dim() for part in parts}) == 1
    return torch.cat(parts, axis)


@operator("stack")
def stack(parts: tuple[Tensor, ...], axis: int) -> Tensor:
    same_dtypes(*parts)
    return torch.stack(parts, axis)


@operator("split")
def split(x: Tensor, indices_or_sections: Any, axis: int) -> tuple[Tensor, ...]:
    if isinstance(indices_or_sections, list):
        assert indices_or_sections == sorted(indices_or_sections)
        return torch.tensor_split(x, indices_or_sections, axis)
    assert x.shape[axis] % indices_or_sections == 0
    return torch.chunk(x, indices_or_sections, axis)


@operator("strided_slice")
def strided_slice(x: Tensor, begin: Any, end: Any, strides: Any, slice_mode: str, axes: Any) -> Tensor:
    assert slice_mode == "end"
    for axis, first, last, step in zip(axes or range(len(begin)), begin, end, strides, strict=True):
        assert 0 <= first < last <= x.shape[axis]
        x = x.narrow(axis, first, last - first)[(slice(None),) * axis + (slice(None, None, step),)]
    return x


@operator("take")
def take(x: Tensor, indices: Tensor, batch_dims: int, axis: int, mode: str) -> Tensor:
    assert batch_dims == 0 and mode == "clip"
    flat = indices.reshape(-1).long().clamp(0, x.shape[axis] - 1)
    taken = torch.index_select(x, axis, flat)
    return taken.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


@operator("gather")
def gather(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    assert all(n == m for i, (n, m) in enumerate(zip(x.shape, indices.shape, strict=True)) if i != axis)
    return torch.gather(x, axis, indices.long())


@operator("adv_index")
def adv_index(fields: tuple[Tensor, ...]) -> Tensor:
    x, *indices = fields
    for axis, index in enumerate(indices):
        assert index.numel() == 0 or (index.min() >= 0 and index.max() < x.shape[axis])
    return x[tuple(indices)]


@operator("cumsum")
def cumsum(x: Tensor, axis: int, dtype: str, exclusive: Any) -> Tensor:
    assert not exclusive
    return torch.cumsum(x, axis, dtype=dtype_of(dtype))


@operator("cumprod")
def cumprod(x: Tensor, axis: int, dtype: str, exclusive: Any) -> Tensor:
    assert not exclusive
    return torch.cumprod(x, axis, dtype=dtype_of(dtype))


@operator("reverse")
def reverse(x: Tensor, axis: int) -> Tensor:
    return x.flip(axis)


@operator("tile")
def tile(x: Tensor, reps: Any) -> Tensor:
    return x.repeat(reps)


@operator("repeat")
def repeat(x: Tensor, repeats: int, axis: int) -> Tensor:
    return x.repeat_interleave(repeats, axis)


@operator("nn.pad")
def pad(x: Tensor, value: Tensor, pad_width: Any, pad_mode: str) -> Tensor:
    assert pad_mode == "constant" and len(pad_width) == x.dim()
    same_dtypes(x, value)
    return F.pad(x, [edge for pair in reversed(pad_width) for edge in pair], value=value.item())


@operator("full")
def full(value: Tensor, shape: Any, dtype: str) -> Tensor:
    assert value.dtype == dtype_of(dtype)
    return torch.full(shape, value.item(), dtype=value.dtype)


@operator("zeros")
def zeros(shape: Any, dtype: str) -> Tensor:
    return torch.zeros(shape, dtype=dtype_of(dtype))


@operator("arange")
def arange(first: Tensor, last: Tensor, by: Tensor, /, dtype: str, **operands: Any) -> Tensor:
    same_dtypes(first, last, by)
    assert str(first.dtype) == f"torch.{dtype}"
    count = math.ceil((last.item() - first.item()) / by.item())
    assert count > 0, "TVM rejects an empty arange"
    return first + by * torch.arange(count).to(by.dtype)
