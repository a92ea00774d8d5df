"""One test or more for each row of the table of bad input: no crash, no hang, no wrong value."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
import tvm_ffi
from torch._subclasses.fake_tensor import FakeTensorMode

import torch_tvm
from torch_tvm import _C, relay
from torch_tvm.kernels import host_target

Function = Callable[..., torch.Tensor]


def chain(x: torch.Tensor) -> torch.Tensor:
    return (x * 3 + 1).relu() - x


def traced(function: Function, *examples: torch.Tensor) -> Any:
    return torch.jit.trace(function, examples, check_trace=False)


@pytest.fixture
def no_grad() -> Any:
    with torch.no_grad():
        yield


# enable(opt_level=7), unknown option, unknown device_type, target LLVM does not know


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"opt_level": 7}, ValueError, "opt_level: expected an int from 0 to 3, got 7"),
        ({"opt_level": -1}, ValueError, "opt_level: expected an int from 0 to 3, got -1"),
        ({"opt_level": "3"}, TypeError, "opt_level: expected an int from 0 to 3, got '3'"),
        ({"opt_level": True}, TypeError, "opt_level: expected an int from 0 to 3, got True"),
        ({"strict": 1}, TypeError, "strict: expected True or False, got 1"),
        ({"min_group_size": 0}, ValueError, "min_group_size: expected an int >= 1, got 0"),
        ({"max_signatures": 0}, ValueError, "max_signatures: expected an int >= 1, got 0"),
        ({"device_id": 1}, ValueError, "device_id: expected an int from 0 to 0, got 1"),
        ({"optlevel": 3}, TypeError, "no option 'optlevel'; its options are opt_level, strict, debug"),
        ({"device_type": "tpu"}, ValueError, "device_type: expected 'cpu', got 'tpu'"),
        ({"device_type": 1}, TypeError, "device_type: expected 'cpu', got 1"),
        ({"device": "llvm -mcpu=pentium9"}, ValueError, "device: LLVM knows no mcpu 'pentium9'"),
        ({"device": "metal"}, ValueError, "device: expected kind 'llvm'"),
        ({"device": 3}, TypeError, "device: expected None .* got 3"),
        ({"host": {"kind": "llvm", "mcpu": "i999"}}, ValueError, "host: LLVM knows no mcpu 'i999'"),
        ({"device": "llvm -mcpu=haswell", "host": "llvm -mcpu=nehalem"}, ValueError, "host: kernels and"),
    ],
)
def test_option_that_is_not_valid(options: dict[str, Any], error: type[Exception], message: str) -> None:
    torch_tvm.enable(opt_level=1, strict=True)
    torch_tvm.disable()
    before = _C.get_options()
    with pytest.raises(error, match=message):
        torch_tvm.enable(**options)
    with pytest.raises(error, match=message), torch_tvm.enabled(**options):
        pytest.fail("the block must not be entered")
    assert _C.get_options() == before
    assert not torch_tvm.is_enabled()


@pytest.mark.parametrize("device_type", ["gpu", "cuda"])
def test_gpu_is_refused_at_enable(device_type: str) -> None:
    with pytest.raises(ValueError, match=f"device_type: '{device_type}' cannot be used"):
        torch_tvm.enable(device_type=device_type)


# to_relay with wrong number or kind of inputs, or a non-function


@pytest.mark.parametrize(
    ("function", "inputs", "message"),
    [
        (chain, [], "input"),
        (chain, [torch.ones(2), torch.ones(2)], "input"),
        (chain, ["two"], "str"),
        (chain, None, "NoneType"),
        (3, [torch.ones(2)], "int"),
        ("aten::relu", [torch.ones(2)], "str"),
    ],
)
def test_to_relay_of_what_is_none(function: Any, inputs: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        torch_tvm.to_relay(function, inputs)


# tensors that only PyTorch can handle: right result through fallback, counted


class Halved(torch.Tensor):
    """A subclass that holds one number and stands for half of it: reading its memory would be wrong."""

    @staticmethod
    def __new__(cls, whole: torch.Tensor) -> Halved:
        return torch.Tensor._make_wrapper_subclass(cls, whole.shape, dtype=whole.dtype)

    def __init__(self, whole: torch.Tensor) -> None:
        self.whole = whole

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        plain = [arg.whole / 2 if isinstance(arg, Halved) else arg for arg in args]
        return operator(*plain, **(kwargs or {}))


def falls_back(function: Any, *inputs: torch.Tensor) -> None:
    """Assert that a traced function gives eager's result for inputs that TVM cannot take, and says so."""
    jit = traced(function, *(torch.ones(4, 4) for _ in inputs))
    jit(*(torch.ones(4, 4) for _ in inputs))
    torch_tvm.reset_stats()
    expected = function(*inputs)
    got = jit(*inputs)
    assert type(got) is type(expected)
    assert got.dtype == expected.dtype
    assert got.layout == expected.layout
    if not got.is_meta:
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
    stats = torch_tvm.stats()
    assert stats["fallbacks"] == 1
    assert stats["compiled"] == stats["cache_hits"] == 0
    assert sum(stats["fallback_reasons"].values()) >= 1


@pytest.mark.usefixtures("no_grad")
class TestOtherTensors:
    def test_meta(self) -> None:
        falls_back(chain, torch.ones(4, 4, device="meta"))

    def test_sparse(self) -> None:
        falls_back(lambda x: (x * 2) * 3, torch.eye(4).to_sparse())

    def test_quantised(self) -> None:
        falls_back(
            lambda x: x.sigmoid().sigmoid(), torch.quantize_per_tensor(torch.randn(4, 4), 0.1, 0, torch.qint8)
        )

    def test_complex(self) -> None:
        falls_back(lambda x: x * 2 + x, torch.randn(4, 4, dtype=torch.complex64))

    def test_nested(self) -> None:
        jit = traced(lambda x: (x * 2).relu() * 3, torch.ones(4, 4))
        nested = torch.nested.nested_tensor([torch.randn(2, 3), torch.randn(4, 3)], layout=torch.strided)
        torch_tvm.reset_stats()
        for got, part in zip(jit(nested).unbind(), nested.unbind(), strict=True):
            torch.testing.assert_close(got, (part * 2).relu() * 3)
        assert torch_tvm.stats()["fallbacks"] == 1

    def test_subclass(self) -> None:
        jit = traced(chain, torch.ones(4, 4))
        jit(torch.ones(4, 4))
        torch_tvm.reset_stats()
        x = torch.randn(4, 4)
        torch.testing.assert_close(jit(Halved(x)), chain(x / 2), rtol=0, atol=0)
        assert torch_tvm.stats()["fallbacks"] == 1

    def test_vmap(self) -> None:
        jit = traced(chain, torch.ones(4))
        jit(torch.ones(4))
        torch_tvm.reset_stats()
        x = torch.randn(3, 4)
        torch.testing.assert_close(torch.vmap(jit)(x), chain(x), rtol=0, atol=0)
        assert torch_tvm.stats()["fallbacks"] == 1

    def test_fake(self) -> None:
        jit = traced(chain, torch.ones(4))
        jit(torch.ones(4))
        torch_tvm.reset_stats()
        with FakeTensorMode():
            assert jit(torch.ones(7)).shape == (7,)
        assert torch_tvm.stats()["fallbacks"] == 1

    def test_negated_view(self) -> None:
        falls_back(chain, torch.randn(4, 4, dtype=torch.complex64).conj().imag)


def test_autocast() -> None:
    def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a @ b).relu() + 1

    a, b = torch.randn(8, 8), torch.randn(8, 8)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        expected = product(a, b)
        got = traced(product, a, b)(a, b)
    assert got.dtype == expected.dtype
    torch.testing.assert_close(got, expected)


# zero-size tensors, 0-d tensors, huge dims, NaN and inf, non-contiguous, overlapping strides


def with_special_values() -> torch.Tensor:
    x = torch.randn(64)
    x[::7], x[1::7], x[2::7], x[3::7] = float("nan"), float("inf"), -float("inf"), -0.0
    return x


SHAPES = {
    "zero-size": lambda: torch.empty(0, 3),
    "zero-size inside": lambda: torch.empty(4, 0, 2),
    "0-d": lambda: torch.tensor(-1.5),
    "one element": lambda: torch.randn(1, 1, 1, 1),
    "huge": lambda: torch.randn(1).expand(2**20),
    "many dimensions": lambda: torch.randn([1, 2] * 8),
    "special values": with_special_values,
    "transposed": lambda: torch.randn(5, 7).t(),
    "strided": lambda: torch.randn(9, 11)[1::3, ::2],
    "channels last": lambda: torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "expanded": lambda: torch.randn(1, 5).expand(4, 5),
    "overlapping": lambda: torch.randn(16).as_strided((5, 4), (2, 1)),
    "offset": lambda: torch.randn(33)[1:],
    "flipped": lambda: torch.randn(5, 6).flip(1),
}


@pytest.mark.usefixtures("no_grad")
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    "function",
    [chain, lambda x: (x.abs() + 1).log() + x.sum(), lambda x: x.reshape(-1).clamp(min=-0.5).contiguous()],
    ids=["element-wise", "reduction", "reshape"],
)
def test_unusual_tensors(name: str, function: Function) -> None:
    x = SHAPES[name]()
    expected = function(x)
    got = traced(function, x)(x)
    assert got.dtype == expected.dtype
    assert got.stride() == expected.stride()
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.usefixtures("no_grad")
def test_more_elements_than_memory() -> None:
    """A shape whose product does not fit is eager's error, not an overflow in the plan."""

    def outer(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x.unsqueeze(1) * y.unsqueeze(0)).relu() + 1

    jit = traced(outer, torch.ones(3), torch.ones(2))
    huge = torch.ones(1).expand(2**40)
    with pytest.raises(RuntimeError):
        jit(huge, huge)
    torch.testing.assert_close(jit(torch.ones(3), torch.ones(2)), torch.full((3, 2), 2.0))


# malformed Relay text


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("", 1, 1),
        ("def @main(%x: Tensor[(2), float32]) { %x }", 1, 1),
        ("fn (%x: Tensor[(2), float32]) { ", 1, 33),
        ("fn (%x) { add(%x) }", 1, 11),
        ("fn (%x) { nn.softmax(%x, axes=1) }", 1, 11),
        ("meta[relay.Constant][0]", 1, 1),
        ("(" * 100_000, 1, 257),
        ('#[version = "0.0.5"]\ndef @main(%x: Tensor[(2,), float32]) {\n  nn.relu(%y)\n}', 3, 11),
        ('#[version = "0.0.5"]\ndef @main(%x Tensor[(2,), float32]) {\n  %x\n}', 2, 14),
        ("fn (%x) { nn.no_such_operator(%x) }", 1, 11),
        ("\x00", 1, 1),
    ],
)
def test_malformed_relay_text(text: str, line: int, column: int) -> None:
    with pytest.raises(relay.ParseError) as caught:
        relay.parse(text)
    assert (caught.value.line, caught.value.column) == (line, column)


# compile failure inside TVM


@contextlib.contextmanager
def broken_compiler() -> Any:
    name = "torch_tvm.compiler.compile"
    compiler = tvm_ffi.get_global_func(name)
    torch_tvm.clear_cache()

    def fail(*arguments: Any) -> Any:
        raise ValueError("no register is left")

    tvm_ffi.register_global_func(name, fail, override=True)
    try:
        yield
    finally:
        tvm_ffi.register_global_func(name, compiler, override=True)


@pytest.mark.usefixtures("no_grad")
def test_compile_failure_falls_back() -> None:
    jit = traced(chain, torch.ones(4))
    x = torch.randn(4)
    with broken_compiler():
        for _ in range(3):
            torch.testing.assert_close(jit(x), chain(x))
    stats = torch_tvm.stats()
    assert stats["compiled"] == 0
    assert stats["fallbacks"] == 3
    assert any("no register is left" in reason for reason in stats["fallback_reasons"])


@pytest.mark.usefixtures("no_grad")
def test_compile_failure_raises_under_strict() -> None:
    jit = traced(chain, torch.ones(4))
    with torch_tvm.enabled(strict=True):
        with broken_compiler(), pytest.raises(RuntimeError, match="CompileError") as caught:
            jit(torch.ones(4))
        assert "no register is left" in str(caught.value)
        assert "nn.relu(" in str(caught.value)
        torch_tvm.clear_cache()
        torch.testing.assert_close(jit(torch.ones(4)), chain(torch.ones(4)))  # nothing half-built was kept


# register_operator for an operator that does not exist or is registered


def test_register_operator_that_does_not_exist() -> None:
    with pytest.raises((ValueError, TypeError), match="aten::no_such_operator"):
        torch_tvm.register_operator("aten::no_such_operator")(lambda x: x)


def test_register_operator_twice() -> None:
    with pytest.raises(ValueError, match=r"aten::relu.*override"):
        torch_tvm.register_operator("aten::relu")(relay.nn.relu)


def test_target_of_this_machine_is_accepted() -> None:
    torch_tvm.enable(device=host_target().spec)
    assert torch_tvm.is_enabled()
