"""Products, convolutions, pooling and normalisation of the reference evaluator."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from relay_eval_registry import operator, same_dtypes

Tensor = torch.Tensor


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
        assert all(extra < stride for extra, stride in zip(output_padding, strides, strict=True))
        whole = convolve(x, weight, None, strides, 0, 0, groups, dilation)
        cut = zip(padding[:dims], padding[dims:], output_padding, strict=True)
        return F.pad(whole, [n for begin, end, extra in [*cut][::-1] for n in (-begin, extra - end)])

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
