"""Choices among equivalent ways to compute something, which another lowering can be made to repeat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Value = TypeVar("Value")


class DifferentProgramsError(ValueError):
    """Examples of one computation differ in more than numbers; the message says in what."""


class Choices:
    """Schedules and the like, in the order in which they are chosen.

    Parameters
    ----------
    given
        Those of another lowering, which this one has to follow: programs then differ only where sizes demand it.
    """

    def __init__(self, given: Choices | None = None) -> None:
        self._given = given
        self._made: list[tuple[Callable[..., Any], Any]] = []

    def make(self, choose: Callable[..., Value], *arguments: Any) -> Value:
        """Return what `choose` makes of the arguments, or what was chosen in its place."""
        if self._given is None:
            chosen = choose(*arguments)
        else:
            others = self._given._made
            if len(self._made) >= len(others) or others[len(self._made)][0] is not choose:
                raise DifferentProgramsError(f"other kernels for other sizes ({choose.__module__})")
            chosen = others[len(self._made)][1]
        self._made.append((choose, chosen))
        return chosen
