"""Recurrent networks and cells against eager PyTorch."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import tvm
from convert_checks import assert_compiled_whole, check, flatten, operators, refusal, run_compiled, values
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from tvm import relax

import torch_tvm
from torch_tvm import relay

NETWORKS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
CELLS = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}
f32, f64 = torch.float32, torch.float64


@settings(max_examples=15)
@given(
    st.sampled_from(["lstm", "gru", "rnn tanh", "rnn relu"]),
    st.sampled_from([1, 2]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([f32, f64]),
    st.sampled_from([(1, 1), (3, 2), (4, 1)]),
)
def test_network(
    kind: str, layers: int, both: bool, first: bool, bias: bool, dtype: torch.dtype, sizes: tuple[int, int]
) -> None:
    length, batch = sizes
    name, *nonlinearity = kind.split()
    options: dict[str, Any] = {"nonlinearity": nonlinearity[0]} if nonlinearity else {}
    network = (
        NETWORKS[name](
            3,
            4,
            layers,
            bias=bias,
            batch_first=first,
            bidirectional=both,
            dtype=dtype,
            dropout=0.5,
            **options,
        )
        .eval()
        .requires_grad_(False)
    )
    x = values([batch, length, 3] if first else [length, batch, 3], dtype)
    hidden = values([layers * (1 + both), batch, 4], dtype)
    given = (hidden, hidden * 0.5) if name == "lstm" else hidden
    check(lambda x: network(x), x)
    if name == "lstm":
        check(lambda x, h, c: network(x, (h, c)), x, *given)
    else:
        check(lambda x, h: network(x, h), x, given)


def test_projections_and_single_sequences() -> None:
    lstm = nn.LSTM(3, 5, 2, proj_size=2, bidirectional=True).eval().requires_grad_(False)
    check(lambda x: lstm(x), values([4, 2, 3], f32))
    gru = nn.GRU(3, 5).eval().requires_grad_(False)
    check(lambda x: gru(x), values([4, 3], f32))


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("bias", [True, False])
def test_traced_cell(kind: str, bias: bool) -> None:
    """Tracing gives a cell's arithmetic, some of it in place."""
    cell = CELLS[kind](3, 4, bias=bias).requires_grad_(False)
    x, h, c = values([2, 3], f32), values([2, 4], f32), values([2, 4], f32)
    if kind == "lstm":
        check(lambda x, h, c: cell(x, (h, c)), x, h, c)
    else:
        check(lambda x, h: cell(x, h), x, h)
    check(lambda x: cell(x), x[0])


@torch.jit.script
def cells(x: torch.Tensor, h: torch.Tensor, w: torch.Tensor, v: torch.Tensor, b: torch.Tensor):  # type: ignore[no-untyped-def]
    state, memory = torch.lstm_cell(x, [h, h * 0.5], w, v, b, b + 1)
    bare, _ = torch.lstm_cell(x, [h, h], w, v)
    gates = torch.gru_cell(x, h, w[:12], v[:12], b[:12], b[4:])
    one = torch.rnn_tanh_cell(x, h, w[:4], v[:4], b[:4], b[4:8])
    two = torch.rnn_relu_cell(x, h, w[:4], v[:4])
    return state, memory, bare, gates, one, two


@pytest.mark.parametrize("dtype", [f32, f64])
def test_scripted_cells(dtype: torch.dtype) -> None:
    tensors = [values(shape, dtype) for shape in ([2, 3], [2, 4], [16, 3], [16, 4], [16])]
    assert operators(check(cells, *tensors)).count("nn.dense") == 10


def test_dropout_in_training_is_refused() -> None:
    lstm = nn.LSTM(3, 4, 2, dropout=0.5).train().requires_grad_(False)
    assert "train=True with dropout=0.5" in refusal(lambda x: lstm(x), values([2, 1, 3], f32))
    plain = nn.LSTM(3, 4, 1).train().requires_grad_(False)
    check(lambda x: plain(x), values([2, 1, 3], f32))


def test_packed_sequences_are_refused() -> None:
    gru = nn.GRU(3, 4).eval().requires_grad_(False)
    packed = nn.utils.rnn.pack_padded_sequence(values([3, 2, 3], f32), [3, 2])
    run = lambda x: gru(nn.utils.rnn.PackedSequence(x, packed.batch_sizes))[0].data  # noqa: E731
    assert "known only when the kernels have run" in refusal(run, packed.data)


def test_long_sequences() -> None:
    """The text says the same for all lengths; only sizes differ."""
    rnn = nn.RNN(2, 2, bidirectional=True).eval().requires_grad_(False)
    run_compiled(lambda x: rnn(x), values([600, 1, 2], f32))
    texts = [
        torch_tvm.to_relay(lambda x: rnn(x), [values([length, 1, 2], f32)]).astext(show_meta_data=False)
        for length in (7, 600)
    ]
    seven = re.sub(r"\b(600|599)(?=[,i\]])", lambda match: str(int(match[0]) - 593), texts[1])
    assert seven == texts[0]


def test_relay_of_lstm() -> None:
    """A function that a compiler takes whole, and that says what it computes: a loop over the steps."""
    lstm = nn.LSTM(3, 4).eval().requires_grad_(False)
    function = check(lambda x: lstm(x)[0], values([3, 2, 3], f32))
    assert operators(function).count("nn.dense") == 2  # the inputs of all steps, and the state in a step
    functions = [e for e in relay.expressions(function.body) if isinstance(e, relay.Function)]
    (composite,) = [e for e in functions if "Composite" in e.attrs]
    assert composite.attrs["Composite"] == "torch_tvm.lstm"
    assert [str(param.name_hint) for param in composite.params] == ["inputs", "hidden", "cell", "weight"]


@pytest.mark.parametrize("options", [{"proj_size": 2}, {"bidirectional": True}])
def test_relax_of_lstm_is_built_by_tvm(options: dict[str, Any]) -> None:
    lstm = nn.LSTM(3, 5, **options).eval().requires_grad_(False)
    x = values([4, 2, 3], f32)
    module = torch_tvm.to_relax(lambda x: lstm(x), [x])
    machine = relax.VirtualMachine(relax.build(module, "llvm"), tvm.cpu())
    got = machine["main"](tvm.runtime.tensor(x.numpy()))
    for one, other in zip(got, flatten(lstm(x)), strict=True):
        torch.testing.assert_close(torch.from_numpy(one.numpy()), other)


def test_composite_of_another_compiler_is_taken_as_what_it_says() -> None:
    def foreign(x: relay.Expr) -> relay.Expr:
        inner = relay.Var("x", relay.TensorType([3], "float32"))
        function = relay.Function([inner], relay.multiply(inner, inner), attrs={"Composite": "dnnl.square"})
        return relay.Call(function, [x])

    torch.library.define("composite_test::square", "(Tensor x) -> Tensor", tags=())
    torch.library.impl("composite_test::square", "CompositeExplicitAutograd", lambda x: x * x)
    torch_tvm.register_operator("composite_test::square")(foreign)
    run_compiled(lambda x: torch.ops.composite_test.square(x) + 1, values([3], f32))


def test_no_elements() -> None:
    lstm = nn.LSTM(3, 4).eval().requires_grad_(False)
    check(lambda x: lstm(x), values([3, 0, 3], f32))
    weights = [values([12, 0], f32), values([12, 4], f32)]
    run = lambda x, h: torch.gru(x, h, weights, False, 1, 0.0, False, False, False)  # noqa: E731
    assert "no elements" in refusal(run, values([3, 2, 0], f32), values([1, 2, 4], f32))
    states = [values([1, 2, 4], f32)] * 2
    arguments = ([w.detach() for w in lstm._flat_weights], True, 1, 0.0, False, False, False)
    scripted = torch.jit.trace(lambda x: torch.lstm(x, states, *arguments)[0], values([2, 2, 3], f32))
    assert "larger than 0" in refusal(scripted, values([0, 2, 3], f32))


def test_compiled_inputs_of_any_layout() -> None:
    """Strided and empty ones, NaN and infinities, and weights that are no constants."""
    lstm = nn.LSTM(3, 9, bidirectional=True, batch_first=True).eval().requires_grad_(False)
    strided = values([5, 3, 7], f32).permute(2, 0, 1)[..., :3]
    run_compiled(lambda x: lstm(x), strided)
    run_compiled(lambda x: lstm(x), values([0, 2, 3], f32))
    special = values([6, 4, 3], f32)
    special[2, 1, 0], special[3, 2, 1] = float("nan"), float("inf")
    run_compiled(lambda x: lstm(x), special)

    def gru(x: torch.Tensor, h: torch.Tensor, w: torch.Tensor, v: torch.Tensor) -> Any:
        return torch.gru(x, h, [w, v], False, 1, 0.0, False, False, False)

    run_compiled(gru, *(values(shape, f32) for shape in ([3, 2, 4], [1, 2, 5], [15, 4], [15, 5])))


@pytest.mark.parametrize("kind", NETWORKS)
def test_accuracy(kind: str) -> None:
    """Errors do not grow over the steps more than eager PyTorch's do."""
    torch.manual_seed(3)
    network = NETWORKS[kind](24, 70).eval().requires_grad_(False)
    exact = NETWORKS[kind](24, 70, dtype=torch.float64)
    exact.load_state_dict(network.state_dict())
    x = torch.randn(60, 3, 24)
    with torch.no_grad(), torch_tvm.enabled(strict=True, min_group_size=1, compile_process=False):
        traced = torch.jit.trace(network, x, check_trace=False)
        got, expected = traced(x)[0], exact.requires_grad_(False)(x.double())[0]
    assert_compiled_whole()
    with torch_tvm.disabled():
        eager = network(x)[0]
    error, eager_error = ((each - expected).square().mean().sqrt().item() for each in (got, eager))
    assert error <= 2 * eager_error


@pytest.mark.parametrize("dtype", [f32, torch.float16])
@pytest.mark.parametrize("kind", NETWORKS)
def test_compiled(kind: str, dtype: torch.dtype) -> None:
    network = NETWORKS[kind](7, 9, bidirectional=True, batch_first=True, dtype=dtype).eval()
    x = values([3, 2, 7], dtype)
    with (
        torch.no_grad(),
        torch_tvm.enabled(strict=True, min_group_size=1, guard=False, compile_process=False),
    ):
        traced = torch.jit.trace(network, x, check_trace=False)
        expected, got = flatten(network(x)), flatten(traced(x))
    assert_compiled_whole()
    tolerance = 1e-5 if dtype == f32 else 2e-2
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype and one.stride() == other.stride()
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
