"""Max pooling with indices, fractional pooling, unpooling and gradients against eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from convert_checks import check, operators, refusal, run_compiled, values
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import torch_tvm
from torch_tvm.compiler import pipeline
from torch_tvm.kernels import window_maximum

Tensor = torch.Tensor
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8]
channels_last = torch.channels_last
POOLS: dict[int, Callable[..., Any]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


@pytest.fixture
def pooled(monkeypatch: pytest.MonkeyPatch) -> list[window_maximum.WindowMaximum]:
    """Workloads of the kernel that gives maxima with their numbers, as they are built."""
    found: list[window_maximum.WindowMaximum] = []
    build = window_maximum.build

    def recorded(*, workload: window_maximum.WindowMaximum, **rest: Any) -> Any:
        found.append(workload)
        return build(workload=workload, **rest)

    monkeypatch.setattr(window_maximum, "build", recorded)
    assert pipeline.passes.WINDOWS
    return found


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype: torch.dtype, pooled: list[window_maximum.WindowMaximum]) -> None:
    """Of equal elements the first one counts, of NaN the last one; one kernel gives both results."""
    x = values([2, 3, 9, 10], dtype, special=True)
    x[0, 0, :4] = -float("inf") if dtype.is_floating_point else 0
    torch_tvm.clear_cache()
    run_compiled(
        lambda x: (
            *F.max_pool2d(x, 3, 2, 1, return_indices=True),
            *F.max_pool2d(x, (2, 3), 1, (1, 0), ceil_mode=True, return_indices=True),
        ),
        x,
    )
    assert len(pooled) == 2
    assert pooled[0].run == (1, 5)
    assert pooled[0].step == 2


@settings(max_examples=20)
@given(st.integers(1, 3), st.booleans(), st.data())
def test_windows(dims: int, batched: bool, data: Any) -> None:
    def draw(low: int, high: int) -> list[int]:
        return [data.draw(st.integers(low, high)) for _ in range(dims)]

    kernel, dilation, stride = draw(1, 3), draw(1, 2), draw(1, 3)
    padding = [data.draw(st.integers(0, k // 2)) for k in kernel]
    sizes = [(k - 1) * d + 1 + data.draw(st.integers(0, 4)) for k, d in zip(kernel, dilation, strict=True)]
    x = values([2, 3, *sizes] if batched else [3, *sizes], torch.float32, special=True)
    options = (kernel, stride, padding, dilation, data.draw(st.booleans()))
    check(lambda x: POOLS[dims](x, *options, return_indices=True), x)


def test_layouts(pooled: list[window_maximum.WindowMaximum]) -> None:
    """Channels last, adaptive windows of two sizes, volumes, no batch; strides are eager's."""
    x, y = values([2, 3, 9, 10], torch.float32, special=True), values([2, 3, 6, 7, 8], torch.float32)

    def pools(x: Tensor, y: Tensor) -> Any:
        return (
            F.max_pool2d(x, 3, 2, 1, 2, return_indices=True),
            F.max_pool2d(x[0], 2, 1, return_indices=True),
            F.adaptive_max_pool2d(x, (4, 3), return_indices=True),
            F.adaptive_max_pool1d(x[0], 7, return_indices=True),
            F.max_pool3d(y, (2, 3, 2), 2, 1, ceil_mode=True, return_indices=True),
            F.adaptive_max_pool3d(y, (4, 3, 2), return_indices=True),
        )

    torch_tvm.clear_cache()
    run_compiled(pools, x, y)
    run_compiled(
        pools, x.contiguous(memory_format=channels_last), y.contiguous(memory_format=torch.channels_last_3d)
    )
    assert len(pooled) >= 6


def test_relay_without_indices() -> None:
    """Where nobody needs indices, Relay's own operator is all."""
    x = values([1, 2, 6, 6], torch.float32)
    function = check(lambda x: F.max_pool2d(x, 2), x)
    assert operators(function) == ["nn.max_pool2d"]
    assert "nn.max_pool2d" not in operators(check(lambda x: F.max_pool2d(x, 2, return_indices=True), x))


def test_window_in_the_padding() -> None:
    x = values([1, 1, 1, 4], torch.float32)
    reason = refusal(
        lambda x: torch.ops.aten.max_pool2d_with_indices(x, [2, 2], [1, 1], [1, 1], [2, 1])[1], x
    )
    assert "padding" in reason


def test_fractional() -> None:
    x, y = values([2, 3, 9, 10], torch.float32, special=True), values([2, 3, 6, 7, 8], torch.float64)
    flat, deep = torch.rand(2, 3, 2), torch.rand(2, 3, 3, dtype=torch.float64)
    flat[0, 0] = 0

    def pools(x: Tensor, y: Tensor, flat: Tensor, deep: Tensor) -> Any:
        pool2, pool3 = torch.ops.aten.fractional_max_pool2d, torch.ops.aten.fractional_max_pool3d
        return (
            *(pool2(x, [2, 3], size, flat) for size in ([4, 3], [1, 1], [8, 8])),
            pool2(x[0], [2, 2], [5, 2], flat[:1]),
            pool3(y, [2, 3, 2], [4, 3, 2], deep),
        )

    check(pools, x, y, flat, deep)
    run_compiled(pools, x, y, flat, deep)
    assert "float32" in refusal(
        lambda x, s: torch.ops.aten.fractional_max_pool2d(x, [2, 2], [3, 3], s), x.half(), flat.half()
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unpool(dtype: torch.dtype) -> None:
    x, y = values([2, 3, 9, 10], dtype), values([2, 3, 6, 7, 8], dtype)
    (a, i), (b, j) = F.max_pool2d(x, 2, return_indices=True), F.max_pool3d(y, 2, return_indices=True)

    def unpool(a: Tensor, i: Tensor, b: Tensor, j: Tensor) -> Any:
        ops = torch.ops.aten
        return (
            ops.max_unpool2d(a, i, [9, 10]),
            ops.max_unpool2d(a[0], i[0], [9, 10]),
            ops.max_unpool3d(b, j, [6, 7, 8], [2, 2, 2], [0, 0, 0]),
        )

    check(unpool, a, i, b, j)
    run_compiled(unpool, a, i, b, j)
    last = a.contiguous(memory_format=channels_last)
    run_compiled(lambda a, i: torch.ops.aten.max_unpool2d(a, i, [9, 10]), last, i)


def test_unpool_out_of_range() -> None:
    """PyTorch raises for indices that are not there."""
    a, i = torch.ones(1, 1, 2, 2), torch.tensor([[[[0, 1], [2, 15]]]])
    with torch_tvm.enabled(min_group_size=1, guard=False, compile_process=False), torch.no_grad():
        traced = torch.jit.trace(lambda a, i: torch.ops.aten.max_unpool2d(a, i, [4, 4]), (a, i))
        assert torch.equal(traced(a, i), torch.ops.aten.max_unpool2d(a, i, [4, 4]))
        i[0, 0, 0, 0] = 16
        with pytest.raises(RuntimeError, match="invalid max index"):
            traced(a, i)


def test_gradients() -> None:
    """Overlapping windows add up where they met; in half each sum is rounded."""
    x, y = values([2, 3, 9, 10], torch.float32), values([2, 3, 6, 7, 8], torch.float64)
    (a, i), (b, j) = F.max_pool2d(x, 3, 1, return_indices=True), F.max_pool3d(y, 2, 1, return_indices=True)
    c, k = F.adaptive_max_pool2d(x, 4, return_indices=True)
    ops = torch.ops.aten

    def gradients(x: Tensor, y: Tensor, grads: list[Tensor], indices: list[Tensor]) -> Any:
        flat, deep = ([3, 3], [1, 1], [0, 0], [1, 1], False), ([2] * 3, [1] * 3, [0] * 3, [1] * 3, False)
        return (
            ops.max_pool2d_with_indices_backward(grads[0], x, *flat, indices[0]),
            ops.max_pool3d_with_indices_backward(grads[1], y, *deep, indices[1]),
            ops.adaptive_max_pool2d_backward(grads[2], x, indices[2]),
        )

    grads = [torch.randn_like(t) for t in (a, b, c)]
    check(lambda x, y, p, q, r: gradients(x, y, [p, q, r], [i, j, k]), x, y, *grads)
    half = [grads[0].bfloat16(), grads[1], grads[2].bfloat16()]
    check(lambda x, y, p, q, r: gradients(x, y, [p, q, r], [i, j, k]), x.bfloat16(), y, *half)
