"""Type inference."""

from typing import Any

import pytest

from torch_tvm import relay

MATRIX = relay.TensorType((2, 3), "float32")
SCALAR = relay.TensorType((), "int32")


def var(name: str = "x", ty: Any = MATRIX) -> relay.Var:
    return relay.Var(name, ty)


def typed(text: str) -> relay.Function:
    function = relay.infer_type(relay.parse_expr(text))
    assert isinstance(function, relay.Function)
    return function


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ("%x", "Tensor[(2, 3), float32]"),
        ("add(%x, 1f)", "Tensor[(2, 3), float32]"),
        ("less(%x, 1f)", "Tensor[(2, 3), bool]"),
        ("sum(%x, axis=[1], keepdims=True)", "Tensor[(2, 1), float32]"),
        ("sum(%x)", "float32"),
        ("(%x, 1, sum(%x))", "(Tensor[(2, 3), float32], int32, float32)"),
        ("(%x, 1).1", "int32"),
        ("split(%x, indices_or_sections=3, axis=1).2", "Tensor[(2, 1), float32]"),
        ("let %y = transpose(%x, axes=None); nn.relu(%y)", "Tensor[(3, 2), float32]"),
        ("if (True) { %x } else { exp(%x) }", "Tensor[(2, 3), float32]"),
        ("fn (%y: int32) { (%x, %y) }", "fn (int32) -> (Tensor[(2, 3), float32], int32)"),
        ("(fn (%y) { add(%y, %y) })(%x)", "Tensor[(2, 3), float32]"),
        ('let %f = fn (%y: int64) { cast(%y, dtype="bool") }; %f(1i64)', "bool"),
        ("True", "bool"),
        ("()", "()"),
    ],
)
def test_results(body: str, result: str) -> None:
    function = typed(f"fn (%x: Tensor[(2, 3), float32]) {{ {body} }}")
    assert repr(function.ret_type) == result
    assert repr(function.body.checked_type) == result
    assert repr(function.checked_type) == f"fn (Tensor[(2, 3), float32]) -> {result}"


def test_every_expression_gets_a_type() -> None:
    x = var()
    shared = relay.exp(x)
    y = relay.Var("y")
    body = relay.Let(y, relay.Tuple([shared, relay.const(1)]), relay.add(relay.TupleGetItem(y, 0), shared))
    function = relay.infer_type(relay.Function([x], body))
    let = function.body
    assert repr(let.var.type_annotation) == "(Tensor[(2, 3), float32], int32)"
    assert let.value.fields[1].checked_type.dtype == "int32"
    assert let.body.args[1].checked_type.dtype == "float32"
    assert let.body.args[1].same_as(let.value.fields[0])
    assert let.body.args[0].tuple.same_as(let.var)


def test_what_needs_no_change_stays_the_same_object() -> None:
    x = var()
    body = relay.exp(x)
    function = relay.Function([x], body, MATRIX)
    assert relay.infer_type(function).same_as(function)
    assert body.checked_type.dtype == "float32"
    open_end = relay.Function([x], body)
    inferred = relay.infer_type(open_end)
    assert open_end.ret_type is None and inferred.ret_type is not None
    assert inferred.body.same_as(body)


def test_recursive_functions_are_inferred_from_the_branch_that_ends() -> None:
    loop = """let %loop = fn (%i: int32, %s: Tensor[(4), float32]) {
      if (less(%i, 10)) { %loop(add(%i, 1), add(%s, 1f)) } else { (%i, %s) }
    };
    %loop(0, %x)"""
    function = typed(f"fn (%x: Tensor[(4), float32]) {{ {loop} }}")
    assert repr(function.ret_type) == "(int32, Tensor[(4), float32])"
    let = function.body
    assert isinstance(let, relay.Let) and isinstance(let.value, relay.Function)
    assert repr(let.value.ret_type) == "(int32, Tensor[(4), float32])"
    assert relay.structural_equal(relay.parse(function.astext()), function)


def test_modules() -> None:
    text = """#[version = "0.0.5"]
def @helper(%a: Tensor[(2), float32]) { exp(%a) }
def @main(%x: Tensor[(2), float32]) { @helper(@helper(%x)) }
def @forever(%n: int32) -> int32 { @forever(%n) }"""
    module = relay.infer_type(relay.parse(text))
    assert {name: repr(f.ret_type) for name, f in module.functions.items()} == {
        "helper": "Tensor[(2), float32]",
        "main": "Tensor[(2), float32]",
        "forever": "int32",
    }


def test_unknown_sizes() -> None:
    function = typed("fn (%x: Tensor[(?, 3), float32]) { nn.relu(%x) }")
    assert repr(function.ret_type) == "Tensor[(?, 3), float32]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fn (%x) { %x }", "parameter '%x' has no type annotation"),
        ("free_var %x; exp(%x)", "variable '%x' has no type annotation"),
        ("fn (%x: int32) { (%x, %x).2 }", "2"),
        ("fn (%x: int32) { %x.0 }", "field 0: expected a tuple, got a value of type int32"),
        ("fn (%x: (int32,)) { %x.1 }", "field 1: the tuple has 1 fields"),
        ("fn (%x: int32) { %x(1) }", "call: expected a function, got a value of type int32"),
        ("(fn (%x: int32) { %x })(1f)", "argument 0 must be int32, got float32"),
        ("(fn (%x: int32) { %x })(1, 2)", "expected 1 arguments, got 2"),
        ("if (1) { 1 } else { 2 }", "expected a condition of type bool, got int32"),
        ("if (True) { 1 } else { 2f }", "expected branches of one type, got int32 and float32"),
        ("fn () -> int64 { 1 }", "declared to give int64, but gives int32"),
        ("let %x: int64 = 1; %x", "'%x' is declared as int64, but gets int32"),
        ("let %f = fn (%x: int32) { %f(%x) }; %f", "cannot infer the result of the recursive function '%f'"),
        ("@nowhere(1)", "no function '@nowhere'"),
        ("add(1, 2f)", r"add\(int32, float32\): "),
        (
            "fn (%x: Tensor[(2, 3), float32], %y: Tensor[(4), float32]) { add(%x, %y) }",
            r"add\(Tensor\[\(2, 3\), float32\], Tensor\[\(4\), float32\]\): .*\(at net:1:62\)",
        ),
        ("nn.dense(1f, 2f, units=None)", "nn.dense"),
        ('zeros(shape=[-5], dtype="int8")', "a size must be >= 0, or -1 for one that is not known, got -5"),
    ],
)
def test_errors_name_operator_operands_and_place(text: str, message: str) -> None:
    with pytest.raises((TypeError, relay.ParseError), match="(?s)" + message):
        relay.infer_type(relay.parse(text, "net"))


def test_operators_without_types_are_named() -> None:
    with pytest.raises(NotImplementedError, match=r"vision\.proposal"):
        relay.infer_type(
            relay.vision.proposal(
                *[relay.const(1.0)] * 3,
                scales=[1.0],
                ratios=[1.0],
                feature_stride=1,
                threshold=0.5,
                rpn_pre_nms_top_n=1,
                rpn_post_nms_top_n=1,
                rpn_min_size=1,
                iou_loss=False,
            )
        )


def test_an_operator_is_no_value() -> None:
    for text in ("exp(add)", "let %f = exp; %f(1f)", "(1, exp)"):
        with pytest.raises(NotImplementedError, match="operator '(add|exp)' is no operand here"):
            relay.check(text)


def test_wrong_argument() -> None:
    with pytest.raises(TypeError, match="expected an expression or a module, got int"):
        relay.infer_type(3)
