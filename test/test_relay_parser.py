"""The parser: what it takes, and the errors for what it does not."""

import os
import pathlib
import re
import sys
import threading
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from relay_lists import LISTS
from relay_texts_types import EXACT

from torch_tvm import relay

GOLDEN = {path.stem: path.read_text() for path in (pathlib.Path(__file__).parent / "golden").glob("*.relay")}
SIZES = EXACT["6: variables in TVM's layout"]
HEADER = '#[version = "0.0.5"]\n'
PROGRAMS = GOLDEN | {"lists": LISTS, "sizes": SIZES}


def same(a: str, b: str) -> bool:
    return relay.structural_equal(relay.parse(a), relay.parse(b))


@pytest.mark.parametrize(
    ("sugar", "plain"),
    [
        ("1 + 2", "add(1, 2)"),
        ("1 + 2 * 3", "add(1, multiply(2, 3))"),
        ("1 - 2 - 3", "subtract(subtract(1, 2), 3)"),
        ("(1 - (2 - 3))", "subtract(1, subtract(2, 3))"),
        ("1 / 2 < 3 + 4 == 5 >= 6", "equal(less(divide(1, 2), add(3, 4)), greater_equal(5, 6))"),
        ("1 != 2 <= 3", "not_equal(1, less_equal(2, 3))"),
        ("1 > 2", "greater(1, 2)"),
        ("--10", "10"),
        ("---10", "-10"),
        ("1i32", "1"),
        ("1f32", "1f"),
        ("3000000000", "3000000000i64"),
        ("-2147483648", "-2147483648i32"),
        ("2.f", "2f"),
        ("(1)", "1"),
        ("1 /* a /* nested */ comment */ // and a line\n + 2", "add(1, 2)"),
        ("nn.softmax(1f,)", "nn.softmax(1f)"),
        ("nn.softmax(1f, axis=(1),)", "nn.softmax(1f, axis=1)"),
        ("nn.dense(1f, 2f, units=nullptr)", "nn.dense(1f, 2f, units=None)"),
        ("split(1f, indices_or_sections=[2, 4])", "split(1f, axis=0, indices_or_sections=[2, 4])"),
        (
            'cumsum(1f, axis=0, attrs_type_key="relay.attrs.ScanopAttrs")',
            'cumsum(1f, exclusive=False, axis=0, dtype="", attrs_type_key="relay.attrs.ScanopAttrs")',
        ),
        ("fn (%x: Tensor[(), float32]) { %x }", "fn (%x: float32) { %x }"),
        ("fn (%x: _) { %x }", "fn (%x) { %x }"),
        ("fn (%x: Tensor[(1i64, 8), int8]) { %x }", "fn (%x: Tensor[(1i64, 8i32,), int8]) { %x }"),
        ("%0 = 1; %0 = 2; %0", "1"),
        ("%7 = 1; add(%7, %7)", "%0 = 1; add(%0, %0)"),
        ("let %x = 1; let %x = 2; %x", "let %a = 1; let %b = 2; %b"),
        ("1; 2", "let %_ = 1; 2"),
        ("(let %x = 1; %x)", "let %x = 1; %x"),
        ("if (True) { let %x = 1; %x } else { 2 }", "if (True) { let %y = 1; %y } else { 2 }"),
        (
            "let %f = fn (%n: int32) { %f(%n) }; %f",
            "let %g = fn (%m: int32) { %g(%m) }; %g",
        ),
        (
            "fn (%x, Primitive=1, relay.reshape_only=1) { %x }",
            "fn (%y, Primitive=1, relay.reshape_only=1) {%y}",
        ),
    ],
)
def test_accepts(sugar: str, plain: str) -> None:
    assert same(sugar, plain)


@pytest.mark.parametrize("text", ["add", "@f", "()", "(1,)", "True", "inff", "-inff", "1e-5f", "1E5f"])
def test_atoms(text: str) -> None:
    expr = relay.parse(text)
    assert relay.structural_equal(relay.parse(expr.astext()), expr)


def test_calls_of_function_values_keep_their_attributes() -> None:
    call = relay.parse('free_var %f; %f(1, name="n", attrs_type_key="attrs.TestAttrs")')
    assert isinstance(call, relay.Call)
    assert dict(call.attrs) == {"name": "n", "attrs_type_key": "attrs.TestAttrs"}
    assert 'name="n", attrs_type_key="attrs.TestAttrs")' in call.astext()


def test_sharing_follows_the_temporaries() -> None:
    shared = relay.parse("%0 = exp(1f); add(%0, %0)")
    apart = relay.parse("add(exp(1f), exp(1f))")
    assert isinstance(shared, relay.Call) and shared.args[0].same_as(shared.args[1])
    assert not relay.structural_equal(shared, apart)


def test_version_tolerates_blanks() -> None:
    text = '#[version   =  "0.0.5"]\ndef @main() { 1 }'
    assert relay.structural_equal(relay.parse(text), relay.IRModule.from_expr(relay.const(1)))


def test_spans_on_request() -> None:
    call = relay.parse("add(\n  1,\n  exp(2f))", "net.relay")
    assert isinstance(call, relay.Call) and call.span is not None
    assert (call.span.source_name, call.span.line, call.span.column) == ("net.relay", 1, 1)
    span = call.args[1].span
    assert span is not None and (span.line, span.column, span.end_column) == (3, 3, 6)
    assert relay.parse_expr("1").span is None


def test_metadata_gives_values_and_boxes() -> None:
    split: Any = relay.parse_expr(GOLDEN["built_split"])
    split = split.body.fields[0].tuple
    assert isinstance(split.attrs["indices_or_sections"], relay.BoxInt)
    assert int(split.attrs["indices_or_sections"]) == 3
    weights: Any = relay.parse_expr(GOLDEN["mlp"])
    dense = weights.body.args[0]
    assert dense.args[1].numpy().shape == (3, 8) and np.all(np.isfinite(dense.args[1].numpy()))


ERRORS = {
    "": (1, 1, "expected an expression, got the end of the text"),
    "add(": (1, 5, "expected an expression, got the end"),
    "add(1": (1, 6, "expected '\\)', got the end"),
    "add(1 2)": (1, 7, "expected '\\)', got '2'"),
    "add(1)": (1, 1, "add: expected 2 operands"),
    "foo(1)": (1, 1, "expected the name of an operator, got 'foo'"),
    "nn.softmax(1f, axes=1)": (1, 1, "no attribute 'axes'"),
    "nn.softmax(1f, axis=1, axis=2)": (1, 24, "expected each attribute once"),
    "nn.softmax(1f, axis=1f)": (1, 1, "'axis' must be an int"),
    "nn.softmax(1f, axis=1, 2f)": (1, 24, "expected an attribute"),
    'exp(1f, attrs_type_key="x")': (1, 1, "takes no attrs_type_key"),
    "nn.softmax(1f, axis=exp(1f))": (1, 24, r"expected '\)', got '\('"),
    "cumsum(1f, axis=1)": (1, 1, "expected attrs_type_key=.relay.attrs.ScanopAttrs"),
    "cast(1f)": (1, 1, "'dtype' has no default"),
    "%x": (1, 1, "expected a variable that is in scope, got %x"),
    "%3": (1, 1, "expected a temporary that is defined before, got %3"),
    "%": (1, 1, "expected a name after '%'"),
    "fn (%x) { %x }(%x)": (1, 16, "in scope"),
    "let %x = 1; %y": (1, 13, "in scope, got %y"),
    "let %x 1; %x": (1, 8, "expected '=', got '1'"),
    "let x = 1; x": (1, 5, "expected a variable"),
    "let %x = let %y = 1; %y; %x": (1, 10, "expected an expression, got 'let'"),
    "1.5": (1, 1, "expected the suffix"),
    "1.5g": (1, 1, "suffix"),
    "1q": (1, 1, "expected a number with the suffix"),
    "1i8": (1, 1, "expected a number with the suffix"),
    "70000i16": (1, 1, "70000 does not fit int16"),
    "99999999999999999999": (1, 1, "expected an integer below"),
    "1e400f": (1, 1, "expected a float that fits"),
    "nanf": (1, 1, "expected the name of an operator"),
    '"text"': (1, 1, "expected an expression"),
    '"a\n"': (1, 1, "expected a string without line breaks"),
    '"text': (1, 1, "this string has no end"),
    "1 /* never": (1, 3, "this comment has no end"),
    "(1, 2": (1, 6, "expected '\\)'"),
    "%x.0.1": (1, 1, "in scope"),
    "(1, 2).2": (1, 8, "index 2 is not a field"),
    "(1, 2).x": (1, 8, "expected the index"),
    "if (True) { 1 }": (1, 16, "expected 'else'"),
    "if True { 1 } else { 2 }": (1, 4, "expected '\\('"),
    "fn (%x: Tensor[2, float32]) { %x }": (1, 16, "expected '\\('"),
    "fn (%x: Tensor[(2), floaty]) { %x }": (1, 21, "expected a dtype"),
    "fn (%x: Tensor[(-2), int8]) { %x }": (1, 17, "not negative"),
    "fn (%x: List[int8]) { %x }": (1, 9, "expected a type"),
    "fn (%x: bfloat16) { %x }": (1, 9, "expected a type"),
    "fn [A, A](%x: A) { %x }": (1, 8, "expected each type parameter once"),
    "fn (%x) %x": (1, 9, "expected '{'"),
    "match (1) { _ }": (1, 15, "expected '=>', got '}'"),
    "ref(1": (1, 6, "expected '\\)', got the end"),
    "type List { }": (1, 1, "expected '#.version = .0.0.5..' before the first definition"),
    "meta[relay.Constant][0]": (1, 1, "metadata section, which has 0"),
    "meta[relay.Constant": (1, 1, "expected a metadata reference"),
    "1 1": (1, 3, "expected the end of the text, got '1'"),
    "def @main() { 1 }": (1, 1, "expected '#.version"),
    '#[version = "0.0.6"]\n1': (1, 1, "expected version 0.0.5"),
    "#[versio]": (1, 1, "expected '#.version"),
    HEADER + "def main() { 1 }": (2, 5, "expected the name of a function"),
    HEADER + "def @a() { 1 }\ndef @a() { 2 }": (3, 5, "there is a function @a already"),
    HEADER + "def @a() {\n  add(1,\n    $)\n}": (4, 5, "expected a token"),
    "1\n#[metadata]\n{": (3, 1, "not JSON|metadata"),
    "1\n#[metadata]\n[]": (3, 1, "expected the metadata to be a JSON object"),
    "é": (1, 1, "expected a token, got the byte 195"),
    "\x00": (1, 1, "expected a token, got the byte 0"),
}


@pytest.mark.parametrize("text", ERRORS)
def test_errors_say_where_and_what(text: str) -> None:
    line, column, message = ERRORS[text]
    with pytest.raises(relay.ParseError, match=message) as caught:
        relay.parse(text)
    assert (caught.value.line, caught.value.column) == (line, column), str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_the_error_quotes_the_line() -> None:
    with pytest.raises(relay.ParseError) as caught:
        relay.parse("let %x = 1;\nadd(%x, %y)")
    assert str(caught.value).split("\n")[1:] == ["  add(%x, %y)", "          ^"]


def test_not_a_string() -> None:
    with pytest.raises(TypeError, match="got int"):
        relay.parse(3)  # type: ignore[arg-type]


METADATA_DAMAGE = {
    "cut tensor": ("AAAAAAAA", ""),
    "no base64": ("P6G0lv", "P6G*lv"),
    "wrong magic": ("P6G0lv", "P6G0lw"),
    # The rank are bytes 24 to 27 of the blob: characters 32 to 36.
    "huge rank": (
        "P6G0lvBAXt0AAAAAAAAAAAEAAAAAAAAAAgAAAAIgAQAIAAAA",
        "P6G0lvBAXt0AAAAAAAAAAAEAAAAAAAAA////fwIgAQAIAAAA",
    ),
    "negative size": ("AgAAAAIgAQAIAAAAAAAAAAYA", "AgAAAAIgAQAIAAAAAAAA8AYA"),
    "size that overflows": ("AgAAAAIgAQAIAAAAAAAAAAYA", "AgAAAAIgAQAIAAAAAAAAQAYA"),
    "missing node": ('"data": [2]', '"data": [222]'),
    "negative node": ('"data": [2]', '"data": [-2]'),
    "a node of its own": ('"data": [3', '"data": [2'),
    "no tensors": ('"b64ndarrays"', '"b64nd"'),
    "root is no number": ('"root": 1', '"root": "1"'),
    "attribute missing": ('"_checked_type_"', '"checked"'),
    "unclosed": ("]", ""),
}


@pytest.mark.parametrize("damage", METADATA_DAMAGE)
def test_damaged_metadata(damage: str) -> None:
    old, new = METADATA_DAMAGE[damage]
    program, mark, metadata = GOLDEN["mlp"].partition("#[metadata]")
    assert old in metadata
    with pytest.raises(relay.ParseError):
        relay.parse(program + mark + metadata.replace(old, new))


@pytest.mark.parametrize(
    ("opening", "closing", "middle"),
    [
        ("(", ")", "1"),
        ("exp(", ")", "1f"),
        ("fn () {", "}", "1"),
        ("if (True) {", "} else { 1 }", "1"),
        ("(let %x = ", "; %x)", "1"),
        ("split(1f, indices_or_sections=", ")", "1"),
        ("fn (%x: ", ") { 1 }", "int8"),
    ],
)
def test_nesting_is_bounded_and_does_not_crash(opening: str, closing: str, middle: str) -> None:
    relay.parse(
        opening * (1 if "%x: " in opening or "sections" in opening else 100)
        + middle
        + closing * (1 if "%x: " in opening or "sections" in opening else 100)
    )
    results: list[Any] = []

    def attempt() -> None:
        for depth in (1000, 200_000):
            for text in (opening * depth, opening * depth + middle + closing * depth):
                try:
                    results.append(relay.parse(text))
                except relay.ParseError as error:
                    results.append(error)

    # The smallest stack that a thread of a server has; AddressSanitizer's frames are several times as large.
    previous = threading.stack_size(8 << 20 if "libasan" in os.environ.get("LD_PRELOAD", "") else 1 << 20)
    try:
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(previous)
    assert len(results) == 4 and all(isinstance(result, relay.ParseError) for result in results)


def test_long_programs_are_no_deep_ones() -> None:
    lets = "".join(f"let %x{i} = {i};\n" for i in range(20_000)) + "%x19999"
    let = relay.parse(lets)
    assert relay.structural_equal(relay.parse(let.astext()), let)
    chain = relay.parse(" + ".join(["1f"] * 20_000))
    assert relay.structural_equal(relay.parse(chain.astext()), chain)
    assert sys.getrecursionlimit() < 20_000


CHARACTERS = "(){}[],.;:=%@#/*-+<>!\"' \n0123456789aefinxtTr_?\\\x00é"


@hypothesis.settings(max_examples=400, deadline=2000)
@hypothesis.given(
    name=st.sampled_from([*sorted(GOLDEN), *["lists", "sizes"] * 10]),
    edits=st.lists(
        st.tuples(
            st.sampled_from(["delete", "insert", "replace", "repeat", "swap"]),
            st.floats(0, 1),
            st.integers(1, 40),
            st.text(CHARACTERS, max_size=6),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_mutated_programs_parse_or_are_parse_errors(
    name: str, edits: list[tuple[str, float, int, str]]
) -> None:
    text = PROGRAMS[name]
    for kind, place, length, new in edits:
        at = int(place * len(text))
        piece = text[at : at + length]
        if kind == "delete":
            piece = ""
        elif kind == "insert":
            piece = new + piece
        elif kind == "replace":
            piece = new
        elif kind == "repeat":
            piece = piece * 3
        else:
            piece = piece[::-1]
        text = text[:at] + piece + text[at + length :]
    try:
        result = relay.parse(text)
    except relay.ParseError as error:
        assert error.line >= 1 and error.column >= 1
        assert re.match(r"line \d+, column \d+: .", str(error))
        return
    # A mutation may take a variable out of its scope, so that only reading it back can be asked.
    relay.parse(result.astext())


@hypothesis.settings(max_examples=300, deadline=2000)
@hypothesis.given(
    st.lists(
        st.sampled_from(
            "let fn def if else %x %y %0 %1 @f = ; , : . ( ) { } [ ] -> 1 2f True add exp nn.softmax axis None "
            'Tensor int8 meta[relay.Constant][0] #[metadata] + - * / "s" free_var match match? => _ '
            "ref ref_read ref_write type extern".split()
        ),
        max_size=40,
    )
)
def test_token_soup(words: list[str]) -> None:
    try:
        result = relay.parse(" ".join(words))
    except relay.ParseError:
        return
    relay.parse(result.astext())
