"""Losses, and reductions with a form of their own (log-sum-exp, running extremes, NaN left out), against eager PyTorch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from convert_checks import check, run_compiled, values
from jit_checks import trace

import torch_tvm

Tensor = torch.Tensor


def of_elements(x: Tensor, y: Tensor) -> list[Tensor]:
    """Losses that compare elements, by all reductions."""
    signs, parts = y.sign(), y.softmax(-1)
    return [
        F.mse_loss(x, y),
        F.mse_loss(x, y, reduction="none"),
        F.l1_loss(x, y, reduction="sum"),
        F.smooth_l1_loss(x, y, beta=0.7),
        F.huber_loss(x, y, reduction="none", delta=0.5),
        F.kl_div(x, parts, reduction="batchmean"),
        F.kl_div(x, y, log_target=True, reduction="sum"),
        F.soft_margin_loss(x, signs),
        F.hinge_embedding_loss(x, signs),
        F.poisson_nll_loss(x, y.abs(), full=True),
        F.poisson_nll_loss(x.abs(), y.abs(), log_input=False),
        F.margin_ranking_loss(x, y, x.sign(), margin=0.3),
        F.binary_cross_entropy(x.sigmoid(), y.sigmoid(), weight=x.abs()),
        F.binary_cross_entropy_with_logits(x, y.sigmoid(), pos_weight=y[0].abs(), weight=y[0].abs()),
    ]


def of_rows(x: Tensor, y: Tensor) -> list[Tensor]:
    """Losses that compare rows."""
    return [
        F.cosine_embedding_loss(x, y, x[:, 0].sign(), margin=0.1),
        F.triplet_margin_loss(x, y, y.flip(0), swap=True),
        F.multi_margin_loss(x, y.argmax(1), p=2, weight=y[0].abs()),
    ]


def test_losses_of_elements() -> None:
    x, y = torch.randn(4, 5), torch.randn(4, 5)
    for losses in (of_elements, of_rows):
        check(losses, x, y)
        run_compiled(losses, x, y)
    check(of_elements, x.half(), y.half())


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_of_classes(reduction: str) -> None:
    how = {"reduction": reduction}

    def losses(x: Tensor, t: Tensor, w: Tensor) -> list[Tensor]:
        return [
            F.cross_entropy(x, t, **how),
            F.cross_entropy(x, t, w, **how),
            F.cross_entropy(x, t, w, label_smoothing=0.1, **how),
            F.cross_entropy(x, t, label_smoothing=0.1, **how),
            F.cross_entropy(x, x.softmax(1), w, label_smoothing=0.1, **how),
            F.nll_loss(x.log_softmax(1), t, w, **how),
            F.nll_loss(x, t.clamp(0), ignore_index=1, **how),
        ]

    inputs = torch.randn(4, 5), torch.tensor([1, 4, -100, 2]), torch.rand(5)
    check(losses, *inputs)
    run_compiled(losses, *inputs)


def test_losses_of_pixels() -> None:
    x, target = torch.randn(2, 3, 5, 6), torch.randint(0, 3, (2, 5, 6))
    target[0, 0] = -100
    run_compiled(
        lambda x, t: (
            F.cross_entropy(x, t),
            F.nll_loss(x, t, reduction="none"),
            F.cross_entropy(x[0, :, 0, 0], t[1, 1, 1]),
        ),
        x,
        target,
    )


def test_mean_of_no_class_is_nan() -> None:
    run_compiled(lambda x, t: F.cross_entropy(x, t), torch.randn(4, 5), torch.full((4,), -100))


@pytest.mark.parametrize("wrong", [5, -1])
def test_targets_that_are_no_class_raise_as_in_pytorch(wrong: int) -> None:
    x, target = torch.randn(4, 5), torch.tensor([1, 2, 3, 4])
    with torch_tvm.enabled(min_group_size=1):
        traced = trace(lambda x, t: F.cross_entropy(x, t), x, target)
        torch.testing.assert_close(traced(x, target), F.cross_entropy(x, target))
        with pytest.raises((RuntimeError, IndexError), match="out of bounds"):
            traced(x, torch.full((4,), wrong))
    stats = torch_tvm.stats()
    assert (stats["compiled"] + stats["cache_hits"] > 0, stats["fallbacks"]) == (True, 1)


def test_probabilities_outside_of_zero_to_one_raise_as_in_pytorch() -> None:
    x, y = torch.rand(4), torch.rand(4)
    with torch_tvm.enabled(min_group_size=1):
        traced = trace(lambda x, y: F.binary_cross_entropy(x, y), x, y)
        torch.testing.assert_close(traced(x, y), F.binary_cross_entropy(x, y))
        with pytest.raises(RuntimeError, match="between 0 and 1"):
            traced(x + 1, y)


def reductions(x: Tensor) -> list[Any]:
    """Reductions of a matrix, some of which leave out NaN."""
    return [
        *x.aminmax(dim=1),
        *torch.aminmax(x),
        x.logsumexp(1),
        x.logsumexp((0, 1), True),
        x.count_nonzero(),
        x.count_nonzero((0, 1)),
        x.nansum(1),
        x.nansum(),
    ]


@pytest.mark.parametrize("special", [False, True])
def test_reductions(special: bool) -> None:
    def all_of_them(x: Tensor) -> list[Any]:
        return [*reductions(x), x.nanmean(), x.nanmean(0)]

    check(all_of_them, values([6, 7], torch.bfloat16, special))
    run_compiled(all_of_them, values([6, 7], torch.float32, special))


def test_reductions_of_integers() -> None:
    check(reductions, torch.randint(-2, 3, (5, 8)))
    run_compiled(
        lambda x: (*x.aminmax(dim=0), x.count_nonzero(0), x.nansum(1), x.logsumexp(1)),
        torch.randint(-2, 3, (5, 8)),
    )


def test_running_extremes() -> None:
    scans = lambda x: (*x.cummax(1), *x.cummin(0), x.logcumsumexp(1))  # noqa: E731
    check(scans, values([6, 13], torch.float64, True))
    run_compiled(scans, values([6, 13], torch.float32, True))
    run_compiled(lambda x: (*x.cummax(0), *x.cummin(0)), torch.randint(-3, 3, (13,)))


def test_sum_to_size() -> None:
    run_compiled(
        lambda x: (x.sum_to_size(3, 1), x.sum_to_size(2, 1, 4) * torch._shape_as_tensor(x)[0]),
        torch.randn(2, 3, 4),
    )


def test_safe_softmax() -> None:
    x = torch.randn(4, 5)
    x[1] = -float("inf")
    run_compiled(lambda x: torch.ops.aten._safe_softmax(x, 1), x)
