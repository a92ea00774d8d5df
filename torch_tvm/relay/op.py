"""Constructors of operator calls, one for each of TVM 0.19's operators: ``op.add``, ``op.nn.conv2d``, ...

They are made from the operator table: operands first, attributes by keyword. On top of the table's rules, as
in TVM's own Python interface:

* a list or tuple of expressions as operand becomes a :class:`~torch_tvm.relay.Tuple`;
* one int for a list of ints is repeated for each spatial axis (``strides=2``) or becomes a list (``axis=1``);
* a padding of one side is completed to both sides;
* an attribute that is required but may be None is None unless given (``nn.dense``'s ``units``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi

from torch_tvm.relay.expr import Call, Expr, Op, Span, Tuple

# The numbering of AttrKind in csrc/relay/op_table.h.
KINDS = (
    "int",
    "int or None",
    "bool",
    "bool",
    "float",
    "float or None",
    "str",
    "str",
    "dtype name",
    "list of int",
    "list of float",
    "list of list of int",
    "int or list of int",
    "Expr",
    "object",
)
_NULLABLE = {"int or None", "float or None", "list of int", "list of float", "list of list of int"}
PATTERNS = {
    -1: None,
    0: "kElemWise",
    1: "kBroadcast",
    2: "kInjective",
    3: "kCommReduce",
    4: "kOutEWiseFusable",
    8: "kOpaque",
}
# Operands that the operator repeats as attributes.
_REPEATED = {"arange": ("start", "stop", "step")}


@dataclass(frozen=True)
class AttrInfo:
    """An attribute of an operator, as the table declares it."""

    name: str
    kind: str
    required: bool
    default: Any


@dataclass(frozen=True)
class OpInfo:
    """An operator of the table; ``num_inputs`` is -1 for any number of operands."""

    name: str
    num_inputs: int
    args: tuple[str, ...]
    attrs: tuple[AttrInfo, ...]
    attrs_key: str
    pattern: str | None


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tvm_ffi.Array) else value


def _read_table() -> dict[str, OpInfo]:
    table = {}
    for row in tvm_ffi.get_global_func("torch_tvm.relay.op_table")():
        attrs = tuple(AttrInfo(str(n), KINDS[k], bool(r), _plain(d)) for n, k, r, d in row["attrs"])
        name = str(row["name"])
        table[name] = OpInfo(
            name,
            row["num_inputs"],
            tuple(map(str, row["args"])),
            attrs,
            str(row["attrs_key"]),
            PATTERNS[row["pattern"]],
        )
    return table


TABLE: dict[str, OpInfo] = _read_table()


def _spatial_rank(name: str) -> int | None:
    match = re.search(r"([123])d(_|$)", name)
    return int(match[1]) if match else None


def _adapt(info: OpInfo, attr: AttrInfo, value: Any) -> Any:
    """Spell out the short forms that Python callers may use."""
    if attr.kind != "list of int" or value is None:
        return value
    rank = _spatial_rank(info.name)
    spatial = attr.name in ("strides", "dilation", "padding", "kernel_size", "pool_size", "output_padding")
    values = [value] if isinstance(value, int) else list(value)
    if rank and spatial and len(values) == 1:
        values = values * rank
    if rank and attr.name == "padding" and len(values) == rank:
        values = values * 2
    return values


class Constructor:
    """Builds calls of one operator; see its docstring for operands and attributes."""

    def __init__(self, info: OpInfo) -> None:
        self.info = info
        self.__name__ = info.name
        self.__doc__ = _describe(info)

    def __call__(self, *operands: Expr | Sequence[Expr], span: Span | None = None, **attrs: Any) -> Call:
        """Return the call, validated."""
        info = self.info
        args: list[Any] = [
            Tuple(operand) if isinstance(operand, list | tuple) else operand for operand in operands
        ]
        for arg in args:
            if not isinstance(arg, Expr):
                raise TypeError(
                    f"{info.name}: operands must be Relay expressions, got {type(arg).__name__}"
                    " (relay.const makes a constant)"
                )
        for name, operand in zip(_REPEATED.get(info.name, ()), args, strict=False):
            attrs.setdefault(name, operand)
        for attr in info.attrs:
            if attr.name in attrs:
                attrs[attr.name] = _adapt(info, attr, attrs[attr.name])
            elif attr.required and attr.kind in _NULLABLE:
                attrs[attr.name] = None
        return Call(Op.get(info.name), args, attrs, span)

    def __repr__(self) -> str:
        return f"<relay operator {self.info.name}>"


def _describe(info: OpInfo) -> str:
    operands = ", ".join(info.args) if info.num_inputs >= 0 else "*operands"
    lines = [f"Call operator ``{info.name}({operands})``.", "", "Parameters", "----------"]
    lines += [f"{name} : Expr" for name in info.args]
    for attr in info.attrs:
        default = "required" if attr.required else f"default {attr.default!r}"
        lines.append(f"{attr.name} : {attr.kind}, {default}")
    return "\n".join([*lines, "span : Span, optional", "", "Returns", "-------", "Call"])


class Namespace:
    """The operators whose names begin with the same prefix: ``nn``, ``image``, ``vision``, ..."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._members: dict[str, Constructor | Namespace] = {}

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_members"][name]
        except KeyError:
            raise AttributeError(f"Relay has no operator '{self._prefix}{name}'") from None

    def __dir__(self) -> list[str]:
        return sorted(self._members)

    def _add(self, path: list[str], info: OpInfo) -> None:
        if len(path) == 1:
            self._members[path[0]] = Constructor(info)
            return
        child = self._members.setdefault(path[0], Namespace(f"{self._prefix}{path[0]}."))
        if isinstance(child, Namespace):
            child._add(path[1:], info)


_root = Namespace("")
for _info in TABLE.values():
    _root._add(_info.name.split("."), _info)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(_root, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *dir(_root)])
