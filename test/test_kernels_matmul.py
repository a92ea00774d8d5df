"""Matrix products against float64: ragged sizes, views, packed and run-time operands, epilogues, both vector widths."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable

import pytest
import torch
from kernel_runs import get_target, taken, widened

from torch_tvm.kernels import tiling
from torch_tvm.kernels.expression import Expression, Instruction, Operand, Scalar
from torch_tvm.kernels.matmul import Matmul, Schedule, build, build_pack, default_schedule, packed_shape
from torch_tvm.kernels.matrix_view import MatrixView, Part
from torch_tvm.kernels.module import compile_kernels
from torch_tvm.kernels.target import CpuTarget

TARGETS = ["llvm -mcpu=skylake-avx512", "llvm -mcpu=haswell", "llvm -mcpu=x86-64"]
Case = tuple[Matmul, Schedule, Expression | None]


def as_matrix(tensor: torch.Tensor, view: MatrixView, order: list[str]) -> torch.Tensor:
    """The view that MatrixView describes, with its axes in `order`; missing ones get size 1."""
    picked = taken(tensor, view)
    names = list(view.extents)
    picked = picked.permute([names.index(axis) for axis in order if axis in names])
    for position, axis in enumerate(order):
        if axis not in names:
            picked = picked.unsqueeze(position)
    return picked


def random_tensor(shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    if dtype.startswith("float"):
        return torch.randn(shape, dtype=getattr(torch, dtype))
    return torch.randint(-9, 9, shape, dtype=getattr(torch, dtype))


def reference(workload: Matmul, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The product in float64 (integers: exactly), in the shape of `workload.c`."""
    wide = torch.float64 if workload.dtype.startswith("float") else torch.int64
    batch = list(workload.batch)
    left = as_matrix(a.to(wide), workload.a, [*batch, "m", "k"])
    right = as_matrix(b.to(wide), workload.b, [*batch, "k", "n"])
    result = torch.matmul(left, right)
    order = [*batch, "m", "n"]
    return result.permute([order.index(str(axis)) for axis in workload.c.axes])


def check(cases: list[Case], target: CpuTarget) -> None:
    functions = {}
    for i, (workload, schedule, epilogue) in enumerate(cases):
        functions[f"matmul_{i}"] = build(workload, schedule, target, f"matmul_{i}", epilogue)
        if workload.packed:
            functions[f"pack_{i}"] = build_pack(workload, schedule, target, f"pack_{i}")
    compiled = compile_kernels(functions, target)
    for i, (workload, schedule, epilogue) in enumerate(cases):
        a = random_tensor(workload.a.shape, workload.dtype)
        b = random_tensor(workload.b.shape, workload.dtype)
        expected = reference(workload, a, b)
        right = b
        if workload.packed:
            right = torch.full(packed_shape(workload, schedule), 7, dtype=b.dtype)
            compiled[f"pack_{i}"](b, right)
        extras = [random_tensor(o.shape, o.dtype) for o in epilogue.inputs[1:]] if epilogue else []
        if epilogue:
            expected = EPILOGUES[len(epilogue.instructions)](expected, *(e.double() for e in extras))
        # Outputs lie between guards, at an address that is aligned to nothing but their elements.
        size = math.prod(workload.c.shape)
        memory = torch.full((size + 33,), 7, dtype=a.dtype)
        result = memory[1 : size + 1].view(workload.c.shape)
        compiled[f"matmul_{i}"](a, right, *extras, result)
        scale = max(1.0, float(expected.abs().max()))
        tolerance = 0 if not a.dtype.is_floating_point else 2e-5 if workload.dtype == "float32" else 1e-13
        error = float((result - expected).abs().max()) / scale
        assert error <= tolerance, (workload, schedule, epilogue, error)
        assert memory[0] == 7 and (memory[size + 1 :] == 7).all(), (workload, schedule)


def bias_relu(shape: tuple[int, ...], dtype: str) -> Expression:
    return Expression(
        (Operand(shape, dtype), Operand(shape[-1:], dtype)),
        (Instruction("add", (0, 1), dtype), Instruction("relu", (2,), dtype)),
        (3,),
        shape,
    )


def gelu_residual(shape: tuple[int, ...], dtype: str) -> Expression:
    """Five instructions, among them an expensive one, and every kind of operand: full, column, scalar."""
    column = (*shape[:-1], 1)
    return Expression(
        (Operand(shape, dtype), Operand(shape, dtype), Operand(column, dtype), Operand((), dtype)),
        (
            Instruction("gelu", (0,), dtype),
            Instruction("add", (4, 1), dtype),
            Instruction("multiply", (5, 2), dtype),
            Instruction("subtract", (6, 3), dtype),
            Instruction("multiply", (7, Scalar(0.5, dtype)), dtype),
        ),
        (8,),
        shape,
    )


EPILOGUES: dict[int, Callable[..., torch.Tensor]] = {
    2: lambda x, bias: torch.relu(x + bias),
    5: lambda x, full, column, scalar: ((torch.nn.functional.gelu(x) + full) * column - scalar) * 0.5,
}


def two_dimensional(m: int, n: int, k: int, *, transposed: bool = True, packed: bool = True) -> Matmul:
    b = MatrixView((n, k), ("n", "k")) if transposed else MatrixView((k, n), ("k", "n"))
    return Matmul(MatrixView((m, k), ("m", "k")), b, MatrixView((m, n), ("m", "n")), packed)


def random_case(rng: random.Random, target: CpuTarget) -> Case:
    """A product with shuffled dimensions, fixed indices, parts of dimensions and missing batch axes."""
    sizes = {
        "m": rng.choice([1, 2, 5, 7, 13, 33, 61]),
        "n": rng.choice([1, 3, 8, 16, 17, 31, 64, 70, 100]),
        "k": rng.choice([1, 2, 9, 16, 33, 50]),
        "b0": rng.choice([1, 2, 3]),
        "b1": rng.choice([1, 2]),
    }
    batch = ["b0", "b1"][: rng.randrange(3)]
    packed = rng.random() < 0.4

    def view(axes: list[str], *, result: bool = False) -> MatrixView:
        named: list[str | int] = list(axes)
        rng.shuffle(named)
        if result:
            while named[-1] not in (("n",) if packed else ("m", "n")):
                rng.shuffle(named)
        elif rng.random() < 0.3:
            named.insert(rng.randrange(len(named) + 1), 1)
        made = MatrixView(tuple(3 if isinstance(x, int) else sizes[x] for x in named), tuple(named))
        return made if result else widened(made, rng)

    def some(axes: list[str]) -> list[str]:
        return [axis for axis in axes if rng.random() < 0.7]

    workload = Matmul(
        view([*some(batch), "m", "k"]),
        view([*some(batch), "k", "n"]),
        view([*batch, "m", "n"], result=True),
        packed,
        rng.choice(["float32", "float32", "float32", "float64", "int32", "int64"]),
    )
    make = rng.choice([None, bias_relu, gelu_residual])
    if not workload.dtype.startswith("float"):
        make = None
    epilogue = make(workload.c.shape, workload.dtype) if make else None
    schedule = default_schedule(workload, target, rng.choice([1, 2, 3]))
    schedule = dataclasses.replace(
        schedule,
        parallel=rng.random() < 0.5,
        row_blocks=rng.choice([1, 1, 2, 3]),
        rows_first=rng.random() < 0.5,
    )
    return workload, schedule, epilogue


@pytest.mark.parametrize("spec", TARGETS)
def test_random_products(spec: str) -> None:
    target = get_target(spec)
    rng = random.Random(20)
    check([random_case(rng, target) for _ in range(24)], target)


@pytest.mark.parametrize("spec", TARGETS[:2])
def test_every_way_to_read_the_right_operand(spec: str) -> None:
    """Each of packed, copied and direct, with whole and with ragged panels, contiguous and transposed."""
    target = get_target(spec)
    cases: list[Case] = []
    for n in (64, 75):
        for transposed in (False, True):
            for right in ("packed", "copied", "direct"):
                if right == "direct" and transposed:
                    continue
                workload = two_dimensional(70, n, 37, transposed=transposed, packed=right == "packed")
                schedule = dataclasses.replace(default_schedule(workload, target), right=right, vectors=2)
                schedule = dataclasses.replace(schedule, rows=min(schedule.rows, 5))
                cases.append((workload, schedule, bias_relu(workload.c.shape, "float32")))
    check(cases, target)


def test_attention_reads_and_writes_views() -> None:
    """Scores and context of [batch, sequence, head, depth] tensors, no transposed copy anywhere."""
    target = get_target("llvm")
    batch, heads, sequence, depth = 2, 3, 35, 20
    tensor = (batch, sequence, heads, depth)
    queries = MatrixView(tensor, ("b0", "m", "b1", "k"))
    keys = MatrixView(tensor, ("b0", "n", "b1", "k"))
    values = MatrixView(tensor, ("b0", "k", "b1", "n"))
    weights = (batch, heads, sequence, sequence)
    scores = Matmul(queries, keys, MatrixView(weights, ("b0", "b1", "m", "n")))
    context = Matmul(
        MatrixView(weights, ("b0", "b1", "m", "k")), values, MatrixView(tensor, ("b0", "m", "b1", "n"))
    )
    mask = Expression(
        (Operand(weights, "float32"), Operand((batch, 1, 1, sequence), "float32")),
        (Instruction("add", (0, 1), "float32"), Instruction("relu", (2,), "float32")),
        (3,),
        weights,
    )
    check(
        [
            (scores, default_schedule(scores, target, 2), mask),
            (context, default_schedule(context, target, 2), None),
        ],
        target,
    )


@pytest.mark.parametrize("spec", TARGETS[:2])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_default_schedule_fits_the_registers(spec: str, threads: int) -> None:
    target = get_target(spec)
    for m in (1, 3, 49, 128, 3136):
        for n in (1, 10, 64, 1000, 768):
            for k in (1, 64, 3072):
                schedule = default_schedule(two_dimensional(m, n, k), target, threads)
                used = schedule.rows * schedule.vectors * schedule.chains + schedule.vectors + 1
                assert used <= target.vector_registers, schedule
                assert schedule.rows <= m
                if schedule.parallel:
                    panels = -(-n // schedule.width)
                    tiles = -(-m // schedule.rows)
                    busiest, finest = (
                        tiling.imbalance(panels, tiles, parts, threads)
                        for parts in (schedule.row_blocks, min(tiles, 4 * threads))
                    )
                    assert busiest <= max(tiling.MOST_IMBALANCE, finest), schedule


def test_tiny_products_stay_on_one_thread() -> None:
    target = get_target("llvm")
    assert not default_schedule(two_dimensional(4, 32, 32), target, 2).parallel
    assert default_schedule(two_dimensional(128, 768, 768), target, 2).parallel


def test_threads_share_the_rows_where_activations_outweigh_weights() -> None:
    target = get_target(TARGETS[0])
    for threads in (2, 4):
        many = default_schedule(two_dimensional(3136, 144, 24), target, threads)
        assert many.rows_first and many.row_blocks == threads
    # Weights of 614 KB beside activations of 219 KB; and fewer tiles than threads would keep busy.
    assert not default_schedule(two_dimensional(49, 160, 960), target, 2).rows_first
    assert not default_schedule(two_dimensional(196, 96, 64), target, 32).rows_first


def test_two_outputs() -> None:
    """An epilogue may keep the product beside what it makes of it."""
    target = get_target("llvm")
    workload = two_dimensional(9, 40, 12)
    schedule = default_schedule(workload, target)
    shape = workload.c.shape
    both = Expression(
        (Operand(shape, "float32"),),
        (Instruction("greater", (0, Scalar(0.0, "float32")), "bool"),),
        (0, 1),
        shape,
    )
    compiled = compile_kernels(
        {
            "pack": build_pack(workload, schedule, target, "pack"),
            "both": build(workload, schedule, target, "both", both),
        },
        target,
    )
    a, b = torch.randn(9, 12), torch.randn(40, 12)
    packed = torch.empty(packed_shape(workload, schedule))
    product, positive = torch.empty(shape), torch.empty(shape, dtype=torch.bool)
    compiled["pack"](b, packed)
    compiled["both"](a, packed, product, positive)
    torch.testing.assert_close(product, a @ b.T)
    assert torch.equal(positive, product > 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: two_dimensional(0, 3, 4), "extents of at least 1"),
        (
            lambda: Matmul(
                MatrixView((2, 3), ("m", "k")), MatrixView((4, 5), ("k", "n")), MatrixView((2, 5), ("m", "n"))
            ),
            "expected axes",
        ),
        (
            lambda: Matmul(
                MatrixView((7, 2, 3), ("b0", "m", "k")),
                MatrixView((3, 5), ("k", "n")),
                MatrixView((2, 5), ("m", "n")),
            ),
            "batch axes that the result .* lacks",
        ),
        (
            lambda: Matmul(
                MatrixView((2, 3), ("m", "k")),
                MatrixView((3, 5), ("k", "n")),
                MatrixView((5, 2), ("n", "m")),
                True,
            ),
            "n must be contiguous",
        ),
        (lambda: MatrixView((2, 3), ("m", "m")), "once each"),
        (lambda: MatrixView((2, 3), ("m", 3)), "outside a dimension of size 3"),
        (lambda: MatrixView((2, 3), ("m", Part("n", 2, 2))), "outside a dimension of size 3"),
        (lambda: MatrixView((2, 3), ("m", Part("m", 0, 2))), "once each"),
    ],
)
def test_impossible_workloads(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_epilogue_of_another_shape() -> None:
    workload = two_dimensional(4, 5, 6)
    target = get_target("llvm")
    with pytest.raises(ValueError, match="epilogue's shape and first input"):
        build(workload, default_schedule(workload, target), target, "f", bias_relu((5, 4), "float32"))


@pytest.mark.parametrize("spec", TARGETS[:2])
def test_batch_without_own_weights_is_more_rows(spec: str) -> None:
    """Weights are read once for a whole batch, unless the epilogue tells images apart."""
    target = get_target(spec)
    cases: list[Case] = []
    for sequence in (1, 5):
        shape = (8, sequence, 24)
        workload = Matmul(
            MatrixView((8, sequence, 20), ("b0", "m", "k")),
            MatrixView((24, 20), ("n", "k")),
            MatrixView(shape, ("b0", "m", "n")),
            packed=True,
        )
        assert workload.with_contiguous_rows().m == 8 * sequence
        schedule = default_schedule(workload, target)
        assert schedule.rows > 2
        per_image = Expression(
            (Operand(shape, "float32"), Operand((8, 1, 24), "float32")),
            (Instruction("add", (0, 1), "float32"), Instruction("relu", (2,), "float32")),
            (3,),
            shape,
        )
        for epilogue in (None, bias_relu(shape, "float32"), gelu_residual(shape, "float32"), per_image):
            cases.append((workload, schedule, epilogue))
    check(cases, target)
