"""Loops of element-wise kernels: broadcasting, views, tails, tasks, alignment; what they compute is test_kernels_expression's."""

from __future__ import annotations

import random

import pytest
import torch
from kernel_runs import TARGETS, assert_close, get_target, random_tensor, run, unaligned

from torch_tvm.kernels import elementwise, views
from torch_tvm.kernels.elementwise import Elementwise, Schedule
from torch_tvm.kernels.expression import Expression, Instruction, Operand, identity

SIZES = [1, 2, 3, 5, 8, 15, 16, 17, 33, 40]


def permutation(rank: int) -> tuple[int, ...]:
    return tuple(random.sample(range(rank), rank))


def sum_and_comparison(shape: tuple[int, ...], shapes: list[tuple[int, ...]], dtype: str) -> Expression:
    """max(a + b, a) and a < b."""
    steps = (
        Instruction("add", (0, 1), dtype),
        Instruction("maximum", (2, 0), dtype),
        Instruction("less", (0, 1), "bool"),
    )
    return Expression(tuple(Operand(s, dtype) for s in shapes), steps, (3, 4), shape)


@pytest.mark.parametrize("target", TARGETS)
def test_random_broadcasts_and_permutations(target: str) -> None:
    random.seed(1)
    cpu = get_target(target)
    functions, arguments, expected = {}, {}, {}
    for case in range(48):
        dtype = random.choice(["float32", "float32", "float64", "int32", "int8", "float16", "bfloat16"])
        shape = tuple(random.choice(SIZES) for _ in range(random.randint(0, 4)))
        shapes = []
        for _ in range(2):
            kept = tuple(size if random.random() < 0.7 else 1 for size in shape)
            shapes.append(kept[random.randint(0, len(kept)) :] if random.random() < 0.3 else kept)
        a, b = (random_tensor(s, dtype) for s in shapes)
        axes = permutation(len(shapes[0]))
        stored = a.permute(axes).contiguous()
        view = views.permuted(tuple(stored.shape), [axes.index(d) for d in range(len(axes))])
        out_axes = permutation(len(shape))
        out_shape = tuple(shape[d] for d in out_axes)
        out_view = views.permuted(out_shape, [out_axes.index(d) for d in range(len(shape))])
        workload = Elementwise(sum_and_comparison(shape, shapes, dtype), (view, None), (out_view, None))
        schedule = elementwise.default_schedule(workload, cpu, threads=2)
        schedule = Schedule(schedule.lanes, random.choice([1, 2, 8, 16]))
        name = f"k{case}"
        functions[name] = elementwise.build(workload, schedule, cpu, name)
        whole = torch.maximum(a + b, a).expand(shape)
        expected[name] = [whole.permute(out_axes), (a < b).expand(shape)]
        outputs = [unaligned(torch.zeros(e.shape, dtype=e.dtype)) for e in expected[name]]
        arguments[name] = [unaligned(stored), unaligned(b), *outputs]
    run(functions, arguments, cpu)
    for name, wanted in expected.items():
        for got, want in zip(arguments[name][2:], wanted, strict=True):
            assert_close(functions[name], got, want, rtol=0, atol=0)


def test_slices_flips_and_expansions() -> None:
    x = torch.randn(6, 10, 7)
    cases = {
        "slice": (x[1:5:2, 2:9:3, 1:], views.View((6, 10, 7), (140, 21, 1), 70 + 14 + 1)),
        "flip": (x.flip(2), views.View((6, 10, 7), (70, 7, -1), 6)),
        "expand": (x[:, :1].expand(6, 10, 7), views.View((6, 10, 7), (70, 0, 1))),
        "diagonal": (x.diagonal(dim1=0, dim2=2).contiguous(), views.View((6, 10, 7), (7, 71))),
    }
    cpu = get_target(TARGETS[0])
    functions, arguments = {}, {}
    for name, (wanted, view) in cases.items():
        workload = Elementwise(identity(tuple(wanted.shape), "float32"), (view,))
        functions[name] = elementwise.build(
            workload, elementwise.default_schedule(workload, cpu, 2), cpu, name
        )
        arguments[name] = [x, torch.zeros(wanted.shape)]
    run(functions, arguments, cpu)
    for name, (wanted, _) in cases.items():
        assert torch.equal(arguments[name][1], wanted), name


def test_output_view_writes_nothing_else() -> None:
    """A concatenation: two kernels write their parts of one tensor."""
    a, b = torch.randn(5, 3, 4), torch.randn(5, 6, 4)
    cpu = get_target(TARGETS[0])
    functions, arguments, result = {}, {}, torch.zeros(5, 9, 4)
    for name, part, offset in (("a", a, 0), ("b", b, 12)):
        workload = Elementwise(
            identity(tuple(part.shape), "float32"), (None,), (views.View((5, 9, 4), (36, 4, 1), offset),)
        )
        functions[name] = elementwise.build(
            workload, elementwise.default_schedule(workload, cpu, 1), cpu, name
        )
        arguments[name] = [part, result]
    run(functions, {"b": arguments["b"]}, cpu)
    assert torch.equal(result[:, :3], torch.zeros(5, 3, 4)) and torch.equal(result[:, 3:], b)
    run(functions, {"a": arguments["a"]}, cpu)
    assert torch.equal(result, torch.cat([a, b], 1))


@pytest.mark.parametrize("size", [1, 15, 16, 17, 100_003])
def test_nothing_is_written_past_the_end(size: int) -> None:
    cpu = get_target(TARGETS[0])
    workload = Elementwise(identity((size,), "float32"))
    schedule = elementwise.default_schedule(workload, cpu, threads=2)
    guarded = torch.full((size + 64,), 7.0)
    x = torch.randn(size)
    function = elementwise.build(workload, schedule, cpu, "k")
    run({"k": function}, {"k": [x, guarded[:size]]}, cpu)
    assert torch.equal(guarded[:size], x) and bool((guarded[size:] == 7.0).all())


def test_small_work_is_not_parallel_and_large_work_is() -> None:
    cpu = get_target(TARGETS[0])
    small, large = (Elementwise(identity((n,), "float32")) for n in (1000, 4_000_000))
    assert elementwise.default_schedule(small, cpu, threads=2).tasks == 1
    assert elementwise.default_schedule(large, cpu, threads=1).tasks == 1
    schedule = elementwise.default_schedule(large, cpu, threads=2)
    assert schedule.tasks >= 2
    assert "T.parallel" in str(elementwise.build(large, schedule, cpu, "k"))


def test_malformed_workloads_are_refused() -> None:
    copy = identity((4, 4), "float32")
    with pytest.raises(ValueError, match=r"at least one element, got shape \(0, 4\)"):
        Elementwise(identity((0, 4), "float32"))
    with pytest.raises(ValueError, match="there are 1 inputs, got 2 views"):
        Elementwise(copy, (None, None))
    with pytest.raises(ValueError, match=r"input of shape \(4, 4\) needs 2 strides"):
        Elementwise(copy, (views.View((16,), (1,)),))
    with pytest.raises(ValueError, match=r"input reads elements 0 to 18 of a tensor of shape \(4, 4\)"):
        Elementwise(copy, (views.View((4, 4), (5, 1)),))


def test_strides_are_those_of_torch() -> None:
    tensor = torch.zeros(3, 4, 5)
    assert views.contiguous_strides((3, 4, 5)) == tensor.stride()
    assert views.permuted((3, 4, 5), (2, 0, 1)).strides == tensor.permute(2, 0, 1).stride()
    assert views.contiguous_strides(()) == ()
