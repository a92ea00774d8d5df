"""Texts for the rules of sections 6, 7 and 9 to 11 of Relay's text format: types, comments, metadata.

Keys are "section: rule". Bodies stand in a function of ``%x``, a tensor of shape (2, 3).
"""

from __future__ import annotations

from relay_texts_metadata import section, with_device, with_sizes
from relay_texts_syntax import HEAD, LIST

BODIES = {
    "6: a type left open in a tuple": (
        "let %y: (_, int32) = (%x, 1); %y",
        "(Tensor[(2, 3), float32], int32)",
    ),
    "6: a type left open in that of a function": (
        "let %f: fn (_) -> _ = fn (%y: int32) { 2f }; %f(1)",
        "float32",
    ),
    "6: a type left open in a pattern": ("match ((1, 2f)) { %y: (_, float32) => %y }", "(int32, float32)"),
    "6: a result left open": ("fn (%y: int32) -> (_, _) { (%y, 1f) }", "fn (int32) -> (int32, float32)"),
    "6: a parameter left open whose call tells it": ("(fn (%y: (_, _)) { %y.1 })((1, 2f))", "float32"),
}

TEXTS = {
    "9: a device of a function and of an operator": with_device(
        "fn (%x: Tensor[(2), int8], virtual_device=meta[VirtualDevice][0]) "
        "{ on_device(%x, virtual_device=meta[VirtualDevice][0], constrain_result=True) }"
    ),
    "6: all dtypes": "fn ("
    + ", ".join(
        f"%{dtype}: Tensor[(4), {dtype}]"
        for kind in ("int", "uint", "float")
        for dtype in [f"{kind}{bits}" for bits in (8, 16, 32, 64) if (kind, bits) != ("float", 8)]
    )
    + ", %b: Tensor[(4), bfloat16], %c: Tensor[(4), bool], %d: uint64, %e: float16, %f: bool) { %uint8 }",
    "6: brackets without arguments": HEAD + "type Ayy { Nil }\ndef @main(%x: Ayy[]) -> Ayy[] { %x }",
    "6: an unknown size in a data type": HEAD + "type my_dtype {\n  my_cons(Tensor[(?, 1), uint16]),\n}",
    "6: names of dtypes": """fn (%a: Tensor[(4), int8], %b: Tensor[(4), uint64], %c: Tensor[(4), float32x4], %d: Tensor[(4), handle],
    %e: Tensor[(4), e4m3_float8], %f: Tensor[(4), e5m2_float8], %g: Tensor[(4), void], %h: float32x4) { %g }""",
    "6: int64-typed sizes": "fn (%x: Tensor[(1i64, 8), float32]) { exp(%x) }",
    "6: types": """fn (%a: Tensor[(), float32], %b: bool, %c: (int8, (float64,), ()), %d: Tensor[(?, 3), bfloat16],
    %e: fn (int32, uint8) -> (int32, uint8), %f: Tensor[(2), uint16]) { (%a, %b, %c, %d, %e, %f) }""",
    "9: a section with a constant": HEAD
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
    "10: the typed example": HEAD
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
    "10: batch normalisation gives three": HEAD
    + """def @main(%x: Tensor[(1, 4, 2, 2), float32], %g: Tensor[(4), float32]) {
  %0 = nn.batch_norm(%x, %g, %g, %g, %g);
  %1 = nn.dropout(%x);
  (%0.0, %1.1)
}
""",
    "6: a variable as a size": with_sizes(
        "fn (%x: Tensor[(meta[tir.Var][0], 3), float32]) { exp(%x) }", "tir.Var n int32"
    ),
    "6: a variable that is not negative": with_sizes(
        "fn (%x: Tensor[(meta[tir.SizeVar][0], ?), int8]) -> Tensor[(meta[tir.SizeVar][0], ?), int8] { %x }",
        "tir.SizeVar n int64",
    ),
    "6: variables here and there": with_sizes(
        HEAD
        + """type Rows { Row(Tensor[(meta[tir.Var][1]), int8]), }
def @f(%x: Tensor[(meta[tir.Var][0], meta[tir.SizeVar][0]), int8], %y: (Tensor[(meta[tir.Var][1]), int8], int8)) {
  let %z: Tensor[(meta[tir.Var][1]), int8] = %y.0;
  (%x, Row(%z))
}
def @main(%x: Tensor[(meta[tir.Var][0], meta[tir.SizeVar][0]), int8], %y: (Tensor[(meta[tir.Var][1]), int8], int8),
    %g: fn (Tensor[(meta[tir.Var][1]), int8]) -> Tensor[(meta[tir.SizeVar][0]), int8]) {
  (@f(%x, %y), %g(%y.0))
}
""",
        "tir.Var n int32",
        "tir.Var m int64",
        "tir.SizeVar k int32",
    ),
    "6: an unnamed variable that nothing else has": with_sizes(
        "free_var %x: Tensor[(meta[tir.Var][1]), int8]; exp(%x)", "tir.Var n int32", "tir.Var  int32"
    ),
    "6: a number in the metadata": "fn (%x: Tensor[(meta[IntImm][0]), int8]) { %x }"
    + section("IntImm", {"dtype": "int32", "span": "0", "value": "7"}),
    "6: a parameter left open whose type comes behind calls of other functions": HEAD
    + """def @f(%a: (_, int32), %b: int32) -> int32 { let %c: int32 = @g(%b); let %d: (float32, int32) = %a; @g(%c) }
def @g(%a: int32) -> int32 { let %b: (_, _) = (%a, %a); %b.1 }
""",
    "6: a type left open among arguments": HEAD + LIST + "def @main() { let %l: List[_] = Cons(1, Nil); %l }",
}

INVALID = {
    "6: bfloat16 in scalar position": ("fn (%x: bfloat16) { %x }", "line 1, column 9: expected a type"),
    "6: the type of a reference": (
        "fn (%x: ref(int32)) { %x }",
        "line 1, column 9: expected a type; that of a reference",
    ),
    "6: type parameters of a function's type": (
        "fn (%f: fn [A](A) -> A) { %f }",
        "line 1, column 12: expected '('",
    ),
    "6: an undefined type": (
        HEAD + "def @f(%x: int32, %y: Lst[int32]) { 1 }",
        "line 2, column 23: expected a type: no type 'Lst' is defined",
    ),
    "6: an undefined type variable": (
        HEAD + "def @f(%x: A) { 1 }",
        "line 2, column 12: expected a type: no type 'A'",
    ),
    "6: a type variable out of scope": (
        HEAD + "def @f[A](%x: A) { 1 }\ndef @g(%x: A) { 1 }",
        "line 3, column 12: expected a type: no type 'A'",
    ),
    "6: arguments of a type variable": (
        HEAD + "def @f[A](%x: A[int32]) { 1 }",
        "line 2, column 16: expected no arguments",
    ),
    "6: too few arguments of a type": (
        HEAD + LIST + "def @f(%x: List) { 1 }",
        "line 6, column 12: expected 1 arguments of the type 'List', got 0",
    ),
    "9: two sections": (HEAD + "def @main() { 1 }\n#[metadata]\n{}\n#[metadata]\n{}", "line"),
    "9: a reference without a section": (
        "exp(meta[relay.Constant][0])",
        "line 1, column 5: expected an entry",
    ),
    "11: a declared result that is another": (
        HEAD + "def @main(%x: int32) -> float32 { %x }",
        "line 2, column 5: the function is declared to give float32, but gives int32",
    ),
    "11: a parameter without a type": ("fn (%x) { %x }", "line 1, column 5: parameter '%x' has no type"),
    "6: a type left open that nothing tells": (
        "fn (%x: (_, int32)) { %x }",
        "line 1, column 5: cannot infer what '_' is in (_, int32)",
    ),
    "6: a type left open in a definition": (
        HEAD + "type T { C(_), }",
        "line 2, column 10: constructor 'C': expected a type, got '_'",
    ),
    "6: a type left open that would be part of itself": (
        "let %f: fn (_) -> (_, int32) = fn (%y) { %f(%y) }; %f",
        "line 1, column",
    ),
    "6: a variable without its metadata": (
        "fn (%x: Tensor[(meta[tir.Var][0]), int8]) { %x }",
        "line 1, column 17: expected an entry of the metadata section, which has 0 of tir.Var",
    ),
    "6: a size that is none": (
        "fn (%x: Tensor[(meta[FloatImm][0]), int8]) { %x }"
        + section("FloatImm", {"dtype": "float32", "span": "0", "value": "1"}),
        "line 1, column 17: expected a size, got meta[FloatImm][0]",
    ),
    "6: a size that is negative": (
        "fn (%x: Tensor[(-1), int8]) { %x }",
        "line 1, column 17: expected a size that is not negative",
    ),
    "6: a size that its width does not hold": (
        "fn (%x: Tensor[(70000i16), int8]) { %x }",
        "line 1, column 17: TensorType: a size of 70000 is no integer of 16 bits",
    ),
    "6: a variable of a type that is none of integers": (
        with_sizes("fn (%x: Tensor[(meta[tir.Var][0]), int8]) { %x }", "tir.Var n float32"),
        "expected an integer type for 'n', got float32",
    ),
    "6: a variable against a number": (
        with_sizes(
            "fn (%x: Tensor[(meta[tir.Var][0]), int8], %y: Tensor[(5), int8]) { add(%x, %y) }",
            "tir.Var n int32",
        ),
        "line 1, column 68: add(Tensor[(n), int8], Tensor[(5), int8]): expected shapes that broadcast, got (n,) and (5,)",
    ),
    "6: a variable against another of its name": (
        with_sizes(
            "fn (%x: Tensor[(meta[tir.Var][0]), int8], %y: Tensor[(meta[tir.Var][1]), int8]) { add(%x, %y) }",
            "tir.Var n int32",
            "tir.Var n int32",
        ),
        "expected shapes that broadcast, got (n,) and (n,)",
    ),
    "6: a variable that would be two numbers": (
        HEAD
        + with_sizes(
            """def @f(%x: Tensor[(meta[tir.Var][0]), int8]) { %x }
def @main(%y: Tensor[(5), int8], %z: Tensor[(6), int8]) { (@f(%y), @f(%z)) }""",
            "tir.Var n int32",
        ),
        "line 3, column 68: call: argument 0 must be Tensor[(n), int8], got Tensor[(6), int8]",
    ),
    "9: a field is missing": (
        "fn (%x: Tensor[(meta[tir.Var][0]), int8]) { %x }" + section("tir.Var", {"dtype": "int32"}),
        'metadata: expected a member "name"',
    ),
    "9: text behind the section": (
        HEAD + "def @f() { 1 }\n#[metadata]\n{}\ndef @g() { 1 }",
        "line 4, column 1: the metadata is not JSON",
    ),
}

UNTYPED = {
    "6: a parameter whose type is left open": "fn (%x: _) -> _ { exp(%x) }",
    "11: a parameter without a type": "fn (%x) { exp(%x) }",
    "11: a constructor's operand without a type": HEAD + LIST + "def @main(%x) { Cons(%x, Nil) }",
}

UNSPELLABLE = {
    "6: references": ("let %r = ref(1); ref_write(%r, 2); ref_read(%r)", "ref(int32)"),
    "6: polymorphic lets": ("let %f = fn [A](%y: A) -> A { %y }; (%f(1), %f(2f))", "fn [A](A) -> A"),
}

PRINTED = {
    "6: rank 0": ("fn (%y: Tensor[(), float32]) { %y }", "fn (%y: float32) {\n  %y\n}"),
    "6: rank 0 of what is no word for a scalar": (
        "fn (%y: Tensor[(), bfloat16]) { %y }",
        "fn (%y: Tensor[(), bfloat16]) {\n  %y\n}",
    ),
    "6: sizes": (
        "fn (%y: Tensor[(1i64, 8, ?, 3i16, 3000000000), int8]) { %y }",
        "fn (%y: Tensor[(1i64, 8, ?, 3i16, 3000000000i64), int8]) {\n  %y\n}",
    ),
    "6: tuples and functions": (
        "fn (%y: (int8, (bool,), ()), %f: fn (int8, fn () -> ()) -> int8) { %y }",
        "fn (%y: (int8, (bool,), ()), %f: fn (int8, fn () -> ()) -> int8) {\n  %y\n}",
    ),
    "6: a variable without a type": ("fn (%y, %z: _) { %y }", "fn (%y, %z) {\n  %y\n}"),
    "7: comments are not read back": (
        "exp(%x) /* ty=int8 span=net.py:1:2 */ /* ty=Tensor[(meta[tir.Var][0]), int8] */",
        "exp(%x)",
    ),
}

DIFFERENT = {
    "6: a type left open inside of another": (
        "let %y: (_, int8) = %x; %y",
        "let %y: (meta[IncompleteType][0], int8) = %x;\n%y",
        "let %y: (_, int8) = %x;\n%y",
        "its parser rejects the reference",
    ),
}

EXACT = {
    "6: variables in TVM's layout": HEAD
    + """def @main(%x: Tensor[(meta[tir.Var][0], 3, meta[tir.SizeVar][0]), float32], %y: Tensor[(meta[tir.Var][1]), bool]) {
  %0 = exp(%x);
  (%0, %y)
}

#[metadata]
{
  "root": 1,@
  "nodes": [
    {
      "type_key": ""
    },@
    {
      "type_key": "Map",@
      "keys": [
        "tir.SizeVar",@
        "tir.Var"
      ],@
      "data": [2, 6]
    },@
    {
      "type_key": "Array",@
      "data": [3]
    },@
    {
      "type_key": "tir.SizeVar",@
      "attrs": {
        "dtype": "int64",@
        "name": "4",@
        "span": "0",@
        "type_annotation": "5"
      }
    },@
    {
      "type_key": "runtime.String",@
      "repr_str": "m"
    },@
    {
      "type_key": "PrimType",@
      "attrs": {"dtype": "int64"}
    },@
    {
      "type_key": "Array",@
      "data": [7, 10]
    },@
    {
      "type_key": "tir.Var",@
      "attrs": {
        "dtype": "int32",@
        "name": "8",@
        "span": "0",@
        "type_annotation": "9"
      }
    },@
    {
      "type_key": "runtime.String",@
      "repr_str": "n"
    },@
    {
      "type_key": "PrimType",@
      "attrs": {"dtype": "int32"}
    },@
    {
      "type_key": "tir.Var",@
      "attrs": {
        "dtype": "int32",@
        "name": "11",@
        "span": "0",@
        "type_annotation": "12"
      }
    },@
    {
      "type_key": "runtime.String",@
      "repr_b64": "w6Q="
    },@
    {
      "type_key": "PrimType",@
      "attrs": {"dtype": "int32"}
    }
  ],@
  "b64ndarrays": [],@
  "attrs": {"tvm_version": "0.19.0"}
}""".replace(",@", ", "),
    "10: the typed example without comments": HEAD
    + """def @main(%x: Tensor[(1, 3, 8, 8), float32], %w: Tensor[(4, 3, 3, 3), float32], %b: Tensor[(4), float32]) -> \
Tensor[(1, 4, 4, 4), float32] {
  %0 = nn.conv2d(%x, %w, padding=[1, 1, 1, 1], channels=4, kernel_size=[3, 3]);
  %1 = nn.bias_add(%0, %b);
  %2 = clip(%1, a_min=0f, a_max=6f);
  %3 = add(%2, 3f);
  nn.max_pool2d(%3, pool_size=[2, 2], strides=[2, 2], padding=[0, 0, 0, 0])
}
""",
}

UNSUPPORTED = {
    "6: sizes that are sums": (
        "fn (%x: Tensor[(meta[tir.Add][0]), int8]) { %x }" + section("tir.Add", {"a": "1", "b": "1"}),
        "line 1, column 17: objects of class tir.Add are not supported",
    ),
    "9: a class that only TVM's compiler knows": (
        "fn (%p: int32, target=meta[Target][0]) { %p }" + section("Target", {}),
        "line 1, column 23: objects of class Target are not supported",
    ),
    "9: a device with a target": (
        with_device("fn (%p: int32, virtual_device=meta[VirtualDevice][0]) { %p }", target=2),
        "line 1, column 31: objects of class VirtualDevice are not supported",
    ),
}
