"""The plain schedule of functions that TVM's legalisation makes: the results stay, parallel and vector loops appear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from kernel_runs import TARGETS, assert_close, get_target, random_tensor, run
from tvm import relax, tirx

from torch_tvm.kernels import generic
from torch_tvm.kernels.module import compile_kernels

R = relax.op
X = (4, 33, 40)
Make = Callable[..., Any]

# name: (input shapes, dtypes, Relax, torch)
CASES: dict[str, tuple[list[tuple[int, ...]], list[str], Make, Make]] = {
    "pad": (
        [X],
        ["float32"],
        lambda x: R.nn.pad(x, [0, 0, 1, 2, 3, 4]),
        lambda x: torch.nn.functional.pad(x, (3, 4, 1, 2)),
    ),
    "slice": (
        [X],
        ["float32"],
        lambda x: R.strided_slice(x, [1, 2], [1, 3], [30, 40], [2, 3]),
        lambda x: x[:, 1:30:2, 3:40:3],
    ),
    "take": (
        [X, (5,)],
        ["float32", "int64"],
        lambda x, i: R.take(x, i, 1, mode="clip"),
        lambda x, i: x[:, i],
    ),
    "concat": ([X, X], ["float32"] * 2, lambda x, y: R.concat([x, y], 1), lambda x, y: torch.cat([x, y], 1)),
    "sum": ([X], ["float32"], lambda x: R.sum(x, [1]), lambda x: x.sum(1)),
    "softmax": ([X], ["float32"], lambda x: R.nn.softmax(x, 1), lambda x: x.softmax(1)),
    "gelu": ([X], ["float32"], R.nn.gelu, torch.nn.functional.gelu),
    "tile": ([X], ["float32"], lambda x: R.tile(x, [1, 2, 3]), lambda x: x.tile(1, 2, 3)),
    "tril": ([X], ["float32"], lambda x: R.tril(x, 1), lambda x: x.tril(1)),
    "big_exp": ([(256, 512)], ["float32"], R.exp, torch.exp),
    "transpose": (
        [(64, 33, 128)],
        ["float32"],
        lambda x: R.permute_dims(x, [2, 0, 1]),
        lambda x: x.permute(2, 0, 1),
    ),
    "conv_transpose": (
        [(1, 8, 10, 10), (8, 6, 3, 3)],
        ["float32"] * 2,
        lambda x, w: R.nn.conv2d_transpose(x, w, (2, 2), (1, 1)),
        lambda x, w: torch.nn.functional.conv_transpose2d(x, w, stride=2, padding=1),
    ),
    "erf": ([X], ["float32"], R.erf, torch.erf),
    "isinf": ([X], ["float32"], R.isinf, torch.isinf),
}


def legalised(make: Make, shapes: list[tuple[int, ...]], dtypes: list[str]) -> Any:
    builder = relax.BlockBuilder()
    inputs = [
        relax.Var(f"x{k}", relax.TensorType(shape, dtype))
        for k, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))
    ]
    with builder.function("main", inputs):
        with builder.dataflow():
            output = builder.emit_output(builder.emit(make(*inputs)))
        builder.emit_func_output(output)
    module = relax.transform.LegalizeOps()(builder.get())
    (function,) = (f for f in module.functions.values() if not isinstance(f, relax.Function))
    return function


@pytest.mark.parametrize("target", TARGETS)
def test_results_stay(target: str) -> None:
    cpu = get_target(target)
    functions, arguments, expected = {}, {}, {}
    for name, (shapes, dtypes, make, reference) in CASES.items():
        inputs = [random_tensor(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
        inputs = [x.clamp(min=0) if x.dtype == torch.int64 else x for x in inputs]
        functions[name] = generic.schedule(legalised(make, shapes, dtypes), cpu, threads=2)
        expected[name] = reference(*inputs).contiguous()
        arguments[name] = [*inputs, torch.zeros_like(expected[name])]
    run(functions, arguments, cpu)
    for name, wanted in expected.items():
        assert_close(name, arguments[name][-1], wanted, rtol=1e-5, atol=1e-4)


def test_loops_are_parallel_and_vectorised_where_it_pays() -> None:
    cpu = get_target(TARGETS[0])

    def text(name: str, threads: int = 2) -> str:
        shapes, dtypes, make, _ = CASES[name]
        return str(generic.schedule(legalised(make, shapes, dtypes), cpu, threads))

    assert "T.parallel" in text("big_exp") and "T.vectorized" in text("big_exp")
    assert "T.parallel" not in text("big_exp", threads=1)
    assert "T.parallel" not in text("tril") and "T.vectorized" in text("slice")
    # Vectors of erf and isinf do not compile.
    assert "T.vectorized" not in text("erf") and "T.vectorized" not in text("isinf")


def test_inlining_leaves_no_intermediate_of_gelu() -> None:
    shapes, dtypes, make, _ = CASES["gelu"]
    assert "sblock_alloc_buffer" in str(legalised(make, shapes, dtypes))
    assert "sblock_alloc_buffer" not in str(
        generic.schedule(legalised(make, shapes, dtypes), get_target(TARGETS[0]), 2)
    )


SYMBOLIC: dict[str, tuple[list[tuple[Any, ...]], list[str], Make, Make]] = {
    "take": (
        [(50, 32), ("b", "s")],
        ["float32", "int64"],
        lambda w, i: R.take(w, i, 0, mode="clip"),
        lambda w, i: w[i],
    ),
    "concat": (
        [("b", "s", 8), ("b", "s", 8)],
        ["float32"] * 2,
        lambda x, y: R.concat([x, y], 1),
        lambda x, y: torch.cat([x, y], 1),
    ),
    "sum": ([("b", "s", 8)], ["float32"], lambda x: R.sum(x, [1]), lambda x: x.sum(1)),
    "tril": ([("b", "s", "s")], ["float32"], lambda x: R.tril(x, 1), lambda x: x.tril(1)),
}


def test_symbolic_sizes() -> None:
    cpu = get_target(TARGETS[0])
    variables = {name: tirx.Var(name, "int64") for name in "bs"}
    functions = {}
    for name, (shapes, dtypes, make, _) in SYMBOLIC.items():
        symbolic = [tuple(variables.get(size, size) for size in shape) for shape in shapes]
        function = legalised(make, symbolic, dtypes)
        functions[name] = generic.schedule(function, cpu, threads=2, hints={"b": 64, "s": 512})
    for name in ("take", "concat", "tril"):
        assert "T.parallel" in str(functions[name])
    assert "T.vectorized" in str(functions["take"])
    assert "T.parallel" not in str(
        generic.schedule(legalised(make, symbolic, dtypes), cpu, threads=2, hints={"b": 1, "s": 2})
    )
    compiled = compile_kernels(functions, cpu)
    for sizes in ({"b": 2, "s": 3}, {"b": 5, "s": 70}):
        for name, (shapes, dtypes, _, reference) in SYMBOLIC.items():
            actual = [tuple(sizes.get(size, size) for size in shape) for shape in shapes]
            inputs = [random_tensor(shape, dtype) for shape, dtype in zip(actual, dtypes, strict=True)]
            inputs = [x.clamp(min=0) if x.dtype == torch.int64 else x for x in inputs]
            expected = reference(*inputs)
            result = torch.zeros(expected.shape)
            compiled[name](*inputs, result)
            assert_close((name, sizes), result, expected)
