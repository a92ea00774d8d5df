"""Products of bytes: every instruction set against integer arithmetic, saturating sums included."""

from __future__ import annotations

import pytest
import torch
from kernel_runs import get_target

from torch_tvm.kernels import matmul
from torch_tvm.kernels.matrix_view import MatrixView
from torch_tvm.kernels.module import compile_kernels

# With VNNI, without, and without pmaddwd in TVM's sense (no vectors wider than 128 bits, no FMA).
TARGETS = ["llvm", "llvm -mcpu=skylake-avx512", "llvm -mcpu=haswell", "llvm -mcpu=nehalem"]


def workload(m: int, n: int, k: int, *, packed: bool) -> matmul.Matmul:
    return matmul.Matmul(
        MatrixView((m, k), ("m", "k")),
        MatrixView((n, k), ("n", "k")),
        MatrixView((m, n), ("m", "n")),
        packed,
        "int32",
        quads=True,
    )


@pytest.mark.parametrize("spec", TARGETS)
def test_products_are_exact(spec: str) -> None:
    target = get_target(spec)
    torch.manual_seed(0)
    functions, calls = {}, []
    for m, n, k in [(1, 1, 1), (7, 33, 5), (13, 70, 24)]:
        for packed in (True, False):
            own = workload(m, n, k, packed=packed)
            schedule = matmul.default_schedule(own, target, 2)
            a = torch.randint(0, 256, (m, 4 * k), dtype=torch.uint8)
            b = torch.randint(-128, 128, (n, 4 * k), dtype=torch.int8)
            a[0], b[0] = 255, -128  # as far as sums go: 255 * -128 twice does not fit int16
            name = f"product{len(calls)}"
            functions[name] = matmul.build(own, schedule, target, name)
            shape = matmul.packed_shape(own, schedule) if packed else ()
            if packed:
                functions["pack" + name] = matmul.build_pack(own, schedule, target, "pack" + name)
            calls.append((name, a, b, shape))
    kernels = compile_kernels(functions, target)
    for name, a, b, shape in calls:
        right = b.view(torch.int32)
        if shape:
            packed_right = torch.empty(shape, dtype=torch.int32)
            kernels["pack" + name](right, packed_right)
            right = packed_right
        result = torch.empty(len(a), len(b), dtype=torch.int32)
        kernels[name](a.view(torch.int32), right, result)
        assert torch.equal(result.long(), a.long() @ b.long().T), name


def test_workloads_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="signed"):
        workload(2, 3, 4, packed=False).mirrored()
    with pytest.raises(ValueError, match="summed in int32, got float32"):
        view = MatrixView((4, 4), ("m", "k"))
        matmul.Matmul(view, view.renamed({"m": "n"}), view.renamed({"k": "n"}), quads=True)
