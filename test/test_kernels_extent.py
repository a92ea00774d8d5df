"""Extents against plain ints: random expressions at every kind of value of their dimensions."""

from __future__ import annotations

import operator
import pickle
from typing import Any

import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import sym

from torch_tvm.kernels import extent
from torch_tvm.kernels.extent import Dim, Extent, Size, UndecidableError

DIMS = (Dim("h", 1, 40, hint=7), Dim("s", 2, 19))
Expression = tuple[Any, ...]  # int | dimension's index | (operator, expression, expression)


def expressions() -> st.SearchStrategy[Any]:
    leaves = st.integers(-20, 20) | st.sampled_from(DIMS)
    divisions = st.sampled_from([operator.floordiv, operator.mod])

    def larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        sums = st.tuples(st.sampled_from([operator.add, operator.sub, operator.mul]), inner, inner)
        return sums | st.tuples(divisions, inner, st.integers(1, 17))

    return st.recursive(leaves, larger, max_leaves=8)


def symbolic(expression: Any) -> Size:
    if isinstance(expression, Dim):
        return expression.extent
    if isinstance(expression, int):
        return expression
    apply, a, b = expression
    return apply(symbolic(a), symbolic(b))


def number(expression: Any, values: dict[str, int]) -> int:
    if isinstance(expression, Dim):
        return values[expression.name]
    if isinstance(expression, int):
        return expression
    apply, a, b = expression
    return apply(number(a, values), number(b, values))


ALL_VALUES = [{"h": h, "s": s} for h in (1, 2, 3, 7, 16, 31, 40) for s in range(2, 20)]


@settings(max_examples=150, deadline=None)
@given(expressions(), expressions())
def test_expressions_are_numbers(left: Any, right: Any) -> None:
    a, b = symbolic(left), symbolic(right)
    numbers = [(number(left, values), number(right, values)) for values in ALL_VALUES]
    for values, (x, _) in zip(ALL_VALUES, numbers, strict=True):
        assert extent.evaluate(a, values) == x
    low, high = extent.bounds(a)
    assert low <= min(x for x, _ in numbers) and max(x for x, _ in numbers) <= high
    if isinstance(a, Extent):
        assert pickle.loads(pickle.dumps(a)) == a
        assert a.hint == number(left, {"h": 7, "s": 19})
    if not isinstance(a, Extent) and not isinstance(b, Extent):
        return
    for compare in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne):
        try:
            decided = compare(a, b)
        except UndecidableError:
            continue
        assert all(compare(x, y) == decided for x, y in numbers), (a, compare, b)


@settings(max_examples=40, deadline=None)
@given(expressions(), st.sampled_from(ALL_VALUES))
def test_code_is_the_same_number(expression: Any, values: dict[str, int]) -> None:
    size = symbolic(expression)
    if not isinstance(size, Extent):
        return
    constants = {name: tvm.tirx.const(value, "int64") for name, value in values.items()}
    with extent.bound(constants):
        converted = tvm.tirx.const(0, "int64") + size
    assert int(sym.Analyzer().simplify(converted)) == number(expression, values)


H, S = (dim.extent for dim in DIMS)


def test_normal_form() -> None:
    assert isinstance(H - H, int) and isinstance((H + 3) // 50, int)
    same = [
        ((12 * S + 8) // 4, 3 * S + 2),
        (-(-S // 16), (S + 15) // 16),
        ((5 * S + 7) // 4, S + 1 + (S + 3) // 4),
        ((4 * S + 2) // 8, S // 2),
        (S // 2 // 3, S // 6),
        ((S // 2 + 1) // 3, (S + 2) // 6),
        (H * S * 12 // S, 12 * H),
        ((H + 1) * S // (H + 1), S),
        (H * S * 6 % S, 0),
        ((S + H) * (S - H), S * S - H * H),
    ]
    for a, b in same:
        assert not isinstance(a, Extent) or (a.terms, hash(a)) == (b.terms, hash(b)), (a, b)
        assert a == b
    assert repr(-(2 * H * S) + S // 4 * 8 - 3) == "-2*h*s + 8*(s)//4 - 3"


def test_bounds_are_tight_where_kernels_need_them() -> None:
    assert (S % 8).bounds == (0, 7) and (-(-S // 4) * 4 - S).bounds == (0, 3)
    assert (S * H - H).bounds == (1, 720) and (S * S - S).bounds == (2, 342)
    assert S // 4 * 4 <= S and -(-S // 16) * 16 >= S and S % 5 < 5
    assert (H - 1) * S + S - 1 < H * S


def test_least_and_greatest() -> None:
    assert extent.least_of(S // 2, (S + 1) // 2) == S // 2 and extent.greatest_of(S - 1, S) == S
    assert extent.least_of(S, 2) == 2 and extent.greatest_of(S, 2) == S and extent.least_of(3, 2) == 2
    with pytest.raises(UndecidableError, match="s > 5"):
        extent.least_of(S, 5)


def test_undecidable() -> None:
    for ask in (
        lambda: S < 5,
        lambda: S == H,
        lambda: bool(S % 2),
        lambda: int(S),
        lambda: range(S),
        lambda: S // H,
        lambda: 7 // S,
        lambda: S // 0,
        lambda: S * tvm.tirx.const(2, "int32"),
    ):
        with pytest.raises(UndecidableError, match="s"):
            ask()
    with pytest.raises(UndecidableError, match=r"s < 5 holds for some values only: s lies between 2 and 19"):
        assert S < 5


def test_dimensions_are_checked() -> None:
    for make in (
        lambda: Dim("s", 3, 2),
        lambda: Dim("s", -1, 2),
        lambda: Dim("s", 1, 2, 3),
        lambda: Dim("a b", 1, 2),
    ):
        with pytest.raises(ValueError, match=r"s|name"):
            make()
    assert Dim("s", 3, 3).extent == 3
    with pytest.raises(ValueError, match="equal names"):
        S + Dim("s", 2, 20).extent
