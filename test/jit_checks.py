"""What the tests of groups share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torch_tvm import _C


def muladd(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.relu(a * b + c)


def trace(function: Any, *inputs: Any) -> Any:
    return torch.jit.trace(function, inputs, check_trace=False)


def three(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(shape), torch.randn(shape), torch.randn(shape)


def same(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def groups(graph: torch._C.Graph) -> list[list[str]]:
    """Return the operators of each group, constants left out."""
    return [operators(subgraph) for subgraph in _C.group_subgraphs(graph)]


def operators(graph: torch._C.Graph) -> list[str]:
    return [node.kind() for node in graph.nodes() if node.kind() != "prim::Constant"]


def groups_of(function: Any, *inputs: Any) -> list[list[str]]:
    """Return the groups of what the executor made of a function at a call."""
    function(*inputs)
    return groups(torch.jit.last_executed_optimized_graph())


def shared_memory(tensors: Sequence[Tensor]) -> list[list[bool]]:
    """Say which tensors share memory with which."""
    places = [tensor.untyped_storage().data_ptr() for tensor in tensors]
    return [[one == other for one in places] for other in places]
