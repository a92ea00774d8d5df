"""The type relations of Relay's operators: one file per operator family, one table of them all.

They are TVM 0.19's rules and not the compiler's: what that version rejects, they reject, and asking one takes
microseconds and loads no compiler.
"""

from __future__ import annotations

from . import (  # noqa: F401  register their families
    dynamic,
    elementwise,
    image,
    indexing,
    linear,
    nn,
    quantised,
    reduction,
    shape,
    vision,
)
from .registry import RELATIONS, CallSite

__all__ = ["RELATIONS", "CallSite"]
