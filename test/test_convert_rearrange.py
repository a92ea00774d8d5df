"""Shuffles, diagonals, windows, stacks, products and distances of vectors, norms, against eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from convert_checks import check, run_compiled

import torch_tvm
from torch_tvm import NotConvertibleError

Tensor = torch.Tensor
inf = float("inf")


def rand(*shape: int) -> Tensor:
    return torch.randn(shape)


FOLDED = {"dilation": (2, 1), "padding": (1, 0), "stride": (1, 2)}
CASES: dict[str, tuple[Callable[..., Any], list[Tensor]]] = {
    "shuffles": (
        lambda x: (F.pixel_shuffle(x, 2), F.channel_shuffle(x, 4), F.pixel_unshuffle(x, 2)),
        [rand(2, 8, 4, 6)],
    ),
    "shuffles_last": (
        lambda x: (F.pixel_shuffle(x, 2), F.channel_shuffle(x, 4)),
        [rand(2, 8, 4, 6).to(memory_format=torch.channels_last)],
    ),
    "diagonals": (
        lambda x: (
            x.diagonal(),
            x.diagonal(1, 0, 2),
            x.diagonal(-2, 1, 2),
            x[0].diag(1),
            x[0].trace(),
            x[0].T.diag(-1),
        ),
        [rand(3, 4, 5)],
    ),
    "on_diagonals": (
        lambda x: (x.diag_embed(), x.diag_embed(1, 0, 2), x.diag_embed(-2), x.diagflat(), x[0, 0].diag(-1)),
        [rand(2, 3, 4)],
    ),
    "turns": (
        lambda x: (
            x.rot90(),
            x.rot90(2, [0, 2]),
            x.rot90(-1, [1, 2]),
            x.fliplr(),
            x.flipud(),
            (x[0] > 0).long().trace(),
        ),
        [rand(3, 4, 5)],
    ),
    "windows": (
        lambda x: (x.unfold(2, 3, 2), x.unfold(0, 2, 1), F.unfold(x, (2, 3), **FOLDED), F.unfold(x[0], 2)),
        [rand(2, 3, 7, 8)],
    ),
    "fold": (lambda x: F.fold(x, (7, 8), (2, 3), **FOLDED), [F.unfold(rand(2, 3, 7, 8), (2, 3), **FOLDED)]),
    "fold_apart": (lambda x: (F.fold(x, 8, 2, stride=2), F.fold(x[0], 8, 2, stride=2)), [rand(2, 12, 16)]),
    "stacks": (
        lambda x, y: (
            *(join([x, y]) for join in (torch.hstack, torch.vstack, torch.dstack, torch.column_stack)),
            torch.atleast_3d(x),
            *torch.broadcast_tensors(x[:, None], y),
            *torch.atleast_2d(x, y),
            *x[None].hsplit(2),
            *x[None, None].dsplit([1, 3]),
        ),
        [rand(4), rand(4)],
    ),
    "copies": (
        lambda x: (
            torch.view_copy(x, [-1]),
            torch.permute_copy(x, [1, 0]),
            torch.narrow_copy(x, 1, 1, 2),
            x.mH + 1,
        ),
        [rand(3, 4)],
    ),
    "products": (
        lambda x, y: (
            torch.outer(x[0], y[1]),
            torch.kron(x, y),
            torch.kron(x, y[0]),
            torch.cross(x, y, dim=1),
            torch.linalg.vecdot(x, y),
            torch.vdot(x[0], y[0]),
            torch.addr(torch.outer(x[0], y[0]), x[0], y[1], beta=0.5, alpha=2.0),
        ),
        [rand(4, 3), rand(4, 3)],
    ),
    "distances": (
        lambda x, y: (
            torch.dist(x, y[:4]),
            *(torch.cdist(x, y, p) for p in (0.0, 1.0, 2.0, 3.0, inf)),
            F.pairwise_distance(x, y[:4]),
            F.pairwise_distance(x, y[:4], 3.0, keepdim=True),
        ),
        [rand(4, 3), rand(5, 3)],
    ),
    "angles": (
        lambda x, y: (
            F.cosine_similarity(x, y[:4]),
            F.cosine_similarity(x[:, None], y, dim=-1),
            F.cosine_similarity(x, y[:1], dim=0),
        ),
        [rand(4, 3), rand(5, 3)],
    ),
    "norms": (
        lambda x: (
            x.norm(),
            x.norm(3),
            x.norm(inf, dim=1),
            torch.linalg.vector_norm(x, 0, dim=(0, 2)),
            torch.linalg.vector_norm(x, -inf, dim=2, keepdim=True),
            torch.linalg.vector_norm(x, 0.5),
            x.norm(dtype=torch.float64, p=2),
        ),
        [rand(3, 4, 5)],
    ),
    "matrix_norms": (
        lambda x: (
            torch.linalg.norm(x),
            torch.linalg.norm(x[0], 1),
            torch.linalg.norm(x, inf, dim=(0, 2)),
            torch.linalg.matrix_norm(x),
            torch.linalg.matrix_norm(x, -1, keepdim=True),
            torch.linalg.norm(x[0, 0], 3),
        ),
        [rand(3, 4, 5)],
    ),
    "weight_norm": (
        lambda v, g: (
            torch._weight_norm(v, g, 0),
            *torch._weight_norm_interface(v, g, 0),
            torch.norm_except_dim(v, 2, 1),
        ),
        [rand(4, 3, 2), torch.rand(4, 1, 1)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    fn, inputs = CASES[name]
    check(fn, *inputs)
    run_compiled(fn, *inputs)


def test_norms_of_singular_values_are_refused() -> None:
    with pytest.raises(NotConvertibleError, match="ord=2.*norm of singular values"):
        torch_tvm.to_relay(lambda x: torch.linalg.matrix_norm(x, 2), [rand(3, 4)])


def test_weight_norm_of_a_layer() -> None:
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(6, 5)).requires_grad_(False)
    run_compiled(lambda x: layer(x), rand(2, 6))
