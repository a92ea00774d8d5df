"""Sorting, and the first elements in order: values and positions by one kernel."""

from __future__ import annotations

import math
from functools import partial

from torch_tvm.kernels import sort

from .fusion import Group
from .graph import Node
from .launch import Argument
from .lower_kernels import FAMILIES, Family, Lowerer, has_elements


def _supports(node: Node) -> bool:
    return has_elements(node) and node.args[0].dtype in sort.DTYPES


def _lower(lowerer: Lowerer, group: Group) -> None:
    node = group.root
    (data,) = node.args
    values, positions = node.outputs
    axis = int(node.attrs["axis"]) % len(data.shape)
    rows = (math.prod(data.shape[:axis]), data.shape[axis], math.prod(data.shape[axis + 1 :]))
    workload = sort.Sort(
        rows, int(node.attrs["k"]), not bool(node.attrs["is_ascend"]), data.dtype, positions.dtype
    )
    schedule = lowerer.choose(sort.default_schedule, workload, lowerer.threads)
    source = lowerer.argument(data)
    lowerer.launch(
        "topk" if schedule.select else "sort",
        (workload, schedule),
        partial(sort.build, workload=workload, schedule=schedule),
        [Argument(source.storage, rows, source.dtype, source.offset)],
        [Argument(lowerer.storage(t), workload.result_shape, t.dtype) for t in (values, positions)],
        packing=group.weight_only,
    )


FAMILIES["torch_tvm.topk"] = Family(_supports, _lower, takes_epilogue=False)
