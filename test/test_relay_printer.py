"""The text printer, rule by rule."""

from typing import Any

import numpy as np
import pytest
import torch

from torch_tvm import relay

HEADER = '#[version = "0.0.5"]\n'
MATRIX = relay.TensorType((2, 3), "float32")


def var(name: str = "x", shape: Any = (2, 3), dtype: str = "float32") -> relay.Var:
    return relay.Var(name, relay.TensorType(shape, dtype))


def body(*lines: str) -> str:
    return HEADER + "\n".join(lines)


def text_of(expr: relay.Expr) -> str:
    """Print without the header and the declarations of free variables."""
    lines = expr.astext().removeprefix(HEADER).split("\n")
    return "\n".join(line for line in lines if not line.startswith("free_var"))


def test_module_has_header_blank_lines_and_sorted_functions() -> None:
    x = var()
    main = relay.Function([x], relay.add(relay.exp(x), x))
    other = var()
    first = relay.Function([other], relay.exp(relay.exp(other)), MATRIX)
    assert relay.IRModule({"main": main, "a": first}).astext() == (
        HEADER + "def @a(%x: Tensor[(2, 3), float32]) -> Tensor[(2, 3), float32] {\n"
        "  %0 = exp(%x);\n"
        "  exp(%0)\n"
        "}\n"
        "\n"
        "def @main(%x1: Tensor[(2, 3), float32]) {\n"
        "  %1 = exp(%x1);\n"
        "  add(%1, %x1)\n"
        "}\n"
    )
    assert relay.IRModule().astext() == HEADER


def test_temporaries_are_numbered_when_their_consumer_is_printed() -> None:
    x = var()
    expr = relay.Function([x], relay.add(relay.exp(x), relay.tanh(relay.sin(x))))
    assert expr.astext() == body(
        "fn (%x: Tensor[(2, 3), float32]) {",
        "  %0 = sin(%x);",
        "  %1 = exp(%x);",
        "  %2 = tanh(%0);",
        "  add(%1, %2)",
        "}",
    )


def test_a_shared_result_gets_a_temporary() -> None:
    x = var()
    shared = relay.exp(x)
    branch = relay.If(relay.const(True), shared, relay.add(shared, shared))
    assert relay.Function([x], branch).astext() == body(
        "fn (%x: Tensor[(2, 3), float32]) {",
        "  if (True) {",
        "    %0 = exp(%x);",
        "    %0",
        "  } else {",
        "    add(%0, %0)",
        "  }",
        "}",
    )


@pytest.mark.parametrize(
    ("value", "dtype", "text"),
    [
        (42, "int16", "42i16"),
        (42, "int32", "42"),
        (42, "int64", "42i64"),
        (-7, "int64", "-7i64"),
        (-(2**31), "int32", "-2147483648"),
        (1.5, "float16", "1.5f16"),
        (1.5, "float32", "1.5f"),
        (1.5, "float64", "1.5f64"),
        (1e-5, "float64", "1e-05f64"),
        (1e11, "float32", "1e+11f"),
        (1.0, "float32", "1f"),
        (-0.0, "float32", "-0f"),
        (np.float32(0.707107), "float32", "0.707107f"),
        (float("inf"), "float32", "inff"),
        (float("-inf"), "float32", "-inff"),
        (True, "bool", "True"),
        (False, "bool", "False"),
    ],
)
def test_literals(value: Any, dtype: str, text: str) -> None:
    constant = relay.const(value, dtype)
    assert text_of(constant) == text
    assert relay.structural_equal(relay.parse(constant.astext()), constant)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1 / 3, "float32"),
        (1 / 3, "float64"),
        (0.1 + 0.2, "float64"),
        (float("nan"), "float32"),
        (float("inf"), "float64"),
        (float("-inf"), "float16"),
        (4094.0, "bfloat16"),
        (-(2**63), "int64"),
        (3, "int8"),
        (3, "uint8"),
        (1.5, "bfloat16"),
        ([1.0], "float32"),
        (np.zeros((0, 3)), "float32"),
        ([True, False], "bool"),
    ],
)
def test_what_is_no_exact_literal_goes_to_the_metadata(value: Any, dtype: str) -> None:
    constant = relay.const(value, dtype)
    text = relay.add(var("a"), constant).astext()
    assert "add(%a, meta[relay.Constant][0])" in text
    assert relay.structural_equal(relay.parse(constant.astext()), constant)


def test_nan_bits_survive() -> None:
    quiet = torch.tensor([0x7FC00001], dtype=torch.int32).view(torch.float32)
    back = relay.parse(relay.Constant(quiet).astext())
    assert isinstance(back, relay.Constant)
    assert back.numpy().view("int32")[0] == 0x7FC00001


def test_the_same_constant_has_one_entry_and_equal_ones_have_two() -> None:
    a, b = relay.const([1.0, 2.0]), relay.const([1.0, 2.0])
    text = relay.Tuple([a, b, a]).astext()
    assert "(meta[relay.Constant][0], meta[relay.Constant][1], meta[relay.Constant][0])" in text


def test_metadata_example() -> None:
    x = var("x", (2,))
    text = relay.IRModule.from_expr(relay.Function([x], relay.add(x, relay.const([1.0, 2.0])))).astext()
    assert text.startswith(
        HEADER
        + "def @main(%x: Tensor[(2), float32]) {\n  add(%x, meta[relay.Constant][0])\n}\n\n#[metadata]\n{\n"
    )
    assert '"P6G0lvBAXt0AAAAAAAAAAAEAAAAAAAAAAQAAAAIgAQACAAAAAAAAAAgAAAAAAAAAAACAPwAAAEA="' in text
    assert text.endswith('  ], \n  "attrs": {"tvm_version": "0.19.0"}\n}')
    assert "metadata" not in str(relay.const(1.0))
    assert "the metadata section has been omitted" in str(relay.const([1.0]))


def test_more_than_ten_elements_are_one_a_line() -> None:
    def listed(count: int) -> str:
        text = relay.Tuple([relay.const([float(i)]) for i in range(count)]).astext()
        return text.partition('"type_key": "Array", \n      ')[2].partition("\n    }")[0]

    assert listed(10).startswith('"data": [3, 6, 7, ')
    assert listed(11).startswith('"data": [\n        3, \n        6, \n')


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (relay.Tuple([]), "()"),
        (relay.Tuple([var("a")]), "(%a,)"),
        (relay.Tuple([var("a"), var("b")]), "(%a, %b)"),
        (relay.TupleGetItem(var("t"), 1), "%t.1"),
        (relay.add(var("a"), var("b")), "add(%a, %b)"),
        (relay.Call(var("f"), []), "%f()"),
        (relay.Call(relay.Call(var("f"), [var("a")]), [var("b")]), "%0 = %f(%a);\n%0(%b)"),
        (relay.Call(relay.GlobalVar("f"), [var("a")]), "@f(%a)"),
        (
            relay.concatenate([var("a"), var("b")], axis=1),
            "%0 = (%a, %b);\nconcatenate(%0, axis=1)",
        ),
        (relay.zeros(shape=[2], dtype="float32"), 'zeros(shape=[2], dtype="float32")'),
    ],
)
def test_expressions(expr: relay.Expr, text: str) -> None:
    assert text_of(expr) == text


@pytest.mark.parametrize(
    ("call", "attrs"),
    [
        (relay.nn.conv2d(var("a"), var("b")), ""),
        (
            relay.nn.conv2d(var("a"), var("b"), padding=1, channels=4, kernel_size=(3, 3)),
            ", padding=[1, 1, 1, 1], channels=4, kernel_size=[3, 3]",
        ),
        (relay.nn.conv2d(var("a"), var("b"), padding=[0, 0, 0, 0]), ", padding=[0, 0, 0, 0]"),
        (relay.Call("nn.conv2d", [var("a"), var("b")], {"padding": [0, 0]}), ""),
        (relay.nn.dense(var("a"), var("b")), ", units=None"),
        (relay.nn.dense(var("a"), var("b"), units=8, out_dtype="float64"), ', units=8, out_dtype="float64"'),
        (relay.nn.batch_norm(*[var(n) for n in "abcde"], epsilon=1e-3), ", epsilon=0.001f"),
        (relay.clip(var("a"), a_min=0, a_max=6), ", a_min=0f, a_max=6f"),
        (relay.clip(var("a"), a_min=float("-inf"), a_max=float("inf")), ", a_min=-inff, a_max=inff"),
        (relay.clip(var("a"), a_min=1 / 3, a_max=1e-9), ", a_min=0.3333333333333333f, a_max=1e-09f"),
        (relay.sum(var("a"), axis=1, keepdims=True), ", axis=[1], keepdims=True"),
        (relay.sum(var("a"), axis=[]), ", axis=[]"),
        (relay.cast(var("a"), dtype="int8"), ', dtype="int8"'),
        (
            relay.strided_slice(var("a"), begin=[0], end=[2**40], strides=[1]),
            ", begin=[0], end=[1099511627776i64], strides=[1], axes=None",
        ),
        (relay.nn.pad(var("a"), var("b"), pad_width=[[0, 0], [1, 1]]), ", pad_width=[[0, 0], [1, 1]]"),
        (relay.split(var("a"), indices_or_sections=2), ", indices_or_sections=2"),
        (relay.split(var("a"), indices_or_sections=[1, 2]), ", indices_or_sections=[1, 2]"),
        (
            relay.split(var("a"), indices_or_sections=relay.BoxInt(2), axis=1),
            ", indices_or_sections=meta[runtime.BoxInt][0], axis=1",
        ),
        (relay.reshape(var("a"), newshape=[-1], allowzero=True), ", newshape=[-1], allowzero=True"),
        (relay.cumsum(var("a"), axis=1), ", meta[relay.attrs.ScanopAttrs][0]"),
        (
            relay.image.resize2d(var("a"), size=[8, 8], roi=[0, 0.5, 0, 0]),
            ", size=[8, 8], roi=[0f, 0.5f, 0f, 0f]",
        ),
        (
            relay.arange(relay.const(0), relay.const(2), relay.const(1), dtype="int32"),
            ", 2, 1, start=meta[relay.Constant][0], stop=meta[relay.Constant][1],"
            ' step=meta[relay.Constant][2], dtype="int32"',
        ),
    ],
)
def test_attributes(call: relay.Call, attrs: str) -> None:
    line = text_of(call).split("\n")[0]
    assert line.endswith(attrs + ")")
    assert "=" in attrs or "meta" in attrs or "=" not in line
    back = relay.parse(call.astext())
    assert relay.structural_equal(back, call, map_free_vars=True)


def test_unregistered_attributes_without_metadata_are_key_and_value() -> None:
    assert "cumsum(%a, axis=1)" in relay.cumsum(var("a"), axis=1).astext(show_meta_data=False)


def test_all_kinds_of_metadata_attributes_read_back() -> None:
    calls = [
        relay.scatter_nd(var("a"), var("b"), var("c"), mode="add"),
        relay.nn.dilate(var("a"), strides=[2, 2], dilation_value=0.1),
        relay.vision.roi_align(var("a"), var("b"), pooled_size=[7, 7], spatial_scale=0.25),
        relay.vision.get_valid_counts(var("a"), var("b"), score_index=0, id_index=1),
        relay.collapse_sum_to(var("a"), var("b"), shape=None),
        relay.unique(var("a"), sorted=False),
    ]
    for call in calls:
        assert relay.structural_equal(relay.parse(call.astext()), call, map_free_vars=True), call


@pytest.mark.parametrize(
    ("ty", "text"),
    [
        (relay.TensorType((1, 3, 224, 224)), "Tensor[(1, 3, 224, 224), float32]"),
        (relay.TensorType((5,), "int64"), "Tensor[(5), int64]"),
        (relay.TensorType((), "float32"), "float32"),
        (relay.TensorType((), "bool"), "bool"),
        (relay.TensorType((), "bfloat16"), "Tensor[(), bfloat16]"),
        (relay.TensorType((-1, 2)), "Tensor[(?, 2), float32]"),
        (relay.TensorType((2**40,)), "Tensor[(1099511627776i64), float32]"),
        (relay.TensorType((4,), "bfloat16"), "Tensor[(4), bfloat16]"),
        (relay.TupleType([]), "()"),
        (relay.TupleType([MATRIX]), "(Tensor[(2, 3), float32],)"),
        (relay.TupleType([MATRIX, relay.TensorType((), "int8")]), "(Tensor[(2, 3), float32], int8)"),
        (relay.FuncType([MATRIX], relay.TupleType([])), "fn (Tensor[(2, 3), float32]) -> ()"),
        (relay.FuncType([], relay.FuncType([], MATRIX)), "fn () -> fn () -> Tensor[(2, 3), float32]"),
    ],
)
def test_types(ty: relay.Type, text: str) -> None:
    assert repr(ty) == text
    function = relay.Function([relay.Var("x", ty)], relay.const(1))
    assert f"fn (%x: {text}) {{" in function.astext()
    assert relay.structural_equal(relay.parse(function.astext()), function)


def test_functions_as_values_and_their_attributes() -> None:
    x, p = var("x", (2,)), var("p0", (2,))
    ty = relay.TensorType((2,), "float32")
    inner = relay.Function(
        [p],
        relay.nn.relu(relay.exp(p)),
        ty,
        attrs={"Primitive": 1, "hash": "ab12", "relay.reshape_only": 0.5},
    )
    assert relay.Function([x], relay.Call(inner, [x])).astext() == body(
        "fn (%x: Tensor[(2), float32]) {",
        '  %1 = fn (%p0: Tensor[(2), float32], Primitive=1, hash="ab12", relay.reshape_only=0.5f)'
        " -> Tensor[(2), float32] {",
        "    %0 = exp(%p0);",
        "    nn.relu(%0)",
        "  };",
        "  %1(%x)",
        "}",
    )


def test_lets() -> None:
    x, y, z = var("x", (2,)), relay.Var("y", relay.TensorType((2,), "float32")), relay.Var("z")
    inner = relay.Let(z, relay.tanh(relay.add(y, y)), relay.multiply(z, z))
    let = relay.Let(y, relay.exp(relay.sin(x)), inner)
    assert relay.Function([x], let).astext() == body(
        "fn (%x: Tensor[(2), float32]) {",
        "  %0 = sin(%x);",
        "  let %y: Tensor[(2), float32] = exp(%0);",
        "  %1 = add(%y, %y);",
        "  let %z = tanh(%1);",
        "  multiply(%z, %z)",
        "}",
    )
    assert text_of(relay.exp(relay.Let(z, relay.const(1), z))) == "%0 = (\n  let %z = 1;\n  %z\n);\nexp(%0)"


def test_a_let_as_value_of_a_let_stands_in_parentheses() -> None:
    a, b = relay.Var("a"), relay.Var("b")
    let = relay.Let(a, relay.Let(b, relay.const(1), b), a)
    assert text_of(let) == "%0 = (\n  let %b = 1;\n  %b\n);\nlet %a = %0;\n%a"
    assert relay.structural_equal(relay.parse(let.astext()), let)


def test_free_variables_are_declared_at_first_use() -> None:
    x, y = var("x", (3, 2)), relay.Var("y")
    assert relay.add(x, relay.exp(y)).astext() == body(
        "free_var %y;", "free_var %x: Tensor[(3, 2), float32];", "%0 = exp(%y);", "add(%x, %0)"
    ) or relay.add(x, relay.exp(y)).astext() == body(
        "free_var %x: Tensor[(3, 2), float32];", "free_var %y;", "%0 = exp(%y);", "add(%x, %0)"
    )


def test_what_a_scope_defines_for_others_stands_before_them() -> None:
    x = var()
    shared = relay.exp(x)
    inner = relay.Function([], relay.tanh(shared))
    call = relay.Call(inner, [relay.sin(shared)])
    program = relay.Function([x], call)
    assert program.astext() == body(
        "fn (%x: Tensor[(2, 3), float32]) {",
        "  %1 = fn () {",
        "    %0 = exp(%x);",
        "    tanh(%0)",
        "  };",
        "  %2 = sin(%0);",
        "  %1(%2)",
        "}",
    )
    assert relay.structural_equal(relay.parse(program.astext()), program)


def test_a_free_variable_is_in_scope_everywhere() -> None:
    c, x = var("c", (), "bool"), var()
    program = relay.Tuple([relay.If(relay.const(True), relay.exp(x), x), relay.tanh(x), c])
    assert relay.structural_equal(relay.parse(program.astext()), program, map_free_vars=True)


def test_names_are_unique_and_friendly() -> None:
    names = ["x", "x", "x1", "fc.weight", "1", "", "let"]
    params = [relay.Var(name) for name in names]
    head = relay.Function(params, relay.Tuple(params)).astext().split("\n")[1]
    assert head == "fn (%x, %x1, %x11, %fc_weight, %v1, %v, %vlet) {"


def test_comments_with_types_and_spans() -> None:
    x = relay.Var("x", MATRIX, relay.Span("model.py", 3, 7))
    call = relay.add(relay.exp(x), relay.const(1.0), span=relay.Span("model */ .py", 4))
    typed = relay.infer_type(relay.Function([x], call))
    ty = "Tensor[(2, 3), float32]"
    assert typed.astext() == body(
        f"fn (%x: {ty} /* ty={ty} span=model.py:3:7 */) -> {ty} {{",
        f"  %0 = exp(%x) /* ty={ty} */;",
        f"  add(%0, 1f /* ty=float32 */) /* ty={ty} span=model * / .py:4:0 */",
        f"}} /* ty=fn ({ty}) -> {ty} */",
    )
    assert relay.structural_equal(relay.parse(typed.astext()), typed)


def test_a_comment_stands_once() -> None:
    x = var()
    one = relay.const(1.0)
    typed = relay.infer_type(relay.Function([x], relay.add(relay.add(x, one), one)))
    assert typed.astext().count("1f /* ty=float32 */") == 1


def test_constant_spans_are_kept_in_the_metadata() -> None:
    constant = relay.Constant([1.0, 2.0], relay.Span("weights.py", 5, 6, 7, 8))
    back = relay.parse(relay.Tuple([constant, constant]).astext())
    assert isinstance(back, relay.Tuple)
    span = back.fields[0].span
    assert span is not None
    assert (span.source_name, span.line, span.column, span.end_line, span.end_column) == (
        "weights.py",
        5,
        6,
        7,
        8,
    )


def test_attributes_that_text_cannot_hold_are_errors() -> None:
    function = relay.Function([], relay.const(1), attrs={"name": 'a "quoted" name'})
    with pytest.raises(ValueError, match="cannot hold this string"):
        function.astext()
    x = var("x", (), "int32")
    for held in (relay.exp(x), x):  # nothing stands ahead of a definition that could declare it
        module = relay.IRModule({"main": relay.Function([], relay.const(1), attrs={"a": held})})
        with pytest.raises(ValueError, match=r"torch_tvm\.relay\.(Call|Var) as an attribute of a function"):
            module.astext()


def test_expressions_in_attributes() -> None:
    x = var("x", (), "int32")
    stop = relay.add(x, relay.const(1))
    call = relay.arange(relay.const(0), stop, relay.const(2), dtype="int32")
    function = relay.Function([x], call)
    text = function.astext()
    assert "%0 = add(%x, 1);" in text and "start=meta[relay.Constant][0], stop=%0, " in text
    back = relay.parse(text)
    assert relay.structural_equal(back, function) and back.astext() == text
    assert relay.structural_hash(back) == relay.structural_hash(function)
    assert back.body.attrs["stop"].same_as(back.body.args[1])
    other = relay.Call("arange", call.args, {**call.attrs, "stop": x})
    assert not relay.structural_equal(relay.Function([x], other), function)
    held = relay.Function([x], x, attrs={"of": [x, relay.Op.get("add"), relay.GlobalVar("f")], "none": None})
    text = held.astext()
    assert "of=[%x, add, @f], none=None" in text
    assert relay.structural_equal(relay.parse(text), held)


def test_long_chains_through_attributes_are_no_deep_ones() -> None:
    link = '%{} = arange(%{}, 1, 1, start=add, stop=%{}, step=add, dtype="int32");\n'
    chain = "".join(link.format(i + 1, 0, i) for i in range(20_000))
    text = "%0 = 1;\n" + chain + "%20000"
    program = relay.parse(text)
    assert relay.structural_equal(program, relay.parse(text))
    assert "%19998 = arange(1, 1, 1, start=add, stop=%19997, step=add" in program.astext()
    del program
