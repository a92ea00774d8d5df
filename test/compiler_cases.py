"""What the compiler's tests share: compile a Relay function, run its plan, compare with PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from plan_interpreter import Interpreter

import torch_tvm
from torch_tvm import compiler, relay, runtime

Build = Callable[..., relay.Expr]


def rand(
    *shape: int, dtype: torch.dtype = torch.float32, low: float = -2.0, high: float = 2.0
) -> torch.Tensor:
    """Uniformly distributed numbers."""
    return torch.empty(shape, dtype=dtype).uniform_(low, high)


def tensor_type(tensor: torch.Tensor) -> relay.TensorType:
    """Relay type of a tensor."""
    return relay.TensorType(list(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def variables(tensors: Sequence[torch.Tensor]) -> list[relay.Var]:
    """One Relay variable for each tensor."""
    return [relay.Var(f"x{i}", tensor_type(tensor)) for i, tensor in enumerate(tensors)]


def identity_orders(tensors: Sequence[torch.Tensor]) -> list[list[int]]:
    """Row-major memory for each tensor."""
    return [list(range(tensor.dim())) for tensor in tensors]


@dataclass
class Compiled:
    """A plan and how to run it on torch tensors."""

    plan: runtime.Plan
    input_orders: Sequence[list[int]]
    output_orders: Sequence[list[int]]

    def __call__(
        self, inputs: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], like: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Run; `like` says shape and dtype of each output."""
        program = Interpreter(self.plan, [w.contiguous().numpy() for w in weights])
        sources = [
            x.permute(order).contiguous().numpy() for x, order in zip(inputs, self.input_orders, strict=True)
        ]
        results = [
            torch.empty([y.shape[i] for i in order], dtype=y.dtype)
            for y, order in zip(like, self.output_orders, strict=True)
        ]
        program.run(sources, [result.numpy() for result in results])
        return [
            result.permute([order.index(i) for i in range(len(order))])
            for result, order in zip(results, self.output_orders, strict=True)
        ]


def compile_plan(
    body: relay.Expr,
    params: Sequence[relay.Var],
    num_inputs: int,
    like: Sequence[torch.Tensor],
    *,
    input_orders: Sequence[list[int]] | None = None,
    output_orders: Sequence[list[int]] | None = None,
    **options: Any,
) -> Compiled:
    """Compile a function; memory is row-major unless orders say otherwise."""
    shapes = [param.type_annotation.shape for param in params[:num_inputs]]  # type: ignore[union-attr]
    ins = input_orders or [list(range(len(shape))) for shape in shapes]
    outs = output_orders or identity_orders(like)
    plan = compiler.compile(relay.Function(list(params), body), num_inputs, ins, outs, options)
    return Compiled(plan, ins, outs)


def assert_close(actual: torch.Tensor, expected: torch.Tensor, label: str = "") -> None:
    """Compare as eager's own kernels are compared, relative to the largest value."""
    assert actual.dtype == expected.dtype, f"{label}: {actual.dtype} instead of {expected.dtype}"
    if expected.dtype.is_floating_point and expected.numel():
        finite = expected[expected.isfinite()].abs().double()
        scale = float(finite.max()) if finite.numel() else 1.0
        bound = {torch.float64: 1e-12, torch.float16: 2e-3}.get(expected.dtype, 3e-6)
        torch.testing.assert_close(
            actual,
            expected,
            rtol=bound,
            atol=bound * max(scale, 1e-3),
            equal_nan=True,
            msg=lambda m: f"{label}: {m}",
        )
    else:
        torch.testing.assert_close(actual, expected, rtol=0, atol=0, msg=lambda m: f"{label}: {m}")


Function = Callable[..., "torch.Tensor | tuple[torch.Tensor, ...]"]


def run_traced(
    function: Function,
    inputs: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor] = (),
    **options: Any,
) -> tuple[Compiled, list[torch.Tensor], list[torch.Tensor]]:
    """Compile a PyTorch function of inputs and weights; return also its results and PyTorch's."""
    tensors = [*inputs, *weights]
    with torch.no_grad():
        expected = function(*tensors)
    results = [expected] if isinstance(expected, torch.Tensor) else list(expected)
    traced = torch_tvm.to_relay(function, tensors)
    compiled = compile_plan(traced.body, list(traced.params), len(inputs), results, **options)
    return compiled, compiled(inputs, weights, results), results


def kernels_of(
    function: Function,
    inputs: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor] = (),
    **options: Any,
) -> list[str]:
    """Compile a PyTorch function of inputs and weights, compare, and return the kernels that a call launches."""
    compiled, actual, expected = run_traced(function, inputs, weights, **options)
    for result, reference in zip(actual, expected, strict=True):
        assert_close(result, reference)
    return [step.name.rpartition("_")[0] for step in compiled.plan.steps]


Case = tuple[str, Build, Callable[..., Any]]


def check(
    cases: Sequence[Case],
    inputs: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor] = (),
    **options: Any,
) -> Compiled:
    """Compile all cases into one plan, an output each, and compare every output with PyTorch.

    A case is (label, Relay from the variables, PyTorch on the tensors).
    """
    tensors = [*inputs, *weights]
    expected = [reference(*tensors) for _, _, reference in cases]
    params = variables(tensors)
    body = relay.Tuple([build(*params) for _, build, _ in cases])
    compiled = compile_plan(body, params, len(inputs), expected, **options)
    actual = compiled(inputs, weights, expected)
    for (label, _, _), result, reference in zip(cases, actual, expected, strict=True):
        assert_close(result, reference, label)
    return compiled
