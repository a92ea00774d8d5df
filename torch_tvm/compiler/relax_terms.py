"""Types, attributes and single calls of Relay in Relax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import relax, tirx

from torch_tvm import relay

from .operators import COMPOSITES, LOWERINGS, Lowering, UnsupportedOperatorError
from .operators.te_operators import plain


def to_relax_type(ty: relay.Type) -> relax.Type:
    """Turn a Relay type into a Relax type; each unknown dim becomes a variable of its own."""
    if isinstance(ty, relay.TensorType):
        dims = [tirx.Var("dim", "int64") if d < 0 else int(d) for d in ty.shape]
        return relax.TensorType(dims, str(ty.dtype))
    if isinstance(ty, relay.TupleType):
        return relax.TupleType([to_relax_type(field) for field in ty.fields])
    raise TypeError(f"expected the type of a tensor or a tuple, got {ty}")


def attributes(attrs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give the attributes of a call as plain Python values."""
    return {str(key): plain(value) for key, value in (attrs or {}).items()}


def lower_call(lowering: Lowering) -> Any:
    """Lower one call with the table's entry for its operator, or for the composite function that is called."""
    function = LOWERINGS.get(lowering.name) or COMPOSITES.get(lowering.name)
    if function is None:
        raise UnsupportedOperatorError(f"Relay operator {lowering.name!r} has no lowering to Relax")
    return function(lowering)
