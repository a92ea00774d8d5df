"""Groups that get many sizes: few plans one by one, then one for all of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from jit_checks import muladd, same, three, trace
from torch import Tensor, nn

import torch_tvm
from benchmarks.models import bert

pytestmark = pytest.mark.usefixtures("nothing_compiled")

STATIC = 2  # plans of single sizes; fewer than by default, which saves time


def run_sizes(function: Any, inputs: Callable[..., tuple[Tensor, ...]], sizes: Sequence[Any]) -> Any:
    """Call a traced function with inputs of many sizes, compare with eager, and return the traced one."""
    with torch.no_grad(), torch_tvm.enabled(max_static_signatures=STATIC, min_group_size=1):
        traced = trace(function, *inputs(sizes[0]))
        for size in sizes:
            given = inputs(size)
            with torch_tvm.disabled():
                expected = function(*given)
            result = traced(*given)
            same(result, expected)
            assert result.stride() == expected.stride()
        return traced


def bounds() -> list[list[tuple[int, int]]]:
    return [plan["bounds"] for plan in torch_tvm.stats()["symbolic"]["plans"]]


def lengths(count: int, least: int = 2, most: int = 90) -> list[int]:
    return random.Random(0).sample(range(least, most), count)


def test_an_elementwise_chain_with_a_changing_batch() -> None:
    def function(x: Tensor, y: Tensor) -> Tensor:
        return torch.relu(x * y + 1).sum(-1, keepdim=True) * x.transpose(0, 1)

    run_sizes(function, lambda n: (torch.randn(n, 1, 9), torch.randn(9)), lengths(30))
    stats = torch_tvm.stats()
    assert stats["compiled"] == STATIC + 1
    assert stats["fallbacks"] == 0
    (plan,) = stats["symbolic"]["plans"]
    assert plan["values"] == 30 - STATIC
    ((least, most),) = plan["bounds"]
    assert least == 2
    assert most >= 89
    assert stats["symbolic"]["refusals"] == {}


def test_weights_are_packed_once_for_all_sizes_and_again_when_they_change() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(20, 33), nn.GELU(), nn.LayerNorm(33), nn.Linear(33, 7)).eval()
    traced = run_sizes(model, lambda n: (torch.randn(3, n, 20),), lengths(20))
    stats = torch_tvm.stats()
    assert stats["compiled"] == STATIC + 1
    assert stats["packed"] <= STATIC, "the plan for all sizes shares what is packed with the others"
    with torch.no_grad(), torch_tvm.enabled(max_static_signatures=STATIC, min_group_size=1):
        model[0].weight.mul_(2)
        for n in (95, 96, 97):
            x = torch.randn(3, n, 20)
            same(traced(x), model(x))
    assert torch_tvm.stats()["packed"] == stats["packed"] + 1


def test_two_dimensions_of_a_transformer_encoder() -> None:
    config = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    model = bert(**config, vocab_size=50, max_position_embeddings=64).eval()
    sizes = [(batch, n) for batch, n in zip([4, 3, 7, 2, 5] * 4, lengths(20, most=60), strict=True)]
    run_sizes(model, lambda size: (torch.randint(0, 50, size),), sizes)
    stats = torch_tvm.stats()
    assert (stats["compiled"], stats["fallbacks"]) == (STATIC + 1, 0)
    ((_, (least, most)),) = bounds()
    assert (least, most) == (2, 64)  # what the table of positions has


def test_several_inputs_that_change_together() -> None:
    def function(x: Tensor, mask: Tensor, table: Tensor) -> Tensor:
        return torch.softmax(x + mask, -1) + table

    def inputs(n: int) -> tuple[Tensor, ...]:
        return torch.randn(2, n, n + 3), torch.randn(n, n + 3), torch.randn(n + 3)

    run_sizes(function, inputs, lengths(12))
    assert torch_tvm.stats()["compiled"] == STATIC + 1
    assert len(bounds()[0]) == 1


def test_a_size_that_changes_later_gets_a_second_plan() -> None:
    def inputs(size: tuple[int, int]) -> tuple[Tensor, ...]:
        return three(*size)

    sizes = [(n, 10) for n in lengths(6)] + [(11, 33), (47, 21), (12, 13)]
    run_sizes(muladd, inputs, sizes)
    assert [len(each) for each in bounds()] == [1, 2]
    assert torch_tvm.stats()["compiled"] == STATIC + 2
    assert torch_tvm.stats()["fallbacks"] == 0


def test_sizes_of_one_are_a_family_of_their_own() -> None:
    def inputs(size: tuple[int, int]) -> tuple[Tensor, ...]:
        return torch.randn(*size), torch.randn(5, size[1]), torch.randn(size[1])

    with torch.no_grad():
        run_sizes(muladd, inputs, [(5, n) for n in lengths(6)])
        run_sizes(muladd, inputs, [(1, n) for n in lengths(6)])
    assert torch_tvm.stats()["compiled"] == 2 * (STATIC + 1)
    assert len(bounds()) == 2


def test_recurrent_networks_of_many_lengths() -> None:
    """One loop over the steps, so that one plan does for all lengths."""
    torch.manual_seed(1)
    for model in (nn.LSTM(4, 18), nn.GRU(4, 18, batch_first=True, bidirectional=True)):
        torch_tvm.clear_cache()
        torch_tvm.reset_stats()
        model.eval()
        with torch.no_grad(), torch_tvm.enabled(max_static_signatures=STATIC, min_group_size=1, guard=False):
            traced = trace(model, torch.randn(3, 2, 4))
            for size in lengths(12, most=150):
                x = torch.randn((2, size, 4) if model.batch_first else (size, 2, 4))
                # oneDNN's LSTM waits for its threads in each step: seconds on a machine that is busy.
                with torch_tvm.disabled(), torch.backends.mkldnn.flags(enabled=False):
                    expected = model(x)
                got = traced(x)
                same(got, expected)
                assert got[0].stride() == expected[0].stride()
        stats = torch_tvm.stats()
        assert (stats["compiled"], stats["fallbacks"]) == (STATIC + 1, 0)
        assert stats["symbolic"]["refusals"] == {}
        assert stats["packed"] <= STATIC


def substitution(size: int) -> tuple[Tensor, Tensor]:
    return torch.eye(size) * 2 + torch.ones(size, size).tril(-1), torch.ones(size, 3)


def solve(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(a, b, upper=False)


def test_what_is_computed_depends_on_the_size() -> None:
    """Left to PyTorch until a size has come often; a substitution that is unrolled has as many kernels as rows."""

    sizes = [3, 4, 5, 6, 7, 5, 5, 5]
    with torch.no_grad(), torch_tvm.enabled(max_static_signatures=STATIC, min_group_size=1):
        traced = trace(solve, *substitution(3))
        for size in sizes:
            given = substitution(size)
            same(traced(*given), solve(*given))
    stats = torch_tvm.stats()
    assert stats["compiled"] == STATIC + 1  # 3, 4, and 5 at its third call
    assert stats["symbolic"]["plans"] == []
    (refusal,) = stats["symbolic"]["refusals"]
    assert "what is computed depends on the sizes" in refusal
    (reason,) = stats["fallback_reasons"]
    assert "many shapes" in reason
    assert refusal.rpartition(": ")[2] in reason
    assert stats["fallbacks"] == 4


def test_strict_compiles_what_has_no_plan_for_all_sizes() -> None:
    with torch.no_grad(), torch_tvm.enabled(max_static_signatures=1, min_group_size=1, strict=True):
        traced = trace(solve, *substitution(2))
        for size in (2, 3, 4):
            given = substitution(size)
            same(traced(*given), solve(*given))
    assert torch_tvm.stats()["compiled"] == 3


def test_a_slow_plan_for_all_sizes_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    import tvm_ffi

    from torch_tvm import compiler
    from torch_tvm.runtime import Step
    from torch_tvm.symbolic_plan import SymbolicPlan

    real = compiler.compile_symbolic

    def slow(*arguments: Any) -> SymbolicPlan:
        plan = real(*arguments)
        sleep = Step("sleep", tvm_ffi.convert(lambda *_: time.sleep(0.02)), [])
        return SymbolicPlan(
            plan.name,
            list(zip(plan.least, plan.most, strict=True)),
            plan.buffers,
            [type(m)(m.bytes, m.first + 1, m.last + 1) for m in plan.memory],
            [sleep, *plan.steps],
            num_inputs=3,
            num_outputs=1,
            sizes=plan.sizes,
            info=plan.info,
        )

    monkeypatch.setattr(compiler, "compile_symbolic", slow)
    with torch.no_grad(), torch_tvm.enabled(max_static_signatures=STATIC, guard=True):
        traced = trace(muladd, *three(50))
        for n in range(51, 65):
            inputs = three(n)
            same(traced(*inputs), muladd(*inputs))
    stats = torch_tvm.stats()
    assert stats["compiled"] == STATIC + 1
    assert any(row["kept"] == "interpreter" for row in stats["guard"])
    assert stats["fallbacks"] > 0


def test_gradients_flow_through_a_plan_for_all_sizes() -> None:
    with torch_tvm.enabled(max_static_signatures=STATIC):
        traced = trace(muladd, *three(4, 5))
        for n in (6, 7, 8, 9):
            inputs = [x.requires_grad_() for x in three(n, 5)]
            twins = [x.detach().clone().requires_grad_() for x in inputs]
            traced(*inputs).square().sum().backward()
            muladd(*twins).square().sum().backward()
            for x, twin in zip(inputs, twins, strict=True):
                same(x.grad, twin.grad)
    assert torch_tvm.stats()["compiled"] == STATIC + 1


def test_images_of_many_sizes() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(8, 8, 3, 1, 1),
        nn.AdaptiveAvgPool2d(1),
    ).eval()
    run_sizes(model, lambda n: (torch.randn(2, 3, n, n + 1),), lengths(12, least=40, most=200))
    assert torch_tvm.stats()["compiled"] == STATIC + 1
    assert torch_tvm.stats()["fallbacks"] == 0


def test_threads_with_many_sizes_share_one_plan() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def call(n: int) -> None:
        inputs = three(n, 3)
        with torch.no_grad():
            same(traced(*inputs), muladd(*inputs))

    with torch_tvm.enabled(max_static_signatures=1, min_group_size=1):
        traced = trace(muladd, *three(5, 3))
        sizes = lengths(30)
        call(max(sizes))  # bounds are guessed from the largest so far: threads come in any order
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(call, sizes))
    assert torch_tvm.stats()["compiled"] == 2
    assert torch_tvm.stats()["fallbacks"] == 0
