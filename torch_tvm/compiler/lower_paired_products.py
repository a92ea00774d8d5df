"""Two products of one tensor and what is computed of both, as one kernel; the weights are packed side by side."""

from __future__ import annotations

from functools import partial

from torch_tvm.kernels import paired_matmul
from torch_tvm.kernels.paired_matmul import PairedMatmul

from .fusion import Group
from .graph import Node
from .lower_kernels import FAMILIES, Family, Lowerer, group_name
from .lower_matmul import operand_view
from .paired_products import PairedProducts


def _supports(node: Node) -> bool:
    return isinstance(node, PairedProducts)


def _lower(lowerer: Lowerer, group: Group) -> None:
    left, first, second = group.root.args[:3]
    a, a_view = operand_view(lowerer, left, (), ("m", "k"))
    b0, first_view = operand_view(lowerer, first, (), ("k", "n"))
    b1, second_view = operand_view(lowerer, second, (), ("k", "n"))
    workload = PairedMatmul(a_view, (first_view, second_view), left.dtype)
    schedule = lowerer.choose(paired_matmul.default_schedule, workload, lowerer.target, lowerer.threads)
    packed = lowerer.packed(
        "pack_paired_matmul",
        (workload.b, schedule.packing),
        [b0, b1],
        paired_matmul.packed_shape(workload, schedule),
        partial(paired_matmul.build_pack, workload=workload, schedule=schedule.packing),
        packing=True,
    )

    build = partial(paired_matmul.build, workload=workload, schedule=schedule, target=lowerer.target)
    lowerer.launch_anchor(
        group, group_name(group), (workload, schedule), build, [a, packed], flops=float(workload.flops)
    )


FAMILIES["torch_tvm.paired_products"] = Family(_supports, _lower, stores_parts=True)
