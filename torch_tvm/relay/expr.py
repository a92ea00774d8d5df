"""Relay expressions: the Python face of the objects of csrc/relay.

All are immutable but for ``span`` and ``checked_type``. ``==`` is identity;
:func:`torch_tvm.relay.structural_equal` compares programs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tvm_ffi
from tvm_ffi.dataclasses import c_class

from torch_tvm.arrays import to_numpy
from torch_tvm.relay.ty import Node, Type, TypeVar

_get_op = tvm_ffi.get_global_func("torch_tvm.relay.get_op")
_as_text: Any = tvm_ffi.get_global_func("torch_tvm.relay.as_text")
_structural_equal = tvm_ffi.get_global_func("torch_tvm.relay.structural_equal")
_structural_hash = tvm_ffi.get_global_func("torch_tvm.relay.structural_hash")
_save_json = tvm_ffi.get_global_func("torch_tvm.relay.save_json")
_load_json = tvm_ffi.get_global_func("torch_tvm.relay.load_json")


def _is_torch_tensor(value: Any) -> bool:
    """Say so without loading torch, which the process that compiles does without."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


class Printable(Node):
    """What expressions and modules share."""

    def astext(self, show_meta_data: bool = True) -> str:
        """Return the program in Relay's text format 0.0.5, which :func:`torch_tvm.relay.parse` reads.

        Parameters
        ----------
        show_meta_data
            Append the tensors (the ``#[metadata]`` section). Text without it is for people and may not parse.

        Examples
        --------
        >>> from torch_tvm import relay
        >>> x = relay.Var("x", relay.TensorType((2, 3), "float32"))
        >>> print(relay.IRModule.from_expr(relay.Function([x], relay.nn.relu(x))).astext())
        #[version = "0.0.5"]
        def @main(%x: Tensor[(2, 3), float32]) {
          nn.relu(%x)
        }
        <BLANKLINE>
        """
        return str(_as_text(self, show_meta_data))

    def __str__(self) -> str:
        return self.astext(show_meta_data=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return load_json, (save_json(self),)

    def __repr__(self) -> str:
        return f"<relay.{type(self).__name__}>"


@c_class("torch_tvm.relay.Span", repr=False)
class Span(Node):
    """A range of the user's source; lines and columns as the source counts them."""

    source_name: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __init__(
        self, source_name: str, line: int = 0, column: int = 0, end_line: int = 0, end_column: int = 0
    ) -> None:
        self.__ffi_init__(source_name, line, column, end_line, end_column)

    def __repr__(self) -> str:
        return f"{self.source_name}:{self.line}:{self.column}"


@c_class("torch_tvm.relay.Expr", init=False, repr=False)
class Expr(Printable):
    """Base of all expressions.

    Attributes
    ----------
    span : Span or None
        Where in the user's source the expression comes from.
    checked_type : Type or None
        Filled by :func:`torch_tvm.relay.infer_type`.
    """

    span: Span | None
    checked_type: Type | None


@c_class("torch_tvm.relay.Var", repr=False)
class Var(Expr):
    """A parameter or let-bound variable. Identity, not the name, tells variables apart."""

    name_hint: str
    type_annotation: Type | None

    def __init__(self, name_hint: str, type_annotation: Type | None = None, span: Span | None = None) -> None:
        self.__ffi_init__(name_hint, type_annotation, span)


@c_class("torch_tvm.relay.Constant", repr=False)
class Constant(Expr):
    """A tensor known at compile time. The data is copied from torch tensors and from what numpy accepts.

    Examples
    --------
    >>> from torch_tvm import relay
    >>> relay.Constant([[1.0, 2.0]]).numpy()
    array([[1., 2.]])
    """

    data: tvm_ffi.Tensor

    def __init__(self, data: Any, span: Span | None = None) -> None:
        if _is_torch_tensor(data):
            data = tvm_ffi.from_dlpack(data.detach().cpu().contiguous().clone())
        elif not isinstance(data, tvm_ffi.Tensor):
            data = tvm_ffi.from_dlpack(np.array(data, order="C"))
        self.__ffi_init__(data, span)

    def numpy(self) -> np.ndarray:
        """Return the data as a numpy array that shares memory with it; bfloat16 is that of ml_dtypes."""
        return to_numpy(self.data)


@c_class("torch_tvm.relay.GlobalVar", repr=False)
class GlobalVar(Expr):
    """A function of the module, by name."""

    name_hint: str

    def __init__(self, name_hint: str, span: Span | None = None) -> None:
        self.__ffi_init__(name_hint, span)


@c_class("torch_tvm.relay.Op", init=False, repr=False)
class Op(Expr):
    """An operator; get one with ``Op.get("nn.relu")``."""

    name: str

    @staticmethod
    def get(name: str) -> Op:
        """Return the operator of this name, always the same object.

        Raises
        ------
        ValueError
            If TVM 0.19's Relay has no such operator.
        """
        op: Op = _get_op(name)
        return op

    def __repr__(self) -> str:
        return f"Op({self.name})"


@c_class("torch_tvm.relay.Call", repr=False)
class Call(Expr):
    """A call of an operator (by name or :class:`Op`) or of a function value.

    For an operator the number of operands is checked, and ``attrs`` is completed with the defaults and
    converted to the declared kinds.

    Raises
    ------
    ValueError
        For an unknown operator, a wrong number of operands, an unknown or a missing attribute.
    TypeError
        For an attribute of the wrong kind.
    """

    op: Expr
    args: Sequence[Expr]
    attrs: Mapping[str, Any]

    def __init__(
        self,
        op: Expr | str,
        args: Sequence[Expr],
        attrs: Mapping[str, Any] | None = None,
        span: Span | None = None,
    ) -> None:
        callee = Op.get(op) if isinstance(op, str) else op
        self.__ffi_init__(callee, list(args), dict(attrs or {}), span)


@c_class("torch_tvm.relay.Tuple", repr=False)
class Tuple(Expr):
    """A tuple of expressions."""

    fields: Sequence[Expr]

    def __init__(self, fields: Sequence[Expr], span: Span | None = None) -> None:
        self.__ffi_init__(list(fields), span)


@c_class("torch_tvm.relay.TupleGetItem", repr=False)
class TupleGetItem(Expr):
    """One field of a tuple."""

    tuple: Expr
    index: int

    def __init__(self, tuple: Expr, index: int, span: Span | None = None) -> None:
        self.__ffi_init__(tuple, index, span)


@c_class("torch_tvm.relay.Let", repr=False)
class Let(Expr):
    """Bind ``var`` to ``value`` in ``body``; a function value may use ``var`` itself."""

    var: Var
    value: Expr
    body: Expr

    def __init__(self, var: Var, value: Expr, body: Expr, span: Span | None = None) -> None:
        self.__ffi_init__(var, value, body, span)


@c_class("torch_tvm.relay.If", repr=False)
class If(Expr):
    """``true_branch`` if the rank-0 boolean ``cond`` holds, else ``false_branch``."""

    cond: Expr
    true_branch: Expr
    false_branch: Expr

    def __init__(self, cond: Expr, true_branch: Expr, false_branch: Expr, span: Span | None = None) -> None:
        self.__ffi_init__(cond, true_branch, false_branch, span)


@c_class("torch_tvm.relay.Function", repr=False)
class Function(Expr):
    """A function of distinct variables; ``type_params`` are bound in it."""

    params: Sequence[Var]
    body: Expr
    ret_type: Type | None
    type_params: Sequence[TypeVar]
    attrs: Mapping[str, Any]

    def __init__(
        self,
        params: Sequence[Var],
        body: Expr,
        ret_type: Type | None = None,
        type_params: Sequence[TypeVar] | None = None,
        attrs: Mapping[str, Any] | None = None,
        span: Span | None = None,
    ) -> None:
        self.__ffi_init__(list(params), body, ret_type, dict(attrs or {}), span, list(type_params or []))


@c_class("torch_tvm.relay.RefCreate", repr=False)
class RefCreate(Expr):
    """A new reference that holds ``value``."""

    value: Expr

    def __init__(self, value: Expr, span: Span | None = None) -> None:
        self.__ffi_init__(value, span)


@c_class("torch_tvm.relay.RefRead", repr=False)
class RefRead(Expr):
    """What the reference ``ref`` holds."""

    ref: Expr

    def __init__(self, ref: Expr, span: Span | None = None) -> None:
        self.__ffi_init__(ref, span)


@c_class("torch_tvm.relay.RefWrite", repr=False)
class RefWrite(Expr):
    """Put ``value`` into the reference ``ref``; gives the empty tuple."""

    ref: Expr
    value: Expr

    def __init__(self, ref: Expr, value: Expr, span: Span | None = None) -> None:
        self.__ffi_init__(ref, value, span)


@c_class("torch_tvm.relay.BoxInt", repr=False)
class BoxInt(Node):
    """An integer that TVM 0.19 holds as an object, as ``split``'s ``indices_or_sections`` may."""

    value: int

    def __init__(self, value: int) -> None:
        self.__ffi_init__(value)

    def __index__(self) -> int:
        return self.value

    def __repr__(self) -> str:
        return f"BoxInt({self.value})"


@c_class("torch_tvm.relay.VirtualDevice", repr=False)
class VirtualDevice(Node):
    """Where TVM's compiler wants a value, an attribute of ``on_device`` and of functions: ``meta[VirtualDevice][0]`` in text.

    Parameters
    ----------
    device_type
        As in DLPack, 1 for CPUs; -1 leaves it open.
    virtual_device_id
        Number of the device; -1 leaves it open.
    memory_scope
        Name of the memory; "" leaves it open.

    Examples
    --------
    >>> from torch_tvm import relay
    >>> relay.VirtualDevice(device_type=1)
    VirtualDevice(1, -1, '')
    """

    device_type: int
    virtual_device_id: int
    memory_scope: str

    def __init__(self, device_type: int = -1, virtual_device_id: int = -1, memory_scope: str = "") -> None:
        self.__ffi_init__(device_type, virtual_device_id, memory_scope)

    def __repr__(self) -> str:
        return f"VirtualDevice({self.device_type}, {self.virtual_device_id}, {str(self.memory_scope)!r})"


def const(value: Any, dtype: str | None = None) -> Constant:
    """Make a constant; Python floats become float32 and ints int32 unless ``dtype`` says otherwise.

    Examples
    --------
    >>> from torch_tvm import relay
    >>> relay.const(2, "int64").data.dtype
    dtype('int64')
    """
    if _is_torch_tensor(value):
        import torch

        return Constant(value if dtype is None else value.to(getattr(torch, dtype)))
    array = np.asarray(value)
    if dtype == "bfloat16":
        import torch

        return Constant(torch.from_numpy(array.astype(np.float64)).to(torch.bfloat16))
    if dtype is None and not isinstance(value, np.ndarray | np.generic):
        dtype = {"f": "float32", "i": "int32"}.get(array.dtype.kind)
    return Constant(array if dtype is None else array.astype(dtype))


def structural_equal(lhs: Any, rhs: Any, map_free_vars: bool = False) -> bool:
    """Compare two programs (or types): variables up to renaming, tensors by content, sharing by structure.

    Examples
    --------
    >>> from torch_tvm import relay
    >>> def double(name):
    ...     x = relay.Var(name, relay.TensorType((2,), "float32"))
    ...     return relay.Function([x], relay.add(x, x))
    >>> relay.structural_equal(double("x"), double("y"))
    True
    """
    if isinstance(lhs, Printable) and isinstance(rhs, Printable):
        return bool(_structural_equal(lhs, rhs, map_free_vars))
    return bool(tvm_ffi.structural_equal(lhs, rhs, map_free_vars=map_free_vars))


def structural_hash(node: Any, map_free_vars: bool = False) -> int:
    """Return a hash that agrees with :func:`structural_equal`."""
    if isinstance(node, Printable):
        return int(_structural_hash(node, map_free_vars))
    return int(tvm_ffi.structural_hash(node, map_free_vars=map_free_vars))


def save_json(node: Any) -> str:
    """Return an expression or a module as JSON, with types, spans and tensors; pickle uses it.

    Examples
    --------
    >>> from torch_tvm import relay
    >>> two = relay.load_json(relay.save_json(relay.const(2)))
    >>> relay.structural_equal(two, relay.const(2))
    True
    """
    return str(_save_json(node))


def load_json(text: str) -> Any:
    """Read what :func:`save_json` wrote."""
    return _load_json(text)
