"""Attention as one kernel: operands read through views, the mask too, the result stored as its reader wants it."""

from __future__ import annotations

from functools import partial

from torch_tvm.kernels import attention
from torch_tvm.kernels.epilogue import PlacedExpression
from torch_tvm.kernels.expression import Expression
from torch_tvm.kernels.matrix_view import MatrixView

from . import expressions
from .attention import AttentionNode
from .fusion import Group
from .graph import Node, Tensor
from .launch import Argument
from .lower_kernels import FAMILIES, Family, Lowerer, group_name
from .lower_matmul import operand_view, result_view


def _supports(node: Node) -> bool:
    return isinstance(node, AttentionNode)


def _values(lowerer: Lowerer, tensor: Tensor, batch: tuple[int, ...]) -> tuple[Argument, MatrixView]:
    """Return a view of the values, whose rows the kernel wants contiguous."""
    argument, view = operand_view(lowerer, tensor, batch, ("n", "v"))
    if view.inner == "v" or view.extents["v"] == 1:
        return argument, view
    return operand_view(lowerer, tensor, batch, ("n", "v"), copied=True)


def _scores(lowerer: Lowerer, node: AttentionNode) -> tuple[Expression | PlacedExpression, list[Argument]]:
    expression, operands = expressions.between(
        node.steps, node.product, node.scores, node.space, lowerer.accesses
    )
    views, arguments = lowerer.read(expression.inputs[1:], operands)
    if any(views):
        return PlacedExpression(expression, (*views, None)), arguments
    return expression, arguments


def _lower(lowerer: Lowerer, group: Group) -> None:
    node = group.root
    assert isinstance(node, AttentionNode)
    batch = group.shape[:-2]
    q, query = operand_view(lowerer, node.args[0], batch, ("m", "k"))
    k, key = operand_view(lowerer, node.args[1], batch, ("k", "n"))
    v, value = _values(lowerer, node.args[2], batch)
    result = result_view(group, "v")
    scores, masks = _scores(lowerer, node)
    epilogue, extras, output = lowerer.epilogue(group)
    workload = attention.Attention(
        query, key, value, result, scores, node.diagonal, epilogue, node.output.dtype
    )
    schedule = lowerer.choose(attention.default_schedule, workload, lowerer.target, lowerer.threads)
    lowerer.launch(
        group_name(group),
        (workload, schedule),
        partial(attention.build, workload=workload, schedule=schedule, target=lowerer.target),
        [q, k, v, *masks, *extras],
        [output],
        packing=group.weight_only,
        flops=float(workload.flops),
    )


FAMILIES["torch_tvm.attention"] = Family(_supports, _lower, stores_permuted=True, stores_parts=True)
