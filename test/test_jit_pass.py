"""The fusion pass: which nodes become groups, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jit_checks import groups, groups_of, operators, shared_memory
from torch import nn

import torch_tvm
from torch_tvm import _C


def fuse(text: str) -> tuple[torch._C.Graph, list[list[str]]]:
    """Run the pass on a graph given as IR text; return it and the operators of each group."""
    graph = torch._C.parse_ir(text)
    _C.fuse_graph(graph)
    torch._C._jit_pass_lint(graph)
    return graph, groups(graph)


def test_a_chain_is_one_group() -> None:
    graph, found = fuse("""
graph(%a : Tensor, %b : Tensor, %c : Tensor):
  %one : int = prim::Constant[value=1]()
  %m : Tensor = aten::mul(%a, %b)
  %s : Tensor = aten::add(%m, %c, %one)
  %r : Tensor = aten::relu(%s)
  return (%r)""")
    assert found == [["aten::mul", "aten::add", "aten::relu"]]
    assert operators(graph) == ["tvm::CompilationGroup"]


def test_a_producer_with_two_users_is_taken_once() -> None:
    _, found = fuse("""
graph(%a : Tensor):
  %one : int = prim::Constant[value=1]()
  %r : Tensor = aten::relu(%a)
  %t : Tensor = aten::tanh(%r)
  %s : Tensor = aten::add(%r, %t, %one)
  return (%s, %t)""")
    assert [sorted(group) for group in found] == [["aten::add", "aten::relu", "aten::tanh"]]


def test_writes_to_inputs_stay_outside() -> None:
    graph, found = fuse("""
graph(%a : Tensor, %b : Tensor):
  %one : int = prim::Constant[value=1]()
  %w : Tensor = aten::mul_(%a, %b)
  %s : Tensor = aten::add(%a, %b, %one)
  %r : Tensor = aten::relu(%s)
  %t : Tensor = aten::tanh(%r)
  return (%t)""")
    assert found == [["aten::relu", "aten::tanh"]]  # the sum reads what is written
    assert operators(graph) == ["aten::mul_", "aten::add", "tvm::CompilationGroup"]


def test_writes_to_fresh_tensors_are_made_functional() -> None:
    _, found = fuse("""
graph(%a : Tensor, %b : Tensor):
  %m : Tensor = aten::mul(%a, %b)
  %r : Tensor = aten::relu_(%m)
  %t : Tensor = aten::tanh_(%r)
  return (%t)""")
    # tanh of whole numbers has another dtype, relu never has
    assert [sorted(group) for group in found] == [
        ["aten::mul", "aten::relu", "aten::tanh", "torch_tvm::written"]
    ]


def test_writes_through_views_stay_outside() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y[0].mul_(3)
        return y.relu().tanh().exp()

    traced = torch.jit.trace(function, torch.rand(3, 3))
    x = torch.rand(3, 3)
    assert groups_of(traced, x) == [["aten::tanh", "aten::exp"]]  # relu reads what is written
    torch.testing.assert_close(traced(x), function(x))


def test_an_output_may_not_alias_an_input() -> None:
    graph, found = fuse("""
graph(%a : Tensor):
  %zero : int = prim::Constant[value=0]()
  %one : int = prim::Constant[value=1]()
  %v : Tensor = aten::transpose(%a, %zero, %one)
  %r : Tensor = aten::relu(%v)
  %t : Tensor = aten::tanh(%r)
  return (%t, %v)""")
    assert found == [["aten::transpose", "aten::relu", "aten::tanh"]]
    assert operators(graph) == [
        "tvm::CompilationGroup",
        "aten::transpose",
    ]  # once inside, once for the caller
    assert len(list(_C.group_subgraphs(graph)[0].outputs())) == 1


def test_outputs_may_not_alias_each_other() -> None:
    graph, found = fuse("""
graph(%a : Tensor):
  %zero : int = prim::Constant[value=0]()
  %one : int = prim::Constant[value=1]()
  %r : Tensor = aten::relu(%a)
  %t : Tensor = aten::tanh(%r)
  %v : Tensor = aten::transpose(%t, %zero, %one)
  return (%t, %v)""")
    assert found == [["aten::relu", "aten::tanh"]]
    assert operators(graph) == ["tvm::CompilationGroup", "aten::transpose"]


def test_views_of_inputs_are_made_on_both_sides() -> None:
    def function(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = torch.relu(x)
        z = y.view(-1)
        return x.t(), torch.tanh(x.t()), z[:2], torch.exp(z), z.view(2, 2)

    traced = torch.jit.trace(function, torch.rand(2, 2), check_trace=False)
    x = torch.randn(2, 2)
    assert {"aten::relu", "aten::tanh", "aten::exp"} <= {
        kind for group in groups_of(traced, x) for kind in group
    }
    results, expected = traced(x), function(x)
    torch.testing.assert_close(results, expected)
    same_memory = [
        [a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr() for a in (x, *r)]
        for r in (results, expected)
        for b in r
    ]
    assert same_memory[:5] == same_memory[5:]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_casts_leave_a_group_unless_they_change_nothing(dtype: torch.dtype) -> None:
    """Whether Tensor.to gives back its argument, lowering knows: what does is made by PyTorch, without a refusal."""

    def function(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = torch.relu(x)
        wide = x.to(torch.float64)
        return y, wide, y.to(torch.float32), wide[1:], torch.neg(wide)

    x = torch.randint(-3, 3, (3, 2)).to(dtype)
    with torch_tvm.enabled(strict=True, min_group_size=2, guard=False):
        traced = torch.jit.trace(function, x, check_trace=False)
        assert "aten::to" in groups_of(traced, x)[0]
        torch_tvm.reset_stats()
        for _ in range(2):
            results, expected = traced(x), function(x)
            torch.testing.assert_close(results, expected, rtol=0, atol=0)
            assert shared_memory([x, *results]) == shared_memory([x, *expected])
        stats = torch_tvm.stats()
    assert stats["fallbacks"] == 0
    assert stats["fallback_reasons"] == {}
    assert stats["cache_hits"] > 0


def test_a_single_cast_is_a_group_if_groups_may_be_that_small() -> None:
    with torch_tvm.enabled(strict=True, min_group_size=1, guard=False):
        traced = torch.jit.trace(lambda x: x.to(torch.int32), torch.rand(3), check_trace=False)
        assert groups_of(traced, torch.rand(3)) == [["aten::to"]]
        x = torch.arange(3, dtype=torch.int32)
        torch_tvm.reset_stats()
        assert traced(x) is not None
        assert shared_memory([x, traced(x)]) == [[True, True], [True, True]]
        assert torch_tvm.stats()["fallbacks"] == 0


def test_lists_of_new_tensors_leave_a_group_as_their_elements() -> None:
    def function(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        histogram, edges = torch.histogramdd(x, [2, 3])
        return (*torch.unbind_copy(x), torch.exp(x.unbind()[0]), histogram, *edges)

    x = torch.rand(3, 2)
    with torch_tvm.enabled(strict=True, min_group_size=1, guard=False):
        traced = torch.jit.trace(function, x, check_trace=False)
        found = {kind for group in groups_of(traced, x) for kind in group}
        assert {"aten::unbind_copy", "aten::histogramdd"} <= found
        results = traced(x)
    torch.testing.assert_close(results, function(x))
    assert shared_memory([x, *results]) == shared_memory([x, *function(x)])


def test_lists_that_share_memory_are_made_by_pytorch() -> None:
    """The schema of unsafe_split does not say that its results are views."""

    def function(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (*torch.unsafe_split(x, 1), torch.exp(x))

    x = torch.rand(2, 3)
    with torch_tvm.enabled(strict=True, min_group_size=1, guard=False):
        traced = torch.jit.trace(function, x, check_trace=False)
        for _ in range(2):
            results = traced(x)
            torch.testing.assert_close(results, function(x))
            assert shared_memory([x, *results]) == shared_memory([x, *function(x)])


@pytest.mark.parametrize(("train", "found"), [(True, ["aten::relu", "aten::tanh"]), (False, None)])
def test_dropout_in_training_is_random(train: bool, found: list[str] | None) -> None:
    _, groups_found = fuse(f"""
graph(%a : Tensor):
  %p : float = prim::Constant[value=0.5]()
  %train : bool = prim::Constant[value={int(train)}]()
  %d : Tensor = aten::dropout(%a, %p, %train)
  %r : Tensor = aten::relu(%d)
  %t : Tensor = aten::tanh(%r)
  return (%t)""")
    assert groups_found == [found or ["aten::dropout", "aten::relu", "aten::tanh"]]


@pytest.mark.parametrize("name", ["dropout_", "feature_dropout_", "alpha_dropout_", "feature_alpha_dropout_"])
@pytest.mark.parametrize(
    ("p", "train", "dropped"), [(0.5, False, True), (0.5, True, False), (1.5, False, False)]
)
def test_dropout_in_place_of_a_view(name: str, p: float, train: bool, dropped: bool) -> None:
    graph, found = fuse(f"""
graph(%a : Tensor):
  %p : float = prim::Constant[value={p}]()
  %train : bool = prim::Constant[value={int(train)}]()
  %one : int = prim::Constant[value=1]()
  %end : int = prim::Constant[value=-1]()
  %r : Tensor = aten::relu(%a)
  %v : Tensor = aten::flatten(%r, %one, %end)
  %d : Tensor = aten::{name}(%v, %p, %train)
  %t : Tensor = aten::tanh(%d)
  return (%t)""")
    assert (found == [["aten::relu", "aten::flatten", "aten::tanh"]]) == dropped
    assert any(node.kind() == f"aten::{name}" for node in graph.nodes()) != dropped


def test_networks_with_dropout_in_place_are_one_group() -> None:
    model = torch.nn.Sequential(
        torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Dropout(inplace=True), torch.nn.Linear(8, 3)
    ).eval()
    x = torch.randn(2, 4, 2)
    traced = torch.jit.trace(model, x, check_trace=False)
    with torch.no_grad():
        assert len(groups_of(traced, x)) == 1
        torch.testing.assert_close(traced(x), model(x))


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_in_training_writes_its_statistics(training: bool) -> None:
    _, found = fuse(f"""
graph(%x : Tensor, %w : Tensor, %b : Tensor, %mean : Tensor, %var : Tensor):
  %eps : float = prim::Constant[value=1e-05]()
  %momentum : float = prim::Constant[value=0.1]()
  %training : bool = prim::Constant[value={int(training)}]()
  %y : Tensor = aten::batch_norm(%x, %w, %b, %mean, %var, %training, %momentum, %eps, %training)
  %r : Tensor = aten::relu(%y)
  %t : Tensor = aten::tanh(%r)
  return (%t)""")
    assert found == [
        ["aten::relu", "aten::tanh"] if training else ["aten::batch_norm", "aten::relu", "aten::tanh"]
    ]


def test_shape_arithmetic_is_absorbed() -> None:
    _, found = fuse("""
graph(%a : Tensor):
  %zero : int = prim::Constant[value=0]()
  %two : int = prim::Constant[value=2]()
  %minus : int = prim::Constant[value=-1]()
  %r : Tensor = aten::relu(%a)
  %n : int = aten::size(%r, %zero)
  %d : int = aten::mul(%n, %two)
  %shape : int[] = prim::ListConstruct(%d, %minus)
  %v : Tensor = aten::reshape(%r, %shape)
  %t : Tensor = aten::tanh(%v)
  return (%t)""")
    assert len(found) == 1
    assert {"aten::size", "aten::mul", "prim::ListConstruct", "aten::reshape"} <= set(found[0])


def test_traced_shape_arithmetic_on_tensors_is_absorbed() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        y = x.relu()
        return y.view(y.size(0) * 2, y.size(1) // 2).tanh()

    traced = torch.jit.trace(function, torch.rand(4, 4), check_trace=False)
    found = groups_of(traced, torch.rand(4, 4))
    assert len(found) == 1
    assert {"prim::NumToTensor", "aten::Int", "aten::view"} <= set(found[0])
    x = torch.rand(6, 8)
    torch.testing.assert_close(traced(x), function(x))


def test_traced_rounding_to_windows_is_absorbed() -> None:
    """Windowed attention pads to a multiple of the window: traced, 4 - n % 4 is aten::rsub of a tensor."""

    def function(x: torch.Tensor) -> torch.Tensor:
        y = x.relu()
        pad = (4 - y.size(1) % 4) % 4
        return torch.nn.functional.pad(y, (0, pad)).view(y.size(0), -1, 4).tanh()

    traced = torch.jit.trace(function, torch.rand(2, 6), check_trace=False)
    assert "aten::rsub" in str(traced.graph)
    assert len(groups_of(traced, torch.rand(2, 6))) == 1
    for x in (torch.rand(3, 9), torch.rand(3, 8)):
        torch.testing.assert_close(traced(x), function(x))


def test_numbers_read_from_data_stay_outside() -> None:
    _, found = fuse("""
graph(%a : Tensor, %n : Tensor):
  %one : int = prim::Constant[value=1]()
  %k : int = aten::Int(%n)
  %r : Tensor = aten::relu(%a)
  %s : Tensor = aten::add(%r, %k, %one)
  return (%s)""")
    assert found == [["aten::relu", "aten::add"]]


def test_shape_arithmetic_alone_is_no_group() -> None:
    graph, found = fuse("""
graph(%a : Tensor):
  %zero : int = prim::Constant[value=0]()
  %n : int = aten::size(%a, %zero)
  %d : int = aten::mul(%n, %n)
  %s : int = aten::add(%d, %n)
  return (%s)""")
    assert found == []
    assert operators(graph) == ["aten::size", "aten::mul", "aten::add"]


def test_lists_of_what_is_written_stay_outside() -> None:
    """A group cannot take the list, and what reads it must not join one."""

    def function(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        back = torch.empty_like(index)
        back[index] = torch.arange(index.numel())
        return (x * 2).relu()[back].tanh() + 1

    traced = torch.jit.trace(function, (torch.rand(4, 3), torch.tensor([2, 0, 3, 1])), check_trace=False)
    x, index = torch.rand(4, 3), torch.tensor([3, 0, 1, 2])
    with torch_tvm.enabled(strict=True):
        torch.testing.assert_close(traced(x, index), function(x, index))


def test_lists_do_not_leave_a_group() -> None:
    graph, found = fuse("""
graph(%a : Tensor, %b : Tensor):
  %zero : int = prim::Constant[value=0]()
  %r : Tensor = aten::relu(%a)
  %t : Tensor = aten::tanh(%b)
  %l : Tensor[] = prim::ListConstruct(%r, %t)
  %c : Tensor = aten::cat(%l, %zero)
  %s : Tensor = aten::sigmoid(%c)
  return (%s, %l)""")
    for group in found:
        assert "prim::ListConstruct" not in group
    assert "prim::ListConstruct" in operators(graph)


def test_lists_from_outside_do_not_enter() -> None:
    graph, found = fuse("""
graph(%l : Tensor[]):
  %zero : int = prim::Constant[value=0]()
  %c : Tensor = aten::cat(%l, %zero)
  %r : Tensor = aten::relu(%c)
  %t : Tensor = aten::tanh(%r)
  return (%t)""")
    assert found == [["aten::relu", "aten::tanh"]]
    assert operators(graph) == ["aten::cat", "tvm::CompilationGroup"]


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_attention_is_random_with_dropout(dropout: float) -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        attended = torch.nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=dropout)
        return attended.relu().tanh()

    traced = torch.jit.trace(function, torch.rand(1, 2, 3, 4), check_trace=False)
    (found,) = groups_of(traced, torch.rand(1, 2, 3, 4))
    assert ("aten::scaled_dot_product_attention" in found) == (dropout == 0.0)


def test_lists_inside_are_taken() -> None:
    _, found = fuse("""
graph(%a : Tensor, %b : Tensor):
  %zero : int = prim::Constant[value=0]()
  %r : Tensor = aten::relu(%a)
  %l : Tensor[] = prim::ListConstruct(%r, %b)
  %c : Tensor = aten::cat(%l, %zero)
  return (%c)""")
    assert found == [["aten::relu", "prim::ListConstruct", "aten::cat"]]


def test_small_groups_are_undone() -> None:
    text = """
graph(%a : Tensor):
  %r : Tensor = aten::relu(%a)
  %t : Tensor = aten::tanh(%r)
  return (%t)"""
    with torch_tvm.enabled(min_group_size=3):
        graph, found = fuse(text)
        assert found == []
        assert operators(graph) == ["aten::relu", "aten::tanh"]
    with torch_tvm.enabled(min_group_size=2):
        assert len(fuse(text)[1]) == 1


def test_single_operators_on_request() -> None:
    with torch_tvm.enabled(min_group_size=1):
        assert fuse("graph(%a : Tensor):\n  %r : Tensor = aten::relu(%a)\n  return (%r)")[1] == [
            ["aten::relu"]
        ]


def test_groups_form_inside_branches_and_loops() -> None:
    @torch.jit.script
    def function(x: torch.Tensor, n: int) -> torch.Tensor:
        for _ in range(n):
            if bool(x.sum() > 100.0):
                x = torch.relu(x).tanh()
            else:
                x = torch.sigmoid(x).exp()
        return x

    found = groups_of(function, torch.rand(3), 20)
    assert ["aten::relu", "aten::tanh"] in found
    assert ["aten::sigmoid", "aten::exp"] in found


def test_scopes_are_not_crossed() -> None:
    @torch.jit.script
    def function(x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(x)
        with torch.no_grad():
            z = torch.tanh(y).exp()
        return torch.sigmoid(z + y) * 2.0

    x = torch.rand(3, requires_grad=True)
    for group in groups_of(function, x):
        assert not ({"aten::tanh", "aten::exp"} & set(group) and {"aten::relu", "aten::sigmoid"} & set(group))
    (gradient,) = torch.autograd.grad(function(x).sum(), x)
    y = x.relu()
    z = y.detach().tanh().exp()
    (expected,) = torch.autograd.grad((torch.sigmoid(z + y) * 2.0).sum(), x)
    torch.testing.assert_close(gradient, expected)


def test_parameters_and_buffers_are_weights() -> None:
    class Model(nn.Module):
        b: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.rand(3))
            self.register_buffer("b", torch.rand(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x * self.w + self.b)

    traced = torch.jit.trace(Model(), torch.rand(3), check_trace=False)
    traced(torch.rand(3))
    (group,) = [
        n for n in torch.jit.last_executed_optimized_graph().nodes() if n.kind() == "tvm::CompilationGroup"
    ]
    kinds = dict(
        zip([value.debugName() for value in group.inputs()], getattr(group, "is")("input_kinds"), strict=True)
    )
    assert sorted(kinds.values()) == [0, 1, 1]
    assert kinds["x"] == 0


def test_nothing_is_fused_while_disabled() -> None:
    torch_tvm.disable()
    traced = torch.jit.trace(lambda x: x.relu().tanh(), torch.rand(3), check_trace=False)
    traced(torch.rand(3))
    assert groups_of(traced, torch.rand(3)) == []


def test_profiled_runs_are_restored() -> None:
    profiled_runs: Any = torch._C._jit_get_num_profiled_runs  # type: ignore[attr-defined]
    torch_tvm.disable()
    before = profiled_runs()
    torch_tvm.enable()
    assert profiled_runs() == 0
    torch_tvm.disable()
    assert profiled_runs() == before
