"""Composite functions of Relay that are all steps of a recurrent layer, as one Relax operator each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import ir, relax, s_tir, tirx
from tvm.ir import _ffi_api as ir_api
from tvm.relax.transform.legalize_ops.common import register_legalize

from torch_tvm.kernels import recurrence
from torch_tvm.kernels.recurrence import Panels, Recurrence
from torch_tvm.kernels.target import host_target

from .registry import Lowering, lowers_composite
from .te_operators import PREFIX, call

Shape = Sequence[int]


def workload_of(cell: str, shapes: Sequence[Shape], dtype: str, attrs: Any) -> Recurrence:
    """Describe a call by the shapes of its operands: inputs, states, weights of the hidden state, others."""
    (steps, batch, width), hidden, *_ = shapes
    has_cell_state = cell == "lstm"
    others = len(shapes) - (4 if has_cell_state else 3)
    return Recurrence(
        cell,
        steps,
        batch,
        width // recurrence.GATES[cell],
        hidden[-1],
        reverse=bool(attrs["reverse"]),
        biased=not has_cell_state and others > 0,
        projected=has_cell_state and others > 0,
        dtype=dtype,
        rounded=str(attrs["rounded"]),
    )


def packed_operands(workload: Recurrence, schedule: recurrence.Schedule) -> list[tuple[Panels, slice]]:
    """Return the forms that weights are packed in, and which operands of a call each is made of."""
    first = 3 if workload.has_cell_state else 2
    count = 2 if workload.biased else 1
    forms = [(recurrence.panels(workload, schedule), slice(first, first + count))]
    if workload.projected:
        forms.append((recurrence.projection_panels(workload, schedule), slice(first + 1, first + 2)))
    return forms


def _infer_type(node: relax.Call, _: Any) -> relax.Type:
    inputs, hidden, *others = (arg.ty for arg in node.args)
    states = [hidden, others[0]] if str(node.op.name) == PREFIX + "lstm" else [hidden]
    shapes = [[inputs.shape.values[0], *hidden.shape.values], *(state.shape.values for state in states)]
    return relax.TupleType([relax.TensorType(shape, inputs.dtype) for shape in shapes])


def _with_root(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Put the body into a block, as Relax's passes expect of the functions that it calls."""
    root = s_tir.SBlockRealize([], True, s_tir.SBlock([], [], [], "root", function.body))
    return tirx.PrimFunc(function.params, root, function.ret_type, function.attrs)


def _legalize(builder: relax.BlockBuilder, node: relax.Call) -> relax.Expr:
    """Call the kernels as they are made for this machine and one thread."""
    shapes = [[int(size) for size in arg.ty.shape.values] for arg in node.args]
    dtype = str(node.args[0].ty.dtype)
    workload = workload_of(str(node.op.name).removeprefix(PREFIX), shapes, dtype, node.attrs)
    schedule = recurrence.default_schedule(workload, host_target())

    def launch(kernel: tirx.PrimFunc, args: Sequence[Any], results: Sequence[Any]) -> relax.Expr:
        types = [relax.TensorType(list(shape), dtype) for shape in results]
        function = builder.add_func(_with_root(kernel), str(kernel.attrs["global_symbol"]))
        return builder.emit(relax.call_tir(function, relax.Tuple(list(args)), types))

    operands = packed_operands(workload, schedule)
    packed = [
        launch(recurrence.build_pack(form, f"pack_{workload.cell}"), node.args[own], [form.shape])
        for form, own in operands
    ]
    outputs = [[int(size) for size in field.shape.values] for field in node.ty.fields]
    sequence = node.args[: operands[0][1].start]
    every = launch(
        recurrence.build(workload, schedule, host_target(), workload.cell),
        [*sequence, *packed],
        [*outputs, *recurrence.state_shapes(workload)],
    )
    return relax.Tuple([builder.emit(relax.TupleGetItem(every, i)) for i in range(len(outputs))])


def _register(cell: str) -> None:
    name = PREFIX + cell
    ir_api.RegisterOp(name, f"all steps of {cell} in one direction")
    ir.register_op_attr(name, "FInferType", _infer_type)
    ir.register_op_attr(name, "FPurity", True)
    register_legalize(name, _legalize)


for _cell in recurrence.GATES:
    _register(_cell)


@lowers_composite(*(PREFIX + cell for cell in recurrence.GATES))
def _recurrent(given: Lowering) -> relax.Expr:
    attrs = {"reverse": bool(given.attrs["reverse"]), "rounded": str(given.attrs["rounded"])}
    return call(given.name.removeprefix(PREFIX), given.args, attrs)
