"""Programs made by hypothesis survive text, JSON and pickle."""

import pickle
import random
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import torch
from tvm_ffi.serialization import from_json_graph_str, to_json_graph_str

from torch_tvm import relay
from torch_tvm.relay.op import TABLE, AttrInfo, OpInfo

DTYPES = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "float16", "float32", "float64", "bfloat16"),
]
# Operators with attributes of classes that only TVM's compiler knows have no text.
OPERATORS = [
    info
    for info in TABLE.values()
    if info.attrs_key != "DictAttrs" and not any(attr.kind in ("object", "Expr") for attr in info.attrs)
]
INTS = [0, 1, -1, 7, 2**31 - 1, -(2**31), 2**31, -(2**63) + 1, 2**63 - 1]
FLOATS = [0.0, -0.0, 1.0, 1 / 3, 1e-5, 1e-300, 6.02e23, float("inf"), float("-inf"), 0.1, 123456789.0]
STRINGS = ["", "NCHW", "a b", "ij,jk->ik", "%#(){}/*", r"a\b\n", "ünicode\t"]


class Maker:
    """Draws a random program from a seed (one draw a program keeps hypothesis quick)."""

    def __init__(self, seed: int, data_types: bool = False) -> None:
        self.random = random.Random(seed)
        self.scope: list[relay.Var] = []
        self.values: list[relay.Expr] = []
        self.type_vars: list[relay.TypeVar] = []
        self.size_vars: list[relay.SizeVar] = []
        self.data_types: dict[str, relay.TypeData] = {}
        if data_types:  # in modules only, which define them
            self.data_types = {name: self.data_type(name) for name in ("List", "Op_1")}

    def pick(self, items: Any) -> Any:
        return self.random.choice(list(items))

    def type(self, depth: int = 2) -> relay.Type:
        kind = self.random.random()
        if depth and kind < 0.15:
            return relay.TupleType([self.type(depth - 1) for _ in range(self.random.randrange(3))])
        if depth and kind < 0.25:
            return relay.FuncType([self.type(depth - 1)], self.type(depth - 1))
        if kind < 0.4 and self.type_vars:
            return self.pick(self.type_vars)
        if depth and kind < 0.5 and self.data_types:
            data = self.pick(self.data_types.values())
            return data.header(*[self.type(depth - 1) for _ in data.type_vars])
        known = [-1, 0, 1, 5, 2**40, relay.Size(3, 64), relay.Size(7, 16), *self.size_vars]
        sizes = [self.pick(known) for _ in range(self.random.randrange(4))]
        return relay.TensorType(sizes, self.pick(DTYPES))

    def new_sizes(self) -> relay.Var:
        """Draw a parameter whose type binds variables that stand for sizes."""
        names = [
            self.pick(["n", "n", "m.1", "", "\n", "ünicode"]) for _ in range(self.random.randrange(1, 3))
        ]
        new = [relay.SizeVar(name, self.pick(["int32", "int64"]), self.pick([False, True])) for name in names]
        self.size_vars = [*self.size_vars, *new]
        return relay.Var("sized", relay.TensorType([*new, 2]))

    def annotation(self) -> relay.Type | None:
        """Draw the type of a variable, which may be open in part."""
        kind = self.random.random()
        if kind < 0.1:
            return relay.TupleType([relay.IncompleteType(), self.type()])
        if kind < 0.2:
            return relay.FuncType([self.type()], relay.IncompleteType())
        return self.pick([None, self.type()])

    def type_params(self) -> list[relay.TypeVar]:
        names = [self.pick(["A", "B", "A", "bool", "a/b"]) for _ in range(self.random.randrange(3))]
        return [relay.TypeVar(name) for name in names]

    def data_type(self, name: str) -> relay.TypeData:
        header = relay.GlobalTypeVar(name)
        self.type_vars = self.type_params()
        inputs = [
            [self.pick([self.type(), header(*self.type_vars)]) for _ in range(fields)] for fields in (0, 2, 1)
        ]
        constructors = [
            relay.Constructor(f"{name}{i}", types, header, self.span()) for i, types in enumerate(inputs)
        ]
        data = relay.TypeData(header, self.type_vars, constructors)
        self.type_vars = []
        return data

    def pattern(self, bound: list[relay.Var], depth: int = 2) -> relay.Pattern:
        """Draw a pattern, and append the variables that it binds."""
        kind = self.random.random()
        if kind < 0.3:
            bound.append(self.var())
            return relay.PatternVar(bound[-1])
        if depth and kind < 0.5:
            return relay.PatternTuple(
                [self.pattern(bound, depth - 1) for _ in range(self.random.randrange(3))]
            )
        if depth and kind < 0.8 and self.data_types:
            constructor = self.pick(self.pick(self.data_types.values()).constructors)
            fields = [self.pattern(bound, depth - 1) for _ in constructor.inputs]
            return relay.PatternConstructor(constructor, fields)
        return relay.PatternWildcard()

    def match(self, depth: int) -> relay.Match:
        clauses = []
        for _ in range(self.random.randrange(4)):
            bound: list[relay.Var] = []
            pattern = self.pattern(bound)
            clauses.append(relay.Clause(pattern, self.scoped(bound, depth - 1)))
        return relay.Match(self.operand(), clauses, self.pick([True, False]), self.span())

    def reference(self) -> relay.Expr:
        kind = self.random.randrange(3)
        if kind == 0:
            return relay.RefCreate(self.operand(), self.span())
        if kind == 1:
            return relay.RefRead(self.operand())
        return relay.RefWrite(self.operand(), self.operand())

    def construction(self) -> relay.Expr:
        constructor = self.pick(self.pick(self.data_types.values()).constructors)
        if constructor.inputs and self.random.random() < 0.2:
            return constructor
        return relay.Call(constructor, [self.operand() for _ in constructor.inputs], span=self.span())

    def span(self) -> relay.Span | None:
        return self.pick(
            [None, None, relay.Span(self.pick(["net.py", "", "a*/b"]), self.random.randrange(99))]
        )

    def var(self) -> relay.Var:
        name = self.pick(["x", "x", "w.1", "let", "", "9", "inff", "ünicode", "a/b"])
        return relay.Var(name, self.annotation(), self.span())

    def constant(self) -> relay.Constant:
        dtype = self.pick(DTYPES)
        shape = self.pick([(), (), (), (1,), (2, 3), (0, 2)])
        numbers = [self.pick([0, 1, 100, -1, 1 / 3, 0.707107, np.nan, np.inf, 3e7]) for _ in range(6)]
        if not dtype.startswith(("float", "bfloat")):
            numbers = [abs(int(n)) % 100 if np.isfinite(n) else 7 for n in numbers]
        count = int(np.prod(shape))
        tensor = torch.tensor(numbers[:count], dtype=torch.float64).reshape(shape)
        return relay.Constant(tensor.to(getattr(torch, dtype)), self.span())

    def attribute(self, attr: AttrInfo) -> Any:
        integers = [self.pick(INTS) for _ in range(self.random.randrange(4))]
        return {
            "int": self.pick(INTS),
            "int or None": self.pick([None, *INTS]),
            "bool": self.pick([True, False]),
            "float": self.pick(FLOATS),
            "float or None": self.pick([None, *FLOATS]),
            "str": self.pick(STRINGS),
            "dtype name": self.pick(["", *DTYPES]),
            "list of int": self.pick([None, integers, integers]),
            "list of float": self.pick([None, [], FLOATS]),
            "list of list of int": self.pick([None, [], [integers, [1]]]),
            "int or list of int": self.pick([4, [1, 2], relay.BoxInt(3), [relay.BoxInt(1), relay.BoxInt(2)]]),
        }[attr.kind]

    def operator_call(self) -> relay.Expr:
        info: OpInfo = self.pick(OPERATORS)
        chosen = [attr for attr in info.attrs if attr.required or self.random.random() < 0.5]
        attrs = {attr.name: self.attribute(attr) for attr in chosen}
        count = info.num_inputs if info.num_inputs >= 0 else self.random.randrange(4)
        return relay.Call(info.name, [self.operand() for _ in range(count)], attrs, self.span())

    def operand(self) -> relay.Expr:
        kind = self.random.random()
        if kind < 0.5 and self.values:
            return self.pick(self.values)
        if kind < 0.7 and self.scope:
            return self.pick(self.scope)
        return self.constant()

    def function(self, depth: int) -> relay.Function:
        type_params = self.type_params()
        outer, self.type_vars = self.type_vars, [*self.type_vars, *type_params]
        outer_sizes = self.size_vars
        params = [self.new_sizes()] if self.random.random() < 0.3 else []
        params += [self.var() for _ in range(self.random.randrange(4))]
        held = [*self.scope, *params, relay.GlobalVar("g"), relay.Op.get("add"), *self.size_vars]
        attrs = self.pick(
            [
                *({}, {"Primitive": 1}, {"Compiler": "ccc", "a.b": [1, [2.5, None]], "flag": True}),
                {"z": self.pick(held), "a": [self.pick(held), 1, [self.pick(held)]]},
            ]
        )
        body = self.scoped(params, depth)
        result = self.pick([None, self.type()])
        self.type_vars, self.size_vars = outer, outer_sizes
        return relay.Function(params, body, result, type_params, attrs, self.span())

    def scoped(self, bound: list[relay.Var], depth: int) -> relay.Expr:
        scope, values = list(self.scope), list(self.values)
        self.scope += bound
        result = self.expression(depth)
        self.scope, self.values = scope, values
        return result

    def compound(self, depth: int) -> relay.Expr:
        kind = self.random.randrange(9 if depth else 3)
        if kind == 0:
            return relay.Tuple([self.operand() for _ in range(self.random.randrange(4))], self.span())
        if kind == 1:
            source = self.pick([*self.values, self.constant()])
            if not isinstance(source, relay.Tuple):
                return relay.TupleGetItem(source, self.random.randrange(3), self.span())
        if kind == 3:
            branches = [self.scoped([], depth - 1) for _ in range(2)]
            return relay.If(self.operand(), branches[0], branches[1])
        if kind == 4:
            return self.function(depth - 1)
        if kind == 5:
            var = self.var()
            return relay.Let(var, self.operand(), self.scoped([var], depth - 1))
        if kind == 6:
            callee = self.pick([relay.GlobalVar("g"), *self.values, *self.scope])
            if not isinstance(callee, relay.Constant):
                attrs = self.pick([{}, {"name": "n"}, {"k": self.operand(), "a": [self.operand(), None]}])
                return relay.Call(callee, [self.operand()], attrs, self.span())
        if kind == 7:
            return self.match(depth)
        if kind == 8:
            return self.construction() if self.data_types and self.random.random() < 0.5 else self.reference()
        return self.operator_call()

    def expression(self, depth: int) -> relay.Expr:
        for _ in range(self.random.randrange(1, 6)):
            value = self.compound(depth)
            self.values.append(value)
        return self.pick([self.values[-1], self.values[-1], self.operand()])


SEEDS = st.integers(0, 2**32)


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(SEEDS)
def test_text_reads_back_equal(seed: int) -> None:
    function = Maker(seed).function(3)
    text = function.astext()
    back = relay.parse(text)
    assert relay.structural_equal(back, function), text
    assert relay.structural_hash(back) == relay.structural_hash(function)
    maker = Maker(seed, data_types=True)
    module = relay.IRModule({"main": maker.function(3), "g": maker.function(1)}, maker.data_types)
    back = relay.parse(module.astext())
    assert relay.structural_equal(back, module), module.astext()
    assert relay.structural_hash(back) == relay.structural_hash(module)


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(SEEDS)
def test_printing_is_stable(seed: int) -> None:
    def plain(text: str) -> str:
        return relay.parse(text).astext()

    first = plain(Maker(seed).function(3).astext())
    assert plain(first) == first


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(SEEDS)
def test_json_and_pickle_keep_programs(seed: int) -> None:
    function = Maker(seed).function(3)
    assert relay.structural_equal(from_json_graph_str(to_json_graph_str(function)), function)
    other = pickle.loads(pickle.dumps(function))
    assert relay.structural_equal(other, function)
    assert other.astext() == function.astext()
    maker = Maker(seed, data_types=True)
    module = relay.IRModule({"main": maker.function(2)}, maker.data_types)
    assert relay.structural_equal(pickle.loads(pickle.dumps(module)), module)


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(SEEDS)
def test_changed_programs_differ(seed: int) -> None:
    function = Maker(seed).function(2)
    params, body, result = function.params, function.body, function.ret_type
    types, attrs = function.type_params, function.attrs
    changes = [
        relay.Function([*params, relay.Var("new")], body, result, types, attrs),
        relay.Function(params, relay.Tuple([body]), result, types, attrs),
        relay.Function(params, body, relay.TupleType([result or relay.TupleType([])]), types, attrs),
        relay.Function(params, body, result, [*types, relay.TypeVar("New")], attrs),
        relay.Function(params, body, result, types, {**attrs, "new": 1}),
    ]
    for changed in changes:
        back = relay.parse(changed.astext())
        assert relay.structural_equal(back, changed)
        assert not relay.structural_equal(back, function)
        assert relay.structural_hash(back) != relay.structural_hash(function)
