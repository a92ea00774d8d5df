"""Memory planning and strided views, on random cases."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from torch_tvm.compiler.access import Access, contiguous_strides, rebroadcast
from torch_tvm.compiler.launch import Argument, Kernel, Launch, Storage
from torch_tvm.compiler.memory import ALIGNMENT, lifetimes, live_bytes, plan_arena, plan_packed


def _launch(reads: list[Storage], write: Storage) -> Launch:
    def argument(storage: Storage) -> Argument:
        return Argument(storage, (storage.bytes,), "int8")

    kernel = Kernel("kernel", "key", lambda name: pytest.fail("never built"))
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


def test_packed_buffers_all_stay() -> None:
    storages = [Storage("packed", bytes=100) for _ in range(3)]
    assert plan_packed([_launch([], s) for s in storages]) == 3 * 128
    assert [s.offset for s in storages] == [0, 128, 256]


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
