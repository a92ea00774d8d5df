"""What a plan promises whatever is in it: outputs of their own, orders of dims, dtypes; and what is refused."""

from __future__ import annotations

import logging

import pytest
import torch
from compiler_cases import assert_close, check, compile_plan, rand, variables

from torch_tvm import compiler, relay

call = relay.Call


def test_outputs_have_memory_of_their_own() -> None:
    compiled = check(
        [
            ("input", lambda x, w: x, lambda x, w: x),
            ("input again", lambda x, w: x, lambda x, w: x),
            (
                "view of input",
                lambda x, w: call("reshape", [x], {"newshape": [-1]}),
                lambda x, w: x.reshape(-1),
            ),
            ("moved input", lambda x, w: call("transpose", [x], {"axes": [1, 0]}), lambda x, w: x.T),
            ("result", lambda x, w: call("exp", [x]), lambda x, w: x.exp()),
            ("result again", lambda x, w: call("exp", [x]), lambda x, w: x.exp()),
            (
                "moved result",
                lambda x, w: call("transpose", [call("exp", [x])], {"axes": None}),
                lambda x, w: x.exp().T,
            ),
            ("used result", lambda x, w: call("nn.relu", [call("exp", [x])]), lambda x, w: x.exp().relu()),
            ("weight", lambda x, w: w, lambda x, w: w),
            ("of weights", lambda x, w: call("add", [w, w]), lambda x, w: w + w),
            ("constant", lambda x, w: relay.const([1.0, 2.0]), lambda x, w: torch.tensor([1.0, 2.0])),
            ("scalar", lambda x, w: relay.const(2.5), lambda x, w: torch.tensor(2.5)),
            (
                "empty",
                lambda x, w: call("zeros", [], {"shape": [0, 3], "dtype": "float32"}),
                lambda x, w: torch.zeros(0, 3),
            ),
        ],
        [rand(3, 4)],
        [rand(5)],
    )
    written = [compiled.plan.buffers[step.args[-1]] for step in compiled.plan.steps]
    outputs = [buffer.index for buffer in written if buffer.kind == "output"]
    assert sorted(outputs) == list(range(13))


ORDERS = [[0, 1, 2, 3], [0, 2, 3, 1], [3, 1, 0, 2]]


@pytest.mark.parametrize("source", ORDERS)
@pytest.mark.parametrize("target", ORDERS)
def test_orders_of_dims(source: list[int], target: list[int]) -> None:
    x, y = rand(2, 3, 4, 5), rand(5)
    params = variables([x, y])
    body = call("nn.relu", [call("add", params)])
    compiled = compile_plan(body, params, 2, [x], input_orders=[source, [0]], output_orders=[target])
    assert_close(compiled([x, y], [], [x])[0], (x + y).relu())
    assert len(compiled.plan.steps) == (1 if source == target else 2)


def test_unaligned_memory() -> None:
    """Inputs may begin at any element."""
    x, y = rand(257)[1:], rand(256)
    check(
        [
            ("add", lambda x, y: call("add", [x, y]), lambda x, y: x + y),
            ("legalised", lambda x, y: call("cumsum", [x], {"axis": 0}), lambda x, y: x.cumsum(0)),
            ("atanh", lambda x, y: call("atanh", [call("tanh", [x])]), lambda x, y: x.tanh().atanh()),
        ],
        [x, y],
    )


def test_parts_of_inputs_weights_and_constants() -> None:
    first = {"begin": [0], "end": [2], "strides": [1], "axes": [0]}

    def product(x: relay.Expr) -> relay.Expr:
        return call("concatenate", [relay.Tuple([call("strided_slice", [x], first)] * 2)])

    check(
        [
            ("input", lambda x, w: product(x), lambda x, w: x[:2].repeat(2, 1)),
            ("weight", lambda x, w: product(w), lambda x, w: w[:2].repeat(2, 1)),
            (
                "constant",
                lambda x, w: product(relay.Constant(torch.arange(12.0).reshape(4, 3))),
                lambda x, w: torch.arange(6.0).reshape(2, 3).repeat(2, 1),
            ),
            (
                "element-wise",
                lambda x, w: call(
                    "add", [call("strided_slice", [x], first), call("strided_slice", [w], first)]
                ),
                lambda x, w: x[:2] + w[:2],
            ),
        ],
        [rand(4, 3)],
        [rand(4, 3)],
    )


def test_let_and_functions() -> None:
    x = relay.Var("x", relay.TensorType([3], "float32"))
    y, z = relay.Var("y"), relay.Var("z", relay.TensorType([3], "float32"))
    inner = relay.Function([z], call("add", [z, z]))
    body = relay.Let(y, call("exp", [x]), relay.Call(inner, [call("nn.relu", [y])]))
    t = rand(3)
    compiled = compile_plan(body, [x], 1, [t])
    assert_close(compiled([t], [], [t])[0], t.exp().relu() * 2)


def test_deep_function() -> None:
    x = relay.Var("x", relay.TensorType([4], "float32"))
    body: relay.Expr = x
    for _ in range(3000):
        body = call("tanh", [body])
    t = rand(4)
    expected = t.clone()
    for _ in range(3000):
        expected = expected.tanh()
    assert_close(compile_plan(body, [x], 1, [t])([t], [], [t])[0], expected)


def test_stages_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    x = rand(3)
    with caplog.at_level(logging.DEBUG, "torch_tvm"):
        check([("relu", lambda v: call("nn.relu", [v]), torch.relu)], [x], debug=True)
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "after relay to relax" in text
    assert "R.nn.relu" in text
    assert "lowered in" in text


def test_info_lists_kernels() -> None:
    compiled = check([("add", lambda a, b: call("add", [a, b]), torch.add)], [rand(8, 8), rand(8)])
    (kernel,) = compiled.plan.info["kernels"]
    assert kernel["name"] == "add_0"
    assert kernel["flops"] == 64
    assert "Elementwise" in kernel["workload"]


X = relay.Var("x", relay.TensorType([2, 3], "float32"))
DOUBLE = relay.Var("d", relay.TensorType([2, 3], "float64"))
IF = relay.If(relay.const(True), X, X)


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (IF, NotImplementedError, "straight-line code; If"),
        (call("nn.sparse_dense", [X, X, X, X]), NotImplementedError, "'nn.sparse_dense' has no lowering"),
        (call("add", [X, DOUBLE]), ValueError, "one dtype, got float32 and float64"),
        (
            call("nn.dense", [X, call("transpose", [X], {"axes": [1, 0]})], {"units": 2}),
            ValueError,
            "nn.dense",
        ),
        (call("nn.softmax", [X], {"axis": 2}), ValueError, "axis=2 is out of range for rank 2"),
        (relay.Var("free", relay.TensorType([2], "float32")), ValueError, "%free is used but never bound"),
    ],
)
def test_refused(body: relay.Expr, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compiler.compile(relay.Function([X, DOUBLE], body), 2, [[0, 1]] * 2, [[0, 1]], {})


def test_refused_arguments() -> None:
    relu = relay.Function([X], call("nn.relu", [X]))
    with pytest.raises(ValueError, match="no permutation of the 2 dims"):
        compiler.compile(relu, 1, [[0, 2]], [[0, 1]], {})
    with pytest.raises(ValueError, match="1 outputs, got 2 output orders"):
        compiler.compile(relu, 1, [[0, 1]], [[0, 1], [0, 1]], {})
    with pytest.raises(ValueError, match="pentium9"):
        compiler.compile(relu, 1, [[0, 1]], [[0, 1]], {"target": "llvm -mcpu=pentium9"})
    unknown = relay.Var("u", relay.TensorType([-1, 3], "float32"))
    with pytest.raises(ValueError, match="static shapes"):
        compiler.compile(relay.Function([unknown], call("nn.relu", [unknown])), 1, [[0, 1]], [[0, 1]], {})
