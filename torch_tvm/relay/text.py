"""Reading Relay's text format 0.0.5, the one that TVM 0.19 prints and parses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import tvm_ffi

from torch_tvm.relay.adt import IRModule
from torch_tvm.relay.expr import Expr, Function

_parse = tvm_ffi.get_global_func("torch_tvm.relay.parse")


@tvm_ffi.register_error("torch_tvm.relay.ParseError")
class ParseError(ValueError):
    """Text that is not Relay.

    Attributes
    ----------
    line, column : int
        Where, counted from 1.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        place = re.match(r"line (\d+), column (\d+): ", message)
        self.line, self.column = map(int, place.groups()) if place else (0, 0)


def parse(
    text: str, source_name: str | None = None, init_meta_table: Mapping[str, Sequence[Any]] | None = None
) -> IRModule | Expr:
    """Read what :meth:`Expr.astext` prints.

    Parameters
    ----------
    text
        A module (``def @main...``, ``type List[A] {...}``), or one expression.
    source_name
        Give each expression a span in the source of this name.
    init_meta_table
        Objects by type key that references into the metadata find behind those of the text's own section:
        ``{"relay.Constant": [relay.const(1.0)]}`` is ``meta[relay.Constant][0]`` of a text without one.

    Returns
    -------
    IRModule or Expr
        An expression if the text holds no definition.

    Raises
    ------
    ParseError
        With line, column and what was expected there.

    Examples
    --------
    >>> from torch_tvm import relay
    >>> module = relay.parse('''#[version = "0.0.5"]
    ... def @main(%x: Tensor[(2), float32]) { add(%x, 1f) }''')
    >>> module["main"].body.op
    Op(add)
    """
    if not isinstance(text, str):
        raise TypeError(f"parse: expected Relay text as a str, got {type(text).__name__}")
    table = {key: list(objects) for key, objects in (init_meta_table or {}).items()}
    result: IRModule | Expr = _parse(text, source_name, table)
    return result


def parse_expr(text: str, source_name: str | None = None) -> Expr:
    """Read one expression; of a module's text, the function ``main``.

    Examples
    --------
    >>> from torch_tvm import relay
    >>> print(relay.parse_expr("fn (%x: int64) { %x * 2i64 }"))
    #[version = "0.0.5"]
    fn (%x: int64) {
      multiply(%x, 2i64)
    }
    """
    result = parse(text, source_name)
    if isinstance(result, IRModule):
        main: Function = result["main"]
        return main
    return result
