"""to_relay for everything it takes, what it refuses, and converters written in Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from convert_checks import check, operators, values
from torch import nn

import torch_tvm
from torch_tvm import NotConvertibleError, relay
from torch_tvm.frontend import refused_operators, registered_operators


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
        y = F.relu(self.norm(self.conv(x)))
        if y.dim() == 4:
            y = F.adaptive_avg_pool2d(y, 1)
        return self.head(torch.flatten(y, 1)) * scale


EXPECTED = [
    "nn.conv2d",
    "nn.bias_add",
    "nn.batch_norm",
    "nn.relu",
    "nn.adaptive_avg_pool2d",
    "reshape",
    "nn.dense",
    "nn.bias_add",
    "multiply",
]


@pytest.fixture
def network() -> nn.Module:
    module = Network().eval()
    nn.init.uniform_(module.get_buffer("norm.running_mean"))
    return module


def test_module(network: nn.Module) -> None:
    assert operators(check(network, torch.randn(2, 3, 5, 5))) == EXPECTED


def test_traced_module(network: nn.Module) -> None:
    traced = torch.jit.trace(network, torch.randn(2, 3, 5, 5))
    assert operators(check(traced, torch.randn(1, 3, 8, 8))) == EXPECTED


def test_scripted_module_follows_its_branches(network: nn.Module) -> None:
    assert operators(check(torch.jit.script(network), torch.randn(2, 3, 5, 5))) == EXPECTED


def test_frozen_and_loaded_modules(network: nn.Module, tmp_path: Path) -> None:
    scripted = torch.jit.script(network)
    check(torch.jit.freeze(scripted), torch.randn(2, 3, 5, 5))
    scripted.save(tmp_path / "network.pt")
    assert operators(check(torch.jit.load(tmp_path / "network.pt"), torch.randn(2, 3, 5, 5))) == EXPECTED


def test_arguments_that_are_numbers(network: nn.Module) -> None:
    x = torch.randn(2, 3, 5, 5)
    function = torch_tvm.to_relay(torch.jit.script(network), [x, 3.0])
    assert len(function.params) == 1
    assert "3f" in function.astext()


def test_functions() -> None:
    def plain(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x) * y

    inputs = torch.randn(2, 3), torch.randn(3)
    for fn in (plain, torch.jit.trace(plain, inputs), torch.jit.script(plain)):
        function = check(fn, *inputs)
        assert operators(function) == ["tanh", "multiply"]
        assert [str(p.name_hint).split("_")[0] for p in function.params] == ["x", "y"]


def test_loops_of_known_length() -> None:
    @torch.jit.script
    def powers(x: torch.Tensor, count: int) -> torch.Tensor:
        y = x
        for i in range(count):
            y = y * x + i
        return y

    x = torch.randn(3)
    function = torch_tvm.to_relay(powers, [x, 12])
    assert operators(function) == ["multiply", "add"] * 12


def test_several_results() -> None:
    x = torch.randn(4, 6)
    check(lambda t: (t + 1, torch.chunk(t, 3, 1)), x)
    check(lambda t: (t, t), x)
    check(lambda t: t, x)


def test_weights_are_constants_that_share_memory(network: nn.Module) -> None:
    function = torch_tvm.to_relay(network, [torch.randn(1, 3, 5, 5)])
    constants = [expr for expr in function_constants(function) if torch.from_dlpack(expr.data).dim() == 4]
    assert torch.from_dlpack(constants[0].data).data_ptr() == network.get_parameter("conv.weight").data_ptr()


def function_constants(function: relay.Function) -> list[relay.Constant]:
    found: list[relay.Constant] = []
    stack = [function.body]
    while stack:
        expr = stack.pop()
        if isinstance(expr, relay.Constant):
            found.append(expr)
        elif isinstance(expr, relay.Call):
            stack += list(expr.args)
        elif isinstance(expr, relay.TupleGetItem):
            stack.append(expr.tuple)
    return found


@pytest.mark.parametrize(
    ("fn", "inputs", "message"),
    [
        (3, [torch.ones(1)], "fn: expected a function.* got int"),
        (nn.ReLU, [torch.ones(1)], "got the class ReLU"),
        (torch.relu, 5, "inputs: expected a tuple or list of arguments, got int"),
        (nn.ReLU(), [torch.ones(1), torch.ones(1)], "ReLU does not take 2 inputs"),
        (nn.ReLU(), [], "ReLU does not take 0 inputs"),
        (nn.ReLU(), ["x"], "input 0: expected a tensor, got str"),
        (torch.jit.script(nn.ReLU()), [torch.ones(1), torch.ones(1)], "takes 1 inputs, got 2"),
        (torch.jit.script(nn.ReLU()), [], "takes 1 inputs, got 0: 'input' is missing"),
        (torch.jit.script(nn.ReLU()), ["x"], "input 0: expected Tensor, got str"),
    ],
)
def test_wrong_calls(fn: Any, inputs: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        torch_tvm.to_relay(fn, inputs)


def test_every_refusal_is_listed() -> None:
    def three_problems(x: torch.Tensor) -> torch.Tensor:
        y = torch.linalg.qr(x)[0]
        z = torch.igamma(y, x) + torch.erfinv(x)
        return z.relu()

    with pytest.raises(NotConvertibleError) as caught:
        torch_tvm.to_relay(three_problems, [torch.randn(3, 3)])
    refusals = caught.value.refusals
    assert [refusal.op for refusal in refusals] == ["aten::linalg_qr", "aten::igamma", "aten::erfinv"]
    reasons = [
        refused_operators().get(refusal.op, "no converter is registered for it") for refusal in refusals
    ]
    assert [refusal.reason for refusal in refusals] == reasons
    assert "factorise" in reasons[0]
    assert all(Path(__file__).name in refusal.source for refusal in refusals)


@pytest.mark.parametrize(
    ("fn", "inputs", "message"),
    [
        (lambda x: x * 1j, [torch.ones(2)], "ComplexFloat"),
        (lambda x: x.cfloat(), [torch.ones(2)], "ComplexFloat"),
        (
            lambda x: x + 1,
            [torch.ones(2, dtype=torch.complex64)],
            "input x: no kernel takes dtype ComplexFloat",
        ),
        (lambda x: x + torch.rand(2), [torch.ones(2)], "random"),
        (torch.nonzero, [torch.ones(2)], "aten::nonzero"),
    ],
)
def test_refusals(fn: Any, inputs: Any, message: str) -> None:
    with pytest.raises(NotConvertibleError, match=message):
        torch_tvm.to_relay(fn, inputs)


def test_converters_belong_to_operators_of_torch() -> None:
    for name in registered_operators():
        op, _, overload = name.partition(".")
        overloads = [schema.overload_name for schema in torch._C._jit_get_schemas_for_operator(op)]
        assert overload in overloads, f"{name}: torch has {overloads}"


@torch.library.custom_op("convert_test::scaled", mutates_args=())
def scaled(x: torch.Tensor, factors: list[float], shift: torch.Tensor | None = None) -> torch.Tensor:
    result = x * sum(factors)
    return result.clone() if shift is None else result + shift


@scaled.register_fake
def _(x: torch.Tensor, factors: list[float], shift: torch.Tensor | None = None) -> torch.Tensor:
    return torch.empty_like(x)


def test_register_operator() -> None:
    def use(x: torch.Tensor) -> torch.Tensor:
        return torch.ops.convert_test.scaled(x, [1.0, 2.0]) + torch.ops.convert_test.scaled(x, [0.5], x)

    x = torch.randn(2, 3)
    with pytest.raises(NotConvertibleError, match="convert_test::scaled"):
        torch_tvm.to_relay(use, [x])
    seen = []

    @torch_tvm.register_operator("convert_test::scaled")
    def convert(x: relay.Expr, factors: list[float], shift: relay.Expr | None) -> relay.Expr:
        assert isinstance(x.checked_type, relay.TensorType)
        seen.append((list(x.checked_type.shape), list(factors)))
        product = relay.multiply(x, relay.const(sum(factors), "float32"))
        return product if shift is None else relay.add(product, shift)

    assert operators(check(use, x)) == ["multiply", "multiply", "add", "add"]
    assert seen == [([2, 3], [1.0, 2.0]), ([2, 3], [0.5])]

    with pytest.raises(ValueError, match="already has a converter; pass override=True"):
        torch_tvm.register_operator("convert_test::scaled")(convert)

    @torch_tvm.register_operator("convert_test::scaled", override=True)
    def fail(x: relay.Expr, factors: list[float], shift: relay.Expr | None) -> relay.Expr:
        raise ValueError("factors are not to my taste")

    with pytest.raises(NotConvertibleError, match="factors are not to my taste"):
        torch_tvm.to_relay(use, [x])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convert_test::missing", "torch has no operator 'convert_test::missing'"),
        ("aten::relu", "'aten::relu' already has a converter"),
        ("aten::relu.missing", "no such overload"),
        ("relu", "an operator's name is 'ns::op'"),
    ],
)
def test_wrong_registrations(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        torch_tvm.register_operator(name)(lambda x: x)


def test_constants_keep_their_bits() -> None:
    x = torch.randn(3)
    table = values([3, 3], torch.bfloat16)
    check(lambda t: t * table.float()[0] + 1e-20 + 16777217.0, x)
    check(lambda t: t + float("nan"), x)


def test_lowering_does_not_import_the_compiler_of_torch() -> None:
    """Many meta kernels in torch are Python, and the first one imports sympy and torch._dynamo: 1.5 s."""
    program = """
import sys, torch, torch_tvm
import torch.nn.functional as F
network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4), torch.nn.ReLU())
image = torch.randn(1, 3, 8, 8)
network = torch.jit.trace(network.eval(), image, check_trace=False)
def encoder(tokens, index, table, mask):
    x = F.embedding(tokens, table.gather(0, index)).view(2, 5, 2, 4).transpose(1, 2)
    x = F.scaled_dot_product_attention(x, x, x) + F.scaled_dot_product_attention(x, x, x, mask)
    weights = torch.softmax(-x @ x.transpose(-1, -2) / table[0, 0], -1)
    return torch.bmm(weights[0], x[0]) * torch.rsqrt(x.pow(2).mean(-1, keepdim=True))
indices = torch.zeros(6, 8, dtype=torch.long)
given = torch.ones(2, 5, dtype=torch.long), indices, torch.randn(6, 8), torch.zeros(2, 1, 1, 5)
encoder = torch.jit.trace(encoder, given, check_trace=False)
before = "torch._dynamo" in sys.modules or "sympy" in sys.modules
torch_tvm.to_relay(network, (image,))
torch_tvm.to_relay(encoder, given)
print(before, "torch._dynamo" in sys.modules, "sympy" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["False", "False", "False"]
