"""One sample of an entry: traced, run by torch_tvm, compared with eager PyTorch, and why TVM did not run it, if so."""

from __future__ import annotations

import functools
import itertools
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from convert_checks import operators as relay_operators
from torch import Tensor
from torch.utils import _pytree as pytree

import torch_tvm
from conformance.outcome import Job, Kind, Outcome

# How many samples of an entry a full run takes; the samples of one dtype differ little from another's.
LIMITS: dict[str, int | None] = {
    "float32": None,
    "float64": 10,
    "int64": 10,
    "bool": 10,
    "bfloat16": 10,
    "float16": 10,
}
ROUNDS = "beyond the tolerance, but as near to float64 as eager PyTorch"
RANKS = "indices of other ones among equal elements"
# Entries of which PyTorch says that any index among those of equal elements may come.
RANKING = frozenset({"argsort", "kthvalue", "median", "mode", "nanmedian", "sort", "topk"})
# Their values are whatever was in memory.
UNINITIALIZED = frozenset(
    {"empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided"}
)
# A group's plans are kept for that many shapes: more than any entry has samples.
MAX_SIGNATURES = 1 << 14
GROUP = "tvm::CompilationGroup"
# The tests of PyTorch whose tolerances count: eager against another way to run the same, on one device.
TOLERANCE_CLASSES = frozenset({None, "TestCommon", "TestJit", "TestInductorOpInfo"})


@functools.cache
def entries() -> dict[str, Any]:
    """Every entry of OpInfo by name; takes 4 s the first time."""
    from torch.testing._internal.common_methods_invocations import op_db

    found = {entry.full_name: entry for entry in op_db}
    assert len(found) == len(op_db)
    return found


def jobs(dtypes: Sequence[str] = tuple(LIMITS)) -> list[Job]:
    """Every entry for every dtype that it takes."""
    return [
        Job(name, dtype, limit=LIMITS[dtype])
        for dtype in dtypes
        for name, entry in entries().items()
        if entry.supports_dtype(getattr(torch, dtype), "cpu")
    ]


@dataclass(frozen=True)
class Tolerance:
    """How far results may be from eager PyTorch's; None is torch.testing's default for the dtype."""

    rtol: float | None = None
    atol: float | None = None


def own_tolerance(entry: Any, dtype: torch.dtype) -> Tolerance:
    """Give the largest tolerance that PyTorch's tests allow the entry on CPUs; its default if there is none."""
    from torch.testing._internal.common_device_type import toleranceOverride

    found = []
    for info in entry.decorators:
        if getattr(info, "cls_name", None) not in TOLERANCE_CLASSES:
            continue
        if getattr(info, "device_type", None) not in (None, "cpu"):
            continue
        for decorator in getattr(info, "decorators", [info]):
            if isinstance(decorator, toleranceOverride) and dtype in decorator.d:
                found.append(decorator.d[dtype])
    if not found:
        return Tolerance()
    return Tolerance(max(tolerance.rtol for tolerance in found), max(tolerance.atol for tolerance in found))


@dataclass(frozen=True)
class Sample:
    """A call of an entry as a function of its tensors, which gives a tuple of tensors.

    Results that share memory with an argument or with another result are cloned: torch_tvm leaves views that are seen
    outside to PyTorch, so that their converters would never run.
    """

    function: Any
    tensors: tuple[Tensor, ...]

    def run(self) -> tuple[Tensor, ...]:
        """Call the function, with the same random numbers each time."""
        torch.default_generator.manual_seed(0)
        return tuple(self.function(*self.tensors))

    def trace(self) -> Any:
        torch.default_generator.manual_seed(0)
        return torch.jit.trace(self.function, self.tensors, check_trace=False)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0


def make_sample(entry: Any, sample_input: Any) -> Sample:
    """Turn OpInfo's sample into a function of its tensors."""
    arguments = (sample_input.input, sample_input.args, sample_input.kwargs)
    leaves, spec = pytree.tree_flatten(arguments)
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    tensors = tuple(leaves[place].detach() for place in places)

    def call(*given: Tensor) -> list[Tensor]:
        filled = list(leaves)
        for place, tensor in zip(places, given, strict=True):
            filled[place] = tensor
        first, args, kwargs = pytree.tree_unflatten(filled, spec)
        result = entry.op(first, *args, **kwargs)
        return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]

    before = [tensor.clone() for tensor in tensors]
    torch.default_generator.manual_seed(0)
    results = call(*tensors)
    if _changed(tensors, before) is not None:
        raise Unusable("it writes to its arguments")
    storages = [_storage(tensor) for tensor in (*tensors, *results)]
    shared = {
        place
        for place, result in enumerate(results)
        if _storage(result) and storages.count(_storage(result)) > 1
    }

    def function(*given: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            result.clone() if place in shared else result for place, result in enumerate(call(*given))
        )

    return Sample(function, tensors)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]


def _strides(tensor: Tensor) -> list[int]:
    """The strides that say where elements are: those of dimensions of more than one element."""
    if tensor.numel() == 0:
        return []
    return [stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size != 1]


class Reference:
    """What eager PyTorch gives for a sample, and how near to it other results have to be.

    Where values leave the tolerance, float64 decides: results may be as far from what the sample gives in float64 as
    eager PyTorch's own are, times two. Products of large numbers and softmaxes of them round that much in any order.
    Where PyTorch promises no order of equal elements, an index may be that of another one.
    """

    def __init__(self, sample: Sample, tolerance: Tolerance, has_values: bool, ranks: bool = False) -> None:
        self._sample = sample
        self._tolerance = tolerance
        self._has_values = has_values
        self._ranks = ranks
        self.results = sample.run()
        self.rounds_differently = self.ranks_differently = False

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is counted of results that are as good as eager PyTorch's and not the same."""
        return (ROUNDS,) * self.rounds_differently + (RANKS,) * self.ranks_differently

    def difference(self, actual: Sequence[Tensor]) -> str:
        """Say how results differ; an empty string if they do not."""
        if len(actual) != len(self.results):
            return f"{len(actual)} results, expected {len(self.results)}"
        for place, (one, other) in enumerate(zip(actual, self.results, strict=True)):
            if message := self._difference(place, one, other):
                return f"result {place}: {message}"
        return ""

    def _difference(self, place: int, actual: Tensor, expected: Tensor) -> str:
        if actual.dtype != expected.dtype:
            return f"{actual.dtype}, expected {expected.dtype}"
        if actual.shape != expected.shape:
            return f"shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
        if _strides(actual) != _strides(expected):
            return f"strides {actual.stride()}, expected {expected.stride()}"
        if not self._has_values or not (message := _value_difference(actual, expected, Tolerance())):
            return ""
        if self._tolerance != Tolerance() and not _value_difference(actual, expected, self._tolerance):
            return ""
        if self._is_as_exact(place, actual, expected):
            self.rounds_differently = True
            return ""
        if self._ranks and _points_at_equals(self._sample.tensors[0], actual, expected):
            self.ranks_differently = True
            return ""
        return message

    @functools.cached_property
    def _exact(self) -> tuple[Tensor, ...]:
        wide = tuple(
            tensor.double() if tensor.is_floating_point() else tensor for tensor in self._sample.tensors
        )
        try:
            return Sample(self._sample.function, wide).run()
        except Exception:  # many operators want arguments of one dtype, and some are given as an argument
            return ()

    def _is_as_exact(self, place: int, actual: Tensor, expected: Tensor) -> bool:
        if not expected.is_floating_point() or place >= len(self._exact):
            return False
        exact = self._exact[place]
        if exact.dtype != torch.float64 or exact.shape != expected.shape:
            return False
        finite = expected.isfinite() & exact.isfinite()
        if _value_difference(actual[~finite], expected[~finite], Tolerance(0, 0)):
            return False
        errors = [(result.double() - exact)[finite].abs().max().item() for result in (actual, expected)]
        return errors[0] <= 2 * errors[1]


def _value_difference(actual: Tensor, expected: Tensor, tolerance: Tolerance) -> str:
    try:
        torch.testing.assert_close(actual, expected, rtol=tolerance.rtol, atol=tolerance.atol, equal_nan=True)
    except AssertionError as error:
        return ", ".join(
            line for line in str(error).splitlines() if line and not line.startswith("Tensor-likes")
        )
    return ""


def _points_at_equals(data: Tensor, actual: Tensor, expected: Tensor) -> bool:
    """Say whether indices along some dimension are of elements that are equal, one by one."""
    if actual.dtype != torch.int64 or data.dim() == 0:
        return False
    for dim in range(data.dim()):
        kept = actual.dim() == data.dim()
        one, other = (index if kept else index.unsqueeze(dim) for index in (actual, expected))
        others = (size for d, size in enumerate(data.shape) if d != dim)
        if one.dim() != data.dim() or list(others) != [s for d, s in enumerate(one.shape) if d != dim]:
            continue
        if int(one.min()) < 0 or int(one.max()) >= data.shape[dim]:
            continue
        if not _value_difference(data.gather(dim, one), data.gather(dim, other), Tolerance(0, 0)):
            return True
    return False


def _tensor_operators(block: Any) -> Iterator[str]:
    """Name the operators outside of groups that give tensors, with their overloads."""
    for node in block.nodes():
        for inner in node.blocks():
            yield from _tensor_operators(inner)
        if (
            node.kind().startswith("prim::") and node.kind() != "prim::ConstantChunk"
        ) or node.kind() == GROUP:
            continue
        if any("Tensor" in str(output.type()) for output in node.outputs()):
            schema = node.schema()
            yield schema.partition("(")[0] if schema != "(no schema)" else node.kind()


def _changed(tensors: Sequence[Tensor], before: Sequence[Tensor]) -> int | None:
    """Say which tensor is not what it was; some of PyTorch's kernels write without counting a version."""
    for place, (tensor, copy) in enumerate(zip(tensors, before, strict=True)):
        if _value_difference(tensor, copy, Tolerance(0, 0)):
            return place
    return None


class Unusable(Exception):
    """A sample that says nothing about torch_tvm, and why."""


def _reference(entry: Any, dtype: torch.dtype, sample: Sample) -> Reference:
    """Give eager PyTorch's results, if TorchScript by itself has the same."""
    reference = Reference(
        sample, own_tolerance(entry, dtype), entry.name not in UNINITIALIZED, entry.name in RANKING
    )
    if not reference.results:
        raise Unusable("no result is a tensor")
    if any(tensor.layout != torch.strided for tensor in (*sample.tensors, *reference.results)):
        raise Unusable("a tensor is sparse")
    with torch_tvm.disabled():
        try:
            plain = Sample(sample.trace(), sample.tensors).run()
        except Exception as error:
            raise Unusable(f"TorchScript cannot run it: {_first_line(error)}") from error
    if message := reference.difference(plain):
        raise Unusable(f"TorchScript differs from eager PyTorch: {message}")
    reference.rounds_differently = reference.ranks_differently = False
    return reference


def _reasons(traced: Sample, outside: list[str]) -> tuple[str, ...]:
    """Say why operators stayed with PyTorch, by the counted reasons or else by what to_relay says."""
    counted = {re.sub(r", at \S+:\d+", "", reason) for reason in torch_tvm.stats()["fallback_reasons"]}
    if outside:
        try:
            torch_tvm.to_relay(traced.function, traced.tensors)
        except torch_tvm.NotConvertibleError as error:
            counted |= {f"{refusal.op}: {refusal.reason}" for refusal in error.refusals}
        except Exception as error:
            counted.add(f"to_relay: {_first_line(error)}")
        counted = counted or {f"{name}: outside of all groups" for name in outside}
    return tuple(sorted(reason[:300] for reason in counted))


def _kind(outside: list[str]) -> Kind:
    """Say where the operators of the last two calls ran, by the counters and what is left outside of groups."""
    stats = torch_tvm.stats()
    if any("failed: " in reason for reason in stats["fallback_reasons"]):
        return Kind.FAILED
    planned = stats["compiled"] + stats["cache_hits"] > 0
    left = stats["fallbacks"] > 0 or stats["fallback_reasons"] or outside
    if planned:
        return Kind.PARTLY if left else Kind.COMPILED
    return Kind.REFUSED if left else Kind.FOLDED


@dataclass(frozen=True)
class Verdict:
    """What an `Outcome` says beyond where the sample is from."""

    kind: Kind
    reasons: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    relay: tuple[str, ...] = ()


def _wrong(traced: Sample, reference: Reference) -> str:
    """Run the traced function twice, to compile and by the plan, and say what is wrong with it."""
    before = [tensor.clone() for tensor in traced.tensors]
    for call in ("first", "second"):
        try:
            actual = traced.run()
        except Exception as error:
            return f"{call} call: {_first_line(error)}"
        if message := reference.difference(actual):
            return f"{call} call: {message}"
    place = _changed(traced.tensors, before)
    return "" if place is None else f"input {place} was changed"


def judge(entry: Any, dtype: torch.dtype, sample_input: Any) -> Verdict:
    """Run a sample by torch_tvm and compare it with eager PyTorch."""
    try:
        sample = make_sample(entry, sample_input)
        reference = _reference(entry, dtype, sample)
    except Unusable as reason:
        return Verdict(Kind.SET_ASIDE, (str(reason),))
    except Exception as error:
        return Verdict(Kind.SET_ASIDE, (f"PyTorch cannot run it: {_first_line(error)}",))
    traced = Sample(sample.trace(), sample.tensors)
    names = tuple(_tensor_operators(traced.function.inlined_graph))
    torch_tvm.reset_stats()
    if message := _wrong(traced, reference):
        return Verdict(Kind.WRONG, (message, *_reasons(traced, [])), names)
    outside = list(_tensor_operators(torch.jit.last_executed_optimized_graph()))
    kind = _kind(outside)
    if kind is Kind.COMPILED:
        return Verdict(kind, reference.reasons, names, _relay_of(traced))
    return Verdict(kind, _reasons(traced, outside), names)


def _relay_of(traced: Sample) -> tuple[str, ...]:
    try:
        return tuple(sorted(set(relay_operators(torch_tvm.to_relay(traced.function, traced.tensors)))))
    except torch_tvm.NotConvertibleError:  # the pass sees constants and aliases that to_relay is not given
        return ()


def sample_inputs(job: Job) -> list[Any]:
    """Make the samples of a job: the same ones at every run."""
    torch.manual_seed(0)
    made = entries()[job.entry].sample_inputs("cpu", getattr(torch, job.dtype), requires_grad=False)
    return list(itertools.islice(made, job.limit))


def count(job: Job) -> int:
    """Say how many samples a job has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return len(sample_inputs(job))


def run_job(job: Job) -> Iterator[int | Outcome]:
    """Give the number of the job's samples and the outcome of each: the runner of the pool."""
    torch_tvm.enable(
        min_group_size=1,
        guard=False,
        compile_process=False,
        max_signatures=MAX_SIGNATURES,
        max_static_signatures=MAX_SIGNATURES,
    )
    logging.getLogger("torch_tvm").setLevel(logging.CRITICAL)  # reasons are counted, not told
    entry, dtype = entries()[job.entry], getattr(torch, job.dtype)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        made = sample_inputs(job)
        yield len(made)
        for index in range(job.start, len(made)):
            verdict = judge(entry, dtype, made[index])
            yield Outcome(
                job.entry, job.dtype, index, verdict.kind, verdict.reasons, verdict.operators, verdict.relay
            )
    torch_tvm.clear_cache()
