"""Variables that stand for sizes: types, type relations, comparison, and what does not take them for numbers."""

from __future__ import annotations

import pickle

import pytest
import relay_eval
import torch

from torch_tvm import compiler, relay

N, M, WIDE = relay.SizeVar("n"), relay.SizeVar("m", non_negative=True), relay.SizeVar("w", "int64")


def tensor(*sizes: int | relay.SizeVar, dtype: str = "float32") -> relay.TensorType:
    return relay.TensorType(sizes, dtype)


def result(call: str, *types: relay.Type) -> str:
    """The type of an expression of %a, %b, ... of these types."""
    params = [relay.Var(name, ty) for name, ty in zip("abcdef", types, strict=False)]
    names = ", ".join(f"%{param.name_hint}" for param in params)
    shell = relay.parse_expr(f"fn ({names}) {{ {call} }}")
    bound = relay.Function(params, relay.Call(shell, params))
    return repr(relay.infer_type(bound).ret_type)


def test_a_variable_is_no_number() -> None:
    ty = tensor(N, 3, -1, M)
    assert list(ty.shape) == [-1, 3, -1, -1]
    assert repr(ty) == "Tensor[(n, 3, ?, m), float32]"
    assert [relay.Size.of(size).var for size in ty.sizes] == [N, None, None, M]
    assert ty.sizes[0] == -1 and ty.sizes[0] + 1 == 0 and repr(ty.sizes) == "[n, 3, -1, m]"
    assert relay.structural_equal(relay.TensorType(ty.sizes), ty)
    assert tensor(2, 3).size_vars is None and tensor(2, 3).size_bits is None


def test_widths() -> None:
    ty = tensor(relay.Size(4, 64), 3, 2**40, relay.Size(2, 16))
    assert repr(ty) == "Tensor[(4i64, 3, 1099511627776i64, 2i16), float32]"
    assert repr(tensor(relay.Size(4, 32), relay.Size(2**40, 64))) == "Tensor[(4, 1099511627776i64), float32]"
    assert not relay.structural_equal(ty, tensor(4, 3, 2**40, 2))
    assert result("transpose(%a, axes=[1, 0, 2, 3])", ty) == (
        "Tensor[(3, 4i64, 1099511627776i64, 2i16), float32]"
    )
    with pytest.raises(ValueError, match="70000 is no integer of 16 bits"):
        tensor(relay.Size(70000, 16))
    with pytest.raises(ValueError, match="expected an integer type for 'f', got float32"):
        relay.SizeVar("f", "float32")


@pytest.mark.parametrize(
    ("call", "types", "expected"),
    [
        # Broadcasting: with itself, with 1 and with '?'.
        ("add(%a, %b)", (tensor(N, 3), tensor(N, 3)), "Tensor[(n, 3), float32]"),
        ("add(%a, %b)", (tensor(N, 3), tensor(1, 3)), "Tensor[(n, 3), float32]"),
        ("add(%a, %b)", (tensor(3), tensor(N, 1)), "Tensor[(n, 3), float32]"),
        ("add(%a, %b)", (tensor(-1, M), tensor(N, -1)), "Tensor[(n, m), float32]"),
        ("less(%a, %b)", (tensor(N), tensor()), "Tensor[(n), bool]"),
        # What is only moved stays the variable.
        ("transpose(%a, axes=None)", (tensor(N, 3, M),), "Tensor[(m, 3, n), float32]"),
        ("sum(%a, axis=[1])", (tensor(N, 3, M),), "Tensor[(n, m), float32]"),
        ("expand_dims(%a, axis=0)", (tensor(N),), "Tensor[(1, n), float32]"),
        ("take(%a, %b, axis=0)", (tensor(3, N), tensor(M, dtype="int64")), "Tensor[(m, n), float32]"),
        ("nn.dense(%a, %b, units=8)", (tensor(N, 4), tensor(8, 4)), "Tensor[(n, 8), float32]"),
        ("nn.batch_matmul(%a, %b)", (tensor(N, 2, 4), tensor(N, 4, M)), "Tensor[(n, 2, m), float32]"),
        ("stack(%a)", (relay.TupleType([tensor(N), tensor(N)]),), "Tensor[(2, n), float32]"),
        (
            "concatenate(%a)",
            (relay.TupleType([tensor(1, N), tensor(2, -1), tensor(3, N)]),),
            "Tensor[(6, n), float32]",
        ),
        # Copied sizes cancel out, as far as variables and '?' go.
        ("reshape(%a, newshape=[0, -1])", (tensor(N, 3, 4),), "Tensor[(n, 12), float32]"),
        ("reshape(%a, newshape=[0, -1])", (tensor(-1, 3, 4),), "Tensor[(?, 12), float32]"),
        ("reshape(%a, newshape=[-1, 12])", (tensor(N, 3, 4),), "Tensor[(?, 12), float32]"),
        ("reshape(%a, newshape=[-3, -2])", (tensor(1, N, 4),), "Tensor[(n, 4), float32]"),
        ("reshape(%a, newshape=[-1])", (tensor(1, N),), "Tensor[(n), float32]"),
        ("nn.batch_flatten(%a)", (tensor(N, 1, M),), "Tensor[(n, m), float32]"),
        # What would be an expression of variables is not known.
        ("concatenate(%a)", (relay.TupleType([tensor(N), tensor(N)]),), "Tensor[(?), float32]"),
        ("nn.pad(%a, 0f, pad_width=[[1, 1]])", (tensor(N),), "Tensor[(?), float32]"),
        ("nn.pad(%a, 0f, pad_width=[[0, 0]])", (tensor(N),), "Tensor[(n), float32]"),
        (
            'nn.dilate(%a, strides=[2, 1], attrs_type_key="relay.attrs.DilateAttrs")',
            (tensor(N, M),),
            "Tensor[(?, m), float32]",
        ),
        (
            "nn.max_pool2d(%a, pool_size=[1, 1])",
            (tensor(N, 3, M, 8),),
            "Tensor[(n, 3, ?, 8), float32]",
        ),
        ("nn.depth_to_space(%a, block_size=2)", (tensor(N, 4, M, 8),), "Tensor[(n, 1, ?, 16), float32]"),
        (
            "nn.upsampling(%a, scale_h=2f, scale_w=2f)",
            (tensor(N, 4, M, 8),),
            "Tensor[(n, 4, ?, 16), float32]",
        ),
        (
            'strided_slice(%a, begin=[0, 1], end=[-1, -1], strides=[1], axes=None, slice_mode="size")',
            (tensor(N, M),),
            "Tensor[(n, ?), float32]",
        ),
        ("repeat(%a, repeats=2, axis=0)", (tensor(N),), "Tensor[(?), float32]"),
        (
            "strided_slice(%a, begin=[1], end=[3], strides=[1], axes=None)",
            (tensor(N, M),),
            "Tensor[(?, m), float32]",
        ),
        ("nn.batch_matmul(%a, %b)", (tensor(N, 2, 4), tensor(1, 4, 3)), "Tensor[(?, 2, 3), float32]"),
        ("nn.batch_matmul(%a, %b)", (tensor(-1, 2, 4), tensor(1, 4, 3)), "Tensor[(?, 2, 3), float32]"),
        (
            "nn.conv2d(%a, %b, padding=[1, 1, 1, 1])",
            (tensor(N, 3, M, 8), tensor(4, 3, 3, -1)),
            "Tensor[(n, 4, ?, ?), float32]",
        ),
        (
            'einsum(%a, equation="ij,jk->ik")',
            (relay.TupleType([tensor(N, 3), tensor(3, M)]),),
            "Tensor[(n, m), float32]",
        ),
        (
            'einsum(%a, equation="i,i->i")',
            (relay.TupleType([tensor(-1), tensor(1)]),),
            "Tensor[(?), float32]",
        ),
        # The type of indices is that of the first size.
        ("argmax(%a, axis=[0])", (tensor(WIDE, 3),), "Tensor[(3), int64]"),
        ("argmax(%a, axis=[0])", (tensor(relay.Size(2, 64), 3),), "Tensor[(3), int64]"),
        ("argmax(%a, axis=[0])", (tensor(3, WIDE),), "Tensor[(w), int32]"),
    ],
)
def test_results(call: str, types: tuple[relay.Type, ...], expected: str) -> None:
    assert result(call, *types) == expected


@pytest.mark.parametrize(
    ("call", "types", "message"),
    [
        ("add(%a, %b)", (tensor(N), tensor(5)), r"shapes that broadcast, got \(n,\) and \(5,\)"),
        ("add(%a, %b)", (tensor(N), tensor(M)), r"shapes that broadcast, got \(n,\) and \(m,\)"),
        ("nn.bias_add(%a, %b)", (tensor(2, N), tensor(M)), r"expected Tensor\[\(n\), float32\] as operand 1"),
        (
            "nn.pad(%a, 0f, pad_width=[[-4, 0]])",
            (tensor(3),),
            r"expected sizes of 0 or more, got pad_width=\[\[-4, 0\]\]",
        ),
        (
            'strided_slice(%a, begin=[4], end=[-1], strides=[1], axes=None, slice_mode="size")',
            (tensor(3),),
            "expected begin to be at most 3, got 4",
        ),
        ("squeeze(%a)", (tensor(N, 1),), "expected axis, as sizes of"),
        ("if (True) { %a } else { %b }", (tensor(N), tensor(M)), "expected branches of one type"),
        # A variable is the number that it meets first.
        (
            "(nn.bias_add(%a, %b), nn.bias_add(%a, %c))",
            (tensor(2, N), tensor(5), tensor(6)),
            r"expected Tensor\[\(n\), float32\] as operand 1, got Tensor\[\(6\), float32\]",
        ),
        (
            "(nn.dense(%a, %b, units=2), nn.dense(%a, %c, units=2))",
            (tensor(1, N), tensor(2, 4), tensor(2, 5)),
            "n and 5",
        ),
    ],
)
def test_faults(call: str, types: tuple[relay.Type, ...], message: str) -> None:
    with pytest.raises(relay.TypeInferenceError, match=message):
        result(call, *types)


def test_declared_results() -> None:
    x = relay.Var("x", tensor(N, 3))
    for declared in (tensor(N, 3), tensor(-1, 3), tensor(5, 3)):  # the last says that n is 5
        assert relay.infer_type(relay.Function([x], x, declared)).ret_type.same_as(declared)
    for declared in (tensor(M, 3), tensor(N, 4)):
        with pytest.raises(relay.TypeInferenceError, match="is declared to give"):
            relay.infer_type(relay.Function([x], x, declared))


def test_each_function_finds_out_for_itself() -> None:
    five, six = relay.Var("x", tensor(5)), relay.Var("x", tensor(6))
    same = relay.Var("x", tensor(N))
    callee = relay.GlobalVar("same")
    functions = {
        "same": relay.Function([same], same, tensor(N)),
        "five": relay.Function([five], relay.Call(callee, [five])),
        "six": relay.Function([six], relay.Call(callee, [six])),
    }
    typed = relay.infer_type(relay.IRModule(functions))
    assert {str(name) for name in typed.functions} == set(functions)


def test_comparison() -> None:
    def function(*sizes: int | relay.SizeVar, gives: relay.Type | None = None) -> relay.Function:
        a, b = relay.Var("a", tensor(*sizes)), relay.Var("b", tensor(*sizes[::-1]))
        return relay.Function([a, b], a, gives)

    other, third = relay.SizeVar("other"), relay.SizeVar("third", non_negative=True)
    # Parameters bind the variables in their types.
    assert relay.structural_equal(function(N, M), function(other, third))
    assert relay.structural_hash(function(N, M)) == relay.structural_hash(function(other, third))
    assert relay.structural_equal(
        function(N, M, gives=tensor(N)), function(other, third, gives=tensor(other))
    )
    for different in (
        function(N, N),
        function(N, relay.SizeVar("m")),
        function(WIDE, M),
        function(N, -1),
        function(N, 3),
    ):
        assert not relay.structural_equal(function(N, M), different)
    # One that nothing binds is itself, unless told otherwise.
    free, also_free = function(2, gives=tensor(N)), function(2, gives=tensor(other))
    assert not relay.structural_equal(free, also_free)
    assert relay.structural_equal(free, also_free, map_free_vars=True)
    assert relay.structural_equal(free, function(2, gives=tensor(N)))
    assert relay.structural_equal(tensor(N), tensor(N)) and not relay.structural_equal(
        tensor(N), tensor(other)
    )
    assert relay.structural_equal(tensor(N), tensor(other), map_free_vars=True)


def test_identity_survives() -> None:
    x, y = relay.Var("x", tensor(N, M)), relay.Var("y", tensor(M, N))
    function = relay.Function([x, y], relay.Tuple([x, y]), attrs={"size": N})
    for copy in (relay.parse(function.astext()), pickle.loads(pickle.dumps(function))):
        assert isinstance(copy, relay.Function)
        one, other = (param.type_annotation.size_vars for param in copy.params)
        assert one[0].same_as(other[1]) and one[1].same_as(other[0]) and not one[0].same_as(one[1])
        assert copy.attrs["size"].same_as(one[0])
        assert [str(var.name_hint) for var in one] == ["n", "m"] and one[1].non_negative
        assert copy.astext() == function.astext()
        assert relay.structural_equal(copy, function)


def test_values_of_any_size() -> None:
    x, y = relay.Var("x", tensor(N, 3)), relay.Var("y", tensor(3))
    function = relay.infer_type(relay.Function([x, y], relay.add(x, y)))
    for rows in (2, 5):
        values = [torch.randn(rows, 3), torch.randn(3)]
        (got,) = relay_eval.evaluate(function, values)
        assert torch.equal(got, values[0] + values[1])
    with pytest.raises(AssertionError, match=r"Tensor\[\(n, 3\), float32\] for \(2, 4\)"):
        relay_eval.evaluate(function, [torch.randn(2, 4), torch.randn(4)])


def test_the_compiler_refuses_variables() -> None:
    x = relay.Var("x", tensor(N, 3))
    with pytest.raises(ValueError, match="static shapes"):
        compiler.compile(relay.Function([x], relay.nn.relu(x)), 1, [[0, 1]], [[0, 1]], {})
