"""Matrices of fast convolution algorithms F(m, r) after Toom and Cook, exact, from the points they interpolate at.

m outputs of a convolution (cross-correlation) with r taps are A^T [(G g) * (B^T d)] of the taps g and the m + r - 1
inputs d, with as many multiplications as there are inputs. See Blahut, Fast Algorithms for Signal Processing, and Lavin
and Gray, arXiv:1509.09308. In two dimensions the matrices apply to rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

Matrix = tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True)
class ToomCook:
    """The three matrices of F(m, r); n = m + r - 1.

    Attributes
    ----------
    output
        A^T, m x n.
    weight
        G, n x r.
    input
        B^T, n x n.
    """

    output: Matrix
    weight: Matrix
    input: Matrix


def derive(m: int, r: int, points: Sequence[Fraction | int]) -> ToomCook:
    """Return the matrices of F(m, r) for m + r - 2 distinct points; the last one is infinity.

    Examples
    --------
    >>> from torch_tvm.kernels.toom_cook import derive
    >>> [[str(entry) for entry in row] for row in derive(2, 3, (0, 1, -1)).input]
    [['-1', '0', '1', '0'], ['0', '1', '1', '0'], ['0', '-1', '1', '0'], ['0', '-1', '0', '1']]
    """
    exact = [Fraction(point) for point in points]
    if len(exact) != m + r - 2 or len(set(exact)) != len(exact):
        raise ValueError(f"F({m}, {r}) takes {m + r - 2} distinct points, got {', '.join(map(str, exact))}")
    others = [[q for q in exact if q != p] for p in exact]
    divisors = [_evaluate(_with_roots(roots), p) for roots, p in zip(others, exact, strict=True)]
    return ToomCook(
        output=tuple((*(p**i for p in exact), Fraction(i == m - 1)) for i in range(m)),
        weight=(
            *(tuple(p**i / d for i in range(r)) for p, d in zip(exact, divisors, strict=True)),
            tuple(Fraction(i == r - 1) for i in range(r)),
        ),
        input=(*((*_with_roots(roots), Fraction(0)) for roots in others), _with_roots(exact)),
    )


def _with_roots(roots: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """Coefficients, constant one first, of the monic polynomial with these roots."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [a - root * b for a, b in zip(shifted, [*coefficients, Fraction(0)], strict=True)]
    return tuple(coefficients)


def _evaluate(coefficients: Sequence[Fraction], x: Fraction) -> Fraction:
    return sum((c * x**i for i, c in enumerate(coefficients)), start=Fraction(0))
