"""Texts for the rules of section 8 of Relay's text format: attributes.

Keys are "section: rule". Bodies stand in a function of ``%x``, a tensor of shape (2, 3).
"""

from __future__ import annotations

from relay_texts_metadata import objects_section, section
from relay_texts_syntax import HEAD, LIST

BODIES = {
    "8: nested lists": ("nn.pad(%x, 0f, pad_width=[[0, 0], [1, 1]])", "Tensor[(2, 5), float32]"),
    "8: negative attribute": ("nn.softmax(%x, axis=-1)", "Tensor[(2, 3), float32]"),
    "8: default given": ("nn.softmax(%x, axis=1)", "Tensor[(2, 3), float32]"),
    "8: None": ("transpose(%x, axes=None)", "Tensor[(3, 2), float32]"),
    "8: nullptr": ("transpose(%x, axes=nullptr)", "Tensor[(3, 2), float32]"),
    "8: a value in parentheses": ("nn.softmax(%x, axis=(1))", "Tensor[(2, 3), float32]"),
    "8: a dtype is a string": ('cast(%x, dtype="int64")', "Tensor[(2, 3), int64]"),
    "8: an int for a float": ("clip(%x, a_min=0, a_max=6f)", "Tensor[(2, 3), float32]"),
    "8: attributes of an unregistered class": (
        'cumsum(%x, axis=1, attrs_type_key="relay.attrs.ScanopAttrs")',
        "Tensor[(2, 3), float32]",
    ),
    "8: plain integer for a boxed one": (
        "split(%x, indices_or_sections=3, axis=1)",
        "(Tensor[(2, 1), float32], Tensor[(2, 1), float32], Tensor[(2, 1), float32])",
    ),
    "8: plain integers for boxed ones": (
        "%0 = split(%x, indices_or_sections=[1], axis=1); %0.1",
        "Tensor[(2, 2), float32]",
    ),
    "8: ints for bools": ("sum(%x, axis=[0], keepdims=1)", "Tensor[(1, 3), float32]"),
    "8: all defaults": ("nn.softmax(%x)", "Tensor[(2, 3), float32]"),
    "8: no attributes but an empty list": ("sum(%x, axis=[])", "float32"),
    "8: a dotted key": (
        'fn (%p: int32, a=1, relay.reshape_only=[1, 2f, "s", None, True, [[]]]) { %p }',
        "fn (int32) -> int32",
    ),
    "8: expressions for expressions": (
        """%0 = (1i64, 3i64); let %n = add(2i64, 1i64);
        arange(0i64, %n, 1i64, start=%n, stop=(%n), step=%0.0, dtype="int64")""",
        "Tensor[(?), int64]",
    ),
    "8: expressions of all kinds": (
        """let %t = (1, 2);
        (fn (%y: int32) { %y })(1, attrs_type_key="DictAttrs", a=%x, b=[%t.1, [nn.relu]], c=if (True) { 1 } else { %t.0 },
            d=fn () { %t }, e=ref(%x), f=None)""",
        "int32",
    ),
    "8: expressions in attributes of a function": (
        "fn (%p: int32, a=%p, b=[%x, add]) { %p }",
        "fn (int32) -> int32",
    ),
}

TEXTS = {
    "8: a global function and a constructor in attributes": HEAD
    + LIST
    + "def @f(%p: int32) { %p }\ndef @main(%p: int32, a=%p, b=@f, c=Cons) { %p }",
    "8: a boxed integer of a function": "fn (%p: int32, Primitive=meta[runtime.BoxInt][0]) { %p }"
    + section("runtime.BoxInt", "1"),
    "8: boxed integers of split": "fn (%x: Tensor[(4), int8]) { split(%x, indices_or_sections=[meta[runtime.BoxInt][0]]) }"
    + section("runtime.BoxInt", "3"),
    "8: attributes in the metadata": """fn (%x: Tensor[(2, 4), int8]) {
  cumsum(%x, meta[relay.attrs.ScanopAttrs][0])
}"""
    + objects_section(
        [
            [
                {
                    "type_key": "relay.attrs.ScanopAttrs",
                    "attrs": {"axis": "0", "dtype": "int32", "exclusive": 1},
                },
                {"type_key": "IntImm", "attrs": {"dtype": "bool", "span": "0", "value": "1"}},
            ]
        ]
    ),
}

INVALID = {
    "8: an attribute that the operator lacks": ("exp(1f, axis=1)", r"line 1, column 1: exp"),
    "8: an attribute of another kind": ('nn.softmax(1f, axis="x")', "line 1, column 1: nn.softmax.*axis"),
    "8: a required attribute is missing": ("clip(1f, a_min=0f)", "line 1, column 1: clip.*a_max"),
    "8: attributes need their class": ("cumsum(1f, axis=0)", 'attrs_type_key="relay.attrs.ScanopAttrs"'),
    "8: a class that is registered": ('exp(1f, attrs_type_key="relay.attrs.X")', "line 1, column 1"),
    "8: an expression for a number": (
        "fn (%n: int32) { nn.softmax(1f, axis=%n) }",
        "line 1, column 18: nn.softmax: attribute 'axis' must be an int, got a value of type torch_tvm.relay.Var",
    ),
    "8: a number for an expression": (
        'arange(0, 1, 1, start=0, stop=%x, step=1, dtype="int8")',
        "line 1, column 31: expected a variable that is in scope, got %x",
    ),
    "8: a call as a value": ("nn.softmax(1f, axis=exp(1f))", "line 1, column 24: expected ')', got '('"),
    "8: a tuple as a value": ("nn.softmax(1f, axis=(1, 2))", "line 1, column 23: expected ')', got ','"),
    "8: a size that is not known as a value": (
        'zeros(shape=[?], dtype="int8")',
        "line 1, column 14: expected an expression, got '?'",
    ),
    "8: an operand behind attributes": (
        "sum(1f, axis=[0], 2f)",
        "line 1, column 19: expected an attribute, like axis=1, got '2f'",
    ),
    "8: an attribute twice": ("sum(1f, axis=0, axis=1)", "line 1, column 17: expected each attribute once"),
    "8: a keyword as a key": ("fn (%p: int32, let=1) { %p }", "line 1, column 16: expected an attribute"),
    "8: attributes of another operator": (
        "exp(1f, meta[relay.attrs.ScanopAttrs][0])"
        + section("relay.attrs.ScanopAttrs", {"axis": "0", "dtype": "", "exclusive": "0"}),
        "line 1, column 9: expected no attributes for exp, got meta[relay.attrs.ScanopAttrs][0]",
    ),
}

LENIENT = {
    "8: a dotted attribute first": "fn (%p: int32, relay.reshape_only=1) { %p }",
}

PRINTED = {
    "8: strings are what stands between the quotes": (
        r"""(fn (%y: int8) { %y })(1, a="", b="a\n'é", c="//", d="%x /* */")""",
        r"""%0 = fn (%y: int8) {
  %y
};
%0(1, a="", b="a\n'é", c="//", d="%x /* */")""",
    ),
    "8: what equals its default": ("nn.softmax(%x, axis=-1)", "nn.softmax(%x)"),
    "8: a list of another length than the default": (
        "nn.max_pool2d(%x, padding=[0, 0, 0, 0], pool_size=[2, 2], strides=[1, 1])",
        "nn.max_pool2d(%x, pool_size=[2, 2], padding=[0, 0, 0, 0])",
    ),
    "8: what has no default": ("nn.dense(%x, %x, units=nullptr)", "nn.dense(%x, %x, units=None)"),
    "8: all that strided_slice always shows": (
        "strided_slice(%x, axes=None, strides=[1], end=[2], begin=[0])",
        "strided_slice(%x, begin=[0], end=[2], strides=[1], axes=None)",
    ),
    "8: the order of the fields": ("sum(%x, keepdims=1, axis=[1])", "sum(%x, axis=[1], keepdims=True)"),
    "8: floats": ("clip(%x, a_min=0, a_max=6f)", "clip(%x, a_min=0f, a_max=6f)"),
    "8: strings, lists of lists, dtypes": (
        'nn.pad(%x, 0f, pad_width=[[0, 0], [1, 1]], pad_mode="edge"); cast(%x, dtype="float32")',
        'let %v = nn.pad(%x, 0f, pad_width=[[0, 0], [1, 1]], pad_mode="edge");\ncast(%x, dtype="float32")',
    ),
    "8: plain integers for boxed ones": (
        "split(%x, indices_or_sections=[1, 2], axis=1)",
        "split(%x, indices_or_sections=[1, 2], axis=1)",
    ),
    "8: no quotes for None": ("transpose(%x, axes=nullptr)", "transpose(%x, axes=None)"),
    "8: attributes of a function value": (
        '(fn (%y: int8) { %y })(1, name="n", attrs_type_key="attrs.TestAttrs", big=3000000000)',
        "%0 = fn (%y: int8) {\n  %y\n};\n"
        '%0(1, name="n", attrs_type_key="attrs.TestAttrs", big=3000000000i64)',
    ),
}

DIFFERENT = {
    "8: a backslash in a string": (
        r'exp(%x); einsum(%x, equation="a\b")',
        r"let %v = exp(%x);" + "\n" + r'einsum(%x, equation="a\\b")',
        r"let %v = exp(%x);" + "\n" + r'einsum(%x, equation="a\b")',
        "no escape is undone, so that it would read back as two",
    ),
    "8: an int64 that int32 holds": (
        "nn.dense(%x, %x, units=4i64)",
        "nn.dense(%x, %x, units=4i64)",
        "nn.dense(%x, %x, units=4)",
        "attributes are integers without a width here; both mean the same",
    ),
    "8: an expression": (
        "(fn (%y: int8) { %y })(1, a=%x)",
        "%0 = fn (%y: int8) {\n  %y\n};\n%0(1, a=meta[relay.Var][0])",
        "%0 = fn (%y: int8) {\n  %y\n};\n%0(1, a=%x)",
        "it would read back as another variable",
    ),
}

UNSUPPORTED = {
    "8: an expression with operands in attributes of a function": (
        "%0 = exp(1f); fn (%p: int32, a=%p, b=%0) { %p }",
        "line 1, column 30: expected attributes of a function without expressions that have operands",
    ),
}
