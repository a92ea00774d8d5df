"""Recurrent layers: all steps in one direction by one kernel, the hidden state's weights packed once per binding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch_tvm.kernels import recurrence

from .fusion import Group
from .graph import Node, Tensor
from .launch import Argument, element_bytes
from .lower_kernels import FAMILIES, Family, Lowerer, has_elements, supported_dtypes
from .operators.recurrent import packed_operands, workload_of
from .operators.te_operators import PREFIX
from .rewrite import size_of


def _supports(node: Node) -> bool:
    return has_elements(node) and supported_dtypes(node, recurrence.DTYPES)


def _packed(lowerer: Lowerer, form: recurrence.Panels, weights: Sequence[Tensor]) -> Argument:
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
    shapes = [arg.shape for arg in node.args]
    cell = node.op.removeprefix(PREFIX)
    workload = workload_of(cell, shapes, node.args[0].dtype, node.attrs)
    schedule = lowerer.choose(recurrence.default_schedule, workload, lowerer.target, lowerer.threads)
    operands = packed_operands(workload, schedule)
    sequence = node.args[: operands[0][1].start]
    packed = [_packed(lowerer, form, node.args[own]) for form, own in operands]
    temporaries = []
    for shape in recurrence.state_shapes(workload):
        size = size_of(shape) * element_bytes(workload.dtype)
        temporaries.append(Argument(lowerer.temporary(size, group.weight_only), shape, workload.dtype))
    lowerer.launch(
        cell,
        (workload, schedule),
        partial(recurrence.build, workload=workload, schedule=schedule, target=lowerer.target),
        [*(lowerer.argument(arg) for arg in sequence), *packed],
        [*(Argument(lowerer.storage(t), t.shape, t.dtype) for t in node.outputs), *temporaries],
        packing=group.weight_only,
        flops=float(workload.flops),
    )


for _cell in recurrence.GATES:
    FAMILIES[PREFIX + _cell] = Family(_supports, _lower, takes_epilogue=False)
