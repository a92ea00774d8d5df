"""einsum and tensordot against eager PyTorch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from convert_checks import check, operators, refusal, run_compiled, values
from hypothesis import given, settings
from hypothesis import strategies as st

f32, f64, i64, f16 = torch.float32, torch.float64, torch.int64, torch.float16
SIZES = {"a": 2, "b": 3, "c": 4, "d": 1, "e": 5}

EQUATIONS = [
    "ab,bc->ac",
    "ab,bc",
    "eab,ebc->eac",
    "ab,cb->",
    "ab,ab->ab",
    "ab,ab->ba",
    "a,b->ab",
    "ab->ba",
    "ab->",
    "ba->",
    "aab->b",
    "aa->a",
    "aa",
    "aaa->a",
    "abab->ab",
    "ab,b,a->a",
    "ab,bc,ce->ae",
    "ab,ce->abce",
    "ad,db->ab",
    "abd,bcd->acd",
    "...ab,...bc->...ac",
    "ab...,b...->a...",
    "...,...->...",
    "a...->...",
    "eabc,eacb->eb",
    "aa,aa->a",
    " a b , b c -> a c ",
    "A,A->A".replace("A", "c"),
]


def operands(equation: str, dtype: torch.dtype) -> list[torch.Tensor]:
    terms = equation.replace(" ", "").split("->")[0].split(",")
    wide = [2, 3] if all("..." in term for term in terms) else [3]
    shapes = []
    for term in terms:
        before, dots, after = term.partition("...")
        shapes.append([SIZES[c] for c in before] + (wide if dots else []) + [SIZES[c] for c in after])
    return [values(shape, dtype) for shape in shapes]


@pytest.mark.parametrize("equation", EQUATIONS)
def test_equation(equation: str) -> None:
    for dtype in (f32, f64, i64, f16):
        check(lambda *x: torch.einsum(equation, *x), *operands(equation, dtype))


def test_broadcasting() -> None:
    check(
        lambda a, b: torch.einsum("...ab,...bc->...ac", a, b),
        values([4, 1, 2, 3], f32),
        values([5, 3, 2], f32),
    )
    check(lambda a, b: torch.einsum("ab,bc->ac", a, b), values([2, 1], f32), values([3, 4], f32))
    check(lambda a, b: torch.einsum("ab,ab->b", a, b), values([2, 1], f32), values([1, 4], f32))
    check(lambda a, b: torch.einsum("ab,bc->ac", a, b), values([2, 0], f32), values([0, 4], f32))
    check(lambda a, b: torch.einsum(a, [0, 1], b, [1, 2], [0, 2]), values([2, 3], f32), values([3, 4], f32))


@settings(max_examples=20)
@given(st.data())
def test_any_equation(data: Any) -> None:
    letters = "abcde"
    count = data.draw(st.integers(1, 3))
    terms = ["".join(data.draw(st.lists(st.sampled_from(letters), max_size=3))) for _ in range(count)]
    known = sorted(set("".join(terms)))
    output = "".join(data.draw(st.permutations(known)))[: data.draw(st.integers(0, len(known)))]
    equation = ",".join(terms) + data.draw(st.sampled_from(["", "->" + output]))
    check(lambda *x: torch.einsum(equation, *x), *operands(equation, f64))


def test_tensordot() -> None:
    a, b = values([2, 3, 4], f32), values([4, 3, 5], f32)
    check(
        lambda a, b: (
            torch.tensordot(a, b, dims=([2], [0])),
            torch.tensordot(a, b, dims=([1, -1], [1, 0])),
            torch.tensordot(a, a, dims=3),
            torch.tensordot(a, b, dims=0),
        ),
        a,
        b,
    )
    check(lambda a: torch.tensordot(a, a[:1], dims=([0, 1], [0, 1])), values([1, 3], i64))


def test_relay_of_products() -> None:
    a, b = values([2, 3], f32), values([3, 4], f32)
    assert "nn.batch_matmul" in operators(check(lambda a, b: torch.einsum("ab,bc->ac", a, b), a, b))
    assert operators(check(lambda a: torch.einsum("ab,ab->ab", a, a), a)) == ["multiply"]
    masks = values([3, 3], torch.bool)
    assert "bool" in refusal(lambda a: torch.einsum("ab,ab->ab", a, a), masks)


def test_compiled() -> None:
    run_compiled(
        lambda q, k, x: (
            torch.einsum("bhqd,bhkd->bhqk", q, k),
            torch.einsum("bhqd,hd->bqh", q, x),
            torch.einsum("bhhd->bd", q[:, :3, :3]),
            torch.einsum("bhqd,bhkd,hk->bq", q, k, x),
            torch.tensordot(q, k, dims=([1, 3], [1, 3])),
        ),
        values([2, 3, 5, 7], f32),
        values([2, 3, 7, 7], f32).transpose(2, 3),
        values([3, 7], f32),
    )
