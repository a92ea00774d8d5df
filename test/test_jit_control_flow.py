"""Groups inside of the branches and loops of scripted functions: results are eager PyTorch's, and bodies are compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from control_flow_cases import CASES, X, Y, lists, optional
from convert_checks import flatten
from torch import nn

import torch_tvm
from torch_tvm import _C

# Functions whose blocks hold no two operators that belong together.
WITHOUT_GROUPS = {"lists_that_branch"}


@pytest.fixture(autouse=True)
def compiled_here() -> Iterator[None]:
    with torch_tvm.enabled(guard=False, compile_process=False), torch.no_grad():
        yield


def groups(block: Any) -> int:
    """Count the groups in the blocks of branches and loops."""
    count = 0
    for node in block.nodes():
        for inner in node.blocks():
            count += sum(n.kind() == "tvm::CompilationGroup" for n in inner.nodes()) + groups(inner)
    return count


def call(scripted: Any, *inputs: Any) -> tuple[list[torch.Tensor], Any]:
    """Give the tensors that a call gives, and the graph that ran."""
    result = scripted(*inputs)
    values = [result] if isinstance(result, torch.Tensor) else list(result)
    return [torch.as_tensor(value) for value in values], torch.jit.last_executed_optimized_graph()


@pytest.mark.parametrize(("function", "_", "calls"), CASES, ids=[case[0].__name__ for case in CASES])
def test_bodies_are_compiled(function: Callable[..., Any], _: Any, calls: list[list[Any]]) -> None:
    if function.__name__ == "nested_loops":
        pytest.skip("PyTorch 2.13 by itself loses a variable: 'Expected Tensor but got None'")
    scripted = torch.jit.script(function)
    for inputs in calls * 2:
        results, graph = call(scripted, *inputs)
        expected = function(*inputs)
        for got, value in zip(results, flatten_numbers(expected), strict=True):
            torch.testing.assert_close(got, value, rtol=1e-5, atol=1e-5)
    assert (groups(graph) > 0) == (function.__name__ not in WITHOUT_GROUPS)
    assert torch_tvm.stats()["fallback_reasons"] == {} or function.__name__ == "long_loop"


def flatten_numbers(result: Any) -> list[torch.Tensor]:
    return flatten(
        result if isinstance(result, torch.Tensor) else [torch.as_tensor(value) for value in result]
    )


class Recurrent(nn.Module):
    """A cell in a Python loop that gathers its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.given = nn.Linear(3, 4)
        self.held = nn.Linear(4, 4)

    def forward(self, xs: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outputs: list[torch.Tensor] = []
        for i in range(xs.size(0)):
            h = torch.tanh(self.given(xs[i]) + self.held(h))
            outputs.append(h)
        return torch.stack(outputs), h


def test_a_cell_in_a_loop() -> None:
    module = Recurrent().eval()
    frozen = torch.jit.freeze(torch.jit.script(module))
    for steps in (5, 3, 9):
        inputs = torch.randn(steps, 2, 3), torch.randn(2, 4)
        results, graph = call(frozen, *inputs)
        for got, value in zip(results, module(*inputs), strict=True):
            torch.testing.assert_close(got, value)
    assert groups(graph) > 0


def three_trips(x: torch.Tensor) -> torch.Tensor:
    for i in range(3):
        x = torch.tanh(x) * 1.5 + i
    return x


def sixty_three_trips(x: torch.Tensor) -> torch.Tensor:
    for i in range(63):
        x = torch.tanh(x) + i
    return x


def more_trips(x: torch.Tensor) -> torch.Tensor:
    for i in range(64):
        x = torch.tanh(x) + i
    return x


@pytest.mark.parametrize(
    ("function", "whole"), [(three_trips, True), (sixty_three_trips, True), (more_trips, False)]
)
def test_loops_of_constant_length_are_unrolled_up_to_63_trips(
    function: Callable[..., Any], whole: bool
) -> None:
    """PyTorch's own pass unrolls them; of longer ones it takes 8 trips at a time."""
    scripted = torch.jit.script(function)
    results, graph = call(scripted, X)
    torch.testing.assert_close(results[0], function(X))
    kinds = [node.kind() for node in graph.nodes()]
    assert ("prim::Loop" in kinds) != whole
    assert len(list(_C.group_subgraphs(graph))) == 1


@pytest.mark.parametrize("n", [2, 4])
def test_lists_in_loops(n: int) -> None:
    scripted = torch.jit.script(lists)
    for x in (torch.randn(4, 3), torch.randn(5, 2)):
        torch.testing.assert_close(scripted(x, n), lists(x, n))


def test_optional_arguments() -> None:
    scripted = torch.jit.script(optional)
    for bias in (None, Y, None, Y * 2):
        for flag in (True, False):
            torch.testing.assert_close(scripted(X, bias, flag), optional(X, bias, flag))
