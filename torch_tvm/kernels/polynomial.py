"""Polynomials with integer coefficients of atoms: values between bounds of which nothing else is known here."""

from __future__ import annotations

import itertools
from typing import Any

Monomial = tuple[Any, ...]  # atoms, sorted by their text; () is 1
Terms = tuple[tuple[Monomial, int], ...]


def order(atoms: Monomial) -> tuple[int, list[str]]:
    """Return what monomials are sorted by: their degree first."""
    return len(atoms), [str(atom) for atom in atoms]


def add(*parts: Terms) -> dict[Monomial, int]:
    """Add polynomials."""
    found: dict[Monomial, int] = {}
    for atoms, factor in itertools.chain(*parts):
        found[atoms] = found.get(atoms, 0) + factor
    return found


def multiply(a: Terms, b: Terms) -> dict[Monomial, int]:
    """Multiply two polynomials."""
    pairs = itertools.product(a, b)
    return add(*(((tuple(sorted((*p, *q), key=str)), x * y),) for (p, x), (q, y) in pairs))


def text(terms: Terms) -> str:
    """Write a polynomial as Python does, the last term first."""

    def term(atoms: Monomial, factor: int) -> str:
        factors = [str(atom) for atom in atoms]
        if not factors or factor not in (1, -1):
            factors.insert(0, str(abs(factor)))
        return ("- " if factor < 0 else "+ ") + "*".join(factors)

    written = " ".join(term(*each) for each in reversed(terms))
    return written[2:] if written.startswith("+") else f"-{written[2:]}"


def bounds(terms: Terms) -> tuple[int, int]:
    """Bounds of a polynomial: at the bounds of each atom in which it is linear or monotonic, else of each term alone."""
    atom = next((atom for atoms, _ in terms for atom in atoms), None)
    if atom is None:
        total = sum(factor for _, factor in terms)
        return total, total
    slope = add(
        *(((_without(atoms, atom), factor * atoms.count(atom)),) for atoms, factor in terms if atom in atoms)
    )
    linear = all(atom not in atoms for atoms in slope)
    low, high = (0, 0) if linear else bounds(tuple(slope.items()))
    if linear or low >= 0 or high <= 0:
        ends = [bounds(_at(terms, atom, value)) for value in atom.bounds]
        return min(end[0] for end in ends), max(end[1] for end in ends)
    each = [_term_bounds(atoms, factor) for atoms, factor in terms]
    return sum(e[0] for e in each), sum(e[1] for e in each)


def _without(atoms: Monomial, atom: Any) -> Monomial:
    position = atoms.index(atom)
    return (*atoms[:position], *atoms[position + 1 :])


def _at(terms: Terms, atom: Any, value: int) -> Terms:
    """Give an atom a value."""
    replaced = (
        ((tuple(a for a in atoms if a != atom), factor * value ** atoms.count(atom)),)
        for atoms, factor in terms
    )
    return tuple(add(*replaced).items())


def _term_bounds(atoms: Monomial, factor: int) -> tuple[int, int]:
    low = high = factor
    for atom in atoms:
        products = [a * b for a, b in itertools.product((low, high), atom.bounds)]
        low, high = min(products), max(products)
    return low, high
