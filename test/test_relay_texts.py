"""Texts composed by hand from the rules of Relay's text format, one or more for each rule: TVM 0.19 reads them as said here."""

from __future__ import annotations

import re
from typing import Any

import pytest
import relay_texts_attributes as attributes
import relay_texts_syntax as syntax
import relay_texts_types as types
from relay_texts_syntax import X

from torch_tvm import relay

SECTIONS = range(2, 12)


def rules(name: str) -> dict[str, Any]:
    """All parts of a table."""
    parts = [getattr(half, name, {}) for half in (syntax, types, attributes)]
    whole = {rule: text for part in parts for rule, text in part.items()}
    assert len(whole) == sum(map(len, parts))
    return whole


BODIES = rules("BODIES")  # the type of the result
TEXTS = rules("TEXTS")  # whole texts that parse and type-check
PRINTED = rules("PRINTED")  # how the body is printed
# Read as TVM does and printed otherwise: what TVM prints, what is printed here, why.
DIFFERENT = rules("DIFFERENT")
EXACT = rules("EXACT")  # printed as they are, byte for byte
INVALID = rules("INVALID")  # what is said of text that TVM rejects
UNSUPPORTED = rules("UNSUPPORTED")  # what is said of text that TVM reads and that is refused here
LENIENT = rules("LENIENT")  # TVM does not read it, and it can mean one thing only: it is read
UNTYPED = rules("UNTYPED")  # read and printed, but has too few types to be checked
# TVM reads it, though its own printer cannot write the types that it infers so that it reads them.
UNSPELLABLE = rules("UNSPELLABLE")


def in_function(body: str) -> str:
    return f"fn ({X}) {{\n{body} }}"


def without_comments(text: str) -> str:
    program, mark, metadata = text.partition("#[metadata]")
    return re.sub(r" /\*.*?\*/", "", program) + mark + metadata


def check_printing(program: relay.Expr | relay.IRModule) -> None:
    """Print a program, and again what that reads as: the same program, and, but for comments, the same text."""
    text = program.astext()
    again = relay.parse(text)
    assert relay.structural_equal(again, program, map_free_vars=True)
    assert relay.structural_hash(again, map_free_vars=True) == relay.structural_hash(
        program, map_free_vars=True
    )
    assert without_comments(again.astext()) == without_comments(text)


def printed_body(text: str) -> str:
    """What is printed of the body of a function, without indent."""
    header, first, *lines = relay.parse_expr(text).astext().partition("\n\n#[metadata]")[0].splitlines()
    assert header == '#[version = "0.0.5"]' and first == f"fn ({X}) {{" and lines[-1] == "}"
    assert all(line.startswith("  ") for line in lines[:-1])
    return "\n".join(line[2:] for line in lines[:-1])


@pytest.mark.parametrize("rule", BODIES)
def test_expressions(rule: str) -> None:
    body, result = BODIES[rule]
    text = in_function(body)
    check_printing(relay.parse(text))
    typed = relay.check(text)
    assert repr(typed.ret_type) == result
    check_printing(typed)


@pytest.mark.parametrize("rule", TEXTS)
def test_texts(rule: str) -> None:
    check_printing(relay.parse(TEXTS[rule]))
    check_printing(relay.check(TEXTS[rule]))


@pytest.mark.parametrize("rule", PRINTED)
def test_how_it_is_printed(rule: str) -> None:
    body, printed = PRINTED[rule]
    if body.startswith("fn "):
        text = relay.parse(body).astext()
        assert text == '#[version = "0.0.5"]\n' + printed
    else:
        assert printed_body(in_function(body)) == printed


@pytest.mark.parametrize("rule", DIFFERENT)
def test_what_is_printed_otherwise_than_by_tvm(rule: str) -> None:
    body, theirs, ours, why = DIFFERENT[rule]
    assert printed_body(in_function(body)) == ours
    assert theirs != ours and why
    check_printing(relay.parse(in_function(body)))


@pytest.mark.parametrize("rule", EXACT)
def test_texts_that_are_printed_as_they_are(rule: str) -> None:
    assert relay.parse(EXACT[rule]).astext() == EXACT[rule]


@pytest.mark.parametrize("rule", UNTYPED)
def test_texts_without_types(rule: str) -> None:
    check_printing(relay.parse(UNTYPED[rule]))
    with pytest.raises(relay.TypeInferenceError, match="has no type annotation"):
        relay.check(UNTYPED[rule])


@pytest.mark.parametrize("rule", UNSUPPORTED)
def test_text_that_is_refused_though_tvm_reads_it(rule: str) -> None:
    text, message = UNSUPPORTED[rule]
    with pytest.raises(relay.ParseError, match=re.escape(message)):
        relay.parse(text)


@pytest.mark.parametrize("rule", INVALID)
def test_text_that_tvm_rejects(rule: str) -> None:
    text, message = INVALID[rule]
    pattern = message if re.search(r"[\\.*]{2}|\\", message) else re.escape(message)
    with pytest.raises((relay.ParseError, relay.TypeInferenceError), match="(?s)" + pattern) as raised:
        relay.check(text)
    assert re.match(r"line \d+, column \d+: ", str(raised.value))


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


def test_every_section_has_its_texts() -> None:
    tables = [BODIES, TEXTS, PRINTED, DIFFERENT, EXACT, INVALID, UNSUPPORTED, LENIENT, UNTYPED, UNSPELLABLE]
    assert {int(rule.partition(":")[0]) for table in tables for rule in table} == set(SECTIONS)


def test_metadata_from_elsewhere() -> None:
    text = "%0 = meta[relay.Constant][0]; add(%0, meta[relay.Constant][1])"
    one, two = relay.const([1.0, 2.0]), relay.const([3.0, 4.0])
    added = relay.parse(text, init_meta_table={"relay.Constant": [one, two]})
    assert added.args[0].same_as(one) and added.args[1].same_as(two)
    # The text's own objects come first.
    again = relay.parse(added.astext().replace("%0, ", "", 1), init_meta_table={"relay.Constant": [two]})
    assert relay.structural_equal(again, added)
    three = relay.parse(
        added.astext().replace("meta[relay.Constant][1]", "meta[relay.Constant][2]"),
        init_meta_table={"relay.Constant": [one]},
    )
    assert three.args[1].same_as(one)
    with pytest.raises(relay.ParseError, match="which has 1 of relay.Constant"):
        relay.parse(text, init_meta_table={"relay.Constant": [one]})
