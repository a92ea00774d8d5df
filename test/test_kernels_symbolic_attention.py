"""Attention with any number of queries and keys by one function: masks, causal, one block of keys and several."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from kernel_runs import TARGETS, get_target, random_tensor
from symbolic_runs import Case, Values, at, check, grid
from test_kernels_attention import attention

from torch_tvm.kernels.attention import Attention, Schedule, build, default_schedule
from torch_tvm.kernels.extent import Dim, Extent, Size
from torch_tvm.kernels.target import CpuTarget

S = Dim("s", 2, 150, hint=64).extent
LONG = Dim("s", 40, 1300, hint=128).extent
T = Dim("t", 2, 90, hint=20).extent
B = Dim("b", 2, 5, hint=2).extent
VALUES = [*grid(b=[2], s=[2, 11, 16, 17, 33, 150], t=[2, 61]), {"b": 5, "s": 149, "t": 16}]


def schedule_of(sizes: dict[str, Size], diagonal: Size | None, cpu: CpuTarget, threads: int) -> Schedule:
    """What the compiler chooses for the hint."""
    hints = {axis: size.hint if isinstance(size, Extent) else size for axis, size in sizes.items()}
    shift = diagonal.hint if isinstance(diagonal, Extent) else diagonal
    return default_schedule(attention(hints, diagonal=shift), cpu, threads)


def case(
    name: str,
    cpu: CpuTarget,
    sizes: dict[str, Any],
    mask: str = "",
    mask_axes: str = "bhmn",
    diagonal: Any = None,
    threads: int = 1,
    epilogue: bool = False,
    schedule: dict[str, int] | None = None,
) -> Case:
    workload: Attention = attention(
        sizes, mask=mask, mask_axes=mask_axes, diagonal=diagonal, epilogue=epilogue
    )
    chosen = dataclasses.replace(schedule_of(sizes, diagonal, cpu, threads), **(schedule or {}))

    def tensors(values: Values) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        q, k, v = (
            random_tensor(at(view.shape, values), "float32")
            for view in (workload.query, workload.key, workload.value)
        )
        given: list[torch.Tensor] = []
        bias: torch.Tensor | None = None
        if mask:
            operand = workload.scores.inputs[1]  # type: ignore[union-attr]
            given = [random_tensor(at(operand.shape, values), operand.dtype)]
            if diagonal is not None:
                m, n = q.shape[1], k.shape[1]
                (shift,) = at((diagonal,), values)
                given = [torch.ones(m, n, dtype=torch.bool).tril(shift).expand(given[0].shape).contiguous()]
            elif mask == "keep":
                given[0][..., 0] = True
            bias = given[0]
        result = torch.nn.functional.scaled_dot_product_attention(
            *(x.double().transpose(1, 2) for x in (q, k, v)),
            attn_mask=bias if bias is None or bias.dtype == torch.bool else bias.double(),
        ).transpose(1, 2)
        if epilogue:
            given.append(random_tensor(result.shape, "float32"))
            result = result * 0.5 + given[-1]
        return [q, k, v, *given], [result.float()]

    return Case(build(workload, chosen, cpu, name), tensors, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_queries_and_keys(target: str) -> None:
    cpu = get_target(target)
    self_attention = {"b": B, "h": 2, "m": S, "n": S, "k": 16, "v": 16}
    one_head = {**self_attention, "b": 1}
    mask = {"mask": "keep", "mask_axes": "mn"}
    options: dict[str, tuple[dict[str, Size], dict[str, Any]]] = {
        "plain": (self_attention, {"threads": 2}),
        "causal": ({**one_head, "k": 24, "v": 10}, {**mask, "diagonal": 0, "threads": 2}),
        "masked": (self_attention, {"mask": "add", "mask_axes": "bn", "epilogue": True}),
        "longer": ({**one_head, "n": S + T}, {**mask, "diagonal": T}),
        "cross": ({**self_attention, "b": 2, "n": T}, {"mask": "keep", "mask_axes": "bn"}),
        "one_query": ({**one_head, "m": 1}, {"threads": 2}),
        "static_keys": ({**self_attention, "n": 33}, {}),
    }
    names = list(options)[TARGETS.index(target) :: 2]
    cases = {name: case(name, cpu, options[name][0], **options[name][1]) for name in names}
    check(cases, VALUES, cpu)


@pytest.mark.parametrize("target", TARGETS)
def test_several_blocks_of_keys(target: str) -> None:
    cpu = get_target(target)
    sizes = {"b": 1, "h": 2, "m": LONG, "n": LONG, "k": 16, "v": 16}
    cases = {
        "plain": case("plain", cpu, sizes, threads=2),
        "causal": case("causal", cpu, sizes, "keep", "mn", diagonal=0, threads=2),
        "few_queries": case("few_queries", cpu, {**sizes, "m": T}, "add", "n"),
    }
    check(
        cases,
        [{"s": 40, "t": 2}, {"s": 63, "t": 90}, {"s": 512, "t": 5}, {"s": 513, "t": 2}, {"s": 1299, "t": 5}],
        cpu,
    )
