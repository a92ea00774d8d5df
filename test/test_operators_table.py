"""docs/operators.md tells the truth about the registry."""

from __future__ import annotations

import re

import operators_table as table
import pytest
import torch

from torch_tvm.frontend import refused_operators, registered_operators


def written() -> dict[str, list[tuple[str, str]]]:
    """Status and detail of each name on the page, once for each table that it is in."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in table.PAGE.read_text().splitlines():
        if match := re.match(r"\| `([^`]+)` \| (\w+) \| (.*?) \| ", line):
            found.setdefault(match[1], []).append((match[2], match[3]))
    return found


def test_every_operator_has_the_status_that_is_written() -> None:
    page, registered = written(), set(registered_operators())
    names = [entry["name"] for entries in table.frontends().values() for entry in entries]
    assert set(page) == set(names)
    assert sum(map(len, page.values())) == len(names)
    stale = []
    for name in sorted(set(names)):
        status = table.status_of(name, registered)
        stale += [
            f"{name}: {line}, is {status}" for line in page[name] if line != (status.kind, status.detail)
        ]
    assert not stale, "run test/operators_table.py:\n" + "\n".join(stale)


@pytest.mark.parametrize(
    ("name", "kind", "detail"),
    [
        ("aten::relu", table.CONVERTED, ""),
        ("aten::relu_", table.CONVERTED, "as `aten::relu`, where nothing outside sees the write"),
        ("aten::size", table.STRUCTURAL, table.STRUCTURAL_NODES["aten::size"]),
        ("aten::randn", table.REFUSED, "random"),
        ("quantized::linear", table.CONVERTED, ""),
        ("quantized::conv_transpose2d", table.CONVERTED, ""),
        ("aten::linalg_qr", table.REFUSED, refused_operators()["aten::linalg_qr"]),
        ("aten::no_such_operator", table.REFUSED, "no converter"),
    ],
)
def test_statuses(name: str, kind: str, detail: str) -> None:
    assert table.status_of(name, set(registered_operators())) == table.Status(kind, detail)


def test_overloads_without_a_converter_are_named() -> None:
    registered = set(registered_operators()) - {"aten::add.Scalar"}
    assert table.status_of("aten::add", registered) == table.Status(table.CONVERTED, "without `add.Scalar`")


def test_structural_nodes_and_reasons_name_no_operator_that_has_a_converter() -> None:
    names = {key.partition(".")[0] for key in registered_operators()}
    assert not names & set(table.STRUCTURAL_NODES)
    assert not names & set(table.REASONS)
    assert not names.union(registered_operators()) & set(refused_operators())


def test_refused_operators_are_torchs_and_on_the_page() -> None:
    page = table.PAGE.read_text()
    for name in refused_operators():
        operator, _, overload = name.partition(".")
        overloads = {schema.overload_name for schema in torch._C._jit_get_schemas_for_operator(operator)}
        assert overload in overloads if overload else overloads, name
        assert f"`{name}`" in page
