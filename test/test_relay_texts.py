"""Texts composed by hand from the rules of Relay's text format, one or more for each rule: TVM 0.19 reads them as said here."""

from __future__ import annotations

import re

import pytest

from torch_tvm import relay

HEAD = '#[version = "0.0.5"]\n'
X = "%x: Tensor[(2, 3), float32]"

# Rule: (text, the type of its result). Bodies stand in a function of %x.
BODIES = {
    # names and tokens
    "slash in a name": ("let %a/b = exp(%x); %a/b", "Tensor[(2, 3), float32]"),
    "underscore begins a name": ("let %_y = exp(%x); %_y", "Tensor[(2, 3), float32]"),
    "digits in a name": ("let %y12 = exp(%x); %y12", "Tensor[(2, 3), float32]"),
    "dotted operator": ("nn.relu(%x)", "Tensor[(2, 3), float32]"),
    "comment to the end of the line": ("exp(%x) // a comment; } here\n", "Tensor[(2, 3), float32]"),
    "comments nest": ("exp(/* one /* two */ still one */ %x)", "Tensor[(2, 3), float32]"),
    "CR LF": ("exp(\r\n%x)\r\n", "Tensor[(2, 3), float32]"),
    # literals
    "int16": ("42i16", "int16"),
    "int32": ("42", "int32"),
    "int32 by suffix": ("(42i, 42i32)", "(int32, int32)"),
    "int64": ("42i64", "int64"),
    "too large for int32": ("3000000000", "int64"),
    "floats": ("(1.5f16, 1.5f, 1.5f32, 1.5f64)", "(float16, float32, float32, float64)"),
    "exponents": ("(1e-05f, 1e+11f, 2E3f)", "(float32, float32, float32)"),
    "bools": ("(True, False)", "(bool, bool)"),
    "infinities": ("(inff, -inff)", "(float32, float32)"),
    "negative": ("(-3, -0.5f)", "(int32, float32)"),
    "two minus signs": ("--10", "int32"),
    # graph bindings
    "graph bindings": ("%0 = exp(%x); %1 = tanh(%0); add(%0, %1)", "Tensor[(2, 3), float32]"),
    "numbers need not be consecutive": (
        "%7 = exp(%x); %3 = tanh(%7); add(%7, %3)",
        "Tensor[(2, 3), float32]",
    ),
    "bound to a tuple": ("%0 = (%x, 1); %0.1", "int32"),
    "bound to a function": ("%0 = fn (%y: int32) { %y }; %0(3)", "int32"),
    "bound to an if": ("%0 = if (True) { %x } else { exp(%x) }; exp(%0)", "Tensor[(2, 3), float32]"),
    "bound to a let in parentheses": ("%0 = (let %y = exp(%x); %y); exp(%0)", "Tensor[(2, 3), float32]"),
    # calls
    "attributes": ("sum(%x, axis=[1], keepdims=True)", "Tensor[(2, 1), float32]"),
    "trailing comma": ("sum(%x, axis=[1],)", "Tensor[(2), float32]"),
    "tuple operand": ("%0 = (%x, %x); concatenate(%0, axis=1)", "Tensor[(2, 6), float32]"),
    "no operands": ('zeros(shape=[2], dtype="int8")', "Tensor[(2), int8]"),
    "call of a function": ("let %f = fn () { 1 }; %f()", "int32"),
    "curried": ("let %f = fn (%a: int32) { fn (%b: int32) { add(%a, %b) } }; %f(1)(2)", "int32"),
    "infix": ("%x * %x + %x / %x - %x", "Tensor[(2, 3), float32]"),
    "infix comparison binds less": ("%x + %x < %x * %x", "Tensor[(2, 3), bool]"),
    "other infix comparisons": (
        "(%x > %x, %x >= %x, 1 != 2)",
        "(Tensor[(2, 3), bool], Tensor[(2, 3), bool], bool)",
    ),
    "infix equality binds least": ("True == (%x <= %x)", "Tensor[(2, 3), bool]"),
    # tuples
    "empty tuple": ("()", "()"),
    "tuple of one": ("(%x,)", "(Tensor[(2, 3), float32],)"),
    "tuple of two": ("(%x, 1)", "(Tensor[(2, 3), float32], int32)"),
    "parentheses": ("(%x)", "Tensor[(2, 3), float32]"),
    "projection": ("%0 = (%x, 1); %0.0", "Tensor[(2, 3), float32]"),
    "projection in steps": ("%0 = ((%x, 1), 2); %1 = %0.0; %1.1", "int32"),
    # let, if, functions
    "let with a type": ("let %y: Tensor[(2, 3), float32] = exp(%x); %y", "Tensor[(2, 3), float32]"),
    "shadowing": ("let %y = 1; let %y = 2f; %y", "float32"),
    "sequence": ("exp(%x); 1", "int32"),
    "if": ("if (True) { add(%x, 1f) } else { %x }", "Tensor[(2, 3), float32]"),
    "attributes of a function": (
        'fn (%p: int32, Primitive=1, hash="ab12", relay.reshape_only=1) -> int32 { %p }',
        "fn (int32) -> int32",
    ),
    "recursion": (
        "let %f = fn (%n: int32) -> int32 { if (less(%n, 1)) { 0 } else { %f(subtract(%n, 1)) } }; %f(3)",
        "int32",
    ),
    "types of variables left open": ("let %y: _ = exp(%x); %y", "Tensor[(2, 3), float32]"),
    "attributes of a call of a function": (
        '(fn (%y: int32) { %y })(1, name="n", attrs_type_key="attrs.TestAttrs")',
        "int32",
    ),
    "type parameters": ("(fn [A](%y: A) -> A { %y })(%x)", "Tensor[(2, 3), float32]"),
    "a block": ("{ let %y = exp(%x); %y }", "Tensor[(2, 3), float32]"),
    "a block in a sequence": ("exp(%x); { 1 }", "int32"),
    "a let as an operand": ("exp(let %y = tanh(%x); %y)", "Tensor[(2, 3), float32]"),
    # references
    "reference": ("ref_read(ref(%x))", "Tensor[(2, 3), float32]"),
    "what writing gives": ("%0 = ref(%x); ref_write(%0, exp(%x))", "()"),
    "a let in a reference": ("ref_read(ref(let %y = exp(%x); %y))", "Tensor[(2, 3), float32]"),
    "a call of what a reference holds": ("ref_read(ref(fn () { 1 }))()", "int32"),
    # match
    "match": ("match ((%x, 1)) {\n  (%a, _) => {\n    exp(%a)\n  },\n}", "Tensor[(2, 3), float32]"),
    "incomplete match": ("match? ((%x, 1)) { (%a, %b) => { %b } }", "int32"),
    "clauses without braces": ("match ((%x, 1)) { (_, %b) => add(%b, 1), }", "int32"),
    "match without parentheses": ("%0 = (%x, 1); match %0 { (_, %b) => { %b }, }", "int32"),
    "a match of a field": ("%0 = ((%x, 1), 2); match %0.0 { (_, %b) => { %b }, }", "int32"),
    "lets in a clause": ("match (1) { %y => let %z = add(%y, 1); %z, }", "int32"),
    "a pattern that nests": ("match ((%x, (1, True))) { (_, (%b, _)) => { %b }, }", "int32"),
    "a pattern of one field": ("match ((1,)) { (%a) => { %a }, }", "int32"),
    "a pattern of no fields": ("match (()) { () => { %x }, }", "Tensor[(2, 3), float32]"),
    "a pattern with a type": ("match (1) { %y: int32 => { %y }, }", "int32"),
    "a match in parentheses": ("%0 = (match (1) { %y => { %y }, }); add(%0, 1)", "int32"),
    "a match in a sequence": ("match (1) { _ => { () }, }; 2", "int32"),
    "a match as an operand": ("add(match (1) { %y => { %y }, }, 1)", "int32"),
    "the first clause that takes it": ("match (1) { _ => { 2f }, %y => { 3f }, }", "float32"),
    # attributes
    "nested lists": ("nn.pad(%x, 0f, pad_width=[[0, 0], [1, 1]])", "Tensor[(2, 5), float32]"),
    "negative attribute": ("nn.softmax(%x, axis=-1)", "Tensor[(2, 3), float32]"),
    "default given": ("nn.softmax(%x, axis=1)", "Tensor[(2, 3), float32]"),
    "None": ("transpose(%x, axes=None)", "Tensor[(3, 2), float32]"),
    "nullptr": ("transpose(%x, axes=nullptr)", "Tensor[(3, 2), float32]"),
    "a value in parentheses": ("nn.softmax(%x, axis=(1))", "Tensor[(2, 3), float32]"),
    "a dtype is a string": ('cast(%x, dtype="int64")', "Tensor[(2, 3), int64]"),
    "an int for a float": ("clip(%x, a_min=0, a_max=6f)", "Tensor[(2, 3), float32]"),
    "attributes of an unregistered class": (
        'cumsum(%x, axis=1, attrs_type_key="relay.attrs.ScanopAttrs")',
        "Tensor[(2, 3), float32]",
    ),
    "plain integer for a boxed one": (
        "split(%x, indices_or_sections=3, axis=1)",
        "(Tensor[(2, 1), float32], Tensor[(2, 1), float32], Tensor[(2, 1), float32])",
    ),
    "plain integers for boxed ones": (
        "%0 = split(%x, indices_or_sections=[1], axis=1); %0.1",
        "Tensor[(2, 2), float32]",
    ),
}

LIST = """type List[A] {
  Cons(A, List[A]),
  Nil,
}
"""

# Whole texts that parse and type-check.
TEXTS = {
    "a data type": HEAD + LIST,
    "no comma after the last constructor": HEAD + "type Maybe[A] { Some(A), Nothing }",
    "a data type without parameters": HEAD + "type Ayy { Nil }\ndef @main() -> Ayy { Nil }",
    "brackets without arguments": HEAD + "type Ayy { Nil }\ndef @main(%x: Ayy[]) -> Ayy[] { %x }",
    "a data type without constructors": HEAD + "type Ayy { }\ndef @main(%x: Ayy) { %x }",
    "several parameters": HEAD + "type Either[A, B] {\n  Left(A),\n  Right(B),\n}",
    "an unknown size in a data type": HEAD + "type my_dtype {\n  my_cons(Tensor[(?, 1), uint16]),\n}",
    "an external type": HEAD + "extern type T[A]\ndef @main(%x: T[int32]) -> T[int32] { %x }",
    "a type that is defined later": HEAD + "def @main(%x: List[int32]) { %x }\n" + LIST,
    "a data type of itself and another": HEAD
    + "type Tree[A] { Rose(A, List[Tree[A]]), }\n"
    + LIST
    + "def @main(%x: int32) -> Tree[int32] { Rose(%x, Nil) }",
    "constructors": HEAD + LIST + "def @main(%x: int32) -> List[int32] { Cons(%x, Cons(2, Nil)) }",
    "a constructor with brackets": HEAD + LIST + "def @main() -> List[int32] { Cons(1, Nil()) }",
    "a constructor as a value": HEAD + LIST + "def @main[A]() -> fn (A, List[A]) -> List[A] { Cons }",
    "a constructor before an operator of its name": HEAD
    + "type T { add(int32), }\ndef @main() -> T { add(1) }",
    "type parameters of a definition": HEAD
    + "def @id[A](%x: A) -> A { %x }\ndef @main() { (@id(1), @id(2f)) }",
    "type parameters of an inner function": HEAD
    + "def @main[A](%x: A) -> A { %0 = fn [B](%y: A, %z: B) -> A { %y }; %0(%x, 1) }",
    "length": HEAD
    + LIST
    + """def @length[A](%xs: List[A]) -> int32 {
  match (%xs) {
    Cons(_, %rest : List[A]) => {
      ();
      1 + @length(%rest)
    },
    Nil => 0,
  }
}
""",
    "some cases only": HEAD
    + LIST
    + "def @head[A](%xs: List[A]) -> A { match? (%xs) { Cons(%h, _) => { %h }, } }",
    "names of dtypes": """fn (%a: Tensor[(4), int8], %b: Tensor[(4), uint64], %c: Tensor[(4), float32x4], %d: Tensor[(4), handle],
    %e: Tensor[(4), e4m3_float8], %f: Tensor[(4), e5m2_float8], %g: Tensor[(4), void], %h: float32x4) { %g }""",
    "the example of an order": HEAD
    + """def @main(%x: Tensor[(2), float32]) {
  %0 = sin(%x);
  %1 = exp(%x);
  %2 = tanh(%0);
  add(%1, %2)
}
""",
    "int64-typed sizes": "fn (%x: Tensor[(1i64, 8), float32]) { exp(%x) }",
    "module": HEAD + "def @main(" + X + ") { exp(%x) }",
    "blanks in the version": '#[version   =   "0.0.5"]\ndef @main() { 1 }',
    "several functions": HEAD
    + """def @helper(%a: Tensor[(2), float32]) -> Tensor[(2), float32] { exp(%a) }

def @main(%x: Tensor[(2), float32]) { @helper(@helper(%x)) }""",
    "numbers go on between functions": HEAD
    + """def @a(%x: int32) { %0 = exp(1f); %1 = exp(%0); (%x, %1) }
def @main(%x1: int32) { %2 = @a(%x1); %2.1 }""",
    "functions that call each other": HEAD
    + """def @even(%n: int32) -> bool { if (less(%n, 1)) { True } else { @odd(subtract(%n, 1)) } }
def @odd(%n: int32) -> bool { if (less(%n, 1)) { False } else { @even(subtract(%n, 1)) } }
def @main() { @even(10) }""",
    "expression without a version": "add(1, 2)",
    "free variables": "free_var %x: Tensor[(3, 2), float32];\nexp(%x)",
    "types": """fn (%a: Tensor[(), float32], %b: bool, %c: (int8, (float64,), ()), %d: Tensor[(?, 3), bfloat16],
    %e: fn (int32, uint8) -> (int32, uint8), %f: Tensor[(2), uint16]) { (%a, %b, %c, %d, %e, %f) }""",
    "a section with a constant": HEAD
    + """def @main(%x: Tensor[(2), float32]) {
  add(%x, meta[relay.Constant][0])
}

#[metadata]
{
  "root": 1,
  "nodes": [
    {"type_key": ""},
    {"type_key": "Map", "keys": ["relay.Constant"], "data": [2]},
    {"type_key": "Array", "data": [3]},
    {"type_key": "relay.Constant", "attrs": {"_checked_type_": "0", "data": "0", "span": "0", "virtual_device_": "4"}},
    {"type_key": "VirtualDevice", "attrs": {"device_type_int": "-1", "memory_scope": "5", "target": "0",
                                            "virtual_device_id": "-1"}},
    {"type_key": "runtime.String"}
  ],
  "b64ndarrays": ["P6G0lvBAXt0AAAAAAAAAAAEAAAAAAAAAAQAAAAIgAQACAAAAAAAAAAgAAAAAAAAAAACAPwAAAEA="],
  "attrs": {"tvm_version": "0.19.0"}
}
""",
    "the typed example": HEAD
    + """def @main(%x: Tensor[(1, 3, 8, 8), float32] /* ty=Tensor[(1, 3, 8, 8), float32] */, %w: Tensor[(4, 3, 3, 3), \
float32] /* ty=Tensor[(4, 3, 3, 3), float32] */, %b: Tensor[(4), float32] /* ty=Tensor[(4), float32] */) -> \
Tensor[(1, 4, 4, 4), float32] {
  %0 = nn.conv2d(%x, %w, padding=[1, 1, 1, 1], channels=4, kernel_size=[3, 3]) /* ty=Tensor[(1, 4, 8, 8), float32] */;
  %1 = nn.bias_add(%0, %b) /* ty=Tensor[(1, 4, 8, 8), float32] */;
  %2 = clip(%1, a_min=0f, a_max=6f) /* ty=Tensor[(1, 4, 8, 8), float32] */;
  %3 = add(%2, 3f /* ty=float32 */) /* ty=Tensor[(1, 4, 8, 8), float32] */;
  nn.max_pool2d(%3, pool_size=[2, 2], strides=[2, 2], padding=[0, 0, 0, 0]) /* ty=Tensor[(1, 4, 4, 4), float32] */
}
""",
    "the first example": HEAD
    + """def @main(%x: Tensor[(1, 8), float32], %w: Tensor[(4, 8), float32]) -> Tensor[(1, 4), float32] {
  %0 = nn.dense(%x, %w, units=4);
  nn.relu(%0)
}
""",
    "the example of projections": HEAD
    + """def @main(%x: Tensor[(2, 4), float32]) {
  %1 = split(%x, indices_or_sections=2, axis=1);
  %2 = %1.0;
  %3 = %1.1;
  %4 = sigmoid(%3);
  multiply(%2, %4)
}
""",
    "the example of a function": HEAD
    + """def @main(%x: Tensor[(2, 4), float32]) {
  %1 = fn (%p0: Tensor[(2, 4), float32], Primitive=1) -> Tensor[(2, 4), float32] {
    %0 = exp(%p0);
    nn.relu(%0)
  };
  %1(%x)
}
""",
    "the example of an if": HEAD
    + """def @main(%c: bool, %x: Tensor[(4), float32]) {
  %0 = if (%c) {
    add(%x, 1f)
  } else {
    %x
  };
  exp(%0)
}
""",
    "the example of a loop": HEAD
    + """def @main(%x: Tensor[(4), float32]) {
  %3 = (
    let %while_loop = fn (%i: int32, %s: Tensor[(4), float32]) {
      %0 = less(%i, 10);
      if (%0) {
        %1 = add(%i, 1);
        %2 = add(%s, %x);
        %while_loop(%1, %2)
      } else {
        (%i, %s)
      }
    };
    %while_loop
  );
  %4 = %3(0, %x);
  %4.1
}
""",
    "batch normalisation gives three": HEAD
    + """def @main(%x: Tensor[(1, 4, 2, 2), float32], %g: Tensor[(4), float32]) {
  %0 = nn.batch_norm(%x, %g, %g, %g, %g);
  %1 = nn.dropout(%x);
  (%0.0, %1.1)
}
""",
}

# Text that TVM 0.19 rejects: what is said of it.
INVALID = {
    "no version": ("def @main() { 1 }", "line 1, column 1: expected '#[version"),
    "another version": ('#[version = "0.0.4"]\ndef @main() { 1 }', "version 0.0.5"),
    "a name with a dot": ("free_var %x: float32; exp(%x.weight)", "line 1, column 30: expected the index"),
    "a name with a colon": ("free_var %aten::x: float32; 1", "line 1, column 16"),
    "a keyword as a name": (
        "free_var %let: float32; 1",
        "line 1, column 10: expected a name, got the keyword",
    ),
    "an unknown operator": (
        "nn.relu7(1f)",
        "line 1, column 1: expected the name of an operator, got 'nn.relu7'",
    ),
    "a float without f": ("add(1.5, 2f)", "line 1, column 5"),
    "NaN": ("exp(nanf)", "line 1, column 5"),
    "an infinity of float64": ("exp(inff64)", "line 1, column 5"),
    "a return without a newline": ("exp(\r1f)", "line 1, column 5"),
    "an attribute that the operator lacks": ("exp(1f, axis=1)", r"line 1, column 1: exp"),
    "an attribute of another kind": ('nn.softmax(1f, axis="x")', "line 1, column 1: nn.softmax.*axis"),
    "a required attribute is missing": ("clip(1f, a_min=0f)", "line 1, column 1: clip.*a_max"),
    "too few operands": ("add(1f)", "line 1, column 1: add"),
    "too many operands": ("exp(1f, 2f)", "line 1, column 1: exp"),
    "a variable out of scope": ("let %y = 1; (fn (%z: int32) { %z })(%z)", r"line 1, column 37.*%z"),
    "a temporary that is defined later": ("%1 = exp(%0); %0 = exp(1f); %1", "line 1, column 10.*%0"),
    "no else": ("if (True) { 1 }", "line 1, column 16: expected 'else'"),
    "a bare let as a binding": ("%0 = let %y = 1; %y; %0", "line 1, column 6"),
    "attributes need their class": ("cumsum(1f, axis=0)", 'attrs_type_key="relay.attrs.ScanopAttrs"'),
    "a class that is registered": ('exp(1f, attrs_type_key="relay.attrs.X")', "line 1, column 1"),
    "two sections": (HEAD + "def @main() { 1 }\n#[metadata]\n{}\n#[metadata]\n{}", "line"),
    "a reference without a section": ("exp(meta[relay.Constant][0])", "line 1, column 5: expected an entry"),
    "bfloat16 in scalar position": ("fn (%x: bfloat16) { %x }", "line 1, column 9: expected a type"),
    "two functions of a name": (
        HEAD + "def @f() { 1 }\ndef @f() { 2 }",
        "line 3, column 5: expected another name",
    ),
    "a definition that does not end": (HEAD + "def @f() { 1", "line 2, column 13: expected '}'"),
    "brackets that nest too deep": ("(" * 2000 + "1" + ")" * 2000, "nest at most 256 deep"),
    "a bare match as a binding": (
        "%0 = match (1) { _ => { 1 }, }; %0",
        "line 1, column 6: expected an expression",
    ),
    "a bare match as a let's value": ("let %y = match (1) { _ => { 1 }, }; %y", "line 1, column 10"),
    "match with a blank before ?": ("match ? (1) { _ => { 1 }, }", "line 1, column 7"),
    "an arrow of functions in a clause": (
        "match (1) { _ -> { 1 }, }",
        "line 1, column 15: expected '=>', got '->'",
    ),
    "a pattern that is a number": ("match (1) { 1 => { 1 }, }", "line 1, column 13: expected a pattern"),
    "the type of a reference": (
        "fn (%x: ref(int32)) { %x }",
        "line 1, column 9: expected a type; that of a reference",
    ),
    "type parameters of a function's type": (
        "fn (%f: fn [A](A) -> A) { %f }",
        "line 1, column 12: expected '('",
    ),
    "a write without a value": ("ref_write(ref(1))", "line 1, column 17: expected ','"),
    "a keyword as an operator": ("type(1)", "line 1, column 1: expected '#[version"),
    "an unknown constructor": (
        HEAD + LIST + "def @f() { Snoc(1) }",
        "line 6, column 12: expected the name of an operator or",
    ),
    "an unknown constructor in a pattern": (
        HEAD + LIST + "def @f(%x: List[int32]) { match (%x) { Snoc => { 1 }, } }",
        "line 6, column 40: expected the name of a constructor, got 'Snoc' (a variable is written %Snoc)",
    ),
    "two types of a name": (
        HEAD + LIST + LIST,
        "line 6, column 6: expected another name: there is a type 'List'",
    ),
    "two constructors of a name": (
        HEAD + "type A { C }\ntype B { C }",
        "line 3, column 10: expected another name",
    ),
    "constructors of an external type": (
        HEAD + "extern type T { C }",
        "line 2, column 15: expected no constructors",
    ),
    "an undefined type": (
        HEAD + "def @f(%x: int32, %y: Lst[int32]) { 1 }",
        "line 2, column 23: expected a type: no type 'Lst' is defined",
    ),
    "an undefined type variable": (
        HEAD + "def @f(%x: A) { 1 }",
        "line 2, column 12: expected a type: no type 'A'",
    ),
    "a type variable out of scope": (
        HEAD + "def @f[A](%x: A) { 1 }\ndef @g(%x: A) { 1 }",
        "line 3, column 12: expected a type: no type 'A'",
    ),
    "arguments of a type variable": (
        HEAD + "def @f[A](%x: A[int32]) { 1 }",
        "line 2, column 16: expected no arguments",
    ),
    "too few arguments of a type": (
        HEAD + LIST + "def @f(%x: List) { 1 }",
        "line 6, column 12: expected 1 arguments of the type 'List', got 0",
    ),
    "a type parameter twice": (
        HEAD + "def @f[A, A](%x: A) { 1 }",
        "line 2, column 11: expected each type parameter once",
    ),
    "a dtype as a type parameter": (
        HEAD + "def @f[int8](%x: int8) { 1 }",
        "line 2, column 8: expected the name of a type",
    ),
    # by types
    "a declared result that is another": (
        HEAD + "def @main(%x: int32) -> float32 { %x }",
        "line 2, column 5: the function is declared to give float32, but gives int32",
    ),
    "two dtypes": (
        "fn (%x: int32) {\n  add(%x, 1f)\n}",
        r"line 2, column 3: add\(int32, float32\): expected operands of one dtype, got int32 and float32",
    ),
    "shapes that do not broadcast": (
        "fn (%x: Tensor[(2, 3), int8], %y: Tensor[(2), int8]) { add(%x, %y) }",
        r"expected shapes that broadcast, got \(2, 3\) and \(2,\)",
    ),
    "a parameter without a type": ("fn (%x) { %x }", "line 1, column 5: parameter '%x' has no type"),
    "a condition that is no bool": (
        "if (1) { 1 } else { 2 }",
        "line 1, column 1: if: expected a condition of type",
    ),
    "branches of two types": (
        "if (True) { 1 } else { 2f }",
        "expected branches of one type, got int32 and float32",
    ),
    "a call of what is no function": ("let %f = 1; %f(2)", "line 1, column 13: call: expected a function"),
    "a function that is not there": (
        HEAD + "def @main() { @other() }",
        "the module has no function '@other'",
    ),
    "a free variable in a definition": (
        HEAD + "def @main() { free_var %x: int32; %x }",
        "line 2, column 24: variable '%x' is bound nowhere in the function",
    ),
}
# Text that TVM 0.19 does not read, and that can mean one thing only: it is read.
LENIENT = {
    "projections in one go": "free_var %x: ((int32,),); %x.0.0",
    "a dotted attribute first": "fn (%p: int32, relay.reshape_only=1) { %p }",
}
# Text that is read and printed, but has too few types to be checked.
UNTYPED = {
    "a free variable without a type": "free_var %x;\nexp(%x)",
    "a parameter without a type": "fn (%x) { exp(%x) }",
    "a parameter whose type is left open": "fn (%x: _) -> _ { exp(%x) }",
    "a constructor's operand without a type": HEAD + LIST + "def @main(%x) { Cons(%x, Nil) }",
}
# Text that TVM 0.19 reads, though its own printer cannot write the types that it infers so that it reads them.
UNSPELLABLE = {
    "references": ("let %r = ref(1); ref_write(%r, 2); ref_read(%r)", "ref(int32)"),
    "polymorphic lets": ("let %f = fn [A](%y: A) -> A { %y }; (%f(1), %f(2f))", "fn [A](A) -> A"),
}


def without_comments(text: str) -> str:
    program, mark, metadata = text.partition("#[metadata]")
    return re.sub(r" /\*.*?\*/", "", program) + mark + metadata


def check_printing(program: relay.Expr | relay.IRModule) -> None:
    """Print a program, and again what that reads as: the same program, and, but for comments, the same text."""
    text = program.astext()
    again = relay.parse(text)
    assert relay.structural_equal(again, program, map_free_vars=True)
    assert without_comments(again.astext()) == without_comments(text)


@pytest.mark.parametrize("rule", BODIES)
def test_expressions(rule: str) -> None:
    body, result = BODIES[rule]
    text = f"fn ({X}) {{\n{body} }}"
    check_printing(relay.parse(text))
    typed = relay.check(text)
    assert repr(typed.ret_type) == result
    check_printing(typed)


@pytest.mark.parametrize("rule", TEXTS)
def test_texts(rule: str) -> None:
    check_printing(relay.parse(TEXTS[rule]))
    check_printing(relay.check(TEXTS[rule]))


@pytest.mark.parametrize("rule", UNTYPED)
def test_texts_without_types(rule: str) -> None:
    check_printing(relay.parse(UNTYPED[rule]))
    with pytest.raises(relay.TypeInferenceError, match="has no type annotation"):
        relay.check(UNTYPED[rule])


@pytest.mark.parametrize("rule", INVALID)
def test_text_that_tvm_rejects(rule: str) -> None:
    text, message = INVALID[rule]
    pattern = message if re.search(r"[\\.*]{2}|\\", message) else re.escape(message)
    with pytest.raises((relay.ParseError, relay.TypeInferenceError), match="(?s)" + pattern):
        relay.check(text)


@pytest.mark.parametrize("rule", UNSPELLABLE)
def test_types_that_have_no_spelling(rule: str) -> None:
    text, spelled = UNSPELLABLE[rule]
    check_printing(relay.parse(text))
    typed = relay.check(text).astext()
    assert f": {spelled}" in typed
    with pytest.raises(relay.ParseError, match="no type parameters in Relay text|no spelling in Relay text"):
        relay.parse(typed)


@pytest.mark.parametrize("rule", LENIENT)
def test_text_that_is_read_though_tvm_does_not(rule: str) -> None:
    assert isinstance(relay.check(LENIENT[rule]), relay.Expr)
