"""Kernels of symbolic sizes of the rarer families: interleaving, sorting, scattering, searching, pairs of products, decoders."""

from __future__ import annotations

from typing import Any

import torch
from kernel_runs import TARGETS, get_target, random_tensor
from symbolic_runs import Case, Values, at, check, grid

from torch_tvm.kernels import (
    conv_transpose,
    interleave,
    paired_matmul,
    pointwise_depthwise,
    scatter,
    search,
    sort,
    views,
)
from torch_tvm.kernels.conv_shape import Conv2d
from torch_tvm.kernels.conv_transpose import ConvTranspose
from torch_tvm.kernels.expression import Expression, Instruction, Operand
from torch_tvm.kernels.extent import Dim
from torch_tvm.kernels.interleave import Interleave
from torch_tvm.kernels.matrix_view import MatrixView
from torch_tvm.kernels.module import compile_kernels
from torch_tvm.kernels.nest import Schedule
from torch_tvm.kernels.paired_matmul import PairedMatmul
from torch_tvm.kernels.pointwise_depthwise import PointwiseDepthwise
from torch_tvm.kernels.target import CpuTarget

S, B = (dim.extent for dim in (Dim("s", 5, 70, hint=32), Dim("b", 2, 9, hint=4)))
VALUES = grid(b=[2, 9], s=[5, 16, 17, 33, 70])


def tensor(shape: Any, values: Values, dtype: str = "float32") -> torch.Tensor:
    return random_tensor(at(shape, values), dtype)


def packed(build: Any, shape: tuple[int, ...], weights: list[torch.Tensor], cpu: CpuTarget) -> torch.Tensor:
    result = torch.empty(shape)
    compile_kernels({"pack": build}, cpu)["pack"](*weights, result)
    return result


def test_interleaving() -> None:
    cpu = get_target(TARGETS[0])
    halves = tuple(views.View((B, S, 26), (26 * S, 26, 1), first) for first in (0, 13))
    whole = tuple(views.contiguous((B, S)) for _ in range(2))

    def shuffled(values: Values) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        x = tensor((B, S, 26), values)
        return [x, x.clone()], [x.unflatten(2, (2, 13)).transpose(2, 3).flatten(2)]

    def mixed(values: Values) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        x, y = tensor((B, S), values), tensor((B, S), values)
        return [x, y], [torch.stack([x, y], 2).flatten(1)]

    check(
        {
            "shuffled": Case(
                interleave.build(Interleave((B, S, 13), halves), Schedule(16, 8), cpu, "shuffled"), shuffled
            ),
            "mixed": Case(interleave.build(Interleave((B, S), whole), Schedule(16, 1), cpu, "mixed"), mixed),
        },
        VALUES,
        cpu,
    )


def test_sorting_searching_scattering() -> None:
    cpu = get_target(TARGETS[0])
    cases = {}
    for name, (shape, k, select) in {
        "rows": ((B, 20, 1), 20, False),
        "all": ((3, S, B), S, False),
        "few": ((B, S, 1), 4, True),
    }.items():
        workload = sort.Sort(shape, k, descending=select, dtype="float32")

        def sorted_rows(
            values: Values, shape: Any = shape, k: Any = k, down: bool = select
        ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
            x = tensor(shape, values)
            found = x.sort(dim=1, descending=down, stable=True)
            (count,) = at((k,), values)
            return [x], [found.values[:, :count], found.indices[:, :count]]

        cases[name] = Case(sort.build(workload, sort.Schedule(2, select), name), sorted_rows)

    def sought(values: Values) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        rows, x = tensor((B, S), values).sort(1).values, tensor((B, 7), values)
        return [rows, x], [torch.searchsorted(rows, x)]

    cases["search"] = Case(search.build(search.Search((B, S), (B, 7)), search.Schedule(2), "search"), sought)

    def added(values: Values) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        x, update = tensor((S, B), values), tensor((6, B), values)
        index = torch.randint(-values["s"], values["s"], update.shape)
        forward = torch.where(index < 0, index + values["s"], index)
        return [x, index, update], [x.scatter_add(0, forward, update)]

    workload = scatter.Scatter((S, B), (6, B), 0, "add")
    cases["scatter"] = Case(
        scatter.build(workload, scatter.Schedule(2, 1, False), "scatter"), added, rtol=1e-5, atol=1e-5
    )
    check(cases, VALUES, cpu)


def test_pairs_of_products() -> None:
    cpu = get_target(TARGETS[0])
    k, n = 24, 40
    right = MatrixView((n, k), ("n", "k"))

    def of(rows: Any) -> PairedMatmul:
        return PairedMatmul(MatrixView((rows, k), ("m", "k")), (right, right))

    shape = (S, n)
    steps = (Instruction("silu", (0,), "float32"), Instruction("multiply", (2, 1), "float32"))
    gated = Expression((Operand(shape, "float32"),) * 2, steps, (3,), shape)
    schedule = paired_matmul.default_schedule(of(32), cpu, 2)
    weights = [random_tensor((n, k), "float32") for _ in range(2)]
    both = packed(
        paired_matmul.build_pack(of(S), schedule, "pack"),
        paired_matmul.packed_shape(of(S), schedule),
        weights,
        cpu,
    )

    def tensors(values: Values) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        x = tensor((S, k), values)
        return [x, both], [torch.nn.functional.silu(x @ weights[0].T) * (x @ weights[1].T)]

    built = paired_matmul.build(of(S), schedule, cpu, "gated", gated)
    check({"gated": Case(built, tensors, rtol=1e-4, atol=1e-4)}, VALUES, cpu)


def expanded(b: Any, h: Any, w: Any) -> PointwiseDepthwise:
    return PointwiseDepthwise(
        Conv2d(b, h, w, 8, 40, (1, 1)),
        Conv2d(b, h, w, 40, 40, (3, 3), (2, 2), (1, 1, 1, 1), groups=40),
    )


def test_pointwise_and_depthwise() -> None:
    cpu = get_target(TARGETS[0])
    weights = random_tensor((40, 8, 1, 1), "float32"), random_tensor((40, 1, 3, 3), "float32")
    schedule = pointwise_depthwise.default_schedule(expanded(2, 32, 32), cpu, 2)
    workload = expanded(B, S, S + 3)
    shapes = pointwise_depthwise.packed_shapes(workload, schedule)
    builders = pointwise_depthwise.build_packs(workload, schedule, cpu)
    both = [
        packed(build(name="pack"), shape, [weight.reshape(parameter)], cpu)
        for build, shape, weight, parameter in zip(
            builders, shapes, weights, ((40, 8), (40, 1, 3, 3)), strict=True
        )
    ]

    def tensors(values: Values) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        x = tensor(workload.pointwise.input_shape, values)
        wide = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), weights[0])
        result = torch.nn.functional.conv2d(wide, weights[1], stride=2, padding=1, groups=40)
        return [x, *both], [result.permute(0, 2, 3, 1)]

    built = pointwise_depthwise.build(workload, schedule, cpu, "expanded")
    check({"expanded": Case(built, tensors, rtol=1e-4, atol=2e-3)}, VALUES, cpu)


def test_transposed_convolutions() -> None:
    cpu = get_target(TARGETS[0])
    sizes = {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 0, 1, 0)}
    workload = ConvTranspose(B, (S, S + 1), 8, 20, **sizes)
    schedules = conv_transpose.default_schedule(ConvTranspose(4, (32, 33), 8, 20, **sizes), cpu, 2)
    weight = random_tensor(workload.weight_shape, "float32")
    right = packed(
        conv_transpose.build_pack(workload, schedules, "pack"),
        conv_transpose.packed_shape(workload, schedules),
        [weight],
        cpu,
    )

    def tensors(values: Values) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        x = tensor(workload.input_shape, values)
        image = x.permute(0, 3, 1, 2)
        result = torch.nn.functional.conv_transpose2d(image, weight, stride=(2, 1), padding=(1, 0))
        return [x, right], [result.permute(0, 2, 3, 1)]

    built = conv_transpose.build(workload, schedules, cpu, "transposed")
    check({"transposed": Case(built, tensors, rtol=1e-4, atol=2e-3)}, VALUES, cpu)
