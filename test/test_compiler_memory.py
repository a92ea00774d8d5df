"""Memory planning and strided views, on random cases."""

from __future__ import annotations

import itertools
from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from torch_tvm.compiler.access import Access, contiguous_strides, rebroadcast
from torch_tvm.compiler.launch import Argument, Kernel, Launch, Storage
from torch_tvm.compiler.memory import (
    ALIGNMENT,
    lifetimes,
    live_bytes,
    overwrite_dying_inputs,
    plan_arena,
)


def _launch(reads: list[Storage], write: Storage) -> Launch:
    def argument(storage: Storage) -> Argument:
        return Argument(storage, (storage.bytes,), "int8")

    kernel = Kernel("kernel", "key", partial(pytest.fail, "never built"))
    return Launch(kernel, [argument(s) for s in reads], [argument(write)])


@st.composite
def programs(draw: st.DrawFn) -> list[Launch]:
    """Straight-line code: every launch writes new memory and reads some of what was written before."""
    sizes = draw(st.lists(st.integers(0, 1000), min_size=1, max_size=25))
    storages = [Storage("arena", bytes=size) for size in sizes]
    launches = []
    for i, storage in enumerate(storages):
        reads = draw(st.lists(st.integers(0, i - 1), max_size=3)) if i else []
        launches.append(_launch([storages[r] for r in reads], storage))
    return launches


@given(programs())
@settings(max_examples=150, deadline=None)
def test_what_lives_at_once_does_not_overlap(launches: list[Launch]) -> None:
    total = plan_arena(launches)
    spans = list(lifetimes(launches, "arena").items())
    for i, (a, (first, last)) in enumerate(spans):
        assert a.offset % ALIGNMENT == 0
        assert a.offset + a.bytes <= total
        for b, (begin, end) in spans[:i]:
            apart = last < begin or end < first
            assert apart or a.offset + a.bytes <= b.offset or b.offset + b.bytes <= a.offset


@given(programs())
@settings(max_examples=50, deadline=None)
def test_arena_is_between_what_lives_at_once_and_everything(launches: list[Launch]) -> None:
    everything = sum(-(-s.bytes // ALIGNMENT) * ALIGNMENT for s in lifetimes(launches, "arena"))
    assert live_bytes(launches) <= plan_arena(launches) <= everything


@st.composite
def overwriting_programs(draw: st.DrawFn) -> list[Launch]:
    """Programs of few sizes, whose kernels can overwrite some of their inputs: key and inputs name what they compute."""
    storages = [Storage("arena", bytes=64 * draw(st.integers(1, 2))) for _ in range(draw(st.integers(1, 20)))]
    launches = []
    for i, storage in enumerate(storages):
        reads = draw(st.lists(st.integers(max(0, i - 4), i - 1), max_size=3)) if i else []
        launch = _launch([storages[r] for r in reads], storage)
        kernels = {p: Kernel("overwriting", p, partial(pytest.fail, "never built")) for p in range(3)}
        launch.overwriting = {p: kernels[p] for p in range(len(reads)) if draw(st.booleans())}
        launches.append(launch)
    return launches


@given(overwriting_programs())
@settings(max_examples=300, deadline=None)
def test_overwriting_changes_no_value(launches: list[Launch]) -> None:
    reads = [[a.storage for a in launch.inputs] for launch in launches]
    expected: list[object] = []
    values: dict[Storage, object] = {}
    for launch, storages in zip(launches, reads, strict=True):
        values[launch.outputs[0].storage] = (len(expected), [values[s] for s in storages])
        expected.append(values[launch.outputs[0].storage])
    before = live_bytes(launches)
    overwrite_dying_inputs(launches)
    assert live_bytes(launches) <= before
    memory = dict.fromkeys(range(0, plan_arena(launches), 64))

    def bytes_of(argument: Argument) -> range:
        return range(argument.storage.offset, argument.storage.offset + argument.bytes, 64)

    for number, launch in enumerate(launches):
        (output,) = launch.outputs
        arguments = list(launch.inputs)
        if launch.kernel.name == "overwriting":
            arguments.insert(int(str(launch.kernel.key)), output)
        found = [memory[bytes_of(argument)[0]] for argument in arguments]
        assert all(memory[i] == value for a, value in zip(arguments, found, strict=True) for i in bytes_of(a))
        assert expected[number] == (number, found)
        for i in bytes_of(output):
            memory[i] = expected[number]


def _overwriting(reads: list[Storage], write: Storage, position: int) -> Launch:
    launch = _launch(reads, write)
    launch.overwriting = {position: Kernel("overwriting", position, partial(pytest.fail, "never built"))}
    return launch


def test_a_chain_that_overwrites_needs_one_buffer() -> None:
    storages = [Storage("arena", bytes=640) for _ in range(10)]
    chain = [_launch([], storages[0])]
    chain += [_overwriting([a], b, 0) for a, b in itertools.pairwise(storages)]
    overwrite_dying_inputs(chain)
    assert all(launch.kernel.name == "overwriting" and not launch.inputs for launch in chain[1:])
    assert plan_arena(chain) == 640


@pytest.mark.parametrize("reason", ["read later", "read twice", "input", "output", "smaller", "part"])
def test_what_is_not_overwritten(reason: str) -> None:
    source = Storage("input" if reason == "input" else "arena", bytes=64)
    result = Storage("output" if reason == "output" else "arena", bytes=32 if reason == "smaller" else 64)
    last = _overwriting([source, source] if reason == "read twice" else [source], result, 0)
    if reason == "part":
        last.outputs[0].storage.bytes = 128
    launches = [_launch([], source), last, _launch([result], Storage("output"))]
    if reason == "read later":
        launches.append(_launch([source], Storage("output")))
    overwrite_dying_inputs(launches)
    assert last.kernel.name == "kernel"
    assert last.outputs[0].storage is result


def test_what_lives_at_once() -> None:
    a, b, c, d = (Storage("arena", bytes=64 * size) for size in (1, 2, 4, 8))
    launches = [_launch([], a), _launch([a], b), _launch([a], c), _launch([b, c], d)]
    assert live_bytes(launches) == 64 * (2 + 4 + 8)
    assert live_bytes([]) == 0


def test_chain_needs_two_buffers() -> None:
    storages = [Storage("arena", bytes=640) for _ in range(10)]
    chain = [_launch([], storages[0])]
    chain += [_launch([a], b) for a, b in itertools.pairwise(storages)]
    assert plan_arena(chain) == 2 * 640


def test_memory_that_nobody_wrote() -> None:
    a, b = Storage("arena", bytes=8), Storage("arena", bytes=8)
    with pytest.raises(AssertionError, match="kernel reads memory that no kernel before it wrote"):
        plan_arena([_launch([a], b)])


def _read(base: np.ndarray, access: Access) -> np.ndarray:
    return np.lib.stride_tricks.as_strided(
        base[access.offset :], access.shape, [s * base.itemsize for s in access.strides]
    )


@st.composite
def moves(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, Access]:
    """A tensor and a chain of moves, done by PyTorch and by Access; a move that Access cannot do is left out."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    base = torch.arange(int(np.prod(shape))).reshape(shape)
    value, access = base, Access(tuple(shape), contiguous_strides(shape))
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(["permute", "reshape", "slice", "broadcast"]))
        if kind == "permute":
            order = draw(st.permutations(range(value.dim())))
            value, access = value.permute(order), access.permuted(order)
        elif kind == "slice" and value.dim():
            axis = draw(st.integers(0, value.dim() - 1))
            begin = draw(st.integers(0, value.shape[axis] - 1))
            step = draw(st.sampled_from([1, 2]))
            value = value[(slice(None),) * axis + (slice(begin, None, step),)]
            access = access.sliced(axis, begin, value.shape[axis], step)
        elif kind == "broadcast" and value.numel() < 500:
            target = [
                draw(st.integers(1, 3)),
                *(s if s > 1 else draw(st.integers(1, 3)) for s in value.shape),
            ]
            value, access = value.expand(target), access.broadcast(target)
        elif kind == "reshape":
            dims = draw(st.permutations(value.shape))
            cut = draw(st.integers(0, len(dims)))
            target = [*dims[:cut], int(np.prod(dims[cut:]))]
            reshaped = access.reshaped(target)
            if reshaped is not None:
                value, access = value.reshape(target), reshaped
    return base, value, access


@given(moves())
@settings(max_examples=300, deadline=None)
def test_access_reads_what_pytorch_reads(case: tuple[torch.Tensor, torch.Tensor, Access]) -> None:
    base, value, access = case
    assert access.shape == tuple(value.shape)
    np.testing.assert_array_equal(_read(base.reshape(-1).numpy(), access), value.numpy())
    if access.contiguous:
        assert torch.equal(value.reshape(-1), base.reshape(-1)[: value.numel()])


@given(moves())
@settings(max_examples=100, deadline=None)
def test_access_is_found_where_torch_finds_a_view(case: tuple[torch.Tensor, torch.Tensor, Access]) -> None:
    _, value, access = case
    try:
        value.view(-1)
    except RuntimeError:
        assert access.reshaped([value.numel()]) is None
    else:
        assert access.reshaped([value.numel()]) is not None


@pytest.mark.parametrize(
    ("operand", "shape", "target", "expected"),
    [
        ((6,), (2, 3, 6), (6, 6), (1, 6)),
        ((2, 3, 1), (2, 3, 6), (6, 6), (6, 1)),
        ((3, 1), (2, 3, 6), (6, 6), None),
        ((1, 1, 1, 5), (1, 4, 5, 5), (4, 5, 5), (1, 1, 5)),
        ((), (2, 3), (6,), (1,)),
        ((2, 3), (2, 3), (6,), (6,)),
    ],
)
def test_rebroadcast(
    operand: tuple[int, ...],
    shape: tuple[int, ...],
    target: tuple[int, ...],
    expected: tuple[int, ...] | None,
) -> None:
    assert rebroadcast(operand, shape, target) == expected
