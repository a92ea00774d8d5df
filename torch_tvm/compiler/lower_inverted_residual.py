"""A pointwise convolution and the depthwise one behind it as one kernel."""

from __future__ import annotations

import dataclasses
from functools import partial

from torch_tvm.kernels import pointwise_depthwise
from torch_tvm.kernels.epilogue import PlacedExpression
from torch_tvm.kernels.expression import Expression
from torch_tvm.kernels.pointwise_depthwise import PointwiseDepthwise, Schedule

from . import expressions
from .fusion import Group
from .graph import Node
from .inverted_residual import InvertedResidualNode
from .launch import Argument
from .lower_conv import source_of, workload_of
from .lower_kernels import FAMILIES, Family, Lowerer, group_name


def _supports(node: Node) -> bool:
    return isinstance(node, InvertedResidualNode)


def _between(
    lowerer: Lowerer, node: InvertedResidualNode
) -> tuple[Expression | PlacedExpression, list[Argument]]:
    product = node.pointwise.output
    expression, operands = expressions.between(
        node.steps, product, node.expanded, product.shape, lowerer.accesses
    )
    views, arguments = lowerer.read(expression.inputs[1:], operands)
    if any(views):
        return PlacedExpression(expression, (*views, None)), arguments
    return expression, arguments


def _packed(
    lowerer: Lowerer, node: InvertedResidualNode, workload: PointwiseDepthwise, schedule: Schedule
) -> list[Argument]:
    """Return the packed weights of both convolutions."""
    row = workload.row_product
    pointwise, depthwise = (lowerer.argument(weight) for weight in node.args[1:3])
    shapes = pointwise_depthwise.packed_shapes(workload, schedule)
    builds = pointwise_depthwise.build_packs(workload, schedule, lowerer.target)
    matrix = Argument(pointwise.storage, row.b.shape, pointwise.dtype)
    keys = ("pack_matmul", (row.b, row.n, schedule.product.packing)), ("pack_depthwise", (depthwise.shape,))
    return [
        lowerer.packed(name, key, [weight], shape, build, packing=True)
        for (name, key), weight, shape, build in zip(keys, (matrix, depthwise), shapes, builds, strict=True)
    ]


def _lower(lowerer: Lowerer, group: Group) -> None:
    node = group.root
    assert isinstance(node, InvertedResidualNode)
    source, layout, part = source_of(lowerer, node.args[0])
    if layout != "NHWC":
        source, part = lowerer.argument(node.args[0]), None
    between, others = _between(lowerer, node)
    epilogue, extras, output = lowerer.epilogue(group)
    first = dataclasses.replace(workload_of(node.pointwise), input_slice=part)
    workload = PointwiseDepthwise(first, workload_of(node.depthwise), between, epilogue)
    schedule = lowerer.choose(pointwise_depthwise.default_schedule, workload, lowerer.target, lowerer.threads)
    lowerer.launch(
        group_name(group),
        (workload, schedule),
        partial(pointwise_depthwise.build, workload=workload, schedule=schedule, target=lowerer.target),
        [source, *_packed(lowerer, node, workload, schedule), *others, *extras],
        [output],
        packing=group.weight_only,
        flops=float(workload.flops),
    )


FAMILIES["torch_tvm.pointwise_depthwise"] = Family(_supports, _lower, stores_parts=True)
