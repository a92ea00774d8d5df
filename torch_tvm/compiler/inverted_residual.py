"""Finds pointwise convolutions whose result a depthwise one alone reads, and makes one node of the two where that pays.

Element-wise nodes may stand between them: a bias, an activation. See `kernels.pointwise_depthwise` for what pays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch_tvm.kernels import pointwise_depthwise
from torch_tvm.kernels.pointwise_depthwise import PointwiseDepthwise
from torch_tvm.kernels.target import CpuTarget

from . import expressions, lower_conv
from .graph import Graph, Node, Tensor
from .pairs import find_chain, other_operands, substitute


@dataclass(eq=False)
class InvertedResidualNode(Node):
    """A depthwise convolution of a pointwise one; operands: input, both weights, then what else is read in between.

    Attributes
    ----------
    pointwise, depthwise
        The nodes of the convolutions.
    steps
        The nodes between them in order.
    """

    pointwise: Node = field(kw_only=True)
    depthwise: Node = field(kw_only=True)
    steps: list[Node] = field(kw_only=True)

    @property
    def expanded(self) -> Tensor:
        """What the depthwise convolution reads."""
        return self.depthwise.args[0]


def find_inverted_residuals(
    graph: Graph, is_elementwise: Callable[[Node], bool], target: CpuTarget, threads: int
) -> None:
    """Replace pairs of convolutions by an `InvertedResidualNode` wherever one kernel for both is faster."""
    outputs = set(graph.outputs)
    for second in list(graph.nodes):
        if not _is_convolution(second, "depthwise"):
            continue
        found = find_chain(
            second.args[0], second, lambda node: _is_convolution(node, "pointwise"), is_elementwise, outputs
        )
        node = _make(*found, second) if found is not None else None
        if node is not None and _pays(node, target, threads):
            substitute(graph, [node.pointwise, *node.steps, second], node)


def _is_convolution(node: Node, kind: str) -> bool:
    if node.op != "nn.conv2d" or not lower_conv.supports(node) or node.output.dtype != "float32":
        return False
    if not node.args[1].weight_only or node.weight_only:
        return False
    workload = lower_conv.workload_of(node)
    return workload.pointwise if kind == "pointwise" else pointwise_depthwise.is_depthwise(workload)


def _make(first: Node, steps: list[Node], second: Node) -> InvertedResidualNode | None:
    """Make the node; None if the kernel cannot compute what is between the convolutions."""
    others = other_operands(steps, first.outputs, first.output.shape)
    same = second.args[0].shape == first.output.shape
    if others is None or not same or any(step.output.dtype != "float32" for step in steps):
        return None
    return InvertedResidualNode(
        "torch_tvm.pointwise_depthwise",
        (*first.args, second.args[1], *others),
        second.call,
        second.index,
        second.outputs,
        pointwise=first,
        depthwise=second,
        steps=steps,
    )


def _pays(node: InvertedResidualNode, target: CpuTarget, threads: int) -> bool:
    first, second = lower_conv.workload_of(node.pointwise), lower_conv.workload_of(node.depthwise)
    space = first.output_shape
    between, _ = expressions.between(node.steps, node.pointwise.output, node.expanded, space, None)
    return pointwise_depthwise.pays(PointwiseDepthwise(first, second, between), target, threads)
