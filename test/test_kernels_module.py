"""compile_kernels: both pass pipelines, several modules, tensors of any alignment, life time of functions."""

import gc

import numpy as np
import pytest
import torch
import tvm
from tvm import te
from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import tir
from torch_tvm.kernels.extent import Dim, UndecidableError
from torch_tvm.kernels.module import check_arguments, compile_kernels
from torch_tvm.kernels.target import host_target, parse_target


def scale_kernel(factor: float, size: int = 37, lanes: int = 8) -> PrimFunc:
    def body(source: tir.Buffer, result: tir.Buffer) -> None:
        whole = size // lanes
        with T.parallel(0, whole) as block:
            value = tir.load(source, (block * lanes,), lanes)
            tir.store(result, value * tir.constant(factor, "float32", lanes), (block * lanes,), lanes)
        tail = size % lanes
        value = tir.load_partial(source, (whole * lanes,), count=tail, dtype="float32", lanes=lanes)
        scaled = tir.materialise(value * tir.constant(factor, "float32", lanes), "float32", lanes)
        tir.store_partial(result, scaled, (whole * lanes,), count=tail, dtype="float32", lanes=lanes)

    parameters = [tir.Parameter(name, (size,), "float32") for name in ("source", "result")]
    return tir.kernel("unnamed", parameters, body)


def blocks_kernel(rows: int, columns: int) -> PrimFunc:
    source = te.placeholder((rows, columns), name="source")
    axis = te.reduce_axis((0, columns))
    total = te.compute((rows,), lambda row: te.sum(source[row, axis], axis=axis))
    return te.create_prim_func([source, te.compute((rows,), lambda row: total[row] * 2.0)])


@pytest.mark.parametrize(("cpus", "checked"), [({0}, True), (None, False)])
def test_many_kernels(cpus: set[int] | None, checked: bool) -> None:
    functions = {f"scale_{i}": scale_kernel(float(i)) for i in range(11)}
    functions["blocks"] = blocks_kernel(3, 5)
    compiled = compile_kernels(functions, host_target(), cpus=cpus, checked=checked)
    assert list(sorted(compiled)) == sorted(functions)
    gc.collect()
    source = torch.randn(37)
    for i in range(11):
        result = torch.full((37,), torch.nan)
        compiled[f"scale_{i}"](source, result)
        torch.testing.assert_close(result, source * i, rtol=0, atol=0)
    matrix, rows = torch.randn(3, 5), torch.empty(3)
    compiled["blocks"](matrix, rows)
    torch.testing.assert_close(rows, matrix.sum(1) * 2)


@pytest.mark.parametrize("spec", ["llvm", "llvm -mcpu=haswell", "llvm -mcpu=x86-64"])
def test_no_alignment_is_assumed(spec: str) -> None:
    compiled = compile_kernels({"scale": scale_kernel(3.0)}, parse_target(spec))
    for offset in (1, 2, 3):
        source, result = torch.randn(64)[offset : offset + 37], torch.full((64,), 7.0)
        compiled["scale"](source, result[offset + 1 : offset + 38])
        np.testing.assert_array_equal(result[offset + 1 : offset + 38], source * 3)
        assert (result[: offset + 1] == 7).all()
        assert (result[offset + 38 :] == 7).all()


def test_wrong_shape_is_refused() -> None:
    compiled = compile_kernels({"scale": scale_kernel(3.0)}, host_target())
    with pytest.raises((ValueError, TypeError, RuntimeError, AssertionError), match="shape"):
        compiled["scale"](torch.randn(36), torch.randn(37))


def test_arguments_are_checked_once_instead_of_at_each_call() -> None:
    function = scale_kernel(3.0)
    check_arguments(function, [((37,), "float32"), ((37,), "float32")])
    for wrong in (((37, 1), "float32"), ((36,), "float32"), ((37,), "float64")):
        with pytest.raises(ValueError, match=r"unnamed: expected tensors \[\(\(37,\), 'float32'\)"):
            check_arguments(function, [((37,), "float32"), wrong])
    with pytest.raises(ValueError, match="unnamed: expected tensors"):
        check_arguments(function, [((37,), "float32")])


def test_symbolic_sizes_are_the_last_parameters() -> None:
    many, wide = (Dim(name, 2, 9).extent for name in ("rows", "columns"))

    def body(source: tir.Buffer, result: tir.Buffer) -> None:
        with tir.loop(many) as i:
            T.buffer_store(result, source[2 * i + 1, 0] * 2.0, [i])

    parameters = [
        tir.Parameter("source", (2 * many, wide + 1), "float32"),
        tir.Parameter("result", (many,), "float32"),
    ]
    function = tir.kernel("odd_rows", parameters, body)
    tensors = [((2 * many, wide + 1), "float32"), ((many,), "float32")]
    check_arguments(function, tensors, ["columns", "rows"])
    for wrong in (
        (tensors, ["rows", "columns"]),
        (tensors, []),
        ([((2 * many, wide), "float32"), tensors[1]], ["columns", "rows"]),
    ):
        with pytest.raises(
            ValueError, match=r"odd_rows: expected tensors .* and sizes \['columns', 'rows'\], got"
        ):
            check_arguments(function, *wrong)
    odd_rows = compile_kernels({"odd_rows": function}, host_target())["odd_rows"]
    for rows, columns in ((2, 9), (9, 2)):
        source, result = torch.randn(2 * rows, columns + 1), torch.zeros(rows)
        odd_rows(source, result, columns, rows)
        torch.testing.assert_close(result, source[1::2, 0] * 2)
    with pytest.raises((ValueError, TypeError, RuntimeError, AssertionError), match="shape"):
        odd_rows(source, result, columns, rows - 1)
    with pytest.raises(UndecidableError, match="source of shape .* may have up to 4831838208 elements"):
        tir.Parameter("source", (many, 2**29), "float32")


def test_more_elements_than_indices_reach() -> None:
    huge = tir.Parameter("source", (2**16, 2**15), "float32")
    with pytest.raises(ValueError, match=r"copy: source of shape \(65536, 32768\) has more elements"):
        tir.kernel("copy", [huge], lambda _: None)


def test_nothing_to_compile() -> None:
    assert compile_kernels({}, host_target()) == {}


def test_split_evenly() -> None:
    for extent in range(60):
        for largest in range(1, 15):
            tiles = [size for count, size in tir.split_evenly(extent, largest) for _ in range(count)]
            assert sum(tiles) == extent
            assert max(tiles, default=0) <= largest
            assert max(tiles, default=0) - min(tiles, default=0) <= 1


def test_fused_multiply_add_is_one_instruction() -> None:
    def body(a: tir.Buffer, b: tir.Buffer, c: tir.Buffer, result: tir.Buffer) -> None:
        x, y, z = (tir.load(buffer, (0,), 8) for buffer in (a, b, c))
        tir.store(result, tir.multiply_add(x, y, z, "float32", 8, fused=True), (0,), 8)

    function = tir.kernel("fma", [tir.Parameter(name, (8,), "float32") for name in "abcr"], body)
    module = tvm.tirx.build(function, target=parse_target("llvm -mcpu=haswell").tvm)
    assert "vfmadd" in module.inspect_source("asm")
