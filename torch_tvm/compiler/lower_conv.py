"""Convolutions: NHWC in and out (or NCHW in, where that saves a copy), weights packed once per binding."""

from __future__ import annotations

import dataclasses
import math
from functools import partial

from torch_tvm.kernels import conv_algorithm, conv_transpose
from torch_tvm.kernels.conv_shape import Conv2d, Depth
from torch_tvm.kernels.conv_transpose import ConvTranspose

from .access import contiguous_strides
from .fusion import Group
from .graph import Node, Tensor
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

# Each phase of a transposed convolution adds 20 to 60 ms of compile time.
_MOST_PHASES = 64


def supports(node: Node) -> bool:
    """Say whether the kernels take a convolution."""
    return _takes(node, "OI")


def _supports_transposed(node: Node) -> bool:
    return _takes(node, "IO") and math.prod(ints(node.attrs.strides)) <= _MOST_PHASES


def _takes(node: Node, order: str) -> bool:
    a, spatial = node.attrs, "DHW"[-(len(node.output.shape) - 2) :]
    layouts = (f"N{spatial}C", f"{order}{spatial}", f"N{spatial}C")
    same = (a.data_layout, a.kernel_layout, a.out_layout) == layouts
    return same and supported_dtypes(node, ("float32", "float64")) and has_elements(node)


def _padding(node: Node) -> tuple[int, ...]:
    """Return what is padded before each dimension, then what is behind each."""
    given, rank = ints(node.attrs.padding), len(node.output.shape) - 2
    return given * (2 * rank // len(given))


def _padding2d(node: Node) -> tuple[int, int, int, int]:
    """Return top, left, bottom, right: the padding of the last two dimensions."""
    given = _padding(node)
    rank = len(given) // 2
    return given[rank - 2], given[rank - 1], given[-2], given[-1]


def _depth(node: Node) -> Depth | None:
    """Return the first of three spatial dimensions, None if there are two."""
    if len(node.output.shape) == 4:
        return None
    a, padding = node.attrs, _padding(node)
    return Depth(
        node.args[0].shape[1],
        node.args[1].shape[2],
        ints(a.strides)[0],
        (padding[0], padding[3]),
        ints(a.dilation)[0],
    )


def workload_of(node: Node, layout: str = "NHWC", part: tuple[int, int] | None = None) -> Conv2d:
    """Describe a convolution of a tensor of some layout, or of channels of a larger one."""
    data, weight = node.args[:2]
    *_, height, width, channels = data.shape
    return Conv2d(
        data.shape[0],
        height,
        width,
        channels,
        weight.shape[0],
        kernel=pair(weight.shape[-2:]),
        stride=pair(ints(node.attrs.strides)[-2:]),
        padding=_padding2d(node),
        dilation=pair(ints(node.attrs.dilation)[-2:]),
        groups=int(node.attrs.groups),
        dtype=data.dtype,
        input_layout=layout,
        input_slice=part,
        depth=_depth(node),
    )


def source_of(lowerer: Lowerer, data: Tensor) -> tuple[Argument, str, tuple[int, int] | None]:
    """Return the input, its layout, and which channels of it; a permuted NCHW tensor is read as that."""
    source, access = lowerer.view(data)
    n, *sizes, c = data.shape
    planar = (n, c, *sizes)
    strides = contiguous_strides(planar)
    in_order = len(sizes) == 2 and access.same_order([strides[i] for i in TO_NHWC])
    if access.offset == 0 and not access.contiguous and in_order:
        return Argument(source.storage, planar, source.dtype), "NCHW", None
    pixel = source.shape[-1] if source.shape else 1
    sliced = source.shape == (n, *sizes, pixel) and access.offset + c <= pixel
    if sliced and not access.contiguous and access.same_order(contiguous_strides(source.shape)):
        return source, "NHWC", (access.offset, pixel)
    return lowerer.argument(data), "NHWC", None


def _lower(lowerer: Lowerer, group: Group) -> None:
    node = group.root
    data, weight = node.args
    source, layout, part = source_of(lowerer, data)
    workload = workload_of(node, layout, part)
    # What is packed at every call must be packed fast.
    algorithms = lowerer.winograd if weight.weight_only else "off"
    if layout == "NCHW":
        dense = dataclasses.replace(workload, input_layout="NHWC")
        if lowerer.choose(
            conv_algorithm.is_copied_first, workload, dense, lowerer.target, lowerer.threads, algorithms
        ):
            workload, source = dense, lowerer.argument(data)
    weights = lowerer.argument(weight)
    launch_convolution(lowerer, group, "pack_conv2d", workload, algorithms, source, weights, workload.flops)


def launch_convolution(
    lowerer: Lowerer,
    group: Group,
    pack_name: str,
    workload: Conv2d,
    algorithms: str,
    source: Argument,
    weights: Argument,
    flops: float,
) -> None:
    """Launch a convolution of a source, and the packing of its weights: once if these are weights alone."""
    schedule = lowerer.choose(conv_algorithm.choose, workload, lowerer.target, lowerer.threads, algorithms)
    packed = lowerer.packed(
        pack_name,
        (workload.weight_shape, workload.groups, schedule.packing),
        [weights],
        conv_algorithm.packed_shape(workload, schedule),
        partial(
            conv_algorithm.build_pack, workload=workload, schedule=schedule.packing, target=lowerer.target
        ),
        packing=group.root.args[1].weight_only,
    )
    lowerer.launch_anchor(
        group,
        conv_algorithm.prefix(schedule) + group_name(group),
        (workload, schedule),
        partial(conv_algorithm.build, workload=workload, schedule=schedule, target=lowerer.target),
        [source, packed],
        flops=float(flops),
        spreads_nonfinite=conv_algorithm.spreads_nonfinite(schedule),
    )


def _lower_transposed(lowerer: Lowerer, group: Group) -> None:
    node = group.root
    data, weight = node.args
    source, layout, part = source_of(lowerer, data)
    if layout != "NHWC":
        source = lowerer.argument(data)
    a = node.attrs
    workload = ConvTranspose(
        data.shape[0],
        data.shape[1:-1],
        data.shape[-1],
        node.output.shape[-1],
        kernel=weight.shape[2:],
        stride=ints(a.strides),
        padding=_padding(node),
        output_padding=ints(a.output_padding),
        dilation=ints(a.dilation),
        groups=int(a.groups),
        dtype=data.dtype,
        input_slice=part,
    )
    schedules = lowerer.choose(conv_transpose.default_schedule, workload, lowerer.target, lowerer.threads)
    packed = lowerer.packed(
        "pack_conv2d_transpose",
        (workload, schedules),
        [lowerer.argument(weight)],
        conv_transpose.packed_shape(workload, schedules),
        partial(conv_transpose.build_pack, workload=workload, schedules=schedules),
        packing=weight.weight_only,
    )
    lowerer.launch_anchor(
        group,
        group_name(group),
        (workload, schedules),
        partial(conv_transpose.build, workload=workload, schedules=schedules, target=lowerer.target),
        [source, packed],
        flops=float(workload.flops),
    )


FAMILIES["nn.conv2d"] = Family(supports, _lower, stores_parts=True)
FAMILIES["nn.conv3d"] = Family(supports, _lower, stores_parts=True)
FAMILIES["nn.conv2d_transpose"] = Family(_supports_transposed, _lower_transposed, stores_parts=True)
FAMILIES["nn.conv3d_transpose"] = FAMILIES["nn.conv2d_transpose"]
