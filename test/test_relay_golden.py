"""The programs that TVM 0.19 itself printed: each parses, types the same, and prints back to the same text."""

import pathlib
import re

import pytest

from torch_tvm import relay

GOLDEN = pathlib.Path(__file__).parent / "golden"
PROGRAMS = sorted(path.stem for path in GOLDEN.glob("*.relay"))
# Programs with operators that infer_type cannot type yet.
UNTYPED: set[str] = set()


def read(name: str) -> str:
    return (GOLDEN / f"{name}.relay").read_text()


def without_spans(text: str) -> str:
    program, mark, metadata = text.partition("#[metadata]")
    program = re.sub(r" span=[^ ]+", "", program)
    return program.replace(" /* */", "") + mark + metadata


def without_comments(text: str) -> str:
    program, mark, metadata = text.partition("#[metadata]")
    return re.sub(r" /\*.*?\*/", "", program) + mark + metadata


def test_all_programs_are_here() -> None:
    assert len(PROGRAMS) == 34


@pytest.mark.parametrize("name", PROGRAMS)
def test_prints_back_to_the_same_text(name: str) -> None:
    text = read(name)
    module = relay.parse(text)
    # The types of constants stand in the metadata, so that their comments are there without infer_type.
    assert without_comments(module.astext()) == without_comments(text)
    assert relay.structural_equal(relay.parse(module.astext()), module)


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - UNTYPED))
def test_infers_the_types_that_tvm_states(name: str) -> None:
    text = without_spans(read(name))
    # Types that the text declares are withheld, so that they are found and not copied.
    undeclared = re.sub(r"^(def .*\)) -> .* \{$", r"\1 {", without_comments(text), flags=re.MULTILINE)
    undeclared = re.sub(r"(let %\w+): .*? = ", r"\1 = ", undeclared)
    undeclared = re.sub(r"(= fn \(.*\)) -> .* \{$", r"\1 {", undeclared, flags=re.MULTILINE)
    undeclared = re.sub(r'("_checked_type_"): "\d+"', r'\1: "0"', undeclared)
    inferred = relay.infer_type(relay.parse(undeclared)).astext()
    assert inferred.partition("#[metadata]")[0] == text.partition("#[metadata]")[0]


@pytest.mark.parametrize("name", ["residual_block", "mlp", "creation", "conv_bias_relu6"])
def test_a_changed_program_is_not_equal(name: str) -> None:
    text = read(name)
    module = relay.parse(text)
    changes = [
        ("padding=[1, 1, 1, 1]", "padding=[1, 1, 1, 0]"),
        ("0.707107f", "0.707108f"),
        # The last bytes of a tensor.
        ('AAAAAAAAAAA"', 'AAAAAAEAAAA"'),
        ('v8M8"', 'v8M9"'),
        ('CAPw=="', 'CAQA=="'),
        ("a_max=6f", "a_max=7f"),
    ]
    changed = [text.replace(old, new, 1) for old, new in changes if old in text]
    assert changed
    for other in changed:
        assert not relay.structural_equal(relay.parse(other), module)
        assert without_comments(relay.parse(other).astext()) != without_comments(text)


def test_metadata_is_written_byte_for_byte() -> None:
    text = read("residual_block")
    metadata = text.partition("#[metadata]")[2]
    assert len(metadata) > 7000
    assert relay.parse(text).astext().partition("#[metadata]")[2] == metadata
