"""What the converter tests share: eager PyTorch against a converter's Relay, and tensors of every sort to try."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest
import relay_eval
import torch
from hypothesis import strategies as st

import torch_tvm

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
INTEGERS = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5, float("inf"), -float("inf"), float("nan")]
# One rounding of the result's dtype, and a few of float32's own.
TOLERANCES = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2, torch.float32: 2e-5, torch.float64: 1e-10}


def flatten(result: Any) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    return [tensor for part in result for tensor in flatten(part)]


def assert_same(got: torch.Tensor, expected: torch.Tensor) -> None:
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    tolerance = TOLERANCES.get(expected.dtype, 0)
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


def check_relay(function: torch_tvm.relay.Function) -> None:
    """Assert that a function is valid Relay, and that its text is too and reads back as the same."""
    parsed = torch_tvm.relay.parse(function.astext())
    assert torch_tvm.relay.structural_equal(parsed, function)
    torch_tvm.relay.check(function)


def check(fn: Callable[..., Any], *inputs: torch.Tensor) -> torch_tvm.relay.Function:
    """Compare the Relay of a function with the function, and give it back."""
    with torch.no_grad():
        expected = flatten(fn(*inputs))
        function = torch_tvm.to_relay(fn, inputs)
    check_relay(function)
    got = relay_eval.evaluate(function, list(inputs))
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert_same(one, other)
    return function


def operators(function: torch_tvm.relay.Function) -> list[str]:
    """Name the operators of a function, in the order of its text."""
    calls = [
        expr for expr in torch_tvm.relay.expressions(function.body) if isinstance(expr, torch_tvm.relay.Call)
    ]
    return [relay_eval.operator_name(call) for call in calls if isinstance(call.op, torch_tvm.relay.Op)]


def values(shape: Sequence[int], dtype: torch.dtype, special: bool = False) -> torch.Tensor:
    """Random numbers; with `special`, some are infinite, NaN or zero."""
    if dtype == torch.bool:
        return torch.rand(shape) < 0.5
    if not dtype.is_floating_point:
        low = 0 if dtype == torch.uint8 else -20
        return torch.randint(low, 20, tuple(shape), dtype=dtype)
    tensor = torch.randn(shape) * 2
    if special:
        chosen = torch.randint(0, len(SPECIAL), tuple(shape))
        tensor = torch.where(torch.rand(shape) < 0.5, tensor, torch.tensor(SPECIAL)[chosen])
    return tensor.to(dtype)


shapes = st.lists(st.sampled_from([1, 2, 3, 4]), min_size=0, max_size=4)
shapes_with_empty = st.lists(st.sampled_from([0, 1, 2, 3]), min_size=0, max_size=4)


@st.composite
def tensors(
    draw: Any,
    shape: Sequence[int] | None = None,
    dtypes: Sequence[torch.dtype] = FLOATS,
    special: bool = False,
    min_rank: int = 0,
) -> torch.Tensor:
    """Tensors of any layout: contiguous, transposed, sliced, channels_last, expanded."""
    sizes = list(draw(shapes_with_empty) if shape is None else shape)
    sizes += [2] * (min_rank - len(sizes))
    torch.manual_seed(draw(st.integers(0, 10_000)))
    dtype = draw(st.sampled_from(list(dtypes)))
    layout = draw(st.sampled_from(["contiguous", "reversed", "sliced", "expanded"]))
    if layout == "reversed":
        return values(sizes[::-1], dtype, special).permute(list(range(len(sizes)))[::-1])
    if layout == "sliced" and sizes:
        return values([*sizes[:-1], sizes[-1] * 2], dtype, special)[..., ::2]
    if layout == "expanded" and sizes and sizes[0]:
        return values([1, *sizes[1:]], dtype, special).expand(sizes)
    return values(sizes, dtype, special)


@st.composite
def broadcasting(
    draw: Any, dtypes: Sequence[torch.dtype], count: int = 2, special: bool = False
) -> list[torch.Tensor]:
    """Tensors whose shapes broadcast together, of dtypes that need not agree."""
    full = draw(shapes_with_empty)
    result = []
    for _ in range(count):
        shape = [1 if draw(st.booleans()) else size for size in full]
        result.append(draw(tensors(shape[draw(st.integers(0, len(shape))) :], dtypes, special)))
    return result


def assert_compiled_whole(left: Collection[str] = (), views: bool = False) -> None:
    """Assert that the function that ran last left no operator to PyTorch but these and, if allowed, views of inputs."""
    kinds = {node.kind() for node in torch.jit.last_executed_optimized_graph().nodes()}
    others = {kind for kind in kinds if kind.startswith("aten::") and not (views and is_view(kind))}
    assert others == set(left), kinds


def is_view(kind: str) -> bool:
    """Say whether all that an operator gives are views of what it is given."""
    if kind in ("aten::atleast_1d", "aten::atleast_2d", "aten::atleast_3d", "aten::broadcast_tensors"):
        return True  # their schemas do not say so
    schemas = torch._C._jit_get_schemas_for_operator(kind)
    return any(
        not schema.is_mutable and all(result.alias_info is not None for result in schema.returns)
        for schema in schemas
    )


def shares_memory(tensor: torch.Tensor, others: Sequence[torch.Tensor]) -> bool:
    return any(tensor.untyped_storage().data_ptr() == other.untyped_storage().data_ptr() for other in others)


def run_compiled(fn: Callable[..., Any], *inputs: torch.Tensor, left: Collection[str] = ()) -> None:
    """Compare a traced function, compiled whole, with the function: values, dtypes, sizes and strides.

    `left` names the operators that stay with PyTorch.
    """
    with (
        torch_tvm.enabled(strict=True, min_group_size=1, guard=False, compile_process=False),
        torch.no_grad(),
    ):
        expected = flatten(fn(*inputs))
        traced = torch.jit.trace(fn, inputs, check_trace=False, strict=False)  # it may give a list
        if not left:
            check_relay(torch_tvm.to_relay(traced, inputs))
        served = plans_used()
        got = flatten(traced(*inputs))
    assert plans_used() > served, "nothing was compiled"
    assert_compiled_whole(left, views=any(shares_memory(tensor, inputs) for tensor in expected))
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert_same(one, other)
        assert one.stride() == other.stride()


def plans_used() -> int:
    """Count the calls that a plan has served, compiled for them or, of an equal graph, there already."""
    stats = torch_tvm.stats()
    return stats["compiled"] + stats["cache_hits"]


def refusal(fn: Callable[..., Any], *inputs: torch.Tensor) -> str:
    """Say why a function does not convert."""
    with pytest.raises(torch_tvm.NotConvertibleError) as raised, torch.no_grad():
        torch_tvm.to_relay(fn, inputs)
    return str(raised.value)
