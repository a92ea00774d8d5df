"""One walk over the dataflow block of `main` that re-emits every binding, replacing calls by rules.

Every rewriting pass of this room is a set of rules for this walk: `rule(Site) -> relax.Expr | None`,
keyed by operator name, where None keeps the call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tvm
from tvm import ir, relax, tirx
from tvm_ffi import structural_equal

Rule = Callable[["Site"], "relax.Expr | None"]

PREFIX = "relax."


def op_name(call: relax.Call) -> str:
    """Name of the operator a call applies, without Relax's prefix."""
    name = str(call.op.name) if isinstance(call.op, ir.Op) else ""
    return name.removeprefix(PREFIX)


def static_shape(expr: relax.Expr) -> tuple[int, ...]:
    """Extents of a tensor expression, all of which must be known."""
    shape = expr.ty.shape
    if shape is None or not all(isinstance(d, tirx.IntImm) for d in shape.values):
        raise ValueError(f"a plan needs static shapes, got {expr.ty}")
    return tuple(int(d) for d in shape.values)


def ints(values: Sequence[Any]) -> list[int]:
    """Turn an attribute of integers into a list."""
    return [int(v) for v in values]


def size_of(shape: tuple[int, ...]) -> int:
    """Count the elements of a shape."""
    size = 1
    for dim in shape:
        size *= dim
    return size


def merged_dims(before: tuple[int, ...], after: tuple[int, ...]) -> list[list[int]] | None:
    """Return the dims of `before` that each dim of its reshape `after` consists of; None if any was split."""
    groups: list[list[int]] = []
    axis = 0
    for size in after:
        group: list[int] = []
        product = 1
        while axis < len(before) and (product < size or not group):
            group.append(axis)
            product *= before[axis]
            axis += 1
        if product != size:
            return None
        groups.append(group)
    return groups if axis == len(before) else None


class Block:
    """What rules may ask about the function that is being made."""

    def __init__(self, builder: relax.BlockBuilder, weights: set[relax.Var]) -> None:
        self.builder = builder
        self._definitions: dict[relax.Var, relax.Expr] = {}
        self._uses: dict[relax.Var, int] = {}
        self._weight_only = set(weights)

    def emit(self, expr: relax.Expr) -> relax.Expr:
        """Bind an expression, unless it needs no name."""
        if isinstance(expr, relax.Var | relax.Tuple) or is_constant(expr):
            return expr
        var = self.builder.emit(expr)
        self._definitions[var] = expr
        if all(self.weight_only(operand) for operand in operands(expr)):
            self._weight_only.add(var)
        return var

    def set_uses(self, var: relax.Expr, count: int) -> None:
        """Remember how often the function uses a value."""
        if isinstance(var, relax.Var):
            self._uses[var] = self._uses.get(var, 0) + count

    def used_once(self, expr: relax.Expr) -> bool:
        """Say whether nothing but the call at hand uses a value."""
        return self._uses.get(expr, 1) <= 1

    def definition(self, expr: relax.Expr, *names: str) -> relax.Call | None:
        """Return the call that defines a value, if it applies one of the operators `names`."""
        call = self._definitions.get(expr) if isinstance(expr, relax.Var) else None
        return call if isinstance(call, relax.Call) and op_name(call) in names else None

    def field(self, expr: relax.Expr, name: str) -> tuple[relax.Expr, relax.Call, int] | None:
        """Return the tuple that a value is a field of, if it is made by the operator `name`; its call; which field."""
        item = self._definitions.get(expr) if isinstance(expr, relax.Var) else None
        if not isinstance(item, relax.TupleGetItem):
            return None
        call = self.definition(item.tuple_value, name)
        return None if call is None else (item.tuple_value, call, item.index)

    def weight_only(self, expr: relax.Expr) -> bool:
        """Say whether a value depends on weights and constants alone."""
        if isinstance(expr, relax.Tuple):
            return all(self.weight_only(field) for field in expr.fields)
        return not isinstance(expr, relax.Var) or expr in self._weight_only


class Site:
    """One call in the walk, its operands already rewritten."""

    def __init__(self, block: Block, call: relax.Call) -> None:
        self.block = block
        self.call = call
        self.name = op_name(call)
        self.attrs = call.attrs

    @property
    def args(self) -> list[relax.Expr]:
        """Operands of the call."""
        return list(self.call.args)

    @property
    def data(self) -> relax.Expr:
        """The first operand."""
        return self.call.args[0]

    def shape(self, expr: relax.Expr | None = None) -> tuple[int, ...]:
        """Extents of a value (default the first operand)."""
        return static_shape(self.data if expr is None else expr)

    def result_shape(self) -> tuple[int, ...]:
        """Extents of what the call gives."""
        return static_shape(self.call)

    def emit(self, expr: relax.Expr) -> relax.Expr:
        """Bind an intermediate value."""
        return self.block.emit(expr)

    def reshape(self, expr: relax.Expr, shape: Any) -> relax.Expr:
        """Bind a reshape, if there is anything to reshape."""
        if tuple(shape) == static_shape(expr):
            return expr
        return self.emit(relax.op.reshape(expr, list(shape)))


def is_constant(expr: relax.Expr) -> bool:
    """Say whether an expression is a literal tensor."""
    return isinstance(expr, ir.GenericConst)


def operands(expr: relax.Expr) -> list[relax.Expr]:
    """Tensors and tuples that an expression reads."""
    if isinstance(expr, relax.Call):
        return [a for a in expr.args if isinstance(a, relax.Var | relax.Tuple) or is_constant(a)]
    if isinstance(expr, relax.TupleGetItem):
        return [expr.tuple_value]
    if isinstance(expr, relax.Tuple):
        return list(expr.fields)
    return []


def _count_uses(expr: relax.Expr, uses: Counter[relax.Var]) -> None:
    for operand in operands(expr):
        if isinstance(operand, relax.Tuple):
            _count_uses(operand, uses)
        elif isinstance(operand, relax.Var):
            uses[operand] += 1


class _Walk:
    def __init__(self, function: relax.Function, rules: Mapping[str, Rule], block: Block) -> None:
        self._rules = rules
        self._block = block
        self._map: dict[relax.Var, relax.Expr] = {p: p for p in function.params}
        self.uses: Counter[relax.Var] = Counter()

    def substitute(self, expr: relax.Expr) -> relax.Expr:
        if isinstance(expr, relax.Var):
            return self._map[expr]
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self.substitute(field) for field in expr.fields])
        return expr

    def bind(self, binding: relax.VarBinding) -> None:
        value = self._block.emit(self._rewritten(binding.value))
        self._block.set_uses(value, self.uses[binding.var])
        self._map[binding.var] = value

    def _rewritten(self, value: relax.Expr) -> relax.Expr:
        if isinstance(value, relax.TupleGetItem):
            source = self.substitute(value.tuple_value)
            return (
                source.fields[value.index]
                if isinstance(source, relax.Tuple)
                else relax.TupleGetItem(source, value.index)
            )
        if not isinstance(value, relax.Call):
            return self.substitute(value)
        call = relax.Call(value.op, [self.substitute(a) for a in value.args], value.attrs, value.ty_args)
        rule = self._rules.get(op_name(value))
        if rule is None:
            return call
        call = self._block.builder.normalize(call)
        replacement = rule(Site(self._block, call))
        return call if replacement is None else replacement


def rewrite(module: tvm.IRModule, num_inputs: int, rules: Mapping[str, Rule]) -> tvm.IRModule:
    """Apply rules to every call of ``main``, in order, once."""
    function = module["main"]
    params = list(function.params)
    builder = relax.BlockBuilder()
    block = Block(builder, set(params[num_inputs:]))
    walk = _Walk(function, rules, block)
    bindings = [b for part in function.body.blocks for b in part.bindings]
    for binding in bindings:
        _count_uses(binding.value, walk.uses)
    with builder.function("main", params):
        with builder.dataflow():
            for binding in bindings:
                walk.bind(binding)
            result = builder.emit_output(walk.substitute(function.body.body))
        builder.emit_func_output(result)
    return builder.get()


def rewrite_to_fixpoint(
    module: tvm.IRModule, num_inputs: int, rules: Mapping[str, Rule], limit: int = 8
) -> tvm.IRModule:
    """Apply rules until nothing changes; `limit` bounds rules that would undo each other."""
    for _ in range(limit):
        rewritten = rewrite(module, num_inputs, rules)
        if structural_equal(rewritten["main"], module["main"], map_free_vars=True):
            return rewritten
        module = rewritten
    return module
