"""Activation functions made of exponentials, logarithms near zero, shrinking and gated units, against eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from convert_checks import FLOATS, SPECIAL, check, run_compiled, values
from hypothesis import given, settings
from hypothesis import strategies as st

import torch_tvm
from torch_tvm import NotConvertibleError

Tensor = torch.Tensor
quick = settings(max_examples=10, deadline=None)

UNITS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": lambda x: F.elu(x, 0.7),
    "celu": lambda x: F.celu(x, 1.3),
    "selu": F.selu,
    "softplus": lambda x: F.softplus(x, 2.0, 5.0),
    "softplus_plain": F.softplus,
    "log_sigmoid": F.logsigmoid,
    "mish": F.mish,
    "hardshrink": lambda x: F.hardshrink(x, 0.5),
    "softshrink": lambda x: F.softshrink(x, 0.5),
    "softsign": F.softsign,
    "tanhshrink": F.tanhshrink,
    "rrelu": lambda x: F.rrelu(x, 0.1, 0.4, training=False),
    "logit": lambda x: torch.logit(x, 0.1),
    "log1p": torch.log1p,
    "expm1": torch.expm1,
    "exp2": torch.exp2,
    "sinc": torch.sinc,
    "entr": torch.special.entr,
}
PAIRS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "logaddexp": torch.logaddexp,
    "logaddexp2": torch.logaddexp2,
    "xlogy": torch.xlogy,
    "xlog1py": torch.special.xlog1py,
}


def numbers(dtype: torch.dtype) -> Tensor:
    """Special numbers, ordinary ones, and some where 1 + x loses most digits of x."""
    tiny = torch.tensor([1e-3, -1e-3, 1e-5, -1e-5, 1e-7, -1e-7, 1e-9, 30.0, -30.0, 88.0, -88.0])
    return torch.cat([torch.tensor(SPECIAL), tiny, torch.randn(15) * 3]).to(dtype).reshape(4, 9)


def test_units() -> None:
    run_compiled(lambda x: [unit(x) for unit in UNITS.values()], numbers(torch.float32), left=["aten::rrelu"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_units_of_other_dtypes(dtype: torch.dtype) -> None:
    run_compiled(lambda x: [UNITS[name](x) for name in ("elu", "softplus", "expm1")], numbers(dtype))


@pytest.mark.parametrize("name", UNITS)
@quick
@given(data=st.data())
def test_unit_in_relay(name: str, data: Any) -> None:
    dtype = data.draw(st.sampled_from(FLOATS))
    check(UNITS[name], values(data.draw(st.sampled_from([[], [3], [2, 0], [2, 1, 3]])), dtype, True))


def test_pairs() -> None:
    special = torch.tensor(SPECIAL)
    run_compiled(lambda a, b: [pair(a, b) for pair in PAIRS.values()], special[:, None], special)
    run_compiled(lambda a: [torch.xlogy(a, 2.0), torch.xlogy(0.5, a), torch.logaddexp(a, a)], special)


def test_near_zero_keeps_digits() -> None:
    """The sum 1 + x would round x away: results are right to some ulp, not to 1e-7."""
    x = torch.logspace(-12, 0, 50)
    with torch_tvm.enabled(strict=True, min_group_size=1):
        traced = torch.jit.trace(
            lambda x: (torch.log1p(x), torch.expm1(x), torch.expm1(-x)), (x,), check_trace=False
        )
        results = traced(x)
    for got, expected in zip(results, (torch.log1p(x), torch.expm1(x), torch.expm1(-x)), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)


def test_integers_become_floats() -> None:
    integers, bools = torch.arange(-3, 6), torch.tensor([True, False])
    run_compiled(lambda i, b: (torch.expm1(i), torch.logit(b)), integers, bools)


@pytest.mark.parametrize("dim", [0, -1])
def test_glu(dim: int) -> None:
    run_compiled(lambda x: F.glu(x, dim), torch.randn(4, 3, 6).transpose(0, 2))


def test_random_slopes_are_refused() -> None:
    with pytest.raises(NotConvertibleError, match="training=True"):
        torch_tvm.to_relay(lambda x: F.rrelu(x, training=True), [torch.randn(3)])
