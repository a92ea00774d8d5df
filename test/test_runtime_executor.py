"""Plans made by hand, run on torch tensors: values, strides, threads and errors as eager has them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from runtime_plans import add, double, multiply_add, one_step, pointwise

import torch_tvm
from torch_tvm.runtime import Executor, arena_bytes, release_memory

Tensor = torch.Tensor
View = Callable[[Tensor], Tensor]


def doubling(example: Tensor, order: tuple[int, ...], result: Tensor) -> Executor:
    """A plan for `x + x` whose buffers have the physical order of the example."""
    shape = tuple(example.shape[i] for i in order)
    plan = one_step("double", pointwise("double", 1, shape, double), [shape], shape)
    return Executor(plan, [example], [result])


def assert_same(got: Tensor, expected: Tensor) -> None:
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert got.stride() == expected.stride()
    assert torch.equal(got, expected)


def test_steps_run_in_order_through_the_arena() -> None:
    inputs = [torch.randn(3, 5) for _ in range(3)]
    run = Executor(multiply_add((3, 5)), inputs, [inputs[0]])
    for _ in range(2):
        inputs = [torch.randn(3, 5) for _ in range(3)]
        (result,) = run(*inputs)
        assert_same(result, inputs[0] * inputs[1] + inputs[2])


def test_many_buffers() -> None:
    """More DLTensors than fit the stack."""
    count = 40
    inputs = [torch.randn(7) for _ in range(count)]
    total = pointwise("total", count, (7,), lambda *values: sum(values[1:], start=values[0]))
    run = Executor(one_step("total", total, [(7,)] * count, (7,)), inputs, [inputs[0]])
    (result,) = run(*inputs)
    torch.testing.assert_close(result, torch.stack(inputs).sum(0))


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool], ids=str
)
def test_dtypes(dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    a, b = (torch.rand(9).mul(8).to(dtype) for _ in range(2))
    either = pointwise("either", 2, (9,), lambda x, y: x | y if name == "bool" else x + y, name)
    run = Executor(one_step("either", either, [(9,), (9,)], (9,), name), [a, b], [a])
    assert_same(run(a, b)[0], a + b)


VIEWS: dict[str, tuple[tuple[int, ...], tuple[int, ...], View]] = {
    # shape that the kernel writes, its order in the result, and eager's result from that
    "contiguous": ((2, 3, 4, 5), (0, 1, 2, 3), lambda y: y),
    "scalar": ((), (), lambda y: y),
    "channels_last": ((2, 4, 5, 3), (0, 2, 3, 1), lambda y: y.permute(0, 3, 1, 2)),
    "channels_last_one_image": ((1, 4, 5, 3), (0, 2, 3, 1), lambda y: y.permute(0, 3, 1, 2)),
    "channels_last_3d": ((2, 4, 5, 2, 3), (0, 2, 3, 4, 1), lambda y: y.permute(0, 4, 1, 2, 3)),
    "transposed": ((3, 4), (1, 0), lambda y: y.t()),
    "permuted": ((2, 3, 4), (2, 0, 1), lambda y: y.permute(1, 2, 0)),
    "empty": ((2, 0, 3), (0, 1, 2), lambda y: y),
    "empty_transposed": ((0, 3), (0, 1), lambda y: y.t()),
}


@pytest.mark.parametrize("name", VIEWS)
def test_output_strides(name: str) -> None:
    written, _, view = VIEWS[name]
    x = torch.randn(written)
    expected = view(x + x)
    plan = one_step("double", pointwise("double", 1, written, double), [written], written)
    assert_same(Executor(plan, [x], [expected])(x)[0], expected)


SPARSE: dict[str, tuple[tuple[int, ...], View]] = {
    # the order in which the kernel writes, and eager's result from its input
    "sliced": ((0, 1), lambda y: y[:, 1:3]),
    "stepped": ((0, 1), lambda y: y[::2]),
    "transposed_sliced": ((1, 0), lambda y: y.t()[1:4]),
    "expanded": ((0, 1, 2), lambda y: y.unsqueeze(1).expand(4, 3, 6)),
    "expanded_row": ((0, 1), lambda y: y[:1].expand(5, 6)),
    "unfolded": ((0, 1, 2), lambda y: y.unfold(1, 3, 1)),
    "broadcast": ((0, 1), lambda y: y.as_strided((2, 3), (0, 2))),
}


@pytest.mark.parametrize("name", SPARSE)
def test_output_with_gaps_or_shared_elements(name: str) -> None:
    """The kernel writes every value once, without gaps; the result has eager's strides."""
    order, view = SPARSE[name]
    x = torch.randn(4, 6)
    expected = view(x + x)
    written = view(x).permute(order).contiguous()
    shape = tuple(written.shape)
    plan = one_step("double", pointwise("double", 1, shape, double), [shape], shape)
    assert_same(Executor(plan, [written], [expected])(written)[0], expected)


INPUTS: dict[str, Callable[[], Tensor]] = {
    "contiguous": lambda: torch.randn(4, 6),
    "unaligned": lambda: torch.randn(25)[1:].view(4, 6),
    "transposed": lambda: torch.randn(6, 4).t(),
    "sliced": lambda: torch.randn(4, 9)[:, 2:8],
    "expanded": lambda: torch.randn(6).expand(4, 6),
    "expanded_scalar": lambda: torch.randn(()).expand(4, 6),
    "stepped": lambda: torch.randn(8, 6)[::2],
    "unfolded": lambda: torch.randn(9).unfold(0, 6, 1),
}


@pytest.mark.parametrize("name", INPUTS)
def test_input_strides(name: str) -> None:
    """A plan for contiguous inputs takes every other; the caller's tensor stays as it was."""
    x = INPUTS[name]()
    before = x.clone()
    plan = one_step("double", pointwise("double", 1, (4, 6), double), [(4, 6)], (4, 6))
    run = Executor(plan, [torch.empty(4, 6)], [torch.empty(4, 6)])
    assert_same(run(x)[0], (x + x).contiguous())
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", ["channels_last", "channels_last_one_image", "transposed", "permuted"])
def test_input_of_another_order_than_the_plan(name: str) -> None:
    written, order, view = VIEWS[name]
    example = view(torch.empty(written))
    run = doubling(example, order, example)
    for x in (view(torch.randn(written)), torch.randn(example.shape), torch.randn(example.shape)[..., :]):
        assert_same(run(x)[0], torch.empty_like(example).copy_(x + x))


def test_input_in_place_is_not_copied() -> None:
    """Reading in place is seen by what memory the profiler counts: one output, no copy."""
    x = torch.randn(2, 3, 64, 64).to(memory_format=torch.channels_last)
    run = doubling(x, (0, 2, 3, 1), x)
    with torch.profiler.profile(profile_memory=True) as profile:
        run(x)
    assert not {event.key for event in profile.key_averages()} & {
        "aten::copy_",
        "aten::contiguous",
        "aten::clone",
    }


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradient_modes(mode: Callable[[], torch.no_grad]) -> None:
    x = torch.randn(6, 4, requires_grad=True).t()
    plan = one_step("double", pointwise("double", 1, (4, 6), double), [(4, 6)], (4, 6))
    run = Executor(plan, [torch.empty(4, 6)], [torch.empty(4, 12)[:, ::2]])
    with mode():
        (result,) = run(x)
        assert torch.is_inference(result) == torch.is_inference_mode_enabled()
    assert not result.requires_grad
    assert torch.equal(result, (x + x).detach())


def test_eight_threads_on_one_plan() -> None:
    shape = (64, 33)
    run = Executor(multiply_add(shape), [torch.empty(shape)] * 3, [torch.empty(shape)])
    wrong: list[str] = []
    start = threading.Barrier(8)

    def work(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        inputs = [torch.randn(shape, generator=generator) for _ in range(3)]
        expected = inputs[0] * inputs[1] + inputs[2]
        start.wait()
        for _ in range(200):
            if not torch.equal(run(*inputs)[0], expected):
                wrong.append(f"thread {seed}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_arenas_are_kept_shared_and_given_back() -> None:
    release_memory()
    assert arena_bytes() == 0
    small, large = (
        Executor(multiply_add(s), [torch.empty(s)] * 3, [torch.empty(s)]) for s in [(100,), (5000,)]
    )
    inputs = [torch.randn(100)] * 3
    small(*inputs)
    assert 400 <= arena_bytes() < 1000
    large(*[torch.randn(5000)] * 3)
    kept = arena_bytes()
    assert 20000 <= kept < 21000
    for _ in range(10):
        small(*inputs)
    assert arena_bytes() == kept
    release_memory()
    assert arena_bytes() == 0


def test_results_do_not_share_memory_with_later_calls() -> None:
    inputs = [torch.randn(8) for _ in range(3)]
    run = Executor(multiply_add((8,)), inputs, [inputs[0]])
    (first,) = run(*inputs)
    kept = first.clone()
    run(*[torch.randn(8) for _ in range(3)])
    assert torch.equal(first, kept)


def test_kernel_error_names_kernel_and_plan() -> None:
    plan = one_step("misshapen", pointwise("double", 1, (4,), double), [(5,)], (5,))
    with pytest.raises(RuntimeError, match=r"kernel misshapen of plan misshapen failed: .*Error: .*shape"):
        Executor(plan, [torch.empty(5)], [torch.empty(5)])(torch.randn(5))


def test_python_error_in_a_kernel() -> None:
    def fail(*_: object) -> None:
        raise KeyError("lost")

    plan = one_step("python", fail, [(5,)], (5,))
    with pytest.raises(RuntimeError, match="kernel python of plan python failed: KeyError"):
        Executor(plan, [torch.empty(5)], [torch.empty(5)])(torch.randn(5))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([torch.ones(4)], "takes 2 inputs, got 1"),
        ([torch.ones(4), torch.ones(5)], r"compiled for input 1 of sizes \[4\] .*, got sizes \[5\]"),
        ([torch.ones(4), torch.ones(4, 1)], r"got sizes \[4, 1\]"),
        ([torch.ones(4), torch.ones(4).double()], "got sizes .* dtype double"),
    ],
)
def test_inputs_that_the_plan_is_not_for(inputs: list[Tensor], message: str) -> None:
    plan = one_step("add", pointwise("add", 2, (4,), add), [(4,), (4,)], (4,))
    run = Executor(plan, [torch.empty(4)] * 2, [torch.empty(4)])
    with pytest.raises(RuntimeError, match=message):
        run(*inputs)


def test_specs_that_the_plan_is_not_for() -> None:
    plan = one_step("double", pointwise("double", 1, (4,), double), [(4,)], (4,))
    with pytest.raises(ValueError, match="has 1 inputs, got 2"):
        Executor(plan, [torch.empty(4)] * 2, [torch.empty(4)])
    with pytest.raises(ValueError, match=r"output 0 of sizes \[4\] and dtype Double has 32 bytes"):
        Executor(plan, [torch.empty(4)], [torch.empty(4).double()])


def test_timed_kernels_show_in_stats_and_profiler() -> None:
    inputs = [torch.randn(8) for _ in range(3)]
    run = Executor(multiply_add((8,)), inputs, [inputs[0]])
    run(*inputs)
    assert torch_tvm.stats()["kernels"] == {}
    with torch.profiler.profile() as profile:
        run(*inputs, timed=True)
        run(*inputs, timed=True)
    times = torch_tvm.stats()["kernels"]["multiply_add"]
    assert {name: time["calls"] for name, time in times.items()} == {"multiply": 2, "add": 2}
    assert all(0 < time["seconds"] < 1 for time in times.values())
    counts = {event.key: event.count for event in profile.key_averages()}
    assert (counts["multiply"], counts["add"]) == (2, 2)
    torch_tvm.reset_stats()
    assert torch_tvm.stats()["kernels"] == {}
