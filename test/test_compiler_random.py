"""Random programs: whatever is fused, moved, copied or shared, every output is what PyTorch computes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from compiler_cases import assert_close, compile_plan, rand, variables

from torch_tvm import relay

call = relay.Call
Value = tuple[relay.Expr, torch.Tensor]
Table = list[tuple[str, Callable[..., Any]]]

UNARY: Table = [("nn.relu", torch.relu), ("tanh", torch.tanh), ("negative", torch.neg)]
BINARY: Table = [
    ("add", torch.add),
    ("subtract", torch.sub),
    ("multiply", torch.mul),
    ("maximum", torch.maximum),
]
REDUCTIONS: Table = [("sum", torch.sum), ("mean", torch.mean), ("max", torch.amax)]


class Program:
    """Grows a program of Relay expressions and the tensors that PyTorch computes for them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        torch.manual_seed(seed)
        shapes = [(2, 3, 4), (4,), (3, 1), (2, 3, 4), (4, 4)]
        self.tensors = [rand(*shape, dtype=torch.float64) for shape in shapes]
        self.params = variables(self.tensors)
        self.values: list[Value] = list(zip(self.params, self.tensors, strict=True))
        steps: list[Callable[[], Value | None]] = [
            self.unary, self.binary, self.binary, self.reshape, self.transpose, self.slice,
            self.broadcast, self.reduce, self.softmax, self.matmul, self.concatenate,
        ]  # fmt: skip
        for _ in range(self.random.randint(5, 25)):
            made = self.random.choice(steps)()
            if made is not None and made[1].numel() < 2000:
                self.values.append(made)

    def pick(self) -> Value:
        """Prefer what was made last, so that chains become long."""
        recent = self.values[-4:] if self.random.random() < 0.7 else self.values
        return self.random.choice(recent)

    def unary(self) -> Value:
        x, t = self.pick()
        name, function = self.random.choice(
            [("nn.relu", torch.relu), ("tanh", torch.tanh), ("negative", torch.neg)]
        )
        return call(name, [x]), function(t)

    def binary(self) -> Value | None:
        (x, t), (y, u) = self.pick(), self.pick()
        name, function = self.random.choice(BINARY)
        try:
            return call(name, [x, y]), function(t, u)
        except RuntimeError:
            return None

    def reshape(self) -> Value:
        x, t = self.pick()
        dims = self.random.sample(list(t.shape), t.dim())
        cut = self.random.randint(0, len(dims))
        shape = [*dims[:cut], -1, 1] if self.random.random() < 0.5 else [*dims[:cut], -1]
        value = t.reshape(shape)
        return call("reshape", [x], {"newshape": list(value.shape), "allowzero": 1}), value

    def transpose(self) -> Value:
        x, t = self.pick()
        order = self.random.sample(range(t.dim()), t.dim())
        return call("transpose", [x], {"axes": order}) if order else x, t.permute(order)

    def slice(self) -> Value | None:
        x, t = self.pick()
        if not t.dim():
            return None
        axis = self.random.randrange(t.dim())
        begin = self.random.randrange(t.shape[axis])
        end = self.random.randint(begin + 1, t.shape[axis])
        attrs = {"begin": [begin], "end": [end], "strides": [1], "axes": [axis]}
        return call("strided_slice", [x], attrs), t.narrow(axis, begin, end - begin)

    def broadcast(self) -> Value:
        x, t = self.pick()
        shape = [2, *(3 if size == 1 else size for size in t.shape)]
        return call("broadcast_to", [x], {"shape": shape}), t.expand(shape)

    def reduce(self) -> Value | None:
        x, t = self.pick()
        if not t.dim():
            return None
        axis, keep = self.random.randrange(t.dim()), self.random.random() < 0.5
        name, function = self.random.choice(REDUCTIONS)
        return call(name, [x], {"axis": [axis], "keepdims": keep}), function(t, axis, keep)

    def softmax(self) -> Value | None:
        x, t = self.pick()
        if not t.dim():
            return None
        axis = self.random.randrange(t.dim())
        return call("nn.softmax", [x], {"axis": axis}), torch.softmax(t, axis)

    def matmul(self) -> Value | None:
        (x, t), (y, u) = self.pick(), self.pick()
        if t.dim() < 2 or t.dim() > 3 or u.dim() != t.dim() or t.shape[-1] != u.shape[-1]:
            return None
        if t.dim() == 2:
            return call("nn.dense", [x, y], {"units": u.shape[0]}), t @ u.T
        if t.shape[0] != u.shape[0]:
            return None
        return call("nn.batch_matmul", [x, y], {"transpose_b": True}), t @ u.mT

    def concatenate(self) -> Value | None:
        (x, t), (y, u) = self.pick(), self.pick()
        if t.dim() != u.dim() or not t.dim() or t.shape[1:] != u.shape[1:]:
            return None
        return call("concatenate", [relay.Tuple([x, y])], {"axis": 0}), torch.cat([t, u])

    def check(self, opt_level: int, num_inputs: int) -> None:
        """Make some values outputs, the last one among them, and compare them."""
        outputs = [self.values[-1], *self.random.sample(self.values, self.random.randint(0, 2))]
        expected = [tensor for _, tensor in outputs]
        body = relay.Tuple([expr for expr, _ in outputs])
        compiled = compile_plan(body, self.params, num_inputs, expected, opt_level=opt_level)
        actual = compiled(self.tensors[:num_inputs], self.tensors[num_inputs:], expected)
        for result, reference in zip(actual, expected, strict=True):
            assert_close(result, reference.contiguous())


@pytest.mark.parametrize("seed", range(24))
def test_random_program(seed: int) -> None:
    """The last parameters are weights in every second program, so that packing takes its part."""
    Program(seed).check(opt_level=3 - seed % 8 // 7 * 3, num_inputs=5 if seed % 2 else 3)
