"""Concatenation: copies of the parts that nobody could store in their place."""

from __future__ import annotations

from .fusion import Group
from .graph import Node
from .lower_kernels import FAMILIES, Family, Lowerer, has_elements
from .placement import parts


def _supports(node: Node) -> bool:
    return has_elements(node)


def _lower(lowerer: Lowerer, group: Group) -> None:
    base, whole = lowerer.accesses.of(group.output)
    for operand, part in parts(group.root, whole):
        held, access = lowerer.accesses.of(operand)
        in_place = held is base and access.offset == part.offset and access.same_order(part.strides)
        if not in_place:
            lowerer.copy(*lowerer.where(operand), lowerer.part(base, part), group.weight_only)


FAMILIES["concat"] = Family(_supports, _lower, takes_epilogue=False, stores_parts=True)
