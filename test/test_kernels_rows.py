"""softmax, normalisation and reductions against torch: any axes, dtypes, tails, NaN, sources, epilogues, both vector widths."""

from __future__ import annotations

import dataclasses
import math
import random
from typing import Any

import pytest
import torch
from kernel_runs import (
    FLOATS,
    INTS,
    TARGETS,
    assert_close,
    get_target,
    random_tensor,
    run,
    torch_dtype,
    unaligned,
)

from torch_tvm.kernels import normalization, reduction, rows, softmax, views
from torch_tvm.kernels.expression import Expression, Instruction, Operand, Scalar, identity

F = torch.nn.functional
SIZES = [1, 2, 3, 5, 8, 16, 17, 33, 130]


def check(cases: list[tuple[Any, Any, list[torch.Tensor], torch.Tensor, float | None]], target: str) -> None:
    """Each case: a family, its workload, inputs, what torch computes, and a tolerance or None for torch's usual one."""
    cpu = get_target(target)
    functions, arguments = {}, {}
    for number, (family, workload, inputs, expected, _) in enumerate(cases):
        schedule = dataclasses.replace(
            family.default_schedule(workload, cpu, threads=2), tasks=random.choice([1, 3, 8])
        )
        functions[f"k{number}"] = family.build(workload, schedule, cpu, f"k{number}")
        arguments[f"k{number}"] = [*map(unaligned, inputs), unaligned(torch.zeros_like(expected))]
    run(functions, arguments, cpu)
    failures = []
    for number, (_, workload, _, expected, tolerance) in enumerate(cases):
        try:
            torch.testing.assert_close(
                arguments[f"k{number}"][-1], expected, equal_nan=True, rtol=tolerance, atol=tolerance
            )
        except AssertionError as error:
            failures.append(f"{workload}: {error}")
    assert not failures, "\n".join(failures)


def random_shape(rank: int) -> tuple[int, ...]:
    return tuple(random.choice(SIZES if d == rank - 1 else SIZES[:6]) for d in range(rank))


@pytest.mark.parametrize("target", TARGETS)
def test_softmax_of_any_axis(target: str) -> None:
    random.seed(2)
    cases: list[Any] = []
    for _ in range(20):
        shape = random_shape(random.randint(1, 4))
        axis, log = random.randrange(len(shape)), random.random() < 0.3
        dtype = random.choice(["float32", *FLOATS])
        x = random_tensor(shape, dtype)
        # eager's 16-bit log_softmax along inner dimensions rounds in between
        wide = x.double() if dtype.endswith("16") else x
        expected = (torch.log_softmax if log else torch.softmax)(wide, axis).to(x.dtype)
        cases.append((softmax, softmax.of(shape, axis, dtype, log=log), [x], expected, None))
    special = torch.tensor(
        [
            [1.0, math.nan, 2.0],
            [-math.inf] * 3,
            [math.inf, 0.0, 1.0],
            [-math.inf, 0.0, 0.0],
            [1e38, -1e38, 0.0],
        ]
    )
    cases.append((softmax, softmax.of((5, 3), 1), [special], torch.softmax(special, 1), None))
    cases.append((softmax, softmax.of((5, 3), 1, log=True), [special], torch.log_softmax(special, 1), None))
    check(cases, target)


def test_softmax_of_masked_scores() -> None:
    """The source of an attention: scores * scale + mask, the scores read through a permutation."""
    scores, mask = torch.randn(2, 9, 5, 20), torch.zeros(2, 1, 1, 20)
    mask[:, :, :, 13:] = -math.inf
    shape = (2, 5, 9, 20)
    steps = (
        Instruction("multiply", (0, Scalar(0.125, "float32")), "float32"),
        Instruction("add", (2, 1), "float32"),
    )
    source = Expression((Operand(shape, "float32"), Operand((2, 1, 1, 20), "float32")), steps, (3,), shape)
    workload = softmax.Softmax(source, 3, views=(views.permuted((2, 9, 5, 20), (0, 2, 1, 3)), None))
    expected = torch.softmax(scores.transpose(1, 2) * 0.125 + mask, -1)
    check([(softmax, workload, [scores, mask], expected, None)], TARGETS[0])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("threads", [4, 16])
def test_few_long_rows_are_reduced_in_pieces(target: str, threads: int) -> None:
    """Channels of large images, and everything at once: sources and epilogues with views, sums that need care, NaN."""
    cpu = get_target(target)
    operators: dict[str, Any] = {
        "sum": lambda x, axes: x.double().sum(axes).float(),
        "mean": lambda x, axes: x.double().mean(axes).float(),
        "max": torch.amax,
        "min": torch.amin,
    }
    functions, arguments, expected = {}, {}, {}
    for shape, axes in (
        ((1, 64, 48, 20), (1, 2)),
        ((2, 4096, 5), (1,)),
        ((3, 70_000), (1,)),
        ((1 << 18,), (0,)),
    ):
        x, larger = torch.randn(shape) + 1, (*shape[:-1], shape[-1] + 3)
        padded = torch.full(larger, math.nan)
        padded[..., 2:-1] = x
        given = views.View(larger, views.contiguous_strides(larger), 2)
        kept = tuple(size for axis, size in enumerate(shape) if axis not in axes)
        for operator, reference in operators.items():
            values, name = x.clone(), f"{operator}{len(functions)}"
            operands = (Operand(kept, "float32"), Operand(kept[-1:], "float32"))
            epilogue = Expression(operands, (Instruction("multiply", (0, 1), "float32"),), (2,), kept)
            plain = reduction.of(shape, operator, axes)
            workload = dataclasses.replace(plain, epilogue=epilogue, views=(given,))
            schedule = reduction.default_schedule(workload, cpu, threads)
            schedule = dataclasses.replace(schedule, tasks=4 * threads)
            functions[name] = reduction.build(workload, schedule, cpu, name)
            assert str(functions[name]).count("T.parallel") == 1
            assert "alloc_buffer" in str(functions[name])
            scale = torch.randn(kept[-1:])
            arguments[name] = [padded, scale, torch.zeros(kept)]
            expected[name] = reference(values, axes) * scale
    run(functions, arguments, cpu)
    for name, tensors in arguments.items():
        assert_close(name, tensors[-1], expected[name], rtol=2e-6, atol=1e-6)


def test_pieces_propagate_nan() -> None:
    x = torch.randn(1, 4096, 16)
    x[0, 3000, 5] = math.nan
    workload, cpu, result = (
        reduction.of((1, 4096, 16), "max", (1,)),
        get_target(TARGETS[0]),
        torch.zeros(1, 16),
    )
    schedule = dataclasses.replace(reduction.default_schedule(workload, cpu, 8), tasks=32)
    run({"k": reduction.build(workload, schedule, cpu, "k")}, {"k": [x, result]}, cpu)
    assert_close("max", result, x.amax(1), 0, 0)


@pytest.mark.parametrize("target", TARGETS)
def test_layer_norm_and_other_axes(target: str) -> None:
    random.seed(3)
    cases: list[Any] = []
    for case in range(16):
        shape = random_shape(random.randint(1, 4))
        dims, dtype = random.randint(1, len(shape)), random.choice(["float32", *FLOATS])
        x = random_tensor(shape, dtype) + 2
        scale, shift = (random_tensor(shape[len(shape) - dims :], dtype) for _ in range(2))
        expected = F.layer_norm(x, shape[len(shape) - dims :], scale, shift, 1e-5)
        cases.append(
            (
                normalization,
                normalization.layer_norm(shape, dims, 1e-5, dtype),
                [x, scale, shift],
                expected,
                None,
            )
        )
        axes, center = tuple(range(dims)), case % 3 > 0
        wide = x.double() - (x.double().mean(axes, keepdim=True) if center else 0)
        expected = (wide / torch.sqrt((wide * wide).mean(axes, keepdim=True) + 1e-3)).to(x.dtype)
        workload = normalization.Normalize(identity(shape, dtype), axes, 1e-3, center=center)
        cases.append((normalization, workload, [x], expected, None))
    check(cases, target)


def test_group_norm_of_nchw_and_nhwc() -> None:
    x, scale, shift = torch.randn(2, 12, 5, 7), torch.randn(12), torch.randn(12)
    expected = F.group_norm(x, 3, scale, shift)
    grouped = (2, 3, 4, 35)
    affine = normalization.affine_epilogue(grouped, (3, 4, 1), "float32", scale=True, shift=True)
    nchw = normalization.Normalize(identity(grouped, "float32"), (2, 3), 1e-5, epilogue=affine)
    last = (2, 35, 3, 4)
    affine = normalization.affine_epilogue(last, (3, 4), "float32", scale=True, shift=True)
    nhwc = normalization.Normalize(identity(last, "float32"), (1, 3), 1e-5, epilogue=affine)
    nhwc_input, nhwc_expected = (t.permute(0, 2, 3, 1).contiguous().view(last) for t in (x, expected))
    cases: list[Any] = [
        (
            normalization,
            nchw,
            [x.view(grouped), scale.view(3, 4, 1), shift.view(3, 4, 1)],
            expected.view(grouped),
            None,
        ),
        (normalization, nhwc, [nhwc_input, scale.view(3, 4), shift.view(3, 4)], nhwc_expected, None),
    ]
    check(cases, TARGETS[0])


def test_variance_does_not_cancel() -> None:
    x = torch.randn(4, 1000) + 10_000
    expected = F.layer_norm(x.double(), (1000,)).float()
    workload = normalization.layer_norm((4, 1000), 1, scale=False, shift=False)
    check([(normalization, workload, [x], expected, 2e-3)], TARGETS[0])


def reduce_in_torch(x: torch.Tensor, operator: str, axes: tuple[int, ...], keepdims: bool) -> torch.Tensor:
    if operator in ("argmax", "argmin"):
        if len(axes) == x.ndim > 1:
            flat = getattr(x.flatten(), operator)(0)
            return flat.reshape([1] * x.ndim) if keepdims else flat
        return getattr(x, operator)(axes[0], keepdim=keepdims)
    if operator in ("max", "min"):
        return getattr(x, "a" + operator)(axes, keepdim=keepdims)
    if operator == "sum":
        return x.sum(axes, keepdim=keepdims, dtype=x.dtype)
    if operator == "mean":
        return x.mean(axes, keepdim=keepdims)
    if operator == "variance":
        return x.var(axes, keepdim=keepdims)
    for axis in axes:
        x = (
            x.prod(axis, keepdim=True, dtype=x.dtype)
            if operator == "prod"
            else getattr(x, operator)(axis, keepdim=True)
        )
    return x if keepdims else x.reshape([size for d, size in enumerate(x.shape) if d not in axes])


def reduction_input(operator: str, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    if operator in ("all", "any"):
        return torch.rand(shape) < (0.95 if operator == "all" else 0.05)
    if operator == "prod" and dtype in FLOATS:
        return (torch.rand(shape) * 0.2 + 0.9).to(torch_dtype(dtype))
    x = random_tensor(shape, dtype)
    if operator.startswith("arg") and random.random() < 0.5:
        x = x.round() if dtype in FLOATS else x // 4  # many equal elements
    if dtype in FLOATS and operator in ("max", "min", "argmax", "argmin", "sum") and random.random() < 0.4:
        x[torch.rand(shape) < 0.02] = math.nan
    return x


@pytest.mark.filterwarnings("ignore:var.*degrees of freedom")
@pytest.mark.parametrize("target", TARGETS)
def test_reductions_over_any_axes(target: str) -> None:
    random.seed(4)
    cases: list[Any] = []
    for case in range(60):
        operator = reduction.OPERATORS[case % len(reduction.OPERATORS)]
        shape = random_shape(random.randint(1, 4))
        axes = tuple(sorted(random.sample(range(len(shape)), random.randint(1, len(shape)))))
        axes = axes[:1] if operator.startswith("arg") and len(axes) < len(shape) else axes
        dtype = random.choice(["float32", *FLOATS, *([] if operator in ("mean", "variance") else INTS)])
        dtype = "bool" if operator in ("all", "any") else dtype
        keepdims = random.random() < 0.5
        x = reduction_input(operator, shape, dtype)
        tolerance = (
            2e-2 if operator == "prod" and dtype.endswith("16") else None
        )  # eager rounds every product
        expected = reduce_in_torch(x, operator, axes, keepdims)
        cases.append(
            (
                reduction,
                reduction.of(shape, operator, axes, dtype, keepdims=keepdims),
                [x],
                expected,
                tolerance,
            )
        )
    check(cases, target)


@pytest.mark.parametrize("operator", ["argmax", "argmin"])
def test_extremum_of_equal_elements_is_the_first(operator: str) -> None:
    cases: list[Any] = []
    for dtype, value in (
        ("float32", -math.inf),
        ("float32", math.inf),
        ("float32", math.nan),
        ("int64", -(2**63)),
        ("uint8", 255),
    ):
        x = torch.full((3, 50), value, dtype=torch_dtype(dtype))
        cases.append(
            (
                reduction,
                reduction.of((3, 50), operator, (1,), dtype),
                [x],
                torch.zeros(3, dtype=torch.int64),
                0.0,
            )
        )
    check(cases, TARGETS[0])


def test_sums_are_as_exact_as_eagers() -> None:
    ones = torch.full((1, 3_000_001), 0.1)
    for shape, axes in (((1, 3_000_001), (1,)), ((3_000_001, 1), (0,))):
        exact = ones.double().sum().item()
        result = torch.zeros(1)
        cpu = get_target(TARGETS[0])
        workload = reduction.of(shape, "sum", axes)
        function = reduction.build(workload, reduction.default_schedule(workload, cpu, 1), cpu, "k")
        run({"k": function}, {"k": [ones.reshape(shape), result]}, cpu)
        assert abs(result.item() - exact) <= max(abs(ones.sum().item() - exact), exact * 2**-22)
    many = torch.rand(3_000_000 // 16, 16)
    workload = reduction.of(tuple(many.shape), "sum", (0,))
    sums = many.double().sum(0)
    check([(reduction, workload, [many], sums.float(), 3e-7 * sums.max().item())], TARGETS[0])


def test_source_and_epilogue_of_a_reduction() -> None:
    """Root mean square of a difference, plus a vector."""
    x, y, bias = torch.randn(6, 40), torch.randn(40), torch.randn(6)
    operand = Operand((6, 40), "float32")
    steps = (Instruction("subtract", (0, 1), "float32"), Instruction("multiply", (2, 2), "float32"))
    source = Expression((operand, Operand((40,), "float32")), steps, (3,), (6, 40))
    after = (Instruction("sqrt", (0,), "float32"), Instruction("add", (2, 1), "float32"))
    epilogue = Expression((Operand((6,), "float32"),) * 2, after, (3,), (6,))
    workload = reduction.Reduce(source, "mean", (1,), epilogue=epilogue)
    check([(reduction, workload, [x, y, bias], (x - y).square().mean(1).sqrt() + bias, None)], TARGETS[0])


def test_malformed_workloads_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown reduction 'median'"):
        reduction.of((4, 4), "median", (0,))
    with pytest.raises(ValueError, match="mean takes a floating-point dtype, got int32"):
        reduction.of((4, 4), "mean", (0,), "int32")
    with pytest.raises(ValueError, match="only they take bool; all got float32"):
        reduction.of((4, 4), "all", (0,))
    with pytest.raises(ValueError, match="distinct and not negative"):
        reduction.of((4, 4), "sum", (-1,))
    with pytest.raises(ValueError, match="at least one element"):
        softmax.of((0, 4), 1)
    with pytest.raises(ValueError, match="softmax takes a floating-point dtype, got int64"):
        softmax.of((4,), 0, "int64")
    with pytest.raises(ValueError, match="the epilogue's input 0 and shape are"):
        normalization.Normalize(identity((4, 4), "float32"), (1,), 1e-5, epilogue=identity((4,), "float32"))
    assert rows.accumulation_dtype("bfloat16") == "float32"
