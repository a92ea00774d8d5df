"""vector_math against float64: every exponent, dense ranges where the functions bend, special values, odd numbers of lanes."""

from __future__ import annotations

import math

import pytest
import torch
from kernel_runs import TARGETS, get_target, run

from torch_tvm.kernels import elementwise
from torch_tvm.kernels.expression import Expression, Instruction, Operand

# The largest error, in units in the last place, that each docstring of vector_math states.
ULP = {"exp": 1.1, "expm1": 1.7, "log": 1.0, "log2": 1.0, "log10": 1.0, "log1p": 1.7, "tanh": 2.5, "erf": 1.3}
SPECIAL = [
    0.0,
    -0.0,
    math.inf,
    -math.inf,
    math.nan,
    1.0,
    -1.0,
    1e-45,
    -1e-45,
    88.72,
    88.73,
    89.5,
    -87.34,
    -103.9,
    -104.1,
    3.4e38,
]


def samples() -> torch.Tensor:
    every_exponent = torch.arange(-(2**31), 2**31, 2**13 + 1).to(torch.int32).view(torch.float32)
    dense = [torch.linspace(-span, span, 200_001) for span in (0.01, 1.0, 5.0, 105.0)]
    return torch.cat([torch.tensor(SPECIAL), every_exponent, *dense])


def error_in_ulp(got: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """Distance from the exact float64 result in units of float32's last place there; infinite for a wrong special value."""
    rounded = exact.float()
    spacing = torch.exp2(torch.floor(torch.log2(exact.abs().clamp(min=2.0**-126, max=3e38))) - 23)
    error = (got.double() - exact).abs() / spacing
    same = (got == rounded) | (got.isnan() & rounded.isnan())
    return torch.where(
        same, torch.where(exact.isfinite() & rounded.isfinite(), error, 0.0), error.nan_to_num(nan=math.inf)
    )


@pytest.mark.parametrize(
    ("target", "lanes"), [(TARGETS[0], 16), (TARGETS[1], 8), (TARGETS[0], 1), (TARGETS[0], 5)]
)
def test_functions_err_at_most_as_stated(target: str, lanes: int) -> None:
    x = samples() if lanes >= 8 else samples()[::17].contiguous()
    names = list(ULP)
    steps = tuple(Instruction(name, (0,), "float32") for name in names)
    shape = tuple(x.shape)
    expression = Expression((Operand(shape, "float32"),), steps, tuple(range(1, len(names) + 1)), shape)
    cpu = get_target(target)
    results = [torch.zeros_like(x) for _ in names]
    function = elementwise.build(
        elementwise.Elementwise(expression), elementwise.Schedule(lanes, 1), cpu, "k"
    )
    run({"k": function}, {"k": [x, *results]}, cpu)
    for name, got in zip(names, results, strict=True):
        exact = getattr(torch, name)(x.double())
        error = error_in_ulp(got, exact)
        worst = int(error.argmax())
        assert error[worst] <= ULP[name], (
            f"{name}({x[worst].item()!r}) = {got[worst].item()!r}, not {exact[worst].item()!r}"
        )
        zeros = (exact == 0) & (got == 0)
        assert torch.equal(torch.signbit(got[zeros]), torch.signbit(exact[zeros])), f"{name}: sign of zero"


def test_sigmoid_and_silu_are_eagers_formulas() -> None:
    x = samples()[::5].contiguous()
    steps = (Instruction("sigmoid", (0,), "float32"), Instruction("silu", (0,), "float32"))
    expression = Expression((Operand(tuple(x.shape), "float32"),), steps, (1, 2), tuple(x.shape))
    cpu = get_target(TARGETS[0])
    results = [torch.zeros_like(x), torch.zeros_like(x)]
    function = elementwise.build(elementwise.Elementwise(expression), elementwise.Schedule(16, 1), cpu, "k")
    run({"k": function}, {"k": [x, *results]}, cpu)
    torch.testing.assert_close(results[0], torch.sigmoid(x), equal_nan=True, rtol=5e-7, atol=1e-38)
    torch.testing.assert_close(results[1], torch.nn.functional.silu(x), equal_nan=True, rtol=5e-7, atol=1e-37)


def test_gelu_errs_less_than_eager() -> None:
    x = torch.cat(
        [
            torch.linspace(-20, 20, 200_001),
            torch.linspace(-0.01, 0.01, 10_001),
            torch.tensor([math.nan, -3e38, 1e-40]),
        ]
    )
    expression = Expression(
        (Operand(tuple(x.shape), "float32"),), (Instruction("gelu", (0,), "float32"),), (1,), tuple(x.shape)
    )
    cpu, result = get_target(TARGETS[0]), torch.zeros_like(x)
    function = elementwise.build(elementwise.Elementwise(expression), elementwise.Schedule(16, 1), cpu, "k")
    run({"k": function}, {"k": [x, result]}, cpu)
    exact = torch.nn.functional.gelu(x.double())
    torch.testing.assert_close(result.double(), exact, rtol=3e-7, atol=1e-7, equal_nan=True)
