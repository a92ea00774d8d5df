"""Attention against float64: ragged sizes, strides, masks, blocks of keys, special values, both vector widths."""

from __future__ import annotations

import dataclasses
import math
import random
from typing import Any

import pytest
import torch
from kernel_runs import TARGETS, get_target, random_tensor, run, taken, widened

from torch_tvm.kernels.attention import Attention, Schedule, build, default_schedule
from torch_tvm.kernels.expression import Expression, Instruction, Operand, Scalar
from torch_tvm.kernels.matrix_view import MatrixView
from torch_tvm.kernels.target import CpuTarget

Case = tuple[Attention, Schedule]


def scores(
    shape: tuple[int, ...], dtype: str, scale: float, mask: str, mask_shape: tuple[int, ...]
) -> Expression:
    """product * scale, with a mask that is added ("add") or says what to keep ("keep")."""
    scaled = Instruction("multiply", (0, Scalar(scale, dtype)), dtype)
    product = Operand(shape, dtype)
    if mask == "add":
        steps = (scaled, Instruction("add", (2, 1), dtype))
        return Expression((product, Operand(mask_shape, dtype)), steps, (3,), shape)
    if mask == "keep":
        steps = (scaled, Instruction("where", (1, 2, Scalar(-math.inf, dtype)), dtype))
        return Expression((product, Operand(mask_shape, "bool")), steps, (3,), shape)
    return Expression((product,), (scaled,), (1,), shape)


def residual(shape: tuple[int, ...], dtype: str) -> Expression:
    """result * 0.5 + x."""
    steps = (Instruction("multiply", (0, Scalar(0.5, dtype)), dtype), Instruction("add", (2, 1), dtype))
    return Expression((Operand(shape, dtype),) * 2, steps, (3,), shape)


def attention(
    sizes: dict[str, int],
    orders: tuple[str, str, str, str] = ("bmhk", "bnhk", "bnhv", "bmhv"),
    *,
    mask: str = "",
    mask_axes: str = "bhmn",
    diagonal: int | None = None,
    dtype: str = "float32",
    epilogue: bool = False,
) -> Attention:
    """Describe attention over batches "b" and heads "h"; each order names the dims of a tensor, from the outermost."""
    names = {"b": "b0", "h": "b1", "m": "m", "n": "n", "k": "k", "v": "v"}
    views = [MatrixView(tuple(sizes[a] for a in order), tuple(names[a] for a in order)) for order in orders]
    shape = (sizes["b"], sizes["h"], sizes["m"], sizes["n"])
    mask_shape = tuple(sizes[a] if a in mask_axes else 1 for a in "bhmn")
    described = scores(shape, dtype, sizes["k"] ** -0.5, mask, mask_shape)
    behind = residual(views[3].shape, dtype) if epilogue else None
    return Attention(*views, described, diagonal, behind, dtype)


def as_bhxy(tensor: torch.Tensor, view: MatrixView, last: str) -> torch.Tensor:
    """A tensor as [b, h, x, y]; an axis that it lacks gets size 1."""
    names = list(view.extents)
    wanted = ["b0", "b1", *last]
    found = taken(tensor, view).permute([names.index(axis) for axis in wanted if axis in names])
    for position, axis in enumerate(wanted):
        if axis not in names:
            found = found.unsqueeze(position)
    return found


def reference(w: Attention, q: Any, k: Any, v: Any, mask: torch.Tensor | None) -> torch.Tensor:
    """What eager computes, in float64, with the dims of the result in memory."""
    query = as_bhxy(q.double(), w.query, "mk")
    key, value = as_bhxy(k.double(), w.key, "nk"), as_bhxy(v.double(), w.value, "nv")
    products = query @ key.mT * w.k**-0.5
    if mask is not None:
        keep = mask.dtype == torch.bool
        products = products.masked_fill(~mask, -math.inf) if keep else products + mask.double()
    result = products.softmax(-1) @ value
    names = [str(axis) for axis in w.result.axes]
    return result.permute([["b0", "b1", "m", "v"].index(axis) for axis in names])


def operands(w: Attention, special: bool) -> list[torch.Tensor]:
    return [random_tensor(view.shape, w.dtype, special=special) for view in (w.query, w.key, w.value)]


def mask_of(w: Attention) -> list[torch.Tensor]:
    assert isinstance(w.scores, Expression)
    shapes = w.scores.inputs[1:]
    if not shapes:
        return []
    shape, dtype = shapes[0].shape, shapes[0].dtype
    if w.diagonal is not None:
        keep = torch.ones(w.m, w.n).tril(w.diagonal).bool().expand(shape).contiguous()
        return [keep]
    keep = torch.rand(shape) < 0.7
    keep[..., : max(1, shape[-2] // 5), :] &= torch.rand(shape[-1]) < 0.1  # rows with few keys, or with none
    if dtype == "bool":
        return [keep]
    return [torch.where(keep, torch.randn(shape, dtype=getattr(torch, dtype)), -math.inf)]


def check(cases: list[Case], target: CpuTarget, *, special: bool = False) -> None:
    functions = {f"attention_{i}": build(w, s, target, f"attention_{i}") for i, (w, s) in enumerate(cases)}
    arguments, results = {}, []
    for i, (w, s) in enumerate(cases):
        q, k, v = operands(w, special)
        mask = mask_of(w)
        expected = reference(w, q, k, v, *(mask or [None]))
        extras = [torch.randn(w.result.shape, dtype=q.dtype)] if w.epilogue else []
        if extras:
            expected = expected * 0.5 + extras[0]
        memory = torch.full((expected.numel() + 33,), 7, dtype=q.dtype)
        result = memory[1 : expected.numel() + 1].view(w.result.shape)
        arguments[f"attention_{i}"] = [q, k, v, *mask, *extras, result]
        results.append((w, s, memory, result, expected))
    run(functions, arguments, target)
    for w, s, memory, result, expected in results:
        assert torch.equal(result.isnan(), expected.isnan()), (w, s)
        assert torch.equal(result.isinf(), expected.isinf()), (w, s)
        bound = 1e-5 if w.dtype == "float32" else 1e-13
        scale = max(1.0, float(expected.nan_to_num(0, 0, 0).abs().max()))
        error = float((result - expected).nan_to_num(0, 0, 0).abs().max()) / scale
        assert error <= bound, (w, s, error)
        assert memory[0] == 7 and (memory[expected.numel() + 1 :] == 7).all(), (w, s)


def sizes_of(b: int, h: int, m: int, n: int, k: int, v: int) -> dict[str, int]:
    return {"b": b, "h": h, "m": m, "n": n, "k": k, "v": v}


def random_case(rng: random.Random, target: CpuTarget) -> Case:
    sizes = sizes_of(
        rng.choice([1, 2]),
        rng.choice([1, 3]),
        rng.choice([1, 2, 7, 13, 33, 50]),
        rng.choice([1, 3, 16, 31, 40, 65, 100]),
        rng.choice([1, 5, 16, 24]),
        rng.choice([1, 7, 16, 20, 33]),
    )

    def order(axes: str, last: str = "") -> str:
        kept = [a for a in axes if a not in last and (a not in "bh" or rng.random() < 0.8 or "m" in axes)]
        return "".join(rng.sample(kept, len(kept))) + last

    mask = rng.choice(["", "add", "keep"])
    dtype = rng.choice(["float32", "float32", "float64"])
    orders = (order("bhmk"), order("bhnk"), order("bhn", "v"), order("bhm", "v"))
    diagonal = rng.choice([None, 0, -3, sizes["n"] - sizes["m"]]) if mask == "keep" else None
    axes = "mn" if diagonal is not None else rng.choice(["n", "mn", "bn", "bhmn"])
    workload = attention(
        sizes,
        orders,
        mask=mask,
        mask_axes=axes,
        diagonal=diagonal,
        dtype=dtype,
        epilogue=rng.random() < 0.4,
    )
    operands = {name: widened(getattr(workload, name), rng) for name in ("query", "key", "value")}
    workload = dataclasses.replace(workload, **operands)
    schedule = default_schedule(workload, target, rng.choice([1, 2, 3]))
    keys = schedule.width * rng.choice([1, 2, 9])
    blocks = rng.choice([1, 1, 2, 3])
    return workload, dataclasses.replace(
        schedule,
        keys=keys,
        row_blocks=min(blocks, -(-sizes["m"] // schedule.rows)),
        parallel=rng.random() < 0.5,
    )


@pytest.mark.parametrize("spec", TARGETS)
@pytest.mark.parametrize("special", [False, True])
def test_random_attention(spec: str, special: bool) -> None:
    """NaN and infinity reach what eager lets them reach."""
    target = get_target(spec)
    torch.manual_seed(3)
    rng = random.Random(5 + special)
    check([random_case(rng, target) for _ in range(14)], target, special=special)


@pytest.mark.parametrize("spec", TARGETS)
def test_default_schedules(spec: str) -> None:
    """What networks need: projections read in place, one and several blocks of keys, one query."""
    target = get_target(spec)
    torch.manual_seed(4)
    workloads = [
        attention(sizes_of(1, 4, 128, 128, 64, 64)),
        attention(sizes_of(1, 2, 197, 197, 64, 64), mask="add", mask_axes="n"),
        attention(sizes_of(1, 2, 128, 128, 64, 64), mask="keep", mask_axes="mn", diagonal=0),
        attention(sizes_of(1, 1, 700, 700, 40, 40), mask="keep", mask_axes="mn", diagonal=0),
        attention(sizes_of(2, 2, 1, 1100, 64, 80), mask="add", mask_axes="bn"),
        attention(sizes_of(1, 1, 30, 60, 600, 300)),
        # Heads that share keys and values.
        attention(sizes_of(2, 5, 37, 37, 24, 24), ("bmhk", "bnk", "bnv", "bmhv"), mask="keep", diagonal=0),
        attention(sizes_of(1, 3, 1, 19, 16, 7), ("bmhk", "bnk", "bnv", "bmhv"), mask="add", mask_axes="bhn"),
        attention(sizes_of(2, 2, 5, 1, 1, 1), ("bmhk", "nbk", "nbv", "bmhv")),
    ]
    check([(w, default_schedule(w, target, 2)) for w in workloads], target)


def test_values_beyond_the_diagonal_count_if_not_finite() -> None:
    """Their weight is zero, but zero times NaN is NaN in eager."""
    target = get_target("llvm")
    w = attention(sizes_of(1, 1, 20, 20, 8, 8), mask="keep", mask_axes="mn", diagonal=0)
    q, k, v = operands(w, special=False)
    v[0, 19, 0, 3] = math.nan
    mask = torch.ones(1, 1, 20, 20).tril().bool()
    result = torch.empty(w.result.shape)
    function = build(w, default_schedule(w, target), target, "attention")
    run({"attention": function}, {"attention": [q, k, v, mask, result]}, target)
    assert result[0, :, 0, 3].isnan().all()
    assert result[0, :, 0, :3].isfinite().all()


def test_largest_scores_do_not_overflow() -> None:
    target = get_target("llvm")
    w = attention(sizes_of(1, 1, 3, 40, 4, 4))
    q, k, v = operands(w, special=False)
    q *= 1e18
    k *= 1e18
    result = torch.empty(w.result.shape)
    schedule = dataclasses.replace(default_schedule(w, target), keys=default_schedule(w, target).width)
    function = build(w, schedule, target, "attention")
    run({"attention": function}, {"attention": [q, k, v, result]}, target)
    torch.testing.assert_close(result, reference(w, q, k, v, None).float())


def test_impossible_workloads() -> None:
    sizes = sizes_of(1, 2, 3, 4, 5, 6)
    with pytest.raises(ValueError, match="v must be contiguous"):
        attention(sizes, ("bmhk", "bnhk", "bnhv", "bvhm"))
    with pytest.raises(ValueError, match="expected axes"):
        attention(sizes, ("bmhv", "bnhk", "bnhv", "bmhv"))
    with pytest.raises(ValueError, match="float32 or float64"):
        attention(sizes, dtype="float16")
