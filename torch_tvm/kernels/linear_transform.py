"""Small constant matrices times columns of vectors, in few instructions: the transforms of Winograd convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from torch_tvm.kernels import tir
from torch_tvm.kernels.toom_cook import Matrix


@dataclass(frozen=True)
class VectorType:
    """What the vectors of a transform are."""

    dtype: str
    lanes: int
    fused: bool


def multiply(matrix: Matrix, vectors: Sequence[tir.Value | None], of: VectorType) -> list[tir.Value]:
    """Return a matrix times a column of vectors, `None` being zero; each is used often, so it must be bound or loaded.

    Rows that differ in signs alone, as those of points p and -p do, share what they have in common.
    """
    made: dict[int, tir.Value] = {}
    for i, row in enumerate(matrix):
        if i in made:
            continue
        twin = next((j for j in range(i + 1, len(matrix)) if _are_twins(row, matrix[j])), None)
        if twin is None:
            made[i] = _combine(row, vectors, of)
            continue
        same = [a if a == b else Fraction(0) for a, b in zip(row, matrix[twin], strict=True)]
        rest = [a - s for a, s in zip(row, same, strict=True)]
        even, odd = (
            tir.materialise(_combine(part, vectors, of), of.dtype, of.lanes) for part in (same, rest)
        )
        made[i], made[twin] = even + odd, even - odd
    return [made[i] for i in range(len(matrix))]


def _are_twins(row: Sequence[Fraction], other: Sequence[Fraction]) -> bool:
    used = [(a, b) for a, b in zip(row, other, strict=True) if a or b]
    return all(abs(a) == abs(b) for a, b in used) and len(used) > 2 and len({a == b for a, b in used}) == 2


def _combine(row: Sequence[Fraction], vectors: Sequence[tir.Value | None], of: VectorType) -> tir.Value:
    """Return the sum of the vectors times the coefficients; additions and subtractions come before products."""
    terms = [(c, v) for c, v in zip(row, vectors, strict=True) if c and v is not None]
    terms.sort(key=lambda term: (abs(term[0]) != 1, term[0] != 1))
    if not terms:
        return tir.constant(0, of.dtype, of.lanes)
    (first, total), *others = terms
    if first != 1:
        total = total * tir.constant(float(first), of.dtype, of.lanes)
    for coefficient, vector in others:
        if coefficient == 1:
            total = total + vector
        elif coefficient == -1:
            total = total - vector
        else:
            factor = tir.constant(float(coefficient), of.dtype, of.lanes)
            total = tir.multiply_add(vector, factor, total, of.dtype, of.lanes, fused=of.fused)
    return total
