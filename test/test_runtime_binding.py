"""Weights are packed once, again when they changed, and forgotten when they are gone."""

from __future__ import annotations

import copy
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from runtime_plans import doubled_weight

import torch_tvm
from torch_tvm.runtime import Buffer, Executor, PackedPart, Plan, Step, release_memory

Tensor = torch.Tensor
SHAPE = (4, 8)
BYTES = 4 * 8 * 4


class Model(torch.nn.Module):
    """`x + 2 * weight + bias`, run by a plan that packs the doubled weight."""

    def __init__(self, run: Executor) -> None:
        super().__init__()
        self.run = run
        self.weight = torch.nn.Parameter(torch.randn(SHAPE))
        self.bias = torch.nn.Parameter(torch.randn(SHAPE))

    def check(self) -> None:
        x = torch.randn(SHAPE)
        (result,) = self.run(x, weights=[self.weight, self.bias])
        torch.testing.assert_close(result, (x + 2 * self.weight + self.bias).detach())

    def twin(self) -> Model:
        other = Model(self.run)
        other.load_state_dict(copy.deepcopy(self.state_dict()))
        return other


def executor(plan: Plan) -> Executor:
    example = torch.empty(SHAPE)
    return Executor(plan, [example], [example], [example, example])


def packed() -> int:
    return int(torch_tvm.stats()["packed"])


def packed_bytes() -> int:
    return int(torch_tvm.stats()["packed_bytes"])


@pytest.fixture
def model() -> Iterator[Model]:
    gc.collect()
    release_memory()
    torch_tvm.reset_stats()
    yield Model(executor(doubled_weight(SHAPE)))


def test_packed_once(model: Model) -> None:
    before = packed_bytes()
    for _ in range(5):
        model.check()
    assert packed() == 1
    assert packed_bytes() == before + BYTES


def write_in_place(model: Model) -> None:
    with torch.no_grad():
        model.weight.mul_(3)


def write_in_inference_mode(model: Model) -> None:
    with torch.inference_mode():
        model.weight.add_(1)


def load(model: Model) -> None:
    model.load_state_dict({name: torch.randn(SHAPE) for name in ("weight", "bias")})


def set_data(model: Model) -> None:
    model.weight.data = torch.randn(SHAPE)


def set_data_twice(model: Model) -> None:
    """The second tensor likely gets the address of the one that was packed."""
    model.weight.data = torch.randn(SHAPE)
    model.weight.data = torch.randn(SHAPE)


def flip_data(model: Model) -> None:
    """Same storage, same sizes: only the strides tell."""
    model.weight.data = model.weight.data.view(8, 4).t()


def shift_data(model: Model) -> None:
    """Same storage, same sizes and strides: only the offset tells."""
    block = torch.randn(3 + 2 * 32)
    model.weight.data = block[:32].view(SHAPE)
    model.check()
    torch_tvm.reset_stats()
    model.weight.data = block[35:].view(SHAPE)


def assign(model: Model) -> None:
    model.weight = torch.nn.Parameter(torch.randn(SHAPE))


def step_optimizer(model: Model) -> None:
    model.weight.grad = torch.ones(SHAPE)
    torch.optim.SGD([model.weight], lr=0.5).step()


@pytest.mark.parametrize(
    "change",
    [
        write_in_place,
        write_in_inference_mode,
        load,
        set_data,
        set_data_twice,
        flip_data,
        shift_data,
        assign,
        step_optimizer,
    ],
)
def test_change_shows_at_the_next_call(model: Model, change: Callable[[Model], None]) -> None:
    model.check()
    torch_tvm.reset_stats()
    held = packed_bytes()
    change(model)
    model.check()
    assert packed() == 1
    model.check()
    assert packed() == 1
    release_memory()
    copies = 0 if model.weight.is_contiguous() and model.weight.data_ptr() % 64 == 0 else BYTES
    assert packed_bytes() == held + copies, "what was packed from the old values is still held"


def test_change_of_a_weight_that_is_read_in_place(model: Model) -> None:
    model.check()
    with torch.no_grad():
        model.bias.fill_(7)
    model.check()
    model.bias.data = torch.randn(SHAPE)
    model.check()
    assert packed() == 1, "nothing is packed from it"


def test_every_instance_keeps_its_own(model: Model) -> None:
    held = packed_bytes()
    models = [model, model.twin(), Model(model.run)]
    for _ in range(3):
        for each in models:
            each.check()
    assert packed() == len(models)
    assert packed_bytes() == held + len(models) * BYTES


def test_plans_share_what_is_packed(model: Model) -> None:
    held = packed_bytes()
    model.check()
    other = copy.copy(model)
    other.run = executor(doubled_weight(SHAPE))
    other.check()
    assert packed() == 1
    write_in_place(model)
    other.check()
    model.check()
    assert packed() == 2
    assert packed_bytes() == held + BYTES
    model.run = None  # type: ignore[assignment]
    other.check()
    assert (packed(), packed_bytes()) == (2, held + BYTES)


def two_parts(first: str, second: str, *, failing: bool = False) -> tuple[Executor, list[str]]:
    """`inputs[0] + 2 * weights[0] + 2 * weights[1]`; names of the packing steps appear when they run."""
    plan, ran = doubled_weight(SHAPE), list[str]()
    double = plan.packing_steps[0].function

    def packing(name: str) -> Step:
        def pack(weight: Any, made: Any) -> None:
            if failing:
                raise ValueError("cannot pack")
            ran.append(name)
            double(weight, made)

        buffers = {first: [2, 3], second: [4, 6]}
        return Step(name, pack, buffers[name])

    buffers = [*plan.buffers, Buffer("packed", SHAPE, "float32", offset=BYTES)]
    add = plan.steps[0].function
    return executor(
        Plan(
            "two parts",
            buffers,
            [Step("add", add, [0, 3, 5]), Step("add", add, [5, 6, 1])],
            packing_steps=[packing(first), packing(second)],
            packed_parts=[PackedPart(first, [0], 0, BYTES, [0]), PackedPart(second, [1], BYTES, BYTES, [1])],
            num_inputs=1,
            num_weights=2,
            num_outputs=1,
            arena_bytes=plan.arena_bytes,
        )
    ), ran


def test_only_what_changed_is_packed_again() -> None:
    run, ran = two_parts("a", "b")
    weights = [torch.randn(SHAPE), torch.randn(SHAPE)]
    held = packed_bytes()
    x = torch.randn(SHAPE)
    for changed, expected in ((None, ["a", "b"]), (1, ["b"]), (0, ["a"]), (None, [])):
        if changed is not None:
            weights[changed].add_(1)
        (result,) = run(x, weights=weights)
        torch.testing.assert_close(result, x + 2 * weights[0] + 2 * weights[1])
        assert ran == expected
        ran.clear()
    assert packed_bytes() <= held + 4 * BYTES


def test_parts_of_other_plans_are_found_by_their_key_and_their_weights() -> None:
    x, weights = torch.randn(SHAPE), [torch.randn(SHAPE), torch.randn(SHAPE)]
    first, _ = two_parts("c", "d")
    first(x, weights=weights)
    other, ran = two_parts("e", "d")
    (result,) = other(x, weights=weights)
    torch.testing.assert_close(result, x + 2 * weights[0] + 2 * weights[1])
    assert ran == ["e"]
    ran.clear()
    other(x, weights=weights[::-1])
    assert ran == ["e", "d"], "made of other weights"


def test_what_failed_to_pack_is_not_found() -> None:
    x, weights = torch.randn(SHAPE), [torch.randn(SHAPE), torch.randn(SHAPE)]
    broken, _ = two_parts("f", "g", failing=True)
    with pytest.raises(RuntimeError, match="cannot pack"):
        broken(x, weights=weights)
    run, ran = two_parts("f", "g")
    run(x, weights=weights)
    assert ran == ["f", "g"]


def test_a_small_plan_keeps_no_large_block_alive() -> None:
    """The part that it needs is in a block of more than four times its bytes: it packs its own."""
    large = 16 * BYTES
    plan = doubled_weight(SHAPE)
    (small,) = plan.packed_parts

    def with_parts(parts: list[PackedPart]) -> Executor:
        fields = ("packing_steps", "num_inputs", "num_weights", "num_outputs", "arena_bytes")
        kept = {field: getattr(plan, field) for field in fields}
        return executor(Plan("p", plan.buffers, plan.steps, packed_parts=parts, **kept))

    held = packed_bytes()
    x, weights = torch.randn(SHAPE), [torch.randn(SHAPE), torch.randn(SHAPE)]
    part = PackedPart("small", list(small.weights), 0, BYTES, [0])
    both = with_parts([part, PackedPart("large", [1], BYTES, large, [])])
    alone = with_parts([part])
    for run in (both, alone):
        (result,) = run(x, weights=weights)
        torch.testing.assert_close(result, x + 2 * weights[0] + weights[1])
    assert packed_bytes() == held + 2 * BYTES + large
    del both, run
    assert packed_bytes() == held + BYTES


def test_dead_weights_give_their_memory_back(model: Model) -> None:
    held = packed_bytes()
    other = Model(model.run)
    model.check()
    other.check()
    storage = weakref.ref(other.weight)
    assert packed_bytes() == held + 2 * BYTES
    del other
    gc.collect()
    assert storage() is None, "the binding must not keep the weights"
    release_memory()
    assert packed_bytes() == held + BYTES
    model.check()
    assert packed() == 2


def test_dead_weights_give_their_memory_back_by_and_by(model: Model) -> None:
    """Without anybody asking: calls of others sweep now and then."""
    held = packed_bytes()
    other = Model(model.run)
    model.check()
    other.check()
    del other
    gc.collect()
    x, weights = torch.randn(SHAPE), [model.weight, model.bias]
    for _ in range(4097):
        model.run(x, weights=weights)
    assert packed_bytes() == held + BYTES


def test_plan_takes_its_bindings_along() -> None:
    held = packed_bytes()
    model = Model(executor(doubled_weight(SHAPE)))
    model.check()
    assert packed_bytes() == held + BYTES
    model.run = None  # type: ignore[assignment]
    assert packed_bytes() == held


def test_number_of_bindings_is_bounded(model: Model) -> None:
    held = packed_bytes()
    models = [Model(model.run) for _ in range(70)]
    for each in models:
        each.check()
    assert packed_bytes() == held + 64 * BYTES
    models[0].check()
    assert packed() == 71


def test_threads_pack_once(model: Model) -> None:
    start = threading.Barrier(8)
    failures: list[BaseException] = []

    def work() -> None:
        start.wait()
        try:
            model.check()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert packed() == 1


@pytest.mark.parametrize(
    "weight",
    [
        lambda: torch.randn(8, 4).t(),
        lambda: torch.randn(8, 8)[::2],
        lambda: torch.randn(8).expand(4, 8),
        lambda: torch.randn(33)[1:].view(4, 8),
    ],
    ids=["transposed", "stepped", "expanded", "unaligned"],
)
def test_weights_arrive_contiguous(model: Model, weight: Callable[[], Tensor]) -> None:
    x, values, bias = torch.randn(SHAPE), weight(), torch.randn(SHAPE)
    for _ in range(2):
        (result,) = model.run(x, weights=[values, bias])
        torch.testing.assert_close(result, x + 2 * values + bias)
    assert packed() == 1


def test_inference_tensors_have_no_version_and_count_as_unchanged(model: Model) -> None:
    with torch.inference_mode():
        weight, bias = torch.randn(SHAPE), torch.randn(SHAPE)
    x = torch.randn(SHAPE)
    for _ in range(3):
        (result,) = model.run(x, weights=[weight, bias])
        torch.testing.assert_close(result, x + 2 * weight + bias)
    assert packed() == 1


@pytest.mark.parametrize("weight", [torch.ones(8, 4), torch.ones(SHAPE).double(), torch.ones(4, 8, 1)])
def test_weights_that_the_plan_is_not_for(model: Model, weight: Tensor) -> None:
    with pytest.raises(ValueError, match="compiled for weights of other sizes or dtypes"):
        model.run(torch.ones(SHAPE), weights=[weight, torch.ones(SHAPE)])


def test_wrong_number_of_weights(model: Model) -> None:
    with pytest.raises(RuntimeError, match="takes 2 weights, got 1"):
        model.run(torch.ones(SHAPE), weights=[torch.ones(SHAPE)])


def test_failing_packing_leaves_nothing() -> None:
    plan = doubled_weight(SHAPE)
    held = packed_bytes()

    def fail(*_: Any) -> None:
        raise ValueError("cannot pack")

    broken = Plan(
        "broken",
        plan.buffers,
        plan.steps,
        packing_steps=[Step("pack", fail, [2, 3])],
        num_inputs=1,
        num_weights=2,
        num_outputs=1,
        arena_bytes=plan.arena_bytes,
        packed_parts=plan.packed_parts,
    )
    example = torch.ones(SHAPE)
    run = Executor(broken, [example], [example], [example, example])
    for _ in range(2):
        with pytest.raises(RuntimeError, match="kernel pack of plan broken failed: ValueError: cannot pack"):
            run(example, weights=[example, example])
    assert packed_bytes() == held
