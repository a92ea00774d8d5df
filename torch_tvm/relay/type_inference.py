"""Type inference: fills ``checked_type`` of every expression, and the types that a program leaves out.

What a call of an operator gives is asked of the operator's relation (:mod:`torch_tvm.relay.relations`);
functions, variables, tuples and control flow are this module's. Visitors are generators that yield the
expressions they need, so that the depth of a program is not the depth of Python's stack.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from torch_tvm.relay.expr import (
    Call,
    Constant,
    Expr,
    Function,
    FuncType,
    GlobalVar,
    If,
    IRModule,
    Let,
    Op,
    Span,
    TensorType,
    Tuple,
    TupleGetItem,
    TupleType,
    Type,
    Var,
    structural_equal,
)
from torch_tvm.relay.relations import RELATIONS, CallSite

Visit = Generator[Expr, Expr, Expr]


class TypeInferenceError(TypeError):
    """A program whose types do not fit together.

    Attributes
    ----------
    reason : str
        What was expected and what came.
    span : Span or None
        Where in the source of the program.
    """

    def __init__(self, reason: str, span: Span | None = None) -> None:
        super().__init__(reason + ("" if span is None else f" (at {span!r})"))
        self.reason, self.span = reason, span


def infer_type(node: Any) -> Any:
    """Infer the types of a function, another closed expression, or a module.

    Parameters
    ----------
    node : Expr or IRModule
        Parameters need type annotations; those of a function that is called where it stands do not.

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
        return _Inference(IRModule()).run(node)
    raise TypeError(f"infer_type: expected an expression or a module, got {type(node).__name__}")


def _fail(expr: Expr, message: str) -> TypeInferenceError:
    return TypeInferenceError(message, expr.span)


def _unify(a: Type, b: Type) -> Type | None:
    """Return what both types allow ('?' allows any size), or None if they exclude each other."""
    if isinstance(a, TensorType) and isinstance(b, TensorType):
        sizes_a, sizes_b = list(a.shape), list(b.shape)
        if a.dtype != b.dtype or len(sizes_a) != len(sizes_b):
            return None
        if sizes_a == sizes_b:
            return a
        if any(m != n and -1 not in (m, n) for m, n in zip(sizes_a, sizes_b, strict=True)):
            return None
        return TensorType([max(m, n) for m, n in zip(sizes_a, sizes_b, strict=True)], a.dtype)
    if isinstance(a, TupleType) and isinstance(b, TupleType):
        fields = _unify_all(a.fields, b.fields)
        return None if fields is None else TupleType(fields)
    if isinstance(a, FuncType) and isinstance(b, FuncType):
        args = _unify_all(a.arg_types, b.arg_types)
        result = _unify(a.ret_type, b.ret_type)
        return None if args is None or result is None else FuncType(args, result)
    return None


def _unify_all(a: Iterable[Type], b: Iterable[Type]) -> list[Type] | None:
    pairs_a, pairs_b = list(a), list(b)
    if len(pairs_a) != len(pairs_b):
        return None
    unified = [_unify(x, y) for x, y in zip(pairs_a, pairs_b, strict=True)]
    return None if None in unified else [ty for ty in unified if ty is not None]


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

    def module(self) -> IRModule:
        for name in self.source.functions:
            self.global_type(str(name))
        return IRModule(self.functions)

    def global_type(self, name: str) -> FuncType:
        if name not in self.global_types:
            if name not in self.source.functions:
                raise TypeInferenceError(f"the module has no function '@{name}'")
            function = self.source.functions[name]
            declared = self.declared_type(function)
            self.global_types[name] = declared
            typed = self.run(function)
            assert isinstance(typed, Function) and isinstance(typed.checked_type, FuncType)
            self.functions[name] = typed
            self.global_types[name] = typed.checked_type
        known = self.global_types[name]
        if known is None:
            raise TypeInferenceError(
                f"the recursive function '@{name}' needs types of its parameters and result"
            )
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
        }
        visitor: Any = visitors[type(expr)]
        visit: Visit = visitor(expr)
        return visit

    @staticmethod
    def type_of(typed: Expr) -> Type:
        if typed.checked_type is None:
            raise _Unknown
        return typed.checked_type

    def leaf(self, expr: Expr) -> Expr | None:
        """Type an expression that has no operands."""
        if isinstance(expr, Var):
            if expr.type_annotation is None:
                raise _fail(expr, f"variable '%{expr.name_hint}' has no type annotation and is bound nowhere")
            expr.checked_type = expr.type_annotation
        elif isinstance(expr, Constant):
            ty = TensorType(expr.data.shape, str(expr.data.dtype))
            if expr.checked_type is None or not structural_equal(expr.checked_type, ty):
                expr.checked_type = ty
        elif isinstance(expr, GlobalVar):
            expr.checked_type = self.global_type(expr.name_hint)
        elif not isinstance(expr, Op):
            return None
        return expr

    def bind(self, var: Var, ty: Type) -> Var:
        """Give a parameter or let variable its type."""
        known = self.done.get(var, var)
        assert isinstance(known, Var)
        declared = known.type_annotation
        if declared is None:
            known = Var(var.name_hint, ty, var.span)
        elif _unify(declared, ty) is None:
            raise _fail(var, f"variable '%{var.name_hint}' is declared as {declared!r}, but gets {ty!r}")
        known.checked_type = known.type_annotation
        self.done[var] = known
        return known

    def visit_call(self, call: Call) -> Visit:
        args = []
        for arg in call.args:
            args.append((yield arg))
        types = [self.type_of(arg) for arg in args]
        if isinstance(call.op, Op):
            typed = call if _same(args, call.args) else Call(call.op, args, call.attrs, call.span)
            typed.checked_type = self.operator_type(call, args, types)
            return typed
        if isinstance(call.op, Function):
            self.expected_params[call.op] = types
        callee = yield call.op
        function_type = self.type_of(callee)
        unchanged = callee.same_as(call.op) and _same(args, call.args)
        typed = call if unchanged else Call(callee, args, call.attrs, call.span)
        typed.checked_type = self.result_type(call, function_type, types)
        return typed

    def operator_type(self, call: Call, args: list[Expr], types: list[Type]) -> Type:
        assert isinstance(call.op, Op)
        name = str(call.op.name)
        constants = [arg if isinstance(arg, Constant) else None for arg in args]
        operands = ", ".join(map(repr, types))
        try:
            if name not in RELATIONS:
                raise NotImplementedError("the operator has no type relation")
            return RELATIONS[name](CallSite(name, types, call.attrs, constants))
        except TypeError as error:
            raise _fail(call, f"{name}({operands}): {error}") from error
        except NotImplementedError as error:
            where = "" if call.span is None else f" (at {call.span!r})"
            raise NotImplementedError(f"{name}({operands}): {error}{where}") from error

    def result_type(self, call: Call, function_type: Type, types: list[Type]) -> Type:
        if not isinstance(function_type, FuncType):
            raise _fail(call, f"call: expected a function, got a value of type {function_type!r}")
        params = list(function_type.arg_types)
        if len(params) != len(types):
            raise _fail(call, f"call: expected {len(params)} arguments, got {len(types)}")
        for position, (param, ty) in enumerate(zip(params, types, strict=True)):
            if _unify(param, ty) is None:
                raise _fail(call, f"call: argument {position} must be {param!r}, got {ty!r}")
        return function_type.ret_type

    def visit_tuple(self, expr: Tuple) -> Visit:
        fields = []
        for field in expr.fields:
            fields.append((yield field))
        typed = expr if _same(fields, expr.fields) else Tuple(fields, expr.span)
        typed.checked_type = TupleType([self.type_of(field) for field in fields])
        return typed

    def visit_item(self, item: TupleGetItem) -> Visit:
        source = yield item.tuple
        ty = self.type_of(source)
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
            bound.append((self.bind(link.var, self.type_of(value)), value))
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
        return FuncType(params, function.ret_type)

    def declare_recursive(self, let: Let) -> None:
        """Type the variable of a function before the function is visited, which may call it."""
        function = let.value
        assert isinstance(function, Function)
        declared = let.var.type_annotation or self.declared_type(function)
        if declared is None:
            declared = self.recursive_type(let.var, function)
        self.bind(let.var, declared)

    def recursive_type(self, var: Var, function: Function) -> Type:
        """Infer a recursive function's type from those of its branches that do not call it."""
        probe = _Inference(self.source)
        probe.functions, probe.global_types = self.functions, self.global_types
        probe.done = dict(self.done)
        probe.recursive = self.recursive | {var}
        probe.done[var] = Var(var.name_hint)  # no type: asking for it raises _Unknown
        try:
            return probe.type_of(probe.run(function))
        except _Unknown:
            raise _fail(
                var, f"cannot infer the result of the recursive function '%{var.name_hint}'; declare it"
            ) from None

    def visit_if(self, branch: If) -> Visit:
        cond = yield branch.cond
        ty = self.type_of(cond)
        if not isinstance(ty, TensorType) or len(ty.shape) or str(ty.dtype) != "bool":
            raise _fail(branch, f"if: expected a condition of type bool, got {ty!r}")
        if self.recursive:
            return self.probe_branches(branch, cond)
        sides = []
        for side in (branch.true_branch, branch.false_branch):
            sides.append((yield side))
        result = _unify(self.type_of(sides[0]), self.type_of(sides[1]))
        if result is None:
            types = f"{sides[0].checked_type!r} and {sides[1].checked_type!r}"
            raise _fail(branch, f"if: expected branches of one type, got {types}")
        before = [branch.cond, branch.true_branch, branch.false_branch]
        typed = branch if _same([cond, *sides], before) else If(cond, sides[0], sides[1], branch.span)
        typed.checked_type = result
        return typed

    def probe_branches(self, branch: If, cond: Expr) -> Expr:
        """While a recursive function's type is sought: take the branch that has one."""
        for side in (branch.true_branch, branch.false_branch):
            try:
                typed = self.run(side)
                self.type_of(typed)
                return typed
            except _Unknown:
                continue
        raise _Unknown

    def visit_function(self, function: Function) -> Visit:
        expected = self.expected_params.get(function, [])
        params = []
        for position, param in enumerate(function.params):
            ty = param.type_annotation
            if ty is None and len(expected) == len(function.params):
                ty = expected[position]
            if ty is None:
                raise _fail(param, f"parameter '%{param.name_hint}' has no type annotation")
            params.append(self.bind(param, ty))
        body = yield function.body
        result = self.type_of(body)
        if function.ret_type is not None:
            if _unify(function.ret_type, result) is None:
                raise _fail(
                    function, f"the function is declared to give {function.ret_type!r}, but gives {result!r}"
                )
            result = function.ret_type
        unchanged = function.ret_type is not None and body.same_as(function.body)
        if not (unchanged and _same(params, function.params)):
            typed = Function(params, body, result, function.attrs, function.span)
        else:
            typed = function
        typed.checked_type = FuncType([self.type_of(param) for param in params], result)
        return typed


def _same(a: Iterable[Expr], b: Iterable[Expr]) -> bool:
    return all(x.same_as(y) for x, y in zip(a, b, strict=True))
