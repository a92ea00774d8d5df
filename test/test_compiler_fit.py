"""Numbers of examples as expressions of sizes."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from torch_tvm.compiler.fit import Fitter, NoFitError
from torch_tvm.compiler.symbolic import bounds_to_try, encode
from torch_tvm.kernels.extent import Dim, evaluate

B, S = Dim("b", 2, 100), Dim("s", 2, 4000)
EXAMPLES = [{"b": 4, "s": 40}, {"b": 7, "s": 37}, {"b": 5, "s": 23}, {"b": 11, "s": 61}, {"b": 3, "s": 53}]
OTHERS = [{"b": 2, "s": 2}, {"b": 99, "s": 3999}, {"b": 64, "s": 128}, {"b": 13, "s": 1000}]
FITTER = Fitter([B, S], EXAMPLES)

FORMS = [
    lambda b, s, c, d: c,
    lambda b, s, c, d: c * s,
    lambda b, s, c, d: c * b * s + d,
    lambda b, s, c, d: c * b * s * s,
    lambda b, s, c, d: c * s * s + d * s,
    lambda b, s, c, d: s - d,
]


@settings(max_examples=20)
@given(st.sampled_from(FORMS), st.integers(1, 5000), st.integers(-70, 70))
def test_what_follows_from_sizes_is_found(form: object, c: int, d: int) -> None:
    def number(values: dict[str, int]) -> int:
        return int(form(values["b"], values["s"], c, d))  # type: ignore[operator]

    found = FITTER.fit([number(values) for values in EXAMPLES])
    for values in OTHERS:
        assert evaluate(found, values) == number(values)


def test_one_number_for_all_is_a_number() -> None:
    assert FITTER.fit([64] * 5) == 64
    assert isinstance(FITTER.fit([64] * 5), int)


def test_a_quotient_is_found_where_examples_leave_no_choice() -> None:
    fitter = Fitter([S], [{"s": s} for s in range(40, 80)])
    for function in (lambda s: (s + 1) // 2, lambda s: (s - 3) // 4, lambda s: (s + 31) // 32):
        found = fitter.fit([function(s) for s in range(40, 80)])
        assert [evaluate(found, {"s": s}) for s in (2, 7, 3001)] == [function(s) for s in (2, 7, 3001)]
    few = Fitter([S], [{"s": s} for s in (37, 41, 43, 59, 61)])
    with pytest.raises(NoFitError):
        few.fit([(s + 15) // 16 for s in (37, 41, 43, 59, 61)])


def test_what_follows_otherwise_is_refused() -> None:
    with pytest.raises(NoFitError, match=r"\[1, 2, 3, 4, 6\]"):
        FITTER.fit([1, 2, 3, 4, 6])
    with pytest.raises(NoFitError):
        FITTER.fit([min(values["s"], 50) for values in EXAMPLES])
    with pytest.raises(ValueError, match="5 examples, got 4"):
        FITTER.fit([1, 2, 3, 4])


def test_codes() -> None:
    s, b = S.extent, B.extent
    numbers = {"b": 0, "s": 1}
    assert encode(7, numbers) == (1, 7, 0)
    assert encode(3 * b * s, numbers) == (1, 3, 2, 0, 1)
    assert encode((s + 1) // 2, numbers) == (1, 1, 1, -1, 2, *encode(s + 1, numbers))


def test_bounds_hold_what_was_seen_and_reach_far_first() -> None:
    tried = list(bounds_to_try([(12, 200), (3, 5)], {512, 7}))
    assert tried[0] == [(2, 800), (2, 20)]
    assert all(low <= 12 and high >= 200 and few <= 3 and many >= 5 for (low, high), (few, many) in tried)
    assert len({tuple(each) for each in tried}) == len(tried)
