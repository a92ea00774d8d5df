"""OpInfo through torch_tvm: a sample of it, drawn anew with OPINFO_SEED; `make conformance` runs all. And the machinery."""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import misbehaving
import pytest
import torch
from conformance import report, samples
from conformance.outcome import FAULTS, Job, Kind, Outcome
from conformance.pool import Pool
from torch import Tensor
from torch.testing._internal.opinfo.core import OpInfo, SampleInput

import torch_tvm
from torch_tvm import relay

SEED = int(os.environ.get("OPINFO_SEED", "0"))
# Entries with a dtype; one sample of each, from the first few.
JOBS, FIRST = 60, 5


def outcomes_of(job: Job) -> list[Outcome]:
    return [outcome for outcome in samples.run_job(job) if isinstance(outcome, Outcome)]


def test_a_sample_of_opinfo_equals_eager() -> None:
    choice = random.Random(SEED)
    outcomes = []
    for job in choice.sample(samples.jobs(), JOBS):
        index = choice.randrange(FIRST)
        outcomes += outcomes_of(Job(job.entry, job.dtype, index, index + 1))
    counter = Counter(outcome.kind for outcome in outcomes)
    assert not [str(outcome) for outcome in outcomes if outcome.kind in FAULTS]
    assert counter[Kind.COMPILED] > JOBS // 5, counter


Make = Callable[..., list[Outcome]]
_names = (f"operator{number}" for number in itertools.count())


@pytest.fixture
def run_operator(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Give the outcomes of an entry of OpInfo's made for the test: an operator, and its converter if it has one."""

    def run(
        function: Callable[[Tensor], Tensor],
        converter: Callable[..., Any] | None = None,
        dtype: str = "float32",
        op: Callable[..., Any] | None = None,
    ) -> list[Outcome]:
        name = f"opinfo_test::{next(_names)}"
        torch.library.define(name, "(Tensor x) -> Tensor")
        torch.library.impl(name, "CompositeExplicitAutograd", function)
        if converter is not None:
            torch_tvm.register_operator(name)(converter)
        operator = getattr(torch.ops.opinfo_test, name.rpartition(":")[2])
        entry = OpInfo(
            name,
            op=op or operator,
            dtypes=(getattr(torch, dtype),),
            sample_inputs_func=lambda *_, **__: iter(
                [SampleInput(torch.arange(6).to(getattr(torch, dtype)))]
            ),
        )
        monkeypatch.setattr(samples, "entries", lambda: {name: entry})
        return outcomes_of(Job(name, dtype))

    return run


def double(x: Tensor) -> Tensor:
    return x + x


def test_a_right_converter(run_operator: Make) -> None:
    [outcome] = run_operator(double, lambda x: relay.add(x, x))
    assert outcome.kind is Kind.COMPILED
    assert outcome.relay == ("add",)
    assert outcome.operators == (outcome.entry,)


def test_a_wrong_converter_is_found(run_operator: Make) -> None:
    [outcome] = run_operator(double, lambda x: relay.multiply(x, x))
    assert outcome.kind is Kind.WRONG
    assert "Mismatched elements: 4 / 6" in outcome.reasons[0]


def test_a_converter_that_is_wrong_by_little_is_found(run_operator: Make) -> None:
    [outcome] = run_operator(double, lambda x: relay.multiply(x, relay.const(2 + 1e-5, "float32")))
    assert outcome.kind is Kind.WRONG


def test_a_kernel_that_does_not_compile_is_a_fault(
    run_operator: Make, compiler: Callable[[Callable[..., Any]], None]
) -> None:
    def failing(*_: Any) -> Any:
        raise RuntimeError("broken on purpose")

    compiler(failing)
    [outcome] = run_operator(double, lambda x: relay.add(x, x))
    assert outcome.kind is Kind.FAILED
    assert "broken on purpose" in outcome.reasons[0]


def test_refusals_are_counted_with_reason(run_operator: Make) -> None:
    [outcome] = run_operator(double)
    assert outcome.kind is Kind.REFUSED
    assert outcome.reasons == (f"{outcome.entry}: no converter is registered for it",)


def test_an_operator_that_runs_in_part(run_operator: Make) -> None:
    [outcome] = run_operator(double, op=lambda x: torch.special.i1(x * 2) * 2)
    assert outcome.kind is Kind.PARTLY


def test_views_are_converted_because_they_are_cloned(run_operator: Make) -> None:
    [outcome] = run_operator(double, op=lambda x: x.view(2, 3).t())
    assert outcome.kind is Kind.COMPILED
    assert "transpose" in outcome.relay


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (lambda x: x.add_(1), "it writes to its arguments"),
        (lambda x: x.to_sparse(), "a tensor is sparse"),
        (lambda x: x.shape, "no result is a tensor"),
        (lambda x: x @ torch.ones(5), "PyTorch cannot run it: RuntimeError"),
        (lambda x: x.add(torch.jit.is_tracing() and "tracing"), "TorchScript cannot run it: TypeError"),
        (
            lambda x: x.relu() if torch.jit.is_tracing() else x + x,
            "TorchScript differs from eager PyTorch: result 0: Mismatched",
        ),
    ],
)
def test_what_says_nothing_about_torch_tvm_is_set_aside(
    run_operator: Make, op: Callable[..., Any], reason: str
) -> None:
    [outcome] = run_operator(double, op=op)
    assert outcome.kind is Kind.SET_ASIDE
    assert outcome.reasons[0].startswith(reason), outcome.reasons


def test_float64_decides_where_eager_pytorch_rounds_as_much() -> None:
    """Products of large numbers that cancel: the order of the additions says how much is left."""
    x = torch.tensor([1e8, 1.0, -1e8, 1.0])

    def total(x: Tensor) -> tuple[Tensor]:
        return (((x[0] + x[1]) + x[2]) + x[3],)

    reference = samples.Reference(samples.Sample(total, (x,)), samples.Tolerance(), has_values=True)
    assert reference.results[0] == 1  # and 2 in float64
    assert not reference.difference((torch.tensor(2.0),))
    assert not reference.difference((torch.tensor(4.0),))
    assert reference.rounds_differently
    assert "Expected 1.0 but got 4.5" in reference.difference((torch.tensor(4.5),))
    assert reference.difference((torch.tensor(float("nan")),))


@pytest.mark.parametrize(
    ("actual", "message"),
    [
        (torch.zeros(2, 3, dtype=torch.float64), "result 0: torch.float64, expected torch.float32"),
        (torch.zeros(3, 2), "result 0: shape (3, 2), expected (2, 3)"),
        (torch.zeros(3, 2).t(), "result 0: strides (1, 2), expected (3, 1)"),
        (torch.zeros(2, 3), ""),
    ],
)
def test_dtype_shape_and_strides_count(actual: Tensor, message: str) -> None:
    sample = samples.Sample(lambda x: (torch.zeros(2, 3),), (torch.ones(1),))
    assert samples.Reference(sample, samples.Tolerance(), has_values=True).difference((actual,)) == message


@pytest.mark.parametrize(
    ("given", "equal"), [([[1, 2], [0, 2]], True), ([[1, 1], [0, 2]], False), ([[1, 3], [0, 2]], False)]
)
def test_indices_may_be_those_of_equal_elements(given: list[list[int]], equal: bool) -> None:
    x = torch.tensor([[5.0, 5.0, 7.0], [1.0, 2.0, 1.0]])
    sample = samples.Sample(lambda x: (torch.tensor([[0, 2], [0, 2]]),), (x,))
    reference = samples.Reference(sample, samples.Tolerance(), has_values=True, ranks=True)
    assert (reference.difference((torch.tensor(given),)) == "") == equal
    assert (samples.RANKS in reference.reasons) == equal
    strict = samples.Reference(sample, samples.Tolerance(), has_values=True)
    assert strict.difference((torch.tensor(given),))


def test_a_crash_and_a_hang_are_recorded_and_the_rest_runs() -> None:
    jobs = [
        Job("a", "2 crash"),
        Job("b", "1 hang"),
        Job("c", "9 never"),
        Job("d", "3 crash"),
        Job("dies at once", ""),
    ]
    found = list(Pool(misbehaving.run, workers=2, seconds_per_sample=2).run(jobs))
    kinds = {(outcome.entry, outcome.index): outcome for outcome in found}
    assert len(kinds) == len(found) == 4 * misbehaving.SAMPLES + 1
    faults = {place: str(outcome.reasons[0]) for place, outcome in kinds.items() if outcome.kind in FAULTS}
    assert faults == {
        ("a", 2): "SIGSEGV",
        ("b", 1): "more than 2 s",
        ("d", 3): "SIGSEGV",
        ("dies at once", 0): "exit status 3",
    }
    assert kinds["b", 1].kind is Kind.HUNG
    assert kinds["a", 2].kind is Kind.CRASHED


def test_the_report(tmp_path: Path) -> None:
    found = [
        Outcome("mul", "float32", 0, Kind.COMPILED, (), ("aten::mul.Tensor",), ("multiply",)),
        Outcome(
            "mul", "float32", 1, Kind.COMPILED, (), ("aten::mul.Tensor", "aten::clone"), ("cast", "multiply")
        ),
        Outcome("mul", "bool", 0, Kind.REFUSED, ("aten::mul.Tensor: a|b",), ("aten::mul.Tensor",)),
        Outcome("sort", "float32", 0, Kind.CRASHED, ("SIGSEGV",)),
    ]
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    first.write_text("\n".join(map(report.save, [*found[:3], Outcome("sort", "float32", 0, Kind.HUNG)])))
    second.write_text(report.save(found[3]))
    assert report.load([first, second]) == found

    summary = report.summarize(found)
    assert summary["totals"]["float32"] == {"samples": 3, "compiled": 2, "crashed": 1}
    assert summary["entries"]["mul"]["reasons"] == {"aten::mul.Tensor: a|b": 1}
    assert summary["relay"] == {"aten::mul.Tensor": ["cast", "multiply"]}
    text = report.markdown(summary, "# Title")
    assert "* sort float32 sample 0: crashed: SIGSEGV" in text
    assert r"| `mul` | 3 | 2 |  | 1 |  |  |  |  |  |  | aten::mul.Tensor: a\|b |" in text
