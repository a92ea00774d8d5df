"""Products of 8-bit integers in the register tiles of the float kernels: four bytes at a time.

An int32 of the left operand is four neighbours of a sum, unsigned; an int32 of the right one the four values that they
are multiplied with, signed. A multiply-add of the tile is then the sum of four products, exact in int32, and a kernel
with a quarter of the terms is all that is left to do. With AVX-512 VNNI or AVX-VNNI that is one instruction, `vpdpbusd`;
else bytes are widened to int16 and multiplied by `vpmaddwd` (never `vpmaddubsw`, which saturates).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from tvm.tirx.script import builder as T

from torch_tvm.kernels import tir
from torch_tvm.kernels.register_tile import RegisterTile
from torch_tvm.kernels.target import CpuTarget

# Bytes in an element of the operands.
BYTES = 4

_VECTOR_BITS = (512, 256, 128)


class Workload(Protocol):
    """What a workload says of its elements."""

    @property
    def dtype(self) -> str:
        """Dtype of the sums."""

    @property
    def quads(self) -> bool:
        """Whether an element of the operands is four bytes."""


def bytes_in_floats(workload: Workload) -> int:
    """Return what an element of the weights would take in floats.

    Of a network in bytes as many weights are cold as of one in floats, though they are a quarter as large: BERT-base,
    128 tokens, takes 25.8 ms if panels are fetched ahead as those of floats are, and else 29.3 (two threads).
    """
    return tir.element_bytes(workload.dtype) * (BYTES if workload.quads else 1)


def register_tile(workload: Workload, rows: int, vectors: int, lanes: int, target: CpuTarget) -> RegisterTile:
    """Return the tile that computes a workload's products."""
    if workload.quads:
        return QuadTile(rows, vectors, lanes, target)
    return RegisterTile(rows, vectors, workload.dtype, lanes, fused=target.has_fma)


class QuadTile(RegisterTile):
    """A register tile of int32 sums whose operands are four bytes each: unsigned scalars, signed vectors."""

    def __init__(self, rows: int, vectors: int, lanes: int, target: CpuTarget) -> None:
        super().__init__(rows, vectors, "int32", lanes, fused=False)
        self._add = _multiply_add(lanes, target)

    def multiply_add(self, row: int, scalar: tir.Value, vectors: Sequence[tir.Value]) -> None:
        """Add the four products of a scalar's bytes with those of each element of each vector to a row."""
        repeated = T.bind(tir.broadcast(scalar, self.lanes))
        for v, vector in enumerate(vectors):
            k = row * self.vectors + v
            self._sums[k] = self._add(repeated, vector, self._sums[k])


def _multiply_add(lanes: int, target: CpuTarget) -> Callable[[tir.Value, tir.Value, tir.Value], tir.Value]:
    bits = 32 * lanes
    if bits in _VECTOR_BITS and target.has_vnni:
        return lambda a, b, c: _vnni(a, b, c, lanes)
    if bits in _VECTOR_BITS and target.isa in ("avx512", "avx2"):
        return lambda a, b, c: _widened(a, b, c, lanes)
    return lambda a, b, c: _shifted(a, b, c, lanes)


def _vnni(a: tir.Value, b: tir.Value, c: tir.Value, lanes: int) -> tir.Value:
    int8 = tir.vector_dtype("int8", BYTES * lanes)
    return T.call_llvm_pure_intrin(
        tir.vector_dtype("int32", lanes),
        f"llvm.x86.avx512.vpdpbusd.{32 * lanes}",
        c,
        T.reinterpret(int8, a),
        T.reinterpret(int8, b),
    )


_PAIR_PRODUCTS = {512: "avx512.pmaddw.d.512", 256: "avx2.pmadd.wd", 128: "sse2.pmadd.wd"}


def _widened(a: tir.Value, b: tir.Value, c: tir.Value, lanes: int) -> tir.Value:
    """Multiply the even bytes and the odd bytes as int16."""
    int16, int32 = tir.vector_dtype("int16", 2 * lanes), tir.vector_dtype("int32", lanes)
    uint16 = tir.vector_dtype("uint16", 2 * lanes)
    eight = tir.constant(8, "int16", 2 * lanes)
    unsigned, signed = T.reinterpret(uint16, a), T.reinterpret(int16, b)
    low = T.bitwise_and(unsigned, tir.constant(255, "uint16", 2 * lanes))
    high = T.shift_right(unsigned, tir.constant(8, "uint16", 2 * lanes))
    even = T.shift_right(T.shift_left(signed, eight), eight)
    odd = T.shift_right(signed, eight)
    for left, right in ((low, even), (high, odd)):
        name = f"llvm.x86.{_PAIR_PRODUCTS[32 * lanes]}"
        c = c + T.call_llvm_pure_intrin(int32, name, T.reinterpret(int16, left), right)
    return c


def _shifted(a: tir.Value, b: tir.Value, c: tir.Value, lanes: int) -> tir.Value:
    """Multiply byte by byte, by shifts of int32."""
    mask, top = tir.constant(255, "int32", lanes), tir.constant(24, "int32", lanes)
    for byte in range(BYTES):
        shift = tir.constant(8 * byte, "int32", lanes)
        unsigned = T.bitwise_and(T.shift_right(a, shift), mask)
        signed = T.shift_right(T.shift_left(b, top - shift), top)
        c = c + unsigned * signed
    return c
