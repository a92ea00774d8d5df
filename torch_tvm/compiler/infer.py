"""The type of one Relay call, inferred through the Relax expression that the call lowers to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tvm import relax, tirx

from torch_tvm import arrays, relay

from .operators import LOWERINGS, Emitter, Lowering, UnsupportedOperatorError
from .operators.te_operators import plain


def to_relax_type(ty: relay.Type) -> relax.Type:
    """Turn a Relay type into a Relax type; each unknown dim becomes a variable of its own."""
    if isinstance(ty, relay.TensorType):
        dims = [tirx.Var("dim", "int64") if d < 0 else int(d) for d in ty.shape]
        return relax.TensorType(dims, str(ty.dtype))
    if isinstance(ty, relay.TupleType):
        return relax.TupleType([to_relax_type(field) for field in ty.fields])
    raise TypeError(f"expected the type of a tensor or a tuple, got {ty}")


def to_relay_type(ty: relax.Type) -> relay.Type:
    """Turn a Relax type into a Relay type; a dim that is not a constant becomes '?' (-1)."""
    if isinstance(ty, relax.TupleType):
        return relay.TupleType([to_relay_type(field) for field in ty.fields])
    if not isinstance(ty, relax.TensorType) or ty.shape is None:
        raise TypeError(f"expected the type of a tensor of known rank, got {ty}")
    dims = [int(d) if isinstance(d, tirx.IntImm) else -1 for d in ty.shape.values]
    return relay.TensorType(dims, str(ty.dtype))


def to_numpy(constant: Any) -> np.ndarray | None:
    """Give the value of a Relay constant (or its tensor) as an array; None stays None."""
    if constant is None or isinstance(constant, np.ndarray):
        return constant
    return arrays.to_numpy(constant.data if isinstance(constant, relay.Constant) else constant)


def attributes(attrs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give the attributes of a call as plain Python values."""
    return {str(key): plain(value) for key, value in (attrs or {}).items()}


def lower_call(lowering: Lowering) -> Any:
    """Lower one call with the table's entry for its operator."""
    function = LOWERINGS.get(lowering.name)
    if function is None:
        raise UnsupportedOperatorError(f"Relay operator {lowering.name!r} has no lowering to Relax")
    return function(lowering)


def call_type(
    op_name: str,
    arg_types: Sequence[relay.Type],
    attrs: Mapping[str, Any] | None = None,
    arg_consts: Sequence[Any] | None = None,
) -> relay.Type:
    """Infer the type of a Relay call.

    Parameters
    ----------
    op_name
        Name of the operator, for example ``"nn.dense"``.
    arg_types
        Types of the operands.
    attrs
        The complete attributes of the call.
    arg_consts
        For each operand its value (a Relay constant, tensor or array) where it is one, else None.

    Returns
    -------
    relay.Type
        Type of the value that the call computes.

    Examples
    --------
    >>> from torch_tvm import relay
    >>> matrix = relay.TensorType([2, 3], "float32")
    >>> list(call_type("add", [matrix, relay.TensorType([3], "float32")]).shape)
    [2, 3]

    """
    emitter = Emitter()
    operands: list[relax.Expr] = []
    for ty in arg_types:
        operand: relax.Expr = relax.Var("operand", to_relax_type(ty))
        if isinstance(ty, relay.TupleType):
            members = [relax.Var("member", field) for field in operand.ty.fields]
            operand = relax.Tuple(members)
        operands.append(operand)
    constants = [to_numpy(c) for c in arg_consts] if arg_consts else [None] * len(operands)
    lowering = Lowering(op_name, operands, attributes(attrs), constants, emitter)
    return to_relay_type(emitter.emit(lower_call(lowering)).ty)
