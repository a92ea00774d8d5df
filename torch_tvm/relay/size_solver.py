"""Which sizes are the same: what is found out of the variables that stand for sizes, as TVM 0.19's type solver has it."""

from __future__ import annotations

from torch_tvm.relay.ty import Size, SizeVar

ANY = -1  # a size that is not known before run time, '?' in text


def variable(size: int) -> SizeVar | None:
    """Return the variable that stands for a size."""
    return size.var if isinstance(size, Size) else None


def is_any(size: int) -> bool:
    """Say whether a size is '?', of which not even a variable is known."""
    return size == ANY and variable(size) is None


def same_size(a: int, b: int) -> bool:
    """Say whether two sizes are one number, one variable, or both '?'."""
    first, second = variable(a), variable(b)
    if first is None or second is None:
        return a == b and first is None and second is None
    return first.same_as(second)


class SizeSolver:
    """Numbers of variables, in one function of the module."""

    def __init__(self) -> None:
        self._found: dict[SizeVar, int] = {}

    def unify(self, a: int, b: int) -> int | None:
        """Return what both sizes allow, or None if they exclude each other.

        A variable is the number that it meets first and excludes all others; two variables exclude each other.
        """
        a, b = self._seen(a), self._seen(b)
        if same_size(a, b):
            return a
        if is_any(a) or is_any(b):
            # '?' allows any number; nothing says that it is the variable.
            return ANY if variable(a) or variable(b) else max(a, b)
        for size, number in ((a, b), (b, a)):
            var = variable(size)
            if var is not None and variable(number) is None:
                self._found[var] = number
                return number
        return None

    def _seen(self, size: int) -> int:
        var = variable(size)
        return size if var is None else self._found.get(var, size)
