"""Convolutions: NHWC in and out (or NCHW in, where that saves a copy), weights packed once per binding."""

from __future__ import annotations

import dataclasses

from torch_tvm.kernels import conv_algorithm
from torch_tvm.kernels.conv_shape import Conv2d

from .access import contiguous_strides
from .fusion import Group
from .graph import Node
from .launch import Argument
from .lower_kernels import (
    FAMILIES,
    Family,
    Lowerer,
    group_name,
    has_elements,
    ints,
    pair,
    supported_dtypes,
)
from .passes import TO_NHWC


def _supports(node: Node) -> bool:
    a = node.attrs
    layouts = (a.data_layout, a.kernel_layout, a.out_layout) == ("NHWC", "OIHW", "NHWC")
    return layouts and supported_dtypes(node, ("float32", "float64")) and has_elements(node)


def _source(lowerer: Lowerer, group: Group) -> tuple[Argument, str, tuple[int, int] | None]:
    """Return the input, its layout, and which channels of it; a permuted NCHW tensor is read as that."""
    data = group.root.args[0]
    source, access = lowerer.view(data)
    n, h, w, c = data.shape
    planar = (n, c, h, w)
    strides = contiguous_strides(planar)
    if access.offset == 0 and not access.contiguous and access.same_order([strides[i] for i in TO_NHWC]):
        return Argument(source.storage, planar, source.dtype), "NCHW", None
    pixel = source.shape[-1] if source.shape else 1
    sliced = source.shape == (n, h, w, pixel) and access.offset + c <= pixel
    if sliced and not access.contiguous and access.same_order(contiguous_strides(source.shape)):
        return source, "NHWC", (access.offset, pixel)
    return lowerer.argument(data), "NHWC", None


def _lower(lowerer: Lowerer, group: Group) -> None:
    node = group.root
    data, weight = node.args
    source, layout, part = _source(lowerer, group)
    batch, height, width, channels = data.shape
    padding = ints(node.attrs.padding)
    top, left, bottom, right = (padding * 4)[:4] if len(padding) != 2 else padding * 2
    workload = Conv2d(
        batch,
        height,
        width,
        channels,
        weight.shape[0],
        kernel=(weight.shape[2], weight.shape[3]),
        stride=pair(node.attrs.strides),
        padding=(top, left, bottom, right),
        dilation=pair(node.attrs.dilation),
        groups=int(node.attrs.groups),
        dtype=data.dtype,
        input_layout=layout,
        input_slice=part,
    )
    # What is packed at every call must be packed fast.
    algorithms = lowerer.winograd if weight.weight_only else "off"
    if layout == "NCHW":
        dense = dataclasses.replace(workload, input_layout="NHWC")
        if conv_algorithm.is_copied_first(workload, dense, lowerer.target, lowerer.threads, algorithms):
            workload, source = dense, lowerer.argument(data)
    schedule = conv_algorithm.choose(workload, lowerer.target, lowerer.threads, algorithms)
    packed = lowerer.packed(
        "pack_conv2d",
        (workload.weight_shape, workload.groups, workload.depthwise, schedule),
        lowerer.argument(weight),
        conv_algorithm.packed_shape(workload, schedule),
        lambda name: conv_algorithm.build_pack(workload, schedule, lowerer.target, name),
        packing=weight.weight_only,
    )
    epilogue, extras, output = lowerer.epilogue(group)
    lowerer.launch(
        conv_algorithm.prefix(schedule) + group_name(group),
        (workload, schedule, epilogue),
        lambda name: conv_algorithm.build(workload, schedule, lowerer.target, name, epilogue),
        [source, packed, *extras],
        [output],
        packing=group.weight_only,
        flops=float(workload.flops),
        spreads_nonfinite=conv_algorithm.spreads_nonfinite(schedule),
    )


FAMILIES["nn.conv2d"] = Family(_supports, _lower, stores_parts=True)
