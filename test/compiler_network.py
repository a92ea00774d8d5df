"""Networks in Relay and in PyTorch at once, for test_compiler_*."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from compiler_cases import assert_close, compile_plan, rand, variables

from torch_tvm import relay

call = relay.Call


class Network:
    """A Relay function and the same computation in PyTorch, built side by side."""

    def __init__(self, *inputs: torch.Tensor) -> None:
        self.inputs = list(inputs)
        self.params = variables(inputs)
        self.weights: list[torch.Tensor] = []

    def weight(self, *shape: int, positive: bool = False) -> tuple[relay.Var, torch.Tensor]:
        fan_in = max(1, int(torch.tensor(shape[1:]).prod())) if len(shape) > 1 else 1
        value = rand(*shape, low=0.5 if positive else -1.0, high=1.5 if positive else 1.0) / fan_in**0.5
        var = relay.Var(f"w{len(self.weights)}", relay.TensorType(list(shape), "float32"))
        self.params.append(var)
        self.weights.append(value)
        return var, value

    def conv_bn(
        self, x: relay.Expr, t: torch.Tensor, filters: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> tuple[relay.Expr, torch.Tensor]:
        channels, pad = t.shape[1], kernel // 2
        w, wt = self.weight(filters, channels // groups, kernel, kernel)
        names = [self.weight(filters, positive=i == 3) for i in range(4)]
        (g, gt), (b, bt), (m, mt), (v, vt) = names
        attrs = {
            "strides": [stride] * 2,
            "padding": [pad] * 4,
            "groups": groups,
            "channels": filters,
            "kernel_size": [kernel] * 2,
        }
        y = relay.TupleGetItem(call("nn.batch_norm", [call("nn.conv2d", [x, w], attrs), g, b, m, v]), 0)
        return y, F.batch_norm(F.conv2d(t, wt, None, stride, pad, 1, groups), mt, vt, gt, bt)

    def linear(self, x: relay.Expr, t: torch.Tensor, size: int) -> tuple[relay.Expr, torch.Tensor]:
        (w, wt), (b, bt) = self.weight(size, t.shape[-1]), self.weight(size)
        product = call("nn.dense", [x, w], {"units": size})
        return call("nn.bias_add", [product, b], {"axis": -1}), F.linear(t, wt, bt)

    def layer_norm(self, x: relay.Expr, t: torch.Tensor) -> tuple[relay.Expr, torch.Tensor]:
        (g, gt), (b, bt) = self.weight(t.shape[-1]), self.weight(t.shape[-1])
        return call("nn.layer_norm", [x, g, b]), F.layer_norm(t, t.shape[-1:], gt, bt)

    def batch_norm_relu(self, x: relay.Expr, t: torch.Tensor) -> tuple[relay.Expr, torch.Tensor]:
        names = [self.weight(t.shape[1], positive=i == 3) for i in range(4)]
        (g, gt), (b, bt), (m, mt), (v, vt) = names
        y = relay.TupleGetItem(call("nn.batch_norm", [x, g, b, m, v]), 0)
        return relu(y), F.batch_norm(t, mt, vt, gt, bt).relu()

    def check(self, body: relay.Expr, expected: torch.Tensor, **options: Any) -> list[str]:
        """Compile, run, compare; return the names of the kernels of a call."""
        return self._check(body, [expected], options)

    def check_all(self, results: Sequence[tuple[relay.Expr, torch.Tensor]], **options: Any) -> list[str]:
        """`check` for several outputs."""
        return self._check(relay.Tuple([y for y, _ in results]), [t for _, t in results], options)

    def _check(self, body: relay.Expr, expected: list[torch.Tensor], options: dict[str, Any]) -> list[str]:
        compiled = compile_plan(body, self.params, len(self.inputs), expected, **options)
        actual = compiled(self.inputs, self.weights, expected)
        for result, reference in zip(actual, expected, strict=True):
            assert_close(result, reference)
        return [str(step.name).rpartition("_")[0] for step in compiled.plan.steps]


def relu(x: relay.Expr) -> relay.Expr:
    return call("nn.relu", [x])
