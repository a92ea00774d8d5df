"""Relay's objects: constructors and their errors, the operator table, equality, hash, JSON, pickle."""

import collections
import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from tvm_ffi.serialization import from_json_graph_str, to_json_graph_str

from torch_tvm import relay

ANYTHING: Any = 2.5
MATRIX = relay.TensorType((2, 3), "float32")


def var(name: str = "x", *shape: int) -> relay.Var:
    return relay.Var(name, relay.TensorType(shape or (2, 3), "float32"))


def diamond(name: str) -> relay.Function:
    x = var(name)
    shared = relay.exp(x)
    return relay.Function([x], relay.add(shared, relay.multiply(shared, relay.const(2.0))))


def everything(names: str = "xyf") -> relay.Function:
    """Use every class of expression once."""
    a, b, f = var(names[0]), var(names[1]), relay.Var(names[2])
    inner = var("p")
    function = relay.Function([inner], relay.nn.relu(inner), attrs={"Primitive": 1})
    parts = relay.split(relay.Call(f, [a]), indices_or_sections=relay.BoxInt(3), axis=1)
    branch = relay.If(relay.const(True), relay.TupleGetItem(parts, 0), relay.slice_like(b, b, axes=[1]))
    body = relay.Let(f, function, relay.Tuple([branch, relay.Call(relay.GlobalVar("g"), [b])]))
    return relay.Function([a, b], body, attrs={"name": "all", "sizes": [1, 2]})


def test_fields_read_back() -> None:
    x = relay.Var("x", MATRIX, relay.Span("file.py", 3, 4, 3, 9))
    call = relay.Call("nn.softmax", [x], {"axis": 1}, x.span)
    assert call.op.same_as(relay.Op.get("nn.softmax"))
    assert call.args[0].same_as(x)
    assert dict(call.attrs) == {"axis": 1}
    assert call.span is not None and x.type_annotation is not None
    assert (call.span.source_name, call.span.line, call.span.end_column) == ("file.py", 3, 9)
    assert x.type_annotation.same_as(MATRIX)
    assert list(MATRIX.shape) == [2, 3] and MATRIX.dtype == "float32"
    assert relay.TupleGetItem(relay.Tuple([x, call]), 1).index == 1
    assert relay.If(x, call, x).true_branch.same_as(call)
    assert relay.IRModule({"f": diamond("x")})["f"].params[0].name_hint == "x"


def test_fields_are_read_only_but_annotations_are_not() -> None:
    call = relay.exp(var())
    with pytest.raises(AttributeError):
        call.attrs = {}
    call.checked_type = MATRIX
    call.span = relay.Span("a")
    assert call.checked_type.same_as(MATRIX)
    call.checked_type = call.span = None


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: relay.Call("nn.nope", []), ValueError, "no operator 'nn.nope'"),
        (lambda: relay.Call("add", [var()]), ValueError, r"add: expected 2 operands \(lhs, rhs\), got 1"),
        (lambda: relay.nn.conv2d(var(), var(), pad=1), ValueError, "no attribute 'pad'; it takes strides"),
        (lambda: relay.exp(var(), axis=1), ValueError, "exp: there is no attribute 'axis'; it takes none"),
        (lambda: relay.cast(var()), ValueError, "attribute 'dtype' has no default and was not given"),
        (lambda: relay.cast(var(), dtype="floaty"), TypeError, 'must be the name of a dtype, got "floaty"'),
        (lambda: relay.nn.softmax(var(), axis=0.5), TypeError, "'axis' must be an int, got 0.5"),
        (lambda: relay.clip(var(), a_min="0", a_max=1), TypeError, "'a_min' must be a float"),
        (lambda: relay.clip(var(), a_min=float("nan"), a_max=1), TypeError, "NaN"),
        (lambda: relay.transpose(var(), axes=["a"]), TypeError, "'axes' must be a list of ints"),
        (lambda: relay.sum(var(), keepdims=2), TypeError, "'keepdims' must be a bool, got 2"),
        (lambda: relay.layout_transform(var(), src_layout='N"', dst_layout="N"), TypeError, "src_layout"),
        (lambda: relay.add(var(), 1), TypeError, "operands must be Relay expressions, got int"),
        (lambda: relay.Call("add", [var(), ANYTHING]), TypeError, "Expr"),
        (lambda: relay.Var(ANYTHING), TypeError, "str"),
        (lambda: relay.TensorType((2, -3)), ValueError, "a size must be >= 0.*got -3"),
        (lambda: relay.TensorType((2, ANYTHING)), TypeError, "Array<int>"),
        (lambda: relay.TupleGetItem(relay.Tuple([var()]), 1), ValueError, "index 1 .* has 1"),
        (lambda: relay.TupleGetItem(var(), -1), ValueError, "index -1"),
        (lambda: relay.Function([diamond("x").params[0]] * 2, var()), ValueError, "'x' is a parameter twice"),
        (lambda: relay.IRModule({"main": ANYTHING}), TypeError, "Function"),
        (lambda: relay.nn.nope, AttributeError, "no operator 'nn.nope'"),
        (relay.Op, TypeError, "cannot be constructed"),
    ],
)
def test_misuse_is_an_error_that_says_why(make: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_attributes_are_completed_and_converted() -> None:
    call = relay.Call("nn.conv2d", [var(), var()], {"channels": np.int64(4), "strides": (2, 2)})
    assert list(call.attrs) == [attr.name for attr in relay.op.TABLE["nn.conv2d"].attrs]
    assert call.attrs["channels"] == 4 and list(call.attrs["strides"]) == [2, 2]
    assert list(call.attrs["padding"]) == [0, 0] and call.attrs["kernel_size"] is None
    assert relay.clip(var(), a_min=0, a_max=6).attrs["a_max"] == 6.0
    assert isinstance(relay.clip(var(), a_min=0, a_max=6).attrs["a_max"], float)
    assert relay.sum(var(), keepdims=1).attrs["keepdims"] is True
    assert relay.cast(var(), dtype=torch.float64).attrs["dtype"] == "float64"


def test_python_short_forms() -> None:
    conv = relay.nn.conv2d(var(), var(), strides=2, padding=(1, 2), kernel_size=3)
    assert list(conv.attrs["strides"]) == [2, 2]
    assert list(conv.attrs["padding"]) == [1, 2, 1, 2]
    assert list(conv.attrs["kernel_size"]) == [3, 3]
    assert list(relay.nn.max_pool3d(var(), pool_size=2).attrs["pool_size"]) == [2, 2, 2]
    assert list(relay.sum(var(), axis=1).attrs["axis"]) == [1]
    assert isinstance(relay.concatenate([var(), var()], axis=1).args[0], relay.Tuple)
    assert relay.nn.dense(var(), var()).attrs["units"] is None
    arange = relay.arange(relay.const(0), relay.const(5), relay.const(1), dtype="int32")
    assert arange.attrs["stop"].same_as(arange.args[1])


def test_operator_table_holds_all_of_tvm() -> None:
    table = relay.op.TABLE
    assert len(table) == 298
    prefixes = collections.Counter(name.split(".")[0] for name in table if "." in name)
    assert prefixes["qnn"] == 26 and prefixes["vision"] == 10
    patterns = collections.Counter(info.pattern for info in table.values())
    assert patterns == {
        "kElemWise": 59,
        "kOutEWiseFusable": 58,
        "kInjective": 56,
        "kOpaque": 55,
        "kBroadcast": 39,
        None: 19,
        "kCommReduce": 12,
    }
    assert sum(patterns.values()) == 298
    dense = table["nn.dense"]
    assert dense.args == ("data", "weight")
    assert [(a.name, a.kind, a.required, a.default) for a in dense.attrs] == [
        ("units", "int or None", True, None),
        ("out_dtype", "dtype name", False, ""),
    ]


@pytest.mark.parametrize("name", sorted(relay.op.TABLE))
def test_every_operator_can_be_called(name: str) -> None:
    info = relay.op.TABLE[name]
    samples = {
        "int": 1,
        "bool": True,
        "float": 0.5,
        "str": "a",
        "dtype name": "float32",
        "list of int": [1, 2],
        "list of float": [0.5],
        "list of list of int": [[1, 2]],
        "int or list of int": 2,
        "Expr": relay.const(1),
        "object": None,
        "int or None": 3,
        "float or None": 0.25,
    }
    args = [var() for _ in range(max(info.num_inputs, 0))]
    attrs = {attr.name: samples[attr.kind] for attr in info.attrs}
    call = relay.Call(name, args, attrs)
    assert len(call.attrs) == len(info.attrs)
    required = {attr.name: samples[attr.kind] for attr in info.attrs if attr.required}
    assert len(relay.Call(name, args, required).attrs) == len(info.attrs)


def test_equality_is_up_to_names() -> None:
    assert relay.structural_equal(diamond("x"), diamond("y"))
    assert relay.structural_hash(diamond("x")) == relay.structural_hash(diamond("y"))
    assert relay.structural_equal(everything("xyf"), everything("abc"))
    assert relay.structural_hash(everything("xyf")) == relay.structural_hash(everything("abc"))
    assert diamond("x") != diamond("x")


def _unshared() -> relay.Function:
    x = var()
    product = relay.multiply(relay.exp(x), relay.const(2.0))
    return relay.Function([x], relay.add(relay.exp(x), product))


def _swapped() -> relay.Function:
    x, y = var("x"), var("y")
    return relay.Function([x, y], relay.subtract(y, x))


def _in_order() -> relay.Function:
    x, y = var("x"), var("y")
    return relay.Function([x, y], relay.subtract(x, y))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (diamond("x"), _unshared()),
        (_swapped(), _in_order()),
        (relay.const(1.0), relay.const(2.0)),
        (relay.const(0.0), relay.const(-0.0)),
        (relay.const(1), relay.const(1, "int64")),
        (relay.Constant([1.0, 2.0]), relay.Constant([[1.0, 2.0]])),
        (relay.GlobalVar("f"), relay.GlobalVar("g")),
        (relay.sum(relay.const(1.0)), relay.sum(relay.const(1.0), keepdims=True)),
        (relay.const(1.0), relay.Tuple([relay.const(1.0)])),
        (var("x"), var("x")),
        (relay.Function([var()], relay.const(1)), relay.Function([var("x", 3)], relay.const(1))),
        (relay.Function([], relay.const(1), attrs={"a": 1}), relay.Function([], relay.const(1))),
        (relay.Function([], relay.const(1), MATRIX), relay.Function([], relay.const(1))),
        (relay.IRModule({"f": diamond("x")}), relay.IRModule({"g": diamond("x")})),
        (MATRIX, relay.TensorType((2, 3), "float64")),
    ],
)
def test_differences_are_seen(a: Any, b: Any) -> None:
    assert not relay.structural_equal(a, b)
    assert relay.structural_equal(a, a) and relay.structural_equal(b, b)
    assert relay.structural_hash(a) != relay.structural_hash(b) or isinstance(a, relay.Function)


def test_free_variables_match_on_request_one_to_one() -> None:
    x, y = var("x"), var("y")
    assert not relay.structural_equal(relay.add(x, y), relay.add(y, x))
    assert relay.structural_equal(relay.add(x, y), relay.add(y, x), map_free_vars=True)
    assert not relay.structural_equal(relay.add(x, y), relay.add(x, x), map_free_vars=True)
    assert relay.structural_hash(relay.add(x, y), True) == relay.structural_hash(relay.add(y, x), True)


def test_annotations_do_not_count() -> None:
    a, b = diamond("x"), diamond("x")
    a.body.checked_type = MATRIX
    a.body.span = relay.Span("here")
    assert relay.structural_equal(a, b) and relay.structural_hash(a) == relay.structural_hash(b)


@pytest.mark.parametrize("make", [diamond, everything])
def test_json_and_pickle(make: Any) -> None:
    function = make("xyf")
    function.body.span = relay.Span("file.py", 1, 2)
    function.body.checked_type = relay.TupleType([MATRIX])
    module = relay.IRModule({"main": function})
    for other in (from_json_graph_str(to_json_graph_str(module)), pickle.loads(pickle.dumps(module))):
        assert relay.structural_equal(other, module)
        assert other["main"].body.span.line == 1
        assert other["main"].body.checked_type.fields[0].dtype == "float32"
        assert other.astext() == module.astext()
    assert relay.structural_equal(copy.copy(function), function)


def chain(length: int, op: Any = None) -> relay.Function:
    x = var()
    expr: relay.Expr = x
    for _ in range(length):
        expr = (op or relay.exp)(expr)
    return relay.Function([x], expr)


def test_deep_programs() -> None:
    deep = chain(50_000)
    assert relay.structural_equal(deep, chain(50_000))
    assert relay.structural_hash(deep) == relay.structural_hash(chain(50_000))
    assert not relay.structural_equal(deep, chain(49_999))
    text = deep.astext()
    assert text.count("exp(") == 50_000
    assert relay.structural_equal(relay.parse(text), deep)
    typed = relay.infer_type(chain(2000))
    assert typed.ret_type.dtype == "float32"
    for other in (pickle.loads(pickle.dumps(typed)), relay.load_json(relay.save_json(deep))):
        assert relay.structural_equal(other, typed) or relay.structural_equal(other, deep)
    del deep, typed, other
    assert len(chain(200_000).params) == 1


def test_constants_copy_and_convert() -> None:
    array = np.arange(6, dtype="float32").reshape(2, 3)
    constant = relay.Constant(array.T)
    array[:] = 0
    np.testing.assert_array_equal(constant.numpy(), [[0, 3], [1, 4], [2, 5]])
    tensor = torch.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(relay.Constant(tensor.t()).numpy(), [[0, 3], [1, 4], [2, 5]])
    assert relay.const(1).data.dtype == "int32" and relay.const(1.5).data.dtype == "float32"
    assert relay.const(True).data.dtype == "bool"
    assert relay.const(1.5, "bfloat16").data.dtype == "bfloat16"
    assert relay.const(np.float64(2)).data.dtype == "float64"
    assert relay.const(torch.tensor([1, 2]), "float16").numpy().dtype == np.float16


def test_variables_get_parser_friendly_names() -> None:
    import tvm_ffi

    friendly = tvm_ffi.get_global_func("torch_tvm.relay.friendly_name")
    cases = {
        "x": "x",
        "fc.weight": "fc_weight",
        "w.1": "w_1",
        "aten::conv_0": "aten__conv_0",
        "1": "v1",
        "": "v",
        "_x": "v_x",
        "let": "vlet",
        "inffer": "vinffer",
        "a/b": "a/b",
        "a//b": "a//b",
        "naïve": "na__ve",
    }
    assert {name: friendly(name) for name in cases} == cases
