"""NHWC for convolutions and pools: what kernels compute in, whatever the network's layout is.

In one dimension they are done as in two, on images of one row; pools of three dimensions as one of rows and columns and
one of planes.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax
from tvm.relax import op

from ..operators import te_operators
from ..rewrite import Rule, Site, ints
from . import shuffle

TO_NHWC, TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]
CHANNELS_LAST = {
    "relax.nn.conv2d": ["NHWC", "OIHW"],
    "relax.nn.conv2d_transpose": ["NHWC", "IOHW"],
    "relax.nn.conv3d": ["NDHWC", "OIDHW"],
    "relax.nn.conv3d_transpose": ["NDHWC", "IODHW"],
}
_SPATIAL = "DHW"


def _channels_last(site: Site, expr: relax.Expr) -> relax.Expr:
    """Move the channels from the second to the last place."""
    return site.emit(op.permute_dims(expr, [0, *range(2, len(site.shape(expr))), 1]))


def _channels_second(site: Site, expr: relax.Expr) -> relax.Expr:
    last = len(site.shape(expr)) - 1
    return op.permute_dims(expr, [0, last, *range(1, last)])


def _with_height(site: Site, expr: relax.Expr, axis: int) -> relax.Expr:
    shape = site.shape(expr)
    return site.reshape(expr, (*shape[:axis], 1, *shape[axis:]))


def _convolution(site: Site) -> relax.Expr | None:
    a, transposed = site.attrs, site.name.endswith("_transpose")
    rank = len(site.shape()) - 2
    spatial = _SPATIAL[-rank:]
    layouts = (f"NC{spatial}", f"{'IO' if transposed else 'OI'}{spatial}", f"NC{spatial}")
    if (a.data_layout, a.kernel_layout, a.out_layout) != layouts:
        return None
    data, weight = _channels_last(site, site.data), site.args[1]
    if rank == 1:
        result = site.emit(_wide(site, _with_height(site, data, 1), _with_height(site, weight, 2)))
        batch, filters, width = site.result_shape()
        return _channels_second(site, site.reshape(result, (batch, width, filters)))
    return _channels_second(site, site.emit(_wide(site, data, weight)))


def _wide(site: Site, data: relax.Expr, weight: relax.Expr) -> relax.Call:
    """Apply a convolution to data with the channels last, and a row that the call may not have."""
    a, rank = site.attrs, len(site.shape()) - 2
    missing = max(0, 2 - rank)
    ones, zeros = [1] * missing, [0] * missing
    before, behind = _sides(site, rank)
    strides, dilation = [*ones, *ints(a.strides)], [*ones, *ints(a.dilation)]
    padding = [*zeros, *before, *zeros, *behind]
    spatial = _SPATIAL[-rank - missing :]
    last = f"N{spatial}C"
    if site.name.endswith("_transpose"):
        output_padding = [*zeros, *ints(a.output_padding)]
        transpose = op.nn.conv3d_transpose if rank == 3 else op.nn.conv2d_transpose
        return transpose(data, weight, strides, padding, output_padding, dilation,
                                      int(a.groups), last, f"IO{spatial}", last, a.out_dtype)  # fmt: skip
    make = op.nn.conv3d if rank == 3 else op.nn.conv2d
    return make(
        data, weight, strides, padding, dilation, int(a.groups), last, f"OI{spatial}", last, a.out_dtype
    )


def _sides(site: Site, rank: int) -> tuple[list[int], list[int]]:
    """Return the padding before and behind, one entry for each spatial dimension."""
    padding = ints(site.attrs.padding)
    if len(padding) == 1:
        padding *= 2 * rank
    elif len(padding) == rank:
        padding *= 2
    return padding[:rank], padding[rank:]


def _conv3d(site: Site) -> relax.Expr | None:
    """Turn planes of which none meets another into images of their own: they may use Winograd's algorithm."""
    a = site.attrs
    if (a.data_layout, a.kernel_layout, a.out_layout) != ("NDHWC", "OIDHW", "NDHWC"):
        return _convolution(site)
    (front, *before), (back, *behind) = _sides(site, 3)
    outputs, channels, planes, *kernel = site.shape(site.args[1])
    if planes != 1 or ints(a.strides)[0] != 1 or front or back:
        return None
    batch, depth, *rest = site.shape()
    images = site.reshape(site.data, (batch * depth, *rest))
    weight = site.reshape(site.args[1], (outputs, channels, *kernel))
    flat = op.nn.conv2d(images, weight, ints(a.strides)[1:], [*before, *behind], ints(a.dilation)[1:],
                        int(a.groups), "NHWC", "OIHW", "NHWC", a.out_dtype)  # fmt: skip
    return site.reshape(site.emit(flat), site.result_shape())


def _pool(site: Site) -> relax.Expr | None:
    a, rank = site.attrs, len(site.shape()) - 2
    first = a.layout == f"NC{_SPATIAL[-rank:]}"
    if a.layout != a.out_layout or not (first or (rank == 3 and a.layout == "NDHWC")):
        return None
    data = _channels_last(site, site.data) if first else site.data
    before, behind = _sides(site, rank)
    window = (ints(a.pool_size), ints(a.strides), before, behind, ints(a.dilation))
    batch, *sizes, channels = site.shape(data)
    if rank == 1:
        result = _pool2d(site, site.reshape(data, (batch, 1, *sizes, channels)), window)
    elif rank == 2:
        result = _pool2d(site, data, window)
    else:
        images = site.reshape(data, (batch * sizes[0], *sizes[1:], channels))
        pooled = _pool2d(site, images, [values[1:] for values in window])
        height, width = site.shape(pooled)[1:3]
        planes = site.reshape(pooled, (batch, sizes[0], height * width, channels))
        along = [[value[0], neutral] for value, neutral in zip(window, (1, 1, 0, 0, 1), strict=True)]
        result = _pool2d(site, planes, along)
    shape = site.result_shape()
    result = site.reshape(result, (shape[0], *shape[2:], shape[1]) if first else shape)
    return _channels_second(site, result) if first else result


def _pool2d(site: Site, data: relax.Expr, window: Sequence[Sequence[int]]) -> relax.Expr:
    """Pool NHWC data; `window` has size, strides, padding before and behind, dilation, each for some last dims."""
    size, strides, before, behind, dilation = (
        [neutral] * (2 - len(values)) + list(values)
        for values, neutral in zip(window, (1, 1, 0, 0, 1), strict=True)
    )
    a = site.attrs
    make = op.nn.max_pool2d if "max" in site.name else op.nn.avg_pool2d
    return site.emit(
        make(data, size, strides, [*before, *behind], dilation, bool(a.ceil_mode), bool(a.count_include_pad),
             "NHWC", "NHWC")
    )  # fmt: skip


def _local_adaptive_pool2d(site: Site) -> relax.Expr | None:
    a = site.attrs
    maximum = site.name == "torch_tvm.adaptive_max_pool"
    layout = str(a["layout"] if maximum else a.layout)
    if layout != "NCHW" or (not maximum and a.out_layout != layout):
        return None
    data = site.emit(op.permute_dims(site.data, TO_NHWC))
    size = list(site.result_shape()[2:])
    attrs = {"output_size": size, "layout": "NHWC"}
    result = (
        te_operators.call("adaptive_max_pool", [data], attrs)
        if maximum
        else op.nn.adaptive_avg_pool2d(data, size, "NHWC")
    )
    return op.permute_dims(site.emit(result), TO_NCHW)


_CONVOLUTIONS = (
    "nn.conv1d",
    "nn.conv2d",
    "nn.conv1d_transpose",
    "nn.conv2d_transpose",
    "nn.conv3d_transpose",
)
_POOLS = tuple(f"nn.{kind}_pool{rank}d" for kind in ("max", "avg") for rank in (1, 2, 3))


def _local_interleave(site: Site) -> relax.Expr | None:
    """Interleave channels where they are neighbours, if the groups come from what is computed so."""
    if int(site.attrs["axis"]) != 1:
        return None
    if not any(_is_moved(site, part) for part in site.args):
        return shuffle.moves(site)
    parts = [site.emit(op.permute_dims(part, TO_NHWC)) for part in site.args]
    return op.permute_dims(site.emit(te_operators.call("interleave", parts, {"axis": 3})), TO_NCHW)


def _is_moved(site: Site, value: relax.Expr) -> bool:
    """Say whether an NCHW value is an NHWC one, permuted, or a slice of one."""
    slice_of = site.block.definition(value, "strided_slice")
    return site.block.definition(value if slice_of is None else slice_of.args[0], "permute_dims") is not None


LOCAL_CHANNELS_LAST: dict[str, Rule] = {
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    "nn.conv3d": _conv3d,
    **dict.fromkeys(_POOLS, _pool),
    "nn.adaptive_avg_pool2d": _local_adaptive_pool2d,
    "torch_tvm.adaptive_max_pool": _local_adaptive_pool2d,
    "torch_tvm.interleave": _local_interleave,
}
