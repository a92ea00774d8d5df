"""vector_math against float64: every exponent, dense ranges where the functions bend, special values, odd numbers of lanes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from kernel_runs import TARGETS, get_target, run

from torch_tvm.kernels import elementwise, idioms, tir, vector_math
from torch_tvm.kernels.expression import Expression, Instruction, Operand, Scalar

# The largest error, in units in the last place, that each docstring of vector_math states.
ULP = {"exp": 1.1, "expm1": 1.7, "log": 0.8, "log2": 0.9, "log10": 0.9, "log1p": 1.5, "tanh": 2.4, "erf": 1.2}
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


@pytest.mark.parametrize(("target", "lanes"), [(TARGETS[0], 16), (TARGETS[1], 8), (TARGETS[0], 1)])
def test_exp_nonpositive_errs_at_most_as_stated(target: str, lanes: int) -> None:
    """Normal results as `exp`, zero below them."""
    x = samples()
    x = x[(x <= 0) | x.isnan()][: 16 * 10_000].contiguous()
    result = torch.zeros_like(x)

    def body(source: tir.Buffer, out: tir.Buffer) -> None:
        with tir.loop(len(x) // lanes) as i:
            value = tir.materialise(tir.load(source, (i * lanes,), lanes), "float32", lanes)
            tir.store(out, vector_math.exp_nonpositive(value, lanes), (i * lanes,), lanes)

    parameters = [tir.Parameter(name, tuple(x.shape), "float32") for name in ("x", "y")]
    run({"k": tir.kernel("k", parameters, body)}, {"k": [x, result]}, get_target(target))
    exact = torch.exp(x.double())
    exact[exact < 2.0**-126] = 0
    error = error_in_ulp(result, exact)
    worst = int(error.argmax())
    assert error[worst] <= ULP["exp"], (x[worst].item(), result[worst].item())


def test_sigmoid_and_silu_are_eagers_formulas() -> None:
    x = samples()[::5].contiguous()
    steps = (Instruction("sigmoid", (0,), "float32"), Instruction("multiply", (1, 0), "float32"))
    expression = Expression((Operand(tuple(x.shape), "float32"),), steps, (1, 2), tuple(x.shape))
    assert idioms.with_functions(expression).instructions[1] == Instruction("silu", (0,), "float32")
    cpu = get_target(TARGETS[0])
    results = [torch.zeros_like(x), torch.zeros_like(x)]
    function = elementwise.build(elementwise.Elementwise(expression), elementwise.Schedule(16, 1), cpu, "k")
    run({"k": function}, {"k": [x, *results]}, cpu)
    torch.testing.assert_close(results[0], torch.sigmoid(x), equal_nan=True, rtol=5e-7, atol=1e-38)
    # Where e^-x is above 2^127.5, silu is -4e-37 and more; here it is 0.
    torch.testing.assert_close(results[1], torch.nn.functional.silu(x), equal_nan=True, rtol=5e-7, atol=4e-37)


@pytest.mark.parametrize("spelled_out", [False, True])
def test_gelu_errs_less_than_eager(spelled_out: bool) -> None:
    special = torch.tensor([math.nan, math.inf, -math.inf, -3e38, 1e-40])
    x = torch.cat([torch.linspace(-20, 20, 200_001), torch.linspace(-0.01, 0.01, 10_001), special])
    half, root = Scalar(0.5, "float32"), Scalar(math.sqrt(0.5), "float32")
    formula = (("multiply", 0, root), ("erf", 1), ("multiply", 2, half), ("add", half, 3), ("multiply", 4, 0))
    expression = expression_of(1, formula if spelled_out else (("gelu", 0),), tuple(x.shape))
    assert idioms.with_gelu(expression).instructions[-1] == Instruction("gelu", (0,), "float32")
    cpu, result = get_target(TARGETS[0]), torch.zeros_like(x)
    function = elementwise.build(elementwise.Elementwise(expression), elementwise.Schedule(16, 1), cpu, "k")
    run({"k": function}, {"k": [x, result]}, cpu)
    exact = torch.nn.functional.gelu(x.double())
    torch.testing.assert_close(result.double(), exact, rtol=3e-7, atol=1e-7, equal_nan=True)


HALF, ONE = Scalar(0.5, "float32"), Scalar(1.0, "float32")
LINEAR, CUBIC = Scalar(math.sqrt(2 / math.pi), "float32"), Scalar(0.044715, "float32")
CUBE = (("multiply", 0, 0), ("multiply", 0, 1), ("multiply", CUBIC, 2), ("add", 0, 3))
GELU_TANH: dict[str, tuple[tuple[Any, ...], ...]] = {
    "instruction": (("gelu_tanh", 0),),
    "operator": (
        *(*CUBE, ("multiply", 4, LINEAR), ("tanh", 5)),
        *(("multiply", HALF, 6), ("add", HALF, 7), ("multiply", 0, 8)),
    ),
    "half of the operand": (
        *(*CUBE, ("multiply", LINEAR, 4), ("tanh", 5)),
        *(("add", 6, ONE), ("multiply", 0, HALF), ("multiply", 8, 7)),
    ),
    "half of the result": (
        *(*CUBE, ("multiply", LINEAR, 4), ("tanh", 5)),
        *(("add", 6, ONE), ("multiply", 0, 7), ("multiply", HALF, 8)),
    ),
    "factored": (
        *(("multiply", 0, LINEAR), ("multiply", CUBIC, 0), ("multiply", 2, 0), ("add", ONE, 3)),
        *(("multiply", 1, 4), ("tanh", 5), ("add", ONE, 6), ("multiply", HALF, 0), ("multiply", 8, 7)),
    ),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("form", GELU_TANH)
def test_gelu_with_tanh_does_not_cancel_as_eagers_does(form: str, target: str) -> None:
    special = torch.tensor([math.nan, math.inf, -math.inf, -3e38, 3e38, 1e-40, -0.0])
    x = torch.cat([torch.linspace(-20, 20, 20_001), torch.linspace(-0.01, 0.01, 10_001), special])
    expression = expression_of(1, GELU_TANH[form], tuple(x.shape))
    assert idioms.with_functions(expression).instructions[-1] == Instruction("gelu_tanh", (0,), "float32")
    cpu, result = get_target(target), torch.zeros_like(x)
    lanes = cpu.lanes("float32")
    function = elementwise.build(
        elementwise.Elementwise(expression), elementwise.Schedule(lanes, 1), cpu, "k"
    )
    run({"k": function}, {"k": [x, result]}, cpu)
    exact = torch.nn.functional.gelu(x.double(), approximate="tanh")
    torch.testing.assert_close(result.double(), exact, rtol=4e-7, atol=1e-7, equal_nan=True)
    eager = torch.nn.functional.gelu(x, approximate="tanh")
    tail = (x < -1) & (x > -20)
    assert (result - exact)[tail].abs().max() <= (eager - exact)[tail].abs().max()


def test_what_only_resembles_gelu_with_tanh_is_left_alone() -> None:
    end = (("add", 7, ONE), ("multiply", 0, HALF), ("multiply", 9, 8))
    wrong = (
        (
            ("multiply", 0, 0),
            ("multiply", 1, 2),
            ("multiply", CUBIC, 3),
            ("add", 0, 4),
            ("multiply", LINEAR, 5),
        ),
        (
            ("multiply", 0, 0),
            ("multiply", 0, 2),
            ("multiply", HALF, 3),
            ("add", 0, 4),
            ("multiply", LINEAR, 5),
        ),
        (
            ("multiply", 0, 0),
            ("multiply", 0, 2),
            ("multiply", CUBIC, 3),
            ("add", 1, 4),
            ("multiply", LINEAR, 5),
        ),
        (("multiply", 0, 0), ("multiply", 0, 2), ("multiply", CUBIC, 3), ("add", 0, 4), ("multiply", ONE, 5)),
    )
    for formula in wrong:
        expression = expression_of(2, (*formula, ("tanh", 6), *end), (4,))
        assert idioms.with_gelu_tanh(expression) == expression


def test_what_only_resembles_gelu_is_left_alone() -> None:
    half, one, root = (Scalar(value, "float32") for value in (0.5, 1.0, math.sqrt(0.5)))
    formula = (("erf", 2), ("multiply", 3, half), ("add", half, 4))
    for first, last in (
        (("multiply", 0, one), ("multiply", 5, 0)),
        (("multiply", 0, root), ("multiply", 5, 1)),
    ):
        expression = expression_of(2, (first, *formula, last), (4,))
        assert idioms.with_gelu(expression) == expression


def expression_of(inputs: int, formula: tuple[tuple[Any, ...], ...], shape: tuple[int, ...]) -> Expression:
    steps = tuple(Instruction(op, tuple(args), "float32") for op, *args in formula)
    return Expression((Operand(shape, "float32"),) * inputs, steps, (inputs + len(steps) - 1,), shape)
