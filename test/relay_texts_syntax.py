"""Texts for the rules of sections 2 to 5 of Relay's text format: modules, names, literals, expressions.

Keys are "section: rule". Bodies stand in a function of ``%x``, a tensor of shape (2, 3).
"""

from __future__ import annotations

HEAD = '#[version = "0.0.5"]\n'
LIST = """type List[A] {
  Cons(A, List[A]),
  Nil,
}
"""
X = "%x: Tensor[(2, 3), float32]"

BODIES = {
    "3: slash in a name": ("let %a/b = exp(%x); %a/b", "Tensor[(2, 3), float32]"),
    "3: underscore begins a name": ("let %_y = exp(%x); %_y", "Tensor[(2, 3), float32]"),
    "3: digits in a name": ("let %y12 = exp(%x); %y12", "Tensor[(2, 3), float32]"),
    "3: dotted operator": ("nn.relu(%x)", "Tensor[(2, 3), float32]"),
    "3: comment to the end of the line": ("exp(%x) // a comment; } here\n", "Tensor[(2, 3), float32]"),
    "3: comments nest": ("exp(/* one /* two */ still one */ %x)", "Tensor[(2, 3), float32]"),
    "3: CR LF": ("exp(\r\n%x)\r\n", "Tensor[(2, 3), float32]"),
    "4: int16": ("42i16", "int16"),
    "4: int32": ("42", "int32"),
    "4: int32 by suffix": ("(42i, 42i32)", "(int32, int32)"),
    "4: int64": ("42i64", "int64"),
    "4: too large for int32": ("3000000000", "int64"),
    "4: floats": ("(1.5f16, 1.5f, 1.5f32, 1.5f64)", "(float16, float32, float32, float64)"),
    "4: exponents": ("(1e-05f, 1e+11f, 2E3f)", "(float32, float32, float32)"),
    "4: bools": ("(True, False)", "(bool, bool)"),
    "4: infinities": ("(inff, -inff)", "(float32, float32)"),
    "4: negative": ("(-3, -0.5f)", "(int32, float32)"),
    "4: two minus signs": ("--10", "int32"),
    "5: graph bindings": ("%0 = exp(%x); %1 = tanh(%0); add(%0, %1)", "Tensor[(2, 3), float32]"),
    "5: numbers need not be consecutive": (
        "%7 = exp(%x); %3 = tanh(%7); add(%7, %3)",
        "Tensor[(2, 3), float32]",
    ),
    "5: bound to a tuple": ("%0 = (%x, 1); %0.1", "int32"),
    "5: bound to a function": ("%0 = fn (%y: int32) { %y }; %0(3)", "int32"),
    "5: bound to an if": ("%0 = if (True) { %x } else { exp(%x) }; exp(%0)", "Tensor[(2, 3), float32]"),
    "5: bound to a let in parentheses": ("%0 = (let %y = exp(%x); %y); exp(%0)", "Tensor[(2, 3), float32]"),
    "5: attributes": ("sum(%x, axis=[1], keepdims=True)", "Tensor[(2, 1), float32]"),
    "5: trailing comma": ("sum(%x, axis=[1],)", "Tensor[(2), float32]"),
    "5: tuple operand": ("%0 = (%x, %x); concatenate(%0, axis=1)", "Tensor[(2, 6), float32]"),
    "5: no operands": ('zeros(shape=[2], dtype="int8")', "Tensor[(2), int8]"),
    "5: call of a function": ("let %f = fn () { 1 }; %f()", "int32"),
    "5: curried": ("let %f = fn (%a: int32) { fn (%b: int32) { add(%a, %b) } }; %f(1)(2)", "int32"),
    "5: infix": ("%x * %x + %x / %x - %x", "Tensor[(2, 3), float32]"),
    "5: infix comparison binds less": ("%x + %x < %x * %x", "Tensor[(2, 3), bool]"),
    "5: other infix comparisons": (
        "(%x > %x, %x >= %x, 1 != 2)",
        "(Tensor[(2, 3), bool], Tensor[(2, 3), bool], bool)",
    ),
    "5: infix equality binds least": ("True == (%x <= %x)", "Tensor[(2, 3), bool]"),
    "5: empty tuple": ("()", "()"),
    "5: tuple of one": ("(%x,)", "(Tensor[(2, 3), float32],)"),
    "5: tuple of two": ("(%x, 1)", "(Tensor[(2, 3), float32], int32)"),
    "5: parentheses": ("(%x)", "Tensor[(2, 3), float32]"),
    "5: projection": ("%0 = (%x, 1); %0.0", "Tensor[(2, 3), float32]"),
    "5: projection in steps": ("%0 = ((%x, 1), 2); %1 = %0.0; %1.1", "int32"),
    "5: let with a type": ("let %y: Tensor[(2, 3), float32] = exp(%x); %y", "Tensor[(2, 3), float32]"),
    "5: shadowing": ("let %y = 1; let %y = 2f; %y", "float32"),
    "5: sequence": ("exp(%x); 1", "int32"),
    "5: if": ("if (True) { add(%x, 1f) } else { %x }", "Tensor[(2, 3), float32]"),
    "5: attributes of a function": (
        'fn (%p: int32, Primitive=1, hash="ab12", relay.reshape_only=1) -> int32 { %p }',
        "fn (int32) -> int32",
    ),
    "5: recursion": (
        "let %f = fn (%n: int32) -> int32 { if (less(%n, 1)) { 0 } else { %f(subtract(%n, 1)) } }; %f(3)",
        "int32",
    ),
    "5: types of variables left open": ("let %y: _ = exp(%x); %y", "Tensor[(2, 3), float32]"),
    "5: attributes of a call of a function": (
        '(fn (%y: int32) { %y })(1, name="n", attrs_type_key="attrs.TestAttrs")',
        "int32",
    ),
    "5: type parameters": ("(fn [A](%y: A) -> A { %y })(%x)", "Tensor[(2, 3), float32]"),
    "5: a block": ("{ let %y = exp(%x); %y }", "Tensor[(2, 3), float32]"),
    "5: a block in a sequence": ("exp(%x); { 1 }", "int32"),
    "5: a let as an operand": ("exp(let %y = tanh(%x); %y)", "Tensor[(2, 3), float32]"),
    "5: reference": ("ref_read(ref(%x))", "Tensor[(2, 3), float32]"),
    "5: what writing gives": ("%0 = ref(%x); ref_write(%0, exp(%x))", "()"),
    "5: a let in a reference": ("ref_read(ref(let %y = exp(%x); %y))", "Tensor[(2, 3), float32]"),
    "5: a call of what a reference holds": ("ref_read(ref(fn () { 1 }))()", "int32"),
    "5: match": ("match ((%x, 1)) {\n  (%a, _) => {\n    exp(%a)\n  },\n}", "Tensor[(2, 3), float32]"),
    "5: incomplete match": ("match? ((%x, 1)) { (%a, %b) => { %b } }", "int32"),
    "5: clauses without braces": ("match ((%x, 1)) { (_, %b) => add(%b, 1), }", "int32"),
    "5: match without parentheses": ("%0 = (%x, 1); match %0 { (_, %b) => { %b }, }", "int32"),
    "5: a match of a field": ("%0 = ((%x, 1), 2); match %0.0 { (_, %b) => { %b }, }", "int32"),
    "5: lets in a clause": ("match (1) { %y => let %z = add(%y, 1); %z, }", "int32"),
    "5: a pattern that nests": ("match ((%x, (1, True))) { (_, (%b, _)) => { %b }, }", "int32"),
    "5: a pattern of one field": ("match ((1,)) { (%a) => { %a }, }", "int32"),
    "5: a pattern of no fields": ("match (()) { () => { %x }, }", "Tensor[(2, 3), float32]"),
    "5: a pattern with a type": ("match (1) { %y: int32 => { %y }, }", "int32"),
    "5: a match in parentheses": ("%0 = (match (1) { %y => { %y }, }); add(%0, 1)", "int32"),
    "5: a match in a sequence": ("match (1) { _ => { () }, }; 2", "int32"),
    "5: a match as an operand": ("add(match (1) { %y => { %y }, }, 1)", "int32"),
    "5: the first clause that takes it": ("match (1) { _ => { 2f }, %y => { 3f }, }", "float32"),
    "3: two slashes in a name": ("let %a//b = exp(%x); %a//b", "Tensor[(2, 3), float32]"),
    "3: a variable that is called like a boolean": ("let %True = 1; %True", "int32"),
    "3: comments are skipped everywhere": (
        "exp /* a */ ( /* b */ %x // c\n) /* d */",
        "Tensor[(2, 3), float32]",
    ),
    "4: a comment right behind a number": ("(1/* one */, 2f// two\n)", "(int32, float32)"),
    "4: a division of numbers": ("6f/2f", "float32"),
    "4: the widest integers": ("(-9223372036854775807i64, -32768i16)", "(int64, int16)"),
    "5: the first definition of a number stays": ("%0 = 1; %0 = 2f; %0", "int32"),
    "5: a call without operands of what is called": ("(fn () { fn () { 1f } })()()", "float32"),
}

TEXTS = {
    "2: a data type": HEAD + LIST,
    "2: no comma after the last constructor": HEAD + "type Maybe[A] { Some(A), Nothing }",
    "2: a data type without parameters": HEAD + "type Ayy { Nil }\ndef @main() -> Ayy { Nil }",
    "2: a data type without constructors": HEAD + "type Ayy { }\ndef @main(%x: Ayy) { %x }",
    "2: several parameters": HEAD + "type Either[A, B] {\n  Left(A),\n  Right(B),\n}",
    "2: an external type": HEAD + "extern type T[A]\ndef @main(%x: T[int32]) -> T[int32] { %x }",
    "2: a type that is defined later": HEAD + "def @main(%x: List[int32]) { %x }\n" + LIST,
    "2: a data type of itself and another": HEAD
    + "type Tree[A] { Rose(A, List[Tree[A]]), }\n"
    + LIST
    + "def @main(%x: int32) -> Tree[int32] { Rose(%x, Nil) }",
    "2: module": HEAD + "def @main(" + X + ") { exp(%x) }",
    "2: blanks in the version": '#[version   =   "0.0.5"]\ndef @main() { 1 }',
    "2: several functions": HEAD
    + """def @helper(%a: Tensor[(2), float32]) -> Tensor[(2), float32] { exp(%a) }

def @main(%x: Tensor[(2), float32]) { @helper(@helper(%x)) }""",
    "2: numbers go on between functions": HEAD
    + """def @a(%x: int32) { %0 = exp(1f); %1 = exp(%0); (%x, %1) }
def @main(%x1: int32) { %2 = @a(%x1); %2.1 }""",
    "2: functions that call each other": HEAD
    + """def @even(%n: int32) -> bool { if (less(%n, 1)) { True } else { @odd(subtract(%n, 1)) } }
def @odd(%n: int32) -> bool { if (less(%n, 1)) { False } else { @even(subtract(%n, 1)) } }
def @main() { @even(10) }""",
    "2: expression without a version": "add(1, 2)",
    "2: the first example": HEAD
    + """def @main(%x: Tensor[(1, 8), float32], %w: Tensor[(4, 8), float32]) -> Tensor[(1, 4), float32] {
  %0 = nn.dense(%x, %w, units=4);
  nn.relu(%0)
}
""",
    "5: constructors": HEAD + LIST + "def @main(%x: int32) -> List[int32] { Cons(%x, Cons(2, Nil)) }",
    "5: a constructor with brackets": HEAD + LIST + "def @main() -> List[int32] { Cons(1, Nil()) }",
    "5: a constructor as a value": HEAD + LIST + "def @main[A]() -> fn (A, List[A]) -> List[A] { Cons }",
    "5: a constructor before an operator of its name": HEAD
    + "type T { add(int32), }\ndef @main() -> T { add(1) }",
    "5: type parameters of a definition": HEAD
    + "def @id[A](%x: A) -> A { %x }\ndef @main() { (@id(1), @id(2f)) }",
    "5: type parameters of an inner function": HEAD
    + "def @main[A](%x: A) -> A { %0 = fn [B](%y: A, %z: B) -> A { %y }; %0(%x, 1) }",
    "5: length": HEAD
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
    "5: some cases only": HEAD
    + LIST
    + "def @head[A](%xs: List[A]) -> A { match? (%xs) { Cons(%h, _) => { %h }, } }",
    "5: the example of an order": HEAD
    + """def @main(%x: Tensor[(2), float32]) {
  %0 = sin(%x);
  %1 = exp(%x);
  %2 = tanh(%0);
  add(%1, %2)
}
""",
    "5: free variables": "free_var %x: Tensor[(3, 2), float32];\nexp(%x)",
    "5: the example of projections": HEAD
    + """def @main(%x: Tensor[(2, 4), float32]) {
  %1 = split(%x, indices_or_sections=2, axis=1);
  %2 = %1.0;
  %3 = %1.1;
  %4 = sigmoid(%3);
  multiply(%2, %4)
}
""",
    "5: the example of a function": HEAD
    + """def @main(%x: Tensor[(2, 4), float32]) {
  %1 = fn (%p0: Tensor[(2, 4), float32], Primitive=1) -> Tensor[(2, 4), float32] {
    %0 = exp(%p0);
    nn.relu(%0)
  };
  %1(%x)
}
""",
    "5: the example of an if": HEAD
    + """def @main(%c: bool, %x: Tensor[(4), float32]) {
  %0 = if (%c) {
    add(%x, 1f)
  } else {
    %x
  };
  exp(%0)
}
""",
    "5: the example of a loop": HEAD
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
}

INVALID = {
    "2: a function that calls itself and has too few types": (
        HEAD + "def @f(%x: int32) { @f(%x) }",
        "line 2, column 21: the recursive function '@f' needs types of its parameters and result",
    ),
    "2: no version": ("def @main() { 1 }", "line 1, column 1: expected '#[version"),
    "2: another version": ('#[version = "0.0.4"]\ndef @main() { 1 }', "version 0.0.5"),
    "2: two functions of a name": (
        HEAD + "def @f() { 1 }\ndef @f() { 2 }",
        "line 3, column 5: expected another name",
    ),
    "2: a definition that does not end": (HEAD + "def @f() { 1", "line 2, column 13: expected '}'"),
    "2: two types of a name": (
        HEAD + LIST + LIST,
        "line 6, column 6: expected another name: there is a type 'List'",
    ),
    "2: two constructors of a name": (
        HEAD + "type A { C }\ntype B { C }",
        "line 3, column 10: expected another name",
    ),
    "2: constructors of an external type": (
        HEAD + "extern type T { C }",
        "line 2, column 15: expected no constructors",
    ),
    "2: two dtypes": (
        "fn (%x: int32) {\n  add(%x, 1f)\n}",
        r"line 2, column 3: add\(int32, float32\): expected operands of one dtype, got int32 and float32",
    ),
    "2: shapes that do not broadcast": (
        "fn (%x: Tensor[(2, 3), int8], %y: Tensor[(2), int8]) { add(%x, %y) }",
        r"expected shapes that broadcast, got \(2, 3\) and \(2,\)",
    ),
    "2: a condition that is no bool": (
        "if (1) { 1 } else { 2 }",
        "line 1, column 1: if: expected a condition of type",
    ),
    "2: branches of two types": (
        "if (True) { 1 } else { 2f }",
        "expected branches of one type, got int32 and float32",
    ),
    "2: a call of what is no function": ("let %f = 1; %f(2)", "line 1, column 13: call: expected a function"),
    "2: a function that is not there": (
        HEAD + "def @main() { @other() }",
        "line 2, column 15: the module has no function '@other'",
    ),
    "3: a name with a dot": ("free_var %x: float32; exp(%x.weight)", "line 1, column 30: expected the index"),
    "3: a name with a colon": ("free_var %aten::x: float32; 1", "line 1, column 16"),
    "3: a keyword as a name": (
        "free_var %let: float32; 1",
        "line 1, column 10: expected a name, got the keyword",
    ),
    "3: an unknown operator": (
        "nn.relu7(1f)",
        "line 1, column 1: expected the name of an operator, got 'nn.relu7'",
    ),
    "3: a return without a newline": ("exp(\r1f)", "line 1, column 5"),
    "3: a keyword as an operator": ("type(1)", "line 1, column 1: expected '#[version"),
    "4: a float without f": ("add(1.5, 2f)", "line 1, column 5"),
    "4: NaN": ("exp(nanf)", "line 1, column 5"),
    "4: an infinity of float64": ("exp(inff64)", "line 1, column 5"),
    "5: too few operands": ("add(1f)", "line 1, column 1: add"),
    "5: too many operands": ("exp(1f, 2f)", "line 1, column 1: exp"),
    "5: a variable out of scope": ("let %y = 1; (fn (%z: int32) { %z })(%z)", r"line 1, column 37.*%z"),
    "5: a temporary that is defined later": ("%1 = exp(%0); %0 = exp(1f); %1", "line 1, column 10.*%0"),
    "5: no else": ("if (True) { 1 }", "line 1, column 16: expected 'else'"),
    "5: a bare let as a binding": ("%0 = let %y = 1; %y; %0", "line 1, column 6"),
    "5: brackets that nest too deep": ("(" * 2000 + "1" + ")" * 2000, "nest at most 256 deep"),
    "5: a bare match as a binding": (
        "%0 = match (1) { _ => { 1 }, }; %0",
        "line 1, column 6: expected an expression",
    ),
    "5: a bare match as a let's value": ("let %y = match (1) { _ => { 1 }, }; %y", "line 1, column 10"),
    "5: match with a blank before ?": ("match ? (1) { _ => { 1 }, }", "line 1, column 7"),
    "5: an arrow of functions in a clause": (
        "match (1) { _ -> { 1 }, }",
        "line 1, column 15: expected '=>', got '->'",
    ),
    "5: a pattern that is a number": ("match (1) { 1 => { 1 }, }", "line 1, column 13: expected a pattern"),
    "5: a write without a value": ("ref_write(ref(1))", "line 1, column 17: expected ','"),
    "5: an unknown constructor": (
        HEAD + LIST + "def @f() { Snoc(1) }",
        "line 6, column 12: expected the name of an operator or",
    ),
    "5: an unknown constructor in a pattern": (
        HEAD + LIST + "def @f(%x: List[int32]) { match (%x) { Snoc => { 1 }, } }",
        "line 6, column 40: expected the name of a constructor, got 'Snoc' (a variable is written %Snoc)",
    ),
    "5: a type parameter twice": (
        HEAD + "def @f[A, A](%x: A) { 1 }",
        "line 2, column 11: expected each type parameter once",
    ),
    "5: a dtype as a type parameter": (
        HEAD + "def @f[int8](%x: int8) { 1 }",
        "line 2, column 8: expected the name of a type",
    ),
    "5: a free variable in a definition": (
        HEAD + "def @main() { free_var %x: int32; %x }",
        "line 2, column 24: variable '%x' is bound nowhere in the function",
    ),
    "2: a definition behind another version": (
        '#[version = "0.0.5.1"]\ndef @main() { 1 }',
        "line 1, column 1: expected version 0.0.5",
    ),
    "2: something behind the definitions": (
        HEAD + "def @main() { 1 }\n1",
        "line 3, column 1: expected 'def', 'type', 'extern type' or the end of the text",
    ),
    "3: a name that begins with inff": (
        "let %inffer = 1; %inffer",
        "line 1, column 5: expected a name that does not begin with 'inff'",
    ),
    "3: a word that begins with inff": (
        "inffer(1)",
        "line 1, column 1: expected a name that does not begin with 'inff'",
    ),
    "3: a keyword as the name of a function": (
        HEAD + "def @let() { 1 }",
        "line 2, column 5: expected a name, got the keyword 'let'",
    ),
    "3: a name that begins with a slash": (
        "free_var %/x: float32; 1",
        "line 1, column 10: expected a name after '%'",
    ),
    "3: a wildcard as a value": ("exp(_)", "line 1, column 5: expected the name of an operator, got '_'"),
    "3: a comment right behind a name": (
        "free_var %x: int32; %x// comment",
        "line 1, column 21: expected a variable that is in scope, got %x//",
    ),
    "3: a comment without an end": ("exp(1f) /* /* */", "line 1, column 9: this comment has no end"),
    "3: a string without an end": ('cast(1f, dtype="int8)', "line 1, column 16: this string has no end"),
    "4: an int16 out of range": ("70000i16", "line 1, column 1: 70000 does not fit int16"),
    "4: an int32 out of range": ("3000000000i32", "line 1, column 1: 3000000000 does not fit int32"),
    "4: a number that runs on": ("1+2", "line 1, column 2: expected a blank between a number and '+'"),
    "4: a float that runs on": ("1f-2f", "line 1, column 3: expected a blank between a number and '-'"),
    "4: a width that is none": ("1i7", "line 1, column 1: expected a number with the suffix"),
    "4: an infinity of float16": ("exp(-inff16)", "line 1, column 6: expected a name that does not"),
}

LENIENT = {
    "5: projections in one go": "free_var %x: ((int32,),); %x.0.0",
}

UNTYPED = {
    "5: a free variable without a type": "free_var %x;\nexp(%x)",
}

PRINTED = {
    "5: a projection of a number": ("(1).0", "(1).0"),
    "2: no result type unless it is given": (
        "fn (%y: int32) -> int32 { %y }",
        "fn (%y: int32) -> int32 {\n  %y\n}",
    ),
    "3: a name that begins with no letter": ("let %_y = 1; %_y", "let %v_y = 1;\n%v_y"),
    "3: a name that is taken": ("let %x = 1; let %x = 2; %x", "let %x1 = 1;\nlet %x2 = 2;\n%x2"),
    "4: suffixes": ("(42i16, 42i, 42i32, 42i64)", "(42i16, 42, 42, 42i64)"),
    "4: an integer beyond int32": ("3000000000", "3000000000i64"),
    "4: digits of floats": (
        "(1.5f16, 1.50f32, 2E3f, 1e-05f, 1e+11f, 1f64, 0.707107f)",
        "(1.5f16, 1.5f, 2000f, 1e-05f, 1e+11f, 1f64, 0.707107f)",
    ),
    "4: infinities": ("(inff, -inff)", "(inff, -inff)"),
    "4: signs": ("(--10, ---10)", "(10, -10)"),
    "5: operands are hoisted": ("exp(tanh(%x))", "%0 = tanh(%x);\nexp(%0)"),
    "5: leaves are not": ("add(%x, 1f)", "add(%x, 1f)"),
    "5: the order of the example": (
        "add(exp(%x), tanh(sin(%x)))",
        "%0 = sin(%x);\n%1 = exp(%x);\n%2 = tanh(%0);\nadd(%1, %2)",
    ),
    "5: what is shared is printed once": ("%5 = exp(%x); add(%5, %5)", "%0 = exp(%x);\nadd(%0, %0)"),
    "5: a result that is used elsewhere, too": (
        "%0 = exp(%x); let %y = %0; %0",
        "%0 = exp(%x);\nlet %y = %0;\n%0",
    ),
    "5: sugar": ("%x * %x + %x", "%0 = multiply(%x, %x);\nadd(%0, %x)"),
    "5: tuples": ("((), (%x,), (%x))", "%0 = ();\n%1 = (%x,);\n(%0, %1, %x)"),
    "5: projections in steps": (
        "%0 = ((%x, 1), 2); %1 = %0.0; %1.1",
        "%0 = (%x, 1);\n%1 = (%0, 2);\n%2 = %1.0;\n%2.1",
    ),
    "5: a sequence": ("exp(%x); 1", "let %v = exp(%x);\n1"),
    "5: a let as an operand": (
        "exp(let %y = tanh(%x); %y)",
        "%0 = (\n  let %y = tanh(%x);\n  %y\n);\nexp(%0)",
    ),
    "5: an if as an operand": (
        "exp(if (True) { %x } else { tanh(%x) })",
        "%0 = if (True) {\n  %x\n} else {\n  tanh(%x)\n};\nexp(%0)",
    ),
    "5: a function that is called where it stands": (
        "(fn (%p: int32, Primitive=1) { %p })(1)",
        "%0 = fn (%p: int32, Primitive=1) {\n  %p\n};\n%0(1)",
    ),
    "5: references": (
        "%0 = ref(%x); ref_write(%0, exp(%x)); ref_read(%0)",
        "%0 = ref(%x);\n%1 = exp(%x);\nlet %v = ref_write(%0, %1);\nref_read(%0)",
    ),
    "5: a match": (
        "match? ((%x, 1)) { (%a, _) => %a }",
        "%0 = (%x, 1);\nmatch? (%0) {\n  (%a, _) => {\n    %a\n  },\n}",
    ),
}

DIFFERENT = {
    "4: digits that six do not hold": (
        "0.333333333f",
        "0.333333f",
        "meta[relay.Constant][0]",
        "it would read back as another number",
    ),
    "5: a match as an operand": (
        "exp(match (%x) { %y => %y })",
        "%0 = match (%x) {\n  %y => {\n    %y\n  },\n};\nexp(%0)",
        "%0 = (\n  match (%x) {\n    %y => {\n      %y\n    },\n  }\n);\nexp(%0)",
        "its parser rejects a bare match there",
    ),
}

EXACT = {
    "2: types, then functions, sorted by name": HEAD
    + """type A {
  C,
}

type B[T] {
  D(T),
  E(T, A[]),
}

def @f(%x: int32) -> int32 {
  %0 = exp(%x);
  tanh(%0)
}

def @main(%x1: int32) {
  %1 = @f(%x1);
  %2 = D(%1);
  match (%2) {
    D(%y) => {
      %y
    },
    E(_, C) => {
      0
    },
  }
}
""",
}

UNSUPPORTED = {
    "3: a string with a line break": (
        'fn (%p: int32, k="a\nb") { %p }',
        "line 1, column 18: expected a string without line breaks",
    ),
}
