"""Recurrent layers: all steps in one direction by one kernel, the hidden state's weights packed once per binding."""

from __future__ import annotations

from functools import partial

from torch_tvm.kernels import recurrence

from .fusion import Group
from .graph import Node, Tensor
from .launch import Argument, element_bytes
from .lower_kernels import FAMILIES, Family, Lowerer, has_elements, supported_dtypes
from .operators.recurrent import CELLS
from .rewrite import size_of


def _supports(node: Node) -> bool:
    return has_elements(node) and supported_dtypes(node, recurrence.DTYPES)


def _workload(node: Node) -> recurrence.Recurrence:
    cell = node.op.removeprefix("torch_tvm.")
    inputs, hidden, *others = node.args
    steps, batch, width = inputs.shape
    has_cell_state = cell == "lstm"
    return recurrence.Recurrence(
        cell,
        steps,
        batch,
        width // recurrence.GATES[cell],
        hidden.shape[-1],
        reverse=bool(node.attrs["reverse"]),
        biased=not has_cell_state and len(others) > 1,
        projected=has_cell_state and len(others) > 2,
        dtype=inputs.dtype,
        rounded=str(node.attrs["rounded"]),
    )


def _packed(lowerer: Lowerer, form: recurrence.Panels, weights: list[Tensor]) -> Argument:
    return lowerer.packed(
        "pack_recurrent",
        form,
        [lowerer.argument(weight) for weight in weights],
        form.shape,
        partial(recurrence.build_pack, form=form),
        packing=all(weight.weight_only for weight in weights),
    )


def _lower(lowerer: Lowerer, group: Group) -> None:
    node = group.root
    workload = _workload(node)
    schedule = lowerer.choose(recurrence.default_schedule, workload, lowerer.target, lowerer.threads)
    states = 2 if workload.has_cell_state else 1
    sequence, weights = node.args[: 1 + states], list(node.args[1 + states :])
    hidden_weights = weights if workload.biased else weights[:1]
    packed = [_packed(lowerer, recurrence.panels(workload, schedule), hidden_weights)]
    if workload.projected:
        packed.append(_packed(lowerer, recurrence.projection_panels(workload, schedule), weights[1:]))
    temporaries = []
    for shape in recurrence.state_shapes(workload):
        size = size_of(shape) * element_bytes(workload.dtype)
        temporaries.append(Argument(lowerer.temporary(size, group.weight_only), shape, workload.dtype))
    lowerer.launch(
        workload.cell,
        (workload, schedule),
        partial(recurrence.build, workload=workload, schedule=schedule, target=lowerer.target),
        [*(lowerer.argument(arg) for arg in sequence), *packed],
        [*(Argument(lowerer.storage(t), t.shape, t.dtype) for t in node.outputs), *temporaries],
        packing=group.weight_only,
        flops=float(workload.flops),
    )


for _cell in CELLS:
    FAMILIES[f"torch_tvm.{_cell}"] = Family(_supports, _lower, takes_epilogue=False)
