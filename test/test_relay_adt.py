"""Algebraic data types, match, references and type parameters."""

from __future__ import annotations

import pickle
import re
from typing import Any

import pytest
import relay_eval
import torch
from relay_lists import HEAD, LIST, LISTS

from torch_tvm import compiler, relay


def checked(body: str, params: str = "") -> relay.IRModule:
    module = relay.check(LISTS + f"def @main({params}) {{\n{body}\n}}\n")
    assert isinstance(module, relay.IRModule)
    return module


@pytest.mark.parametrize(
    ("body", "result", "values"),
    [
        ("@length(Cons(1, Cons(2, Nil)))", "int32", [2]),
        ("@length(Nil)", "int32", [0]),
        ("let %x = Cons(2f, Nil); (@length(%x), @length(Cons(%x, Nil)))", "(int32, int32)", [1, 1]),
        (
            "@foldr(fn (%x: int32, %y: int32) { subtract(%x, %y) }, 10, Cons(7, Cons(2, Nil)))",
            "int32",
            [7 - (2 - 10)],
        ),
        (
            'let %f = fn (%x: int32) -> float32 { cast(%x, dtype="float32") };\n'
            "@foldr(fn (%x: float32, %y: float32) { add(%x, %y) }, 0.5f, @map(%f, Cons(1, Cons(2, Nil))))",
            "float32",
            [3.5],
        ),
        # parameters whose types only the call tells
        ("@foldr(fn (%x, %y) { add(%x, multiply(%y, 2)) }, 1, Cons(3, Cons(4, Nil)))", "int32", [3 + 2 * 6]),
        (
            "match? (@map(fn (%x) { (%x, less(%x, 2)) }, Cons(1, Nil))) { Cons(%h, _) => { %h }, }",
            "(int32, bool)",
            [1, 1],
        ),
        ("@length(@zip(Cons(1, Cons(2, Nil)), Cons(1f, Nil)))", "int32", [1]),
        (
            "match? (@zip(Cons(1, Nil), Cons(2f, Nil))) { Cons((%a, %b), _) => { (%b, %a) }, }",
            "(float32, int32)",
            [2, 1],
        ),
        ("let %id = fn [A](%x: A) -> A { %x }; (%id(1), %id(2f))", "(int32, float32)", [1, 2]),
        ("let %id = fn [A](%x: A) -> A { %x }; @length(@map(%id, Cons(1, Nil)))", "int32", [1]),
        ("match? (@map(@length, Cons(Nil, Cons(Nil, Nil)))) { Cons(%h, _) => %h }", "int32", [0]),
        ("match (Some(3)) { Some(%x) => { %x }, None_ => { 0 }, }", "int32", [3]),
        ("match (Some(Cons(3, Nil))) { Some(Cons(%x, _)) => %x, Some(Nil) => 1, None_ => 2 }", "int32", [3]),
        (
            "match (if (False) { Some(3) } else { None_ }) { Some(%x) => { %x }, None_ => { 7 }, }",
            "int32",
            [7],
        ),
        ("let %make = Cons; match? (%make(5, Nil)) { Cons(%x, _) => { %x }, }", "int32", [5]),
        ("match ((1, 2)) { (%h, %h) => { %h }, }", "int32", [2]),
        # references
        ("let %r = ref(1); ref_write(%r, add(ref_read(%r), 41)); ref_read(%r)", "int32", [42]),
        ("let %r = ref(Nil); ref_write(%r, Cons(1, Nil)); @length(ref_read(%r))", "int32", [1]),
        (
            "let %r = ref(0);\n"
            "let %tick = fn () -> int32 { ref_write(%r, add(ref_read(%r), 1)); ref_read(%r) };\n"
            "let %a = %tick(); let %b = %tick(); (%a, %b)",
            "(int32, int32)",
            [1, 2],
        ),
        (
            "let %sum = fn (%xs: List[int32]) {\n"
            "  match (%xs) { Cons(%x, %rest) => { add(%x, %sum(%rest)) }, Nil => { 0 }, }\n"
            "};\n%sum(Cons(1, Cons(2, Nil)))",
            "int32",
            [3],
        ),
    ],
)
def test_programs(body: str, result: str, values: list[float]) -> None:
    module = checked(body)
    assert repr(module["main"].ret_type) == result
    assert [float(value) for value in relay_eval.evaluate(module, [])] == values
    for expr in relay.expressions(module["main"]):
        assert isinstance(expr, relay.Op) or expr.checked_type is not None
    untyped = relay.parse(LISTS + f"def @main() {{\n{body}\n}}\n")
    assert [float(value) for value in relay_eval.evaluate(untyped, [])] == values
    assert relay.structural_equal(relay.parse(untyped.astext()), untyped)


def test_a_list_of_tensors() -> None:
    module = checked(
        "@foldr(fn (%a: Tensor[(2, 3), float32], %b: Tensor[(2, 3), float32]) { subtract(%a, %b) }, %x,\n"
        "  @map(fn (%a: Tensor[(2, 3), float32]) { exp(%a) }, Cons(%x, Cons(%y, Nil))))",
        "%x: Tensor[(2, 3), float32], %y: Tensor[(2, 3), float32]",
    )
    x, y = torch.randn(2, 3), torch.randn(2, 3)
    (result,) = relay_eval.evaluate(module, [x, y])
    torch.testing.assert_close(result, x.exp() - (y.exp() - x))


def test_what_no_clause_takes_is_an_error_at_run_time() -> None:
    module = checked("match? (%x) { Cons(%h, _) => { %h }, }", "%x: List[int32]")
    with pytest.raises(relay_eval.MatchError):
        relay_eval.evaluate(relay.IRModule({"main": relay.Function([], call_of(module))}), [])


def call_of(module: relay.IRModule) -> relay.Expr:
    main = module["main"]
    nil = module.get_type("List")[2]
    return relay.Call(main, [nil()])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "match (%x) { Cons(_, _) => { 1 }, }",
            r"line 40, column 1: match: no clause takes Nil; match\? allows that",
        ),
        ("match (%x) { Nil => { 1 }, }", r"no clause takes Cons\(_, _\)"),
        ("match (%x) { Nil => { 1 }, Cons(_, Nil) => { 2 }, }", r"no clause takes Cons\(_, Cons\(_, _\)\)"),
        (
            "match ((%x, %o)) { (Nil, _) => { 1 }, (_, Some(_)) => { 2 }, }",
            r"no clause takes \(Cons\(_, _\), None_\)",
        ),
        ("match (%x) { }", "no clause takes _"),
        (
            "match (%x) { Cons(%h) => { 1 }, Nil => { 2 }, }",
            "line 40, column 14: .*'Cons': expected 2 fields, got 1",
        ),
        ("match (%x) { Nil(_) => { 1 }, _ => { 2 }, }", "'Nil': expected 0 fields, got 1"),
        (
            "match (%x) { Some(_) => { 1 }, _ => { 2 }, }",
            r"pattern Some\(_\): takes Option\[_\], got .* List\[int32\]",
        ),
        ("match (%x) { (_, _) => { 1 }, }", r"pattern \(_, _\): takes \(_, _\), got"),
        ("match (%p) { (_, _, _) => { 1 }, }", r"takes \(_, _, _\), got a value of type \(int32, float32\)"),
        (
            "match (%x) { Cons(%h: float32, _) => { 1 }, _ => { 2 }, }",
            "'%h' is declared as float32, but gets int32",
        ),
        (
            "match (%x) { Cons(%h, _) => { 1 }, Nil => { 2f }, }",
            "expected clauses of one type, got int32 and float32",
        ),
        ("match (%x) { Nil => { 1 }, Cons(%h, _) => { 2 }, }; %h", "line 40, column 53: .*in scope, got %h"),
        ("Cons(1)", "line 40, column 1: call: expected 2 arguments, got 1"),
        ("Cons(1, 2)", r"argument 1 must be List\[int32\], got int32"),
        ("Cons(1f, %x)", r"argument 1 must be List\[float32\], got List\[int32\]"),
        ("Nil(1)", "expected 0 arguments, got 1"),
        ("Nil", None),
        ("@map(%x, %x)", "argument 0 must be fn"),
        ("@length(1)", r"argument 0 must be List\[_\], got int32"),
        ("ref_read(1)", "line 40, column 1: expected a reference, got a value of type int32"),
        ("ref_write(ref(1), 2f)", "ref_write: expected a value of type int32, got float32"),
        ("let %f = fn [A](%a: A) -> A { 1 }; %f(1)", "declared to give A, but gives int32"),
        ("let %f = fn [A](%a: A, %b: A) -> A { %a }; %f(1, 2f)", "argument 1 must be int32, got float32"),
        ("fn (%y) { Cons(%y, Nil) }", "parameter '%y' has no type annotation"),
        ("fn (%y) { exp(%y) }", "parameter '%y' has no type annotation"),
        ("let %w = fn (%y) { %y(%y) }; 1", "line 40, column 20: call: "),
    ],
)
def test_faults(body: str, message: str | None) -> None:
    params = "%x: List[int32], %o: Option[bool], %p: (int32, float32)"
    if message is None:
        assert repr(checked(body, params)["main"].body.checked_type) == "List[_]"
        return
    with pytest.raises((relay.TypeInferenceError, relay.ParseError), match=message):
        checked(body, params)


def test_a_match_of_too_many_cases_ends() -> None:
    flags = 40
    rows = [["_"] * flags for _ in range(flags)]
    for i, row in enumerate(rows):
        row[i], row[(i + 1) % flags] = "True_", "False_"
    clauses = "\n".join(
        f"({', '.join(row)}) => {{ 1 }}," for row in [*rows, ["True_"] * flags, ["False_"] * flags]
    )
    names = [f"%x{i}" for i in range(flags)]
    params = ", ".join(f"{name}: Flag" for name in names)
    text = f"type Flag {{ True_, False_, }}\ndef @main({params}) {{ match (({', '.join(names)})) {{ {clauses} }} }}"
    with pytest.raises(
        relay.TypeInferenceError, match="too many to tell whether they take all cases; use match"
    ):
        relay.check(HEAD + text)
    relay.check(HEAD + text.replace("match (", "match? ("))


def list_module(name: str = "A") -> relay.IRModule:
    """Make the type of lists, and their length, from Python."""
    lists, a = relay.GlobalTypeVar("List"), relay.TypeVar(name)
    cons, nil = relay.Constructor("Cons", [a, lists(a)], lists), relay.Constructor("Nil", [], lists)
    data = relay.TypeData(lists, [a], [cons, nil])
    b = relay.TypeVar("B")
    xs, rest = relay.Var("xs", lists(b)), relay.Var("rest")
    clauses = [
        relay.Clause(
            relay.PatternConstructor(cons, [relay.PatternWildcard(), relay.PatternVar(rest)]),
            relay.add(relay.const(1), relay.Call(relay.GlobalVar("length"), [rest])),
        ),
        relay.Clause(relay.PatternConstructor(nil), relay.const(0)),
    ]
    length = relay.Function([xs], relay.Match(xs, clauses), relay.TensorType((), "int32"), [b])
    return relay.IRModule({"length": length}, {"List": data})


def test_programs_made_in_python() -> None:
    module = list_module()
    text = module.astext()
    assert text == HEAD + LIST + (
        "\ndef @length[B](%xs: List[B]) -> int32 {\n"
        "  match (%xs) {\n"
        "    Cons(_, %rest) => {\n"
        "      %0 = @length(%rest);\n"
        "      add(1, %0)\n"
        "    },\n"
        "    Nil => {\n"
        "      0\n"
        "    },\n"
        "  }\n"
        "}\n"
    )
    parsed = relay.parse(text)
    assert relay.structural_equal(parsed, module)
    assert relay.structural_hash(parsed) == relay.structural_hash(module)
    assert relay.structural_equal(list_module("Z"), module)
    assert relay.structural_hash(list_module("Z")) == relay.structural_hash(module)
    typed = relay.infer_type(module)
    assert "%rest: List[B]" in typed.astext()
    assert relay.structural_equal(pickle.loads(pickle.dumps(typed)), typed)
    assert relay.structural_equal(relay.load_json(relay.save_json(module)), module)


def test_printing() -> None:
    """Texts as TVM 0.19's printer writes them."""
    text = """#[version = "0.0.5"]
type Empty {
  
}

type List[A] {
  Cons(A, List[A]),
  Nil,
}

type Never[A, B] {
  
}

def @apply[A, B](%f: fn (A) -> B /* ty=fn (A) -> B */, %x: A /* ty=A */) -> B {
  %f(%x) /* ty=B */
}

def @main(%x1: List[(int32,)] /* ty=List[(int32,)] */) -> List[(int32,)] {
  %0 = (1 /* ty=int32 */,) /* ty=(int32,) */;
  %1 = Nil /* ty=List[(int32,)] */;
  %2 = Cons(%0, %1) /* ty=List[(int32,)] */;
  %3 = ref(%2);
  %4 = ref_read(%3);
  %5 = (%x1, %4) /* ty=(List[(int32,)], List[(int32,)]) */;
  match? (%5) {
    (Cons(%h: (int32,) /* ty=(int32,) */, _), %t: List[(int32,)] /* ty=List[(int32,)] */) => {
      let %y: () = ref_write(%3, %t);
      Cons(%h, %t) /* ty=List[(int32,)] */
    },
    (Nil, _) => {
      %x1
    },
  }
}
"""
    plain = re.sub(r" /\*.*?\*/", "", text)
    module = relay.parse(plain)
    assert module.astext() == plain
    # A let variable is no operand, so that its own comment follows the annotation.
    typed = relay.infer_type(module).astext()
    assert typed == text.replace("let %y: () =", "let %y: () /* ty=() */ =")
    # The cell of a ref_write gets its number before what its value needs.
    x = relay.Var("x", relay.TensorType((), "float32"))
    write = relay.RefWrite(relay.RefCreate(relay.exp(x)), relay.add(relay.tanh(x), x))
    assert relay.Function([x], write).astext() == HEAD + (
        "fn (%x: float32) {\n  %0 = exp(%x);\n  %1 = ref(%0);\n  %2 = tanh(%x);\n  %3 = add(%2, %x);\n"
        "  ref_write(%1, %3)\n}"
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("match (", "match? ("),
        ("Cons(_, %rest)", "Cons(%rest, _)"),
        ("Cons(A, List[A])", "Cons(A, List[List[A]])"),
        ("[B](%xs: List[B])", "[B, C](%xs: List[B])"),
        ("Nil,", "Nil,\n  Other,"),
        ("Nil => {\n      0", "_ => {\n      0"),
        ("List[A] {", "List[A, B] {"),
    ],
)
def test_changed_programs_differ(old: str, new: str) -> None:
    text = list_module().astext()
    changed = text.replace(old, new)
    if "[A, B]" in new:
        changed = changed.replace("List[A])", "List[A, A])").replace("List[B])", "List[B, B])")
    assert changed != text
    a, b = relay.parse(text), relay.parse(changed)
    assert not relay.structural_equal(a, b)
    assert relay.structural_hash(a) != relay.structural_hash(b)


def test_type_variables_are_told_apart() -> None:
    def pair(first: str, second: str) -> relay.Expr:
        return relay.parse_expr(f"fn [A, B](%x: A, %y: B, %f: fn ({first}) -> {second}) -> {first} {{ %x }}")

    assert relay.structural_equal(pair("A", "B"), pair("A", "B"))
    for other in (pair("B", "A"), pair("A", "A"), pair("A", "int32")):
        assert not relay.structural_equal(pair("A", "B"), other)
        assert relay.structural_hash(pair("A", "B")) != relay.structural_hash(other)
    a = relay.TypeVar("A")
    x, y = relay.Var("x", a), relay.Var("x", relay.TypeVar("A"))
    assert not relay.structural_equal(relay.Function([x], x), relay.Function([y], y))
    assert relay.structural_equal(relay.Function([x], x), relay.Function([y], y), map_free_vars=True)
    generic = relay.FuncType([a], a, [a])
    b = relay.TypeVar("B")
    assert relay.structural_equal(generic, relay.FuncType([b], b, [b]))
    assert not relay.structural_equal(generic, relay.FuncType([b], a, [b]))


def test_names_of_type_variables_that_text_cannot_hold() -> None:
    variables = [relay.TypeVar(name) for name in ("A", "A", "int8", "let", "", "List")]
    params = [relay.Var("x", var) for var in variables]
    lists = relay.GlobalTypeVar("List")
    module = relay.IRModule(
        {"f": relay.Function(params, params[0], variables[0], variables)},
        {"List": relay.TypeData(lists, [], [relay.Constructor("Nil", [], lists)])},
    )
    assert "def @f[A, A1, tint8, vlet, v, List1](" in module.astext()
    assert relay.structural_equal(relay.parse(module.astext()), module)
    for data, message in [
        (relay.TypeData(relay.GlobalTypeVar("a b"), [], []), "no spelling for the type 'a b'"),
        (
            relay.TypeData(relay.GlobalTypeVar("integer"), [], []),
            "no spelling for the type 'integer'",
        ),
        (
            relay.TypeData(lists, [], [relay.Constructor("let", [], lists)]),
            "no spelling for the constructor 'let'",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            relay.IRModule({}, {str(data.header.name_hint): data}).astext()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda a, t: relay.TypeData(t, [a, a], []), "'A' is a parameter twice"),
        (
            lambda a, t: relay.TypeData(t, [], [relay.Constructor("C", [], relay.GlobalTypeVar("U"))]),
            "'C' belongs to 'U', not to 'T'",
        ),
        (lambda a, t: relay.TypeData(t, [], [relay.Constructor("C", [], t)] * 2), "two constructors 'C'"),
        (
            lambda a, t: relay.IRModule({}, {"U": relay.TypeData(t, [], [])}),
            "'T' is defined under the name 'U'",
        ),
    ],
)
def test_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(relay.TypeVar("A"), relay.GlobalTypeVar("T"))


@pytest.mark.parametrize(
    ("ty", "message"),
    [
        (relay.GlobalTypeVar("List"), "expected a type, got 'List' without its arguments"),
        (relay.GlobalTypeVar("List")(), r"List\[\]: expected 1 arguments, got 0"),
        (relay.GlobalTypeVar("Other")(), "no type 'Other' is defined"),
        (relay.TypeVar("A"), "type variable 'A' is bound nowhere"),
        (relay.TypeVar("A", relay.TypeKind.ShapeVar), "'A' of kind ShapeVar"),
        (relay.TypeVar("A")(relay.TupleType([])), "expected the name of a data type before"),
        (relay.TupleType([relay.RefType(relay.GlobalTypeVar("List"))]), "'List' without its arguments"),
        (relay.FuncType([relay.TypeVar("A")], relay.TupleType([])), "type variable 'A' is bound nowhere"),
    ],
)
def test_kinds(ty: relay.Type, message: str) -> None:
    module = list_module()
    function = relay.Function([relay.Var("x", ty)], relay.const(1))
    with pytest.raises(relay.TypeInferenceError, match=message):
        relay.infer_type(relay.IRModule({"f": function}, module.type_definitions))
    lists = relay.GlobalTypeVar("T")
    data = relay.TypeData(lists, [], [relay.Constructor("C", [ty], lists)])
    with pytest.raises(relay.TypeInferenceError, match=message):
        relay.infer_type(relay.IRModule({}, {**module.type_definitions, "T": data}))


def test_an_operator_beside_a_constructor_of_its_name() -> None:
    module = relay.parse(HEAD + "type T { nn(int32), }\ndef @main(%x: int32) { (nn(%x), %x + 1) }")
    assert relay.structural_equal(relay.parse(module.astext()), module)
    module = relay.parse(HEAD + "type T { add(int32), }\ndef @main(%x: int32) { (add(%x), %x + 1) }")
    with pytest.raises(
        ValueError, match="no spelling for the operator 'add' beside a constructor of its name"
    ):
        module.astext()


def test_scopes_of_patterns() -> None:
    h = relay.Var("h")
    twice = relay.PatternTuple([relay.PatternVar(h), relay.PatternVar(h)])
    pair = relay.Tuple([relay.const(1), relay.const(2)])
    with pytest.raises(relay.TypeInferenceError, match="variable '%h' is bound twice"):
        relay.check(relay.Function([], relay.Match(pair, [relay.Clause(twice, h)])))
    once = relay.PatternTuple([relay.PatternVar(h), relay.PatternWildcard()])
    clauses = [relay.Clause(once, relay.const(1)), relay.Clause(relay.PatternWildcard(), h)]
    with pytest.raises(relay.TypeInferenceError, match="variable '%h' is bound nowhere in the function"):
        relay.check(relay.Function([], relay.Match(pair, clauses)))


def test_constructors_without_their_module() -> None:
    nil = list_module().get_type("List")[2]
    with pytest.raises(relay.TypeInferenceError, match="'Nil': the module has no such type 'List'"):
        relay.infer_type(nil())


def test_deep_programs() -> None:
    def deep(depth: int) -> relay.Function:
        ref = relay.Var("r", relay.RefType(relay.TensorType((), "int32")))
        expr: relay.Expr = relay.Var("x")
        for _ in range(depth):
            clause = relay.Clause(relay.PatternTuple([]), relay.RefRead(relay.RefCreate(relay.const(1))))
            expr = relay.Match(relay.RefWrite(ref, expr), [clause])
        return relay.Function([ref], expr)

    assert relay.structural_equal(deep(20_000), deep(20_000), map_free_vars=True)
    assert not relay.structural_equal(deep(20_000), deep(19_999), map_free_vars=True)
    program = deep(3_000)
    assert relay.structural_equal(relay.load_json(relay.save_json(program)), program, map_free_vars=True)
    text = program.body.astext()
    assert text.count("ref_write") == 3_000
    pattern: relay.Pattern = relay.PatternWildcard()
    for _ in range(50_000):
        pattern = relay.PatternTuple([pattern])
    match = relay.Match(relay.const(1), [relay.Clause(pattern, relay.const(1))])
    assert relay.structural_equal(match, match)
    with pytest.raises(ValueError, match="a pattern nests too deep"):
        match.astext()


def test_nothing_of_it_is_compiled() -> None:
    x = relay.Var("x", relay.TensorType((2,), "float32"))
    one = relay.Clause(relay.PatternWildcard(), x)
    for body, name in [
        (relay.Match(x, [one]), "Match"),
        (relay.RefRead(relay.RefCreate(x)), "RefRead"),
        (list_module().get_type("List")[1](x, x), "Constructor"),
    ]:
        with pytest.raises(Exception, match=name):
            compiler.compile(relay.Function([x], body), 1, [[0]], [[0]], {})
