"""How evenly a kernel's parallel loops divide its work between threads, counted in the generated code, nothing is run.

The work of a statement is the number of vector registers that its loads, stores and arithmetic take; a parallel loop gives
each thread one contiguous part of its iterations, as TVM's code generator does.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import ir, tirx
from tvm_ffi import Array

Environment = Mapping[Any, int]

# Three operations a cycle at 4 GHz, of at most two multiply-adds and two loads: right within a factor of two.
NANOSECONDS_PER_OPERATION = 0.083
# Buffers up to this size are registers.
_REGISTER_BYTES = 1024
_INTEGER_OPERATORS: dict[str, Callable[[int, int], int]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "FloorDiv": operator.floordiv,
    "FloorMod": operator.mod,
    "Min": min,
    "Max": max,
    "LT": operator.lt,
    "LE": operator.le,
    "GT": operator.gt,
    "GE": operator.ge,
    "EQ": operator.eq,
    "NE": operator.ne,
    "And": lambda a, b: int(a and b),
    "Or": lambda a, b: int(a or b),
}
# Fields of expressions that are expressions.
_OPERANDS = frozenset("a b args value condition true_value false_value vectors indices base stride".split())
_COUNTED = frozenset(
    "TensorLoad Add Sub Mul Div Min Max Select Call Cast Shuffle LT LE GT GE EQ NE And Or Not".split()
)


@dataclass(frozen=True)
class Work:
    """Operations of all threads, of the busiest one with everything that runs before and after it, and parallel regions.

    `chunks` is the number of threads that have something to do in the region that has fewest of them.
    """

    operations: float
    busiest: float
    regions: int = 0
    chunks: int = 1

    @property
    def nanoseconds(self) -> float:
        """Estimate of what one thread takes for everything, caches willing."""
        return self.operations * NANOSECONDS_PER_OPERATION

    def efficiency(self, threads: int) -> float:
        """Mean work of a thread / work of the busiest one."""
        return self.operations / (self.busiest * threads)

    def then(self, other: Work) -> Work:
        """This work and then another."""
        chunks = [w.chunks for w in (self, other) if w.regions]
        return Work(
            self.operations + other.operations,
            self.busiest + other.busiest,
            self.regions + other.regions,
            min(chunks, default=1),
        )

    def times(self, count: int) -> Work:
        """This work over and over."""
        if count <= 0:
            return NOTHING
        return Work(self.operations * count, self.busiest * count, self.regions * count, self.chunks)


NOTHING = Work(0.0, 0.0)


@dataclass(frozen=True)
class _Counted:
    """What a statement does, given the variables that its bounds and conditions depend on."""

    variables: frozenset[Any]
    work: Callable[[Environment], Work]


def simulate(function: tirx.PrimFunc, threads: int, vector_bits: int = 512) -> Work:
    """Count the work of a kernel and how its parallel loops share it between threads."""
    counted = _Counter(threads, vector_bits).statement(function.body)
    assert not counted.variables, f"free variables {counted.variables}"
    return counted.work({})


def _fixed(work: Work) -> _Counted:
    return _Counted(frozenset(), lambda _: work)


def _parts(expression: Any) -> Iterator[Any]:
    """An expression and everything that it is made of."""
    if not isinstance(expression, ir.Node):
        return
    yield expression
    for field in type(expression).__tvm_ffi_type_info__.fields:
        if field.name not in _OPERANDS:
            continue
        value = getattr(expression, field.name)
        for operand in value if isinstance(value, Array) else [value]:
            yield from _parts(operand)


def variables_of(expression: Any) -> frozenset[Any]:
    """Variables in an integer expression."""
    return frozenset(node for node in _parts(expression) if isinstance(node, tirx.Var))


def value_of(expression: Any, environment: Environment) -> int | None:
    """Value of an integer expression; None where it depends on data."""
    if isinstance(expression, int):
        return expression
    if isinstance(expression, tirx.IntImm):
        return int(expression.value)
    if isinstance(expression, tirx.Var):
        return environment.get(expression)
    kind = type(expression).__name__
    if kind == "Cast":
        return value_of(expression.value, environment)
    if kind == "Not":
        inner = value_of(expression.a, environment)
        return None if inner is None else int(not inner)
    if kind == "Select":
        holds = value_of(expression.condition, environment)
        branches = (expression.false_value, expression.true_value)
        return None if holds is None else value_of(branches[bool(holds)], environment)
    if kind not in _INTEGER_OPERATORS:
        return None
    a, b = value_of(expression.a, environment), value_of(expression.b, environment)
    return None if a is None or b is None else int(_INTEGER_OPERATORS[kind](a, b))


class _Counter:
    """Counts statement by statement."""

    def __init__(self, threads: int, vector_bits: int) -> None:
        self._threads, self._vector_bits = threads, vector_bits
        self._registers: set[Any] = set()

    def statement(self, node: Any) -> _Counted:
        """Count any statement."""
        kind = type(node).__name__
        if kind == "SeqStmt":
            return functools.reduce(self._both, map(self.statement, node.seq), _fixed(NOTHING))
        if kind == "For":
            return self._loop(node)
        if kind == "IfThenElse":
            return self._branch(node)
        if kind == "AllocBuffer":
            size = functools.reduce(operator.mul, map(int, node.buffer.shape), 1)
            if size * tvm.DataType(node.buffer.dtype).bits <= 8 * _REGISTER_BYTES:
                self._registers.add(node.buffer)
            return _fixed(NOTHING)
        if kind in ("SBlockRealize", "SBlock"):
            return self.statement(node.block.body if kind == "SBlockRealize" else node.body)
        if kind == "BufferStore":
            return self._operations(self._access(node.buffer, node.value) + self._expression(node.value))
        if kind in ("Bind", "Evaluate"):
            return self._operations(self._expression(node.value))
        assert kind == "DeclBuffer", f"cannot count {kind}"
        return _fixed(NOTHING)

    @staticmethod
    def _both(first: _Counted, second: _Counted) -> _Counted:
        variables = first.variables | second.variables
        if not variables:
            return _fixed(first.work({}).then(second.work({})))
        return _Counted(variables, lambda env: first.work(env).then(second.work(env)))

    def _loop(self, node: Any) -> _Counted:
        body, extent, first = self.statement(node.body), node.extent, node.min
        inside = node.loop_var in body.variables
        bounds = variables_of(extent) | (variables_of(first) if inside else frozenset())
        combine = self._shared if node.kind == tirx.ForKind.PARALLEL else self._one_by_one

        def work(environment: Environment) -> Work:
            count = value_of(extent, environment)
            assert count is not None, f"the number of iterations depends on data: {extent}"
            if not inside:
                return combine(count, lambda _: body.work(environment), same=True)
            low = value_of(first, environment) or 0
            steps = [body.work({**environment, node.loop_var: low + i}) for i in range(count)]
            return combine(count, steps.__getitem__, same=False)

        variables = bounds | (body.variables - {node.loop_var})
        return _Counted(variables, work) if variables else _fixed(work({}))

    @staticmethod
    def _one_by_one(count: int, step: Callable[[int], Work], *, same: bool) -> Work:
        if same:
            return step(0).times(count) if count > 0 else NOTHING
        return functools.reduce(Work.then, map(step, range(count)), NOTHING)

    def _shared(self, count: int, step: Callable[[int], Work], *, same: bool) -> Work:
        """Deal out the iterations of a parallel loop."""
        share = -(-count // self._threads)
        parts = [range(low, min(count, low + share)) for low in range(0, count, max(1, share))]
        works = [self._one_by_one(len(part), lambda i, part=part: step(part[i]), same=same) for part in parts]
        busy = [work.operations for work in works if work.operations]
        return Work(sum(busy), max(busy, default=0.0), 1, len(busy))

    def _branch(self, node: Any) -> _Counted:
        then = self.statement(node.then_case)
        other = self.statement(node.else_case) if node.else_case is not None else _fixed(NOTHING)
        decided = variables_of(node.condition)

        def work(environment: Environment) -> Work:
            holds = value_of(node.condition, environment)
            assert holds is not None, f"a branch depends on data: {node.condition}"
            return then.work(environment) if holds else other.work(environment)

        return _Counted(then.variables | other.variables | decided, work)

    def _operations(self, count: float) -> _Counted:
        return _fixed(Work(count, count))

    def _width(self, dtype: Any) -> int:
        """Vector registers that a value takes."""
        kind = tvm.DataType(dtype)
        return max(1, -(-kind.bits * kind.lanes // self._vector_bits))

    def _access(self, buffer: Any, value: Any) -> int:
        return 0 if buffer in self._registers else self._width(value.ty.dtype)

    def _expression(self, expression: Any) -> int:
        """Operations of a value; those on scalar integers are addresses and free."""
        total = 0
        for node in _parts(expression):
            kind = type(node).__name__
            if kind not in _COUNTED or not hasattr(node.ty, "dtype"):
                continue
            dtype = tvm.DataType(node.ty.dtype)
            if kind == "TensorLoad":
                total += self._access(node.source, node)
            elif dtype.lanes > 1 or str(dtype).startswith(("float", "bfloat")):
                total += self._width(dtype)
        return total
