"""Relay operators as Relax expressions: one file per operator family, one table of them all."""

from . import elementwise, nn, quantised, recurrent, reduce, te_operators, transform  # noqa: F401
from .registry import COMPOSITES, LOWERINGS, BindingEmitter, Lowering, UnsupportedOperatorError

__all__ = ["COMPOSITES", "LOWERINGS", "BindingEmitter", "Lowering", "UnsupportedOperatorError"]
