"""Type inference: fills ``checked_type`` of every expression, and the types that a program leaves out.

What a call of an operator gives is asked of the operator's relation (:mod:`torch_tvm.relay.relations`);
functions, variables, tuples and control flow are this module's. Visitors are generators that yield the
expressions they need, so that the depth of a program is not the depth of Python's stack.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from torch_tvm.relay.adt import Clause, Constructor, IRModule, Match, TypeData
from torch_tvm.relay.expr import (
    Call,
    Constant,
    Expr,
    Function,
    GlobalVar,
    If,
    Let,
    Op,
    RefCreate,
    RefRead,
    RefWrite,
    Span,
    Tuple,
    TupleGetItem,
    Var,
    structural_equal,
)
from torch_tvm.relay.kinds import definition_fault, kind_fault
from torch_tvm.relay.operator_types import DeferredCalls, operator_type
from torch_tvm.relay.pattern_types import Patterns
from torch_tvm.relay.ty import FuncType, RefType, TensorType, TupleType, Type, TypeCall, TypeVar
from torch_tvm.relay.type_closing import Closing
from torch_tvm.relay.type_solver import TypeInferenceError, TypeSolver
from torch_tvm.relay.visit import attribute_expressions, map_attributes

Visit = Generator[Expr, Expr, Expr]


def infer_type(node: Any) -> Any:
    """Infer the types of a function, another closed expression, or a module.

    Parameters
    ----------
    node : Expr or IRModule
        Parameters need type annotations, unless the calls of the function tell their types.

    Returns
    -------
    Expr or IRModule
        The same program with ``checked_type`` set throughout, the result types of functions and the
        annotations of variables filled in. Expressions that need no change are the ones of ``node``.

    Raises
    ------
    TypeInferenceError
        Naming operator, operands and span; a TypeError.
    NotImplementedError
        Naming an operator of which no type relation is known.

    Examples
    --------
    >>> from torch_tvm import relay
    >>> x = relay.Var("x", relay.TensorType((2, 3), "float32"))
    >>> relay.infer_type(relay.Function([x], relay.sum(x, axis=1))).ret_type
    Tensor[(2), float32]
    """
    if isinstance(node, IRModule):
        return _Inference(node).module()
    if isinstance(node, Expr):
        return _Inference(IRModule()).closed(node)
    raise TypeError(f"infer_type: expected an expression or a module, got {type(node).__name__}")


def _fail(expr: Expr, message: str) -> TypeInferenceError:
    return TypeInferenceError(message, expr.span)


class _Unknown(Exception):
    """The type asked for is the one that is being inferred (a recursive function's result)."""


class _Inference:
    """One run over a program. ``done`` maps each expression to its typed version."""

    def __init__(self, module: IRModule) -> None:
        self.source = module
        self.done: dict[Expr, Expr] = {}
        self.functions: dict[str, Function] = {}  # typed
        self.global_types: dict[str, FuncType | None] = {}  # None: being inferred
        self.expected_params: dict[Expr, list[Type]] = {}  # of functions that are called where they stand
        self.recursive: set[Expr] = set()  # variables of functions whose result is being inferred
        self.types: dict[str, TypeData] = {str(k): v for k, v in module.type_definitions.items()}
        self.solver = TypeSolver()
        self.patterns = Patterns(self.types, self.solver, self.bind)
        self.type_params: set[TypeVar] = set()  # of the functions that were seen
        self.open_params: list[Var] = []  # without a type annotation
        self.open_types: list[tuple[Expr, Type]] = []  # that are declared with '_' in them
        self.deferred = DeferredCalls(self.solver)

    def share(self, other: _Inference) -> None:
        """Work with the unknown types of another run."""
        self.solver, self.type_params, self.deferred = other.solver, other.type_params, other.deferred
        self.open_types = other.open_types
        self.patterns = Patterns(self.types, self.solver, self.bind)

    def module(self) -> IRModule:
        for data in self.types.values():
            fault = definition_fault(data, self.types)
            if fault is not None:
                span = data.constructors[0].span if data.constructors else None
                raise TypeInferenceError(fault, span)
        for name in self.source.functions:
            self.global_type(str(name))
        return IRModule(self.functions, self.types)

    def closed(self, root: Expr) -> Expr:
        """Run over a program, and put what was found out later in place of types that were not known."""
        typed = self.run(root)
        if not self.solver.used:
            return typed
        self.deferred.solve()
        for param in self.open_params:
            if self.solver.is_unknown(self.type_of(self.done[param])):
                raise _fail(param, f"parameter '%{param.name_hint}' has no type annotation")
        for expr, ty in self.open_types:
            if self.solver.is_open(ty):
                raise _fail(expr, f"cannot infer what '_' is in {self.solver.resolve(ty)!r}")
        self.deferred.check()
        return Closing(self.solver).run(typed)

    def global_type(self, name: str, span: Span | None = None) -> FuncType:
        if name not in self.global_types:
            if name not in self.source.functions:
                raise TypeInferenceError(f"the module has no function '@{name}'", span)
            function = self.source.functions[name]
            # What is not known is found out for each function anew, as what variables among the sizes stand for.
            inner = _Inference(self.source)
            inner.functions, inner.global_types = self.functions, self.global_types
            inner.type_params.update(function.type_params)
            self.global_types[name] = inner.declared_type(function)
            typed = inner.closed(function)
            assert isinstance(typed, Function) and isinstance(typed.checked_type, FuncType)
            self.functions[name] = typed
            self.global_types[name] = typed.checked_type
        known = self.global_types[name]
        if known is None:
            reason = f"the recursive function '@{name}' needs types of its parameters and result"
            raise TypeInferenceError(reason, span)
        return known

    def run(self, root: Expr) -> Expr:
        """Drive the visitors with a stack of our own."""
        known = self.done.get(root) or self.leaf(root)
        if known is not None:
            return known
        stack: list[tuple[Expr, Visit]] = [(root, self.visit(root))]
        answer: Expr | None = None
        while stack:
            expr, visitor = stack[-1]
            try:
                wanted = next(visitor) if answer is None else visitor.send(answer)
                answer = self.done.get(wanted) or self.leaf(wanted)
                if answer is None:
                    stack.append((wanted, self.visit(wanted)))
            except StopIteration as stop:
                answer = self.done[expr] = stop.value
                stack.pop()
        assert answer is not None
        return answer

    def visit(self, expr: Expr) -> Visit:
        """Choose the visitor of an expression."""
        visitors = {
            Call: self.visit_call,
            Tuple: self.visit_tuple,
            TupleGetItem: self.visit_item,
            Let: self.visit_let,
            If: self.visit_if,
            Function: self.visit_function,
            Match: self.visit_match,
            RefCreate: self.visit_ref_create,
            RefRead: self.visit_ref_read,
            RefWrite: self.visit_ref_write,
        }
        visitor: Any = visitors[type(expr)]
        visit: Visit = visitor(expr)
        return visit

    @staticmethod
    def type_of(typed: Expr) -> Type:
        if isinstance(typed, Op):
            raise NotImplementedError(
                f"operator '{typed.name}' is no operand here: only calls of it have types"
            )
        if typed.checked_type is None:
            raise _Unknown
        return typed.checked_type

    def leaf(self, expr: Expr) -> Expr | None:
        """Type an expression that has no operands."""
        if isinstance(expr, Var):
            if expr.type_annotation is None:
                raise _fail(expr, f"variable '%{expr.name_hint}' has no type annotation and is bound nowhere")
            expr.checked_type = self.declared(expr.type_annotation, expr)
        elif isinstance(expr, Constant):
            ty = TensorType(expr.data.shape, str(expr.data.dtype))
            if expr.checked_type is None or not structural_equal(expr.checked_type, ty):
                expr.checked_type = ty
        elif isinstance(expr, GlobalVar):
            expr.checked_type = self.global_type(expr.name_hint, expr.span)
        elif isinstance(expr, Constructor):
            data, definition = self.patterns.definition_of(expr, expr.span)
            result = TypeCall(data.header, data.type_vars)
            expr.checked_type = FuncType(definition.inputs, result, data.type_vars)
        elif not isinstance(expr, Op):
            return None
        return expr

    def bind(self, var: Var, ty: Type) -> Var:
        """Give a parameter or let variable its type."""
        known = self.done.get(var, var)
        assert isinstance(known, Var)
        if known.type_annotation is None:
            declared = ty
            known = Var(var.name_hint, ty, var.span)
        else:
            declared = self.declared(known.type_annotation, var)
            if self.solver.unify(declared, ty) is None:
                ty = self.solver.resolve(ty)
                raise _fail(var, f"variable '%{var.name_hint}' is declared as {declared!r}, but gets {ty!r}")
        known.checked_type = declared
        self.done[var] = known
        return known

    def visit_call(self, call: Call) -> Visit:
        args = []
        for arg in call.args:
            args.append((yield arg))
        attrs = yield from self.typed_attributes(call)
        types = [self.solver.resolve(self.type_of(arg)) for arg in args]
        if isinstance(call.op, Op):
            unchanged = _same(args, call.args) and attrs is None
            typed = call if unchanged else Call(call.op, args, attrs or call.attrs, call.span)
            if self.solver.used and any(map(self.solver.is_open, types)):
                typed.checked_type = self.deferred.add(call, args, types)
            else:
                typed.checked_type = operator_type(call, args, types, self.solver.sizes)
            return typed
        if isinstance(call.op, Function):
            self.expected_params[call.op] = types
        callee = yield call.op
        function_type = self.type_of(callee)
        unchanged = callee.same_as(call.op) and _same(args, call.args) and attrs is None
        typed = call if unchanged else Call(callee, args, attrs or call.attrs, call.span)
        typed.checked_type = self.result_type(call, function_type, types)
        return typed

    def typed_attributes(self, expr: Call | Function) -> Generator[Expr, Expr, dict[str, Any] | None]:
        """Give types to the expressions in attributes; returns None if that changes nothing."""
        typed: dict[Expr, Expr] = {}
        for held in attribute_expressions(expr):
            typed[held] = yield held
        return map_attributes(expr, typed.__getitem__) if typed else None

    def declared(self, ty: Type, expr: Expr) -> Type:
        """Take a type that a program declares, and put unknowns in place of what it leaves open."""
        opened = self.solver.opened(ty)
        if not opened.same_as(ty):
            self.open_types.append((expr, opened))
        if not isinstance(opened, TensorType) and not self.solver.is_open(opened):
            fault = kind_fault(opened, self.types, self.type_params)
            if fault is not None:
                raise _fail(expr, fault)
        return opened

    def known(self, ty: Type) -> Type:
        """Resolve a type whose form is asked for."""
        if self.solver.is_unknown(ty):
            self.deferred.solve()
        return self.solver.resolve(ty)

    def result_type(self, call: Call, function_type: Type, types: list[Type]) -> Type:
        function_type = self.solver.instantiate(self.known(function_type))
        if self.solver.is_unknown(function_type):
            function_type = (
                self.solver.unify(function_type, FuncType(types, self.solver.fresh())) or function_type
            )
        if not isinstance(function_type, FuncType):
            raise _fail(call, f"call: expected a function, got a value of type {function_type!r}")
        params = list(function_type.arg_types)
        if len(params) != len(types):
            raise _fail(call, f"call: expected {len(params)} arguments, got {len(types)}")
        for position, (param, ty) in enumerate(zip(params, types, strict=True)):
            if self.solver.unify(param, ty) is None:
                expected, got = self.solver.resolve(param), self.solver.resolve(ty)
                raise _fail(call, f"call: argument {position} must be {expected!r}, got {got!r}")
        return self.solver.resolve(function_type.ret_type)

    def visit_tuple(self, expr: Tuple) -> Visit:
        fields = []
        for field in expr.fields:
            fields.append((yield field))
        typed = expr if _same(fields, expr.fields) else Tuple(fields, expr.span)
        typed.checked_type = TupleType([self.type_of(field) for field in fields])
        return typed

    def visit_item(self, item: TupleGetItem) -> Visit:
        source = yield item.tuple
        ty = self.known(self.type_of(source))
        if not isinstance(ty, TupleType):
            raise _fail(item, f"field {item.index}: expected a tuple, got a value of type {ty!r}")
        if item.index >= len(ty.fields):
            raise _fail(item, f"field {item.index}: the tuple has {len(ty.fields)} fields, {ty!r}")
        typed = item if source.same_as(item.tuple) else TupleGetItem(source, item.index, item.span)
        typed.checked_type = ty.fields[item.index]
        return typed

    def visit_let(self, let: Let) -> Visit:
        # A chain of lets is one loop: each body is the rest of the scope.
        chain = [let]
        while isinstance(chain[-1].body, Let) and chain[-1].body not in self.done:
            chain.append(chain[-1].body)
        bound = []
        for link in chain:
            if isinstance(link.value, Function):
                self.declare_recursive(link)
            value = yield link.value
            bound.append((self.bind(link.var, self.solver.resolve(self.type_of(value))), value))
        body = yield chain[-1].body
        ty = self.type_of(body)
        for link, (var, value) in zip(reversed(chain), reversed(bound), strict=True):
            unchanged = var.same_as(link.var) and value.same_as(link.value) and body.same_as(link.body)
            body = link if unchanged else Let(var, value, body, link.span)
            body.checked_type = ty
            self.done[link] = body
        return body

    def declared_type(self, function: Function) -> FuncType | None:
        annotations = [param.type_annotation for param in function.params]
        params = [ty for ty in annotations if ty is not None]
        if function.ret_type is None or len(params) != len(annotations):
            return None
        opened = [self.solver.opened(ty) for ty in params]
        return FuncType(opened, self.solver.opened(function.ret_type), function.type_params)

    def declare_recursive(self, let: Let) -> None:
        """Type the variable of a function before the function is visited, which may call it."""
        function = let.value
        assert isinstance(function, Function)
        self.type_params.update(function.type_params)
        annotation = let.var.type_annotation
        declared = self.declared_type(function) if annotation is None else self.solver.opened(annotation)
        if declared is None:
            declared = self.recursive_type(let.var, function)
        self.bind(let.var, declared)

    def recursive_type(self, var: Var, function: Function) -> Type:
        """Infer a recursive function's type from those of its branches that do not call it."""
        probe = _Inference(self.source)
        probe.functions, probe.global_types = self.functions, self.global_types
        probe.done = dict(self.done)
        probe.recursive = self.recursive | {var}
        probe.share(self)
        probe.done[var] = Var(var.name_hint)  # no type: asking for it raises _Unknown
        try:
            return probe.type_of(probe.run(function))
        except _Unknown:
            raise _fail(
                var, f"cannot infer the result of the recursive function '%{var.name_hint}'; declare it"
            ) from None

    def visit_if(self, branch: If) -> Visit:
        cond = yield branch.cond
        ty = self.known(self.type_of(cond))
        scalar = self.solver.unify(ty, TensorType((), "bool"))
        if not isinstance(scalar, TensorType):
            raise _fail(branch, f"if: expected a condition of type bool, got {ty!r}")
        if self.recursive:
            return self.probe_sides([branch.true_branch, branch.false_branch])
        sides = []
        for side in (branch.true_branch, branch.false_branch):
            sides.append((yield side))
        result = self.solver.unify(self.type_of(sides[0]), self.type_of(sides[1]))
        if result is None:
            types = " and ".join(repr(self.solver.resolve(self.type_of(side))) for side in sides)
            raise _fail(branch, f"if: expected branches of one type, got {types}")
        before = [branch.cond, branch.true_branch, branch.false_branch]
        typed = branch if _same([cond, *sides], before) else If(cond, sides[0], sides[1], branch.span)
        typed.checked_type = result
        return typed

    def probe_sides(self, sides: Iterable[Expr]) -> Expr:
        """While a recursive function's type is sought: take the branch or clause that has one."""
        for side in sides:
            try:
                typed = self.run(side)
                self.type_of(typed)
                return typed
            except _Unknown:
                continue
        raise _Unknown

    def visit_match(self, match: Match) -> Visit:
        data = yield match.data
        ty = self.known(self.type_of(data))
        patterns = [self.patterns.bind(clause.lhs, ty) for clause in match.clauses]
        if self.recursive:
            return self.probe_sides([clause.rhs for clause in match.clauses])
        sides = []
        result: Type = self.solver.fresh()
        for clause in match.clauses:
            side = yield clause.rhs
            sides.append(side)
            unified = self.solver.unify(result, self.type_of(side))
            if unified is None:
                types = f"{self.solver.resolve(result)!r} and {self.solver.resolve(self.type_of(side))!r}"
                raise _fail(clause.rhs, f"match: expected clauses of one type, got {types}")
            result = unified
        if match.complete:
            self.patterns.check_complete(match)
        if self.solver.is_unknown(result):
            raise _fail(match, "match: cannot infer the type, as there is no clause that has one")
        clauses = [Clause(pattern, side) for pattern, side in zip(patterns, sides, strict=True)]
        typed = Match(data, clauses, match.complete, match.span)
        typed.checked_type = self.solver.resolve(result)
        return typed

    def visit_ref_create(self, create: RefCreate) -> Visit:
        value = yield create.value
        typed = create if value.same_as(create.value) else RefCreate(value, create.span)
        typed.checked_type = RefType(self.type_of(value))
        return typed

    def visit_ref_read(self, read: RefRead) -> Visit:
        ref = yield read.ref
        typed = read if ref.same_as(read.ref) else RefRead(ref, read.span)
        typed.checked_type = self.held_type(read, ref)
        return typed

    def visit_ref_write(self, write: RefWrite) -> Visit:
        ref = yield write.ref
        value = yield write.value
        held, ty = self.held_type(write, ref), self.type_of(value)
        if self.solver.unify(held, ty) is None:
            types = f"{self.solver.resolve(held)!r}, got {self.solver.resolve(ty)!r}"
            raise _fail(write, f"ref_write: expected a value of type {types}")
        unchanged = ref.same_as(write.ref) and value.same_as(write.value)
        typed = write if unchanged else RefWrite(ref, value, write.span)
        typed.checked_type = TupleType([])
        return typed

    def held_type(self, expr: Expr, ref: Expr) -> Type:
        ty = self.known(self.type_of(ref))
        unified = self.solver.unify(ty, RefType(self.solver.fresh()))
        if not isinstance(unified, RefType):
            raise _fail(expr, f"expected a reference, got a value of type {ty!r}")
        return unified.value

    def visit_function(self, function: Function) -> Visit:
        expected = self.expected_params.get(function, [])
        self.type_params.update(function.type_params)
        params = []
        for position, param in enumerate(function.params):
            ty = param.type_annotation
            if ty is None and len(expected) == len(function.params):
                ty = expected[position]
            if ty is None:
                ty = self.solver.fresh()
                self.open_params.append(param)
            params.append(self.bind(param, ty))
        attrs = yield from self.typed_attributes(function)
        body = yield function.body
        result = self.result_of(function, body)
        same, typed = _same([body, *params], [function.body, *function.params]), function
        if attrs or not same or function.ret_type is None or not result.same_as(function.ret_type):
            kept = attrs or function.attrs
            typed = Function(params, body, result, function.type_params, kept, function.span)
        types = [self.type_of(param) for param in params]
        typed.checked_type = FuncType(types, result, function.type_params)
        return typed

    def result_of(self, function: Function, body: Expr) -> Type:
        """Give the type that a function is declared to give, or that its body has."""
        result = self.solver.instantiate(self.solver.resolve(self.type_of(body)))
        if function.ret_type is None:
            return result
        declared = self.declared(function.ret_type, function)
        if self.solver.unify(declared, result) is None:
            result = self.solver.resolve(result)
            raise _fail(function, f"the function is declared to give {declared!r}, but gives {result!r}")
        return declared


def _same(a: Iterable[Expr], b: Iterable[Expr]) -> bool:
    return all(x.same_as(y) for x, y in zip(a, b, strict=True))
