"""NHWC for convolutions and pools: what kernels compute in, whatever the network's layout is."""

from __future__ import annotations

from tvm import relax
from tvm.relax import op

from ..operators import te_operators
from ..rewrite import Rule, Site, ints
from . import shuffle

TO_NHWC, TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]
CHANNELS_LAST = {"relax.nn.conv2d": ["NHWC", "OIHW"]}


def _local_conv2d(site: Site) -> relax.Expr | None:
    a = site.attrs
    if (a.data_layout, a.kernel_layout, a.out_layout) != ("NCHW", "OIHW", "NCHW"):
        return None
    data = site.emit(op.permute_dims(site.data, TO_NHWC))
    result = op.nn.conv2d(data, site.args[1], ints(a.strides), ints(a.padding), ints(a.dilation),
                          int(a.groups), "NHWC", "OIHW", "NHWC", a.out_dtype)  # fmt: skip
    return op.permute_dims(site.emit(result), TO_NCHW)


def _local_pool2d(site: Site) -> relax.Expr | None:
    a = site.attrs
    if (a.layout, a.out_layout) != ("NCHW", "NCHW"):
        return None
    make = op.nn.max_pool2d if site.name == "nn.max_pool2d" else op.nn.avg_pool2d
    data = site.emit(op.permute_dims(site.data, TO_NHWC))
    result = make(data, ints(a.pool_size), ints(a.strides), ints(a.padding), ints(a.dilation),
                  bool(a.ceil_mode), bool(a.count_include_pad), "NHWC", "NHWC")  # fmt: skip
    return op.permute_dims(site.emit(result), TO_NCHW)


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
    "nn.conv2d": _local_conv2d,
    "nn.max_pool2d": _local_pool2d,
    "nn.avg_pool2d": _local_pool2d,
    "nn.adaptive_avg_pool2d": _local_adaptive_pool2d,
    "torch_tvm.adaptive_max_pool": _local_adaptive_pool2d,
    "torch_tvm.interleave": _local_interleave,
}
