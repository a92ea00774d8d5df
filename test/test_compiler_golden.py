"""Programs that TVM 0.19 itself printed compute what the PyTorch functions compute that they were made from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from compiler_cases import assert_close, compile_plan
from relay_eval import evaluate

from torch_tvm import relay

GOLDEN = Path(__file__).parent / "golden"
INDEX: list[dict[str, Any]] = json.loads((GOLDEN / "index.json").read_text())
FUNCTIONS = [entry["name"] for entry in INDEX if str(entry.get("torch", "")).startswith("def ")]
CONTROL_FLOW = ["built_if", "built_while", "if_script"]
# TVM 0.19 took Tensor.bool() for no operation: this output of `casts` is the input.
NOT_PYTORCH = {"casts": [3]}
# ... and it took no notice of alpha.
SOURCES = {"add_alpha": "def add_alpha(a, b): return a + b"}


def program(name: str) -> relay.Function:
    module = relay.parse((GOLDEN / f"{name}.relay").read_text())
    assert isinstance(module, relay.IRModule)
    return module.functions["main"]


def inputs_of(function: relay.Function) -> list[torch.Tensor]:
    made = []
    for param in function.params:
        ty = param.type_annotation
        assert isinstance(ty, relay.TensorType)
        dtype = getattr(torch, str(ty.dtype))
        value = torch.rand(list(ty.shape)) + 0.25
        made.append((value * 8).to(dtype) if not dtype.is_floating_point else value.to(dtype))
    return made


def run(function: relay.Function, inputs: list[torch.Tensor], like: list[torch.Tensor]) -> list[torch.Tensor]:
    compiled = compile_plan(function.body, list(function.params), len(inputs), like)
    return compiled(inputs, [], like)


def flat(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for member in value for tensor in flat(member)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name: str) -> None:
    source = SOURCES.get(name) or next(entry["torch"] for entry in INDEX if entry["name"] == name)
    scope: dict[str, Any] = {"torch": torch, "F": F}
    exec(source, scope)
    function = program(name)
    inputs = inputs_of(function)
    expected = flat(scope[name](*inputs))
    for position in NOT_PYTORCH.get(name, []):
        expected[position] = inputs[0]
    stated = function.ret_type
    types = stated.fields if isinstance(stated, relay.TupleType) else [stated]
    # Relay's indices are 32 bits wide where PyTorch's are 64.
    expected = [e.to(getattr(torch, str(t.dtype))) for e, t in zip(expected, types, strict=True)]  # type: ignore
    for actual, reference in zip(run(function, inputs, expected), expected, strict=True):
        assert_close(actual, reference, name)


def test_residual_block() -> None:
    function = program("residual_block")
    inputs = inputs_of(function)
    expected = evaluate(function, inputs)
    assert_close(run(function, inputs, expected)[0], expected[0])


BUILT: dict[str, Callable[[torch.Tensor], Any]] = {
    "built_let": lambda x: x.exp() + x.exp(),
    "built_cumsum": lambda x: x.cumsum(1),
    "built_split": lambda x: (x[:, :1], x[1:]),
    "built_fn": lambda x: x.exp().relu(),
}


@pytest.mark.parametrize("name", BUILT)
def test_built(name: str) -> None:
    function = program(name)
    inputs = inputs_of(function)
    expected = flat(BUILT[name](inputs[0]))
    for actual, reference in zip(run(function, inputs, expected), expected, strict=True):
        assert_close(actual, reference, name)


@pytest.mark.parametrize("name", CONTROL_FLOW)
def test_control_flow_is_refused(name: str) -> None:
    function = program(name)
    inputs = inputs_of(function)
    with pytest.raises(NotImplementedError, match=r"straight-line code|only operators and functions"):
        run(function, inputs, [torch.empty(2, 3)])


def test_every_program_is_covered() -> None:
    # mlp is what `linear` and `unary` are made of, with weights as in residual_block.
    assert {entry["name"] for entry in INDEX} == {*FUNCTIONS, *CONTROL_FLOW, *BUILT, "mlp", "residual_block"}
