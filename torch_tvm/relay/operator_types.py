"""Types of calls of operators, also of those whose operands have no types yet when they are seen."""

from __future__ import annotations

from dataclasses import dataclass

from torch_tvm.relay.expr import Call, Constant, Expr, Op
from torch_tvm.relay.relations import RELATIONS, CallSite
from torch_tvm.relay.size_solver import SizeSolver
from torch_tvm.relay.ty import Type
from torch_tvm.relay.type_solver import TypeInferenceError, TypeSolver


def operator_type(call: Call, args: list[Expr], types: list[Type], sizes: SizeSolver) -> Type:
    """Ask the operator's relation for the type of a call."""
    assert isinstance(call.op, Op)
    name = str(call.op.name)
    constants = [arg if isinstance(arg, Constant) else None for arg in args]
    operands = ", ".join(map(repr, types))
    try:
        if name not in RELATIONS:
            raise NotImplementedError("the operator has no type relation")
        return RELATIONS[name](CallSite(name, types, call.attrs, constants, sizes))
    except (TypeError, ValueError) as error:  # the latter of sizes that no tensor has
        raise TypeInferenceError(f"{name}({operands}): {error}", call.span) from error
    except NotImplementedError as error:
        where = "" if call.span is None else f" (at {call.span!r})"
        raise NotImplementedError(f"{name}({operands}): {error}{where}") from error


@dataclass(frozen=True)
class _Deferred:
    call: Call
    args: list[Expr]
    types: list[Type]
    result: Type

    @property
    def name(self) -> str:
        assert isinstance(self.call.op, Op)
        return str(self.call.op.name)


class DeferredCalls:
    """Calls that wait until their operands have types."""

    def __init__(self, solver: TypeSolver) -> None:
        self._solver = solver
        self._waiting: list[_Deferred] = []

    def add(self, call: Call, args: list[Expr], types: list[Type]) -> Type:
        """Let a call wait; returns its type, which is unknown."""
        result = self._solver.fresh()
        self._waiting.append(_Deferred(call, args, types, result))
        return result

    def solve(self) -> None:
        """Type the calls whose operands are known by now, until there are no more."""
        found = True
        while found:
            found = False
            pending, self._waiting = self._waiting, []
            for site in pending:
                types = [self._solver.resolve(ty) for ty in site.types]
                if any(map(self._solver.is_open, types)):
                    self._waiting.append(site)
                    continue
                found = True
                ty = operator_type(site.call, site.args, types, self._solver.sizes)
                if self._solver.unify(site.result, ty) is None:
                    expected = self._solver.resolve(site.result)
                    raise TypeInferenceError(
                        f"{site.name}: gives {ty!r}, expected {expected!r}", site.call.span
                    )

    def check(self) -> None:
        """Raise an error if a call still waits."""
        for site in self._waiting:
            operands = ", ".join(repr(self._solver.resolve(ty)) for ty in site.types)
            raise TypeInferenceError(
                f"{site.name}({operands}): cannot infer the types of the operands", site.call.span
            )
