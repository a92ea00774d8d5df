"""Linear operators that commute, in the order that takes less arithmetic."""

from __future__ import annotations

from tvm import relax
from tvm.relax import op

from ..rewrite import Rule, Site, ints, size_of


def _is_mean(site: Site) -> bool:
    """Say whether every window of an average pool lies inside the image, so that its weights add up to one."""
    a = site.attrs
    return not any(ints(a.padding)) and not a.ceil_mode and (a.layout, a.out_layout) == ("NHWC", "NHWC")


def _mixes_channels_only(call: relax.Call) -> bool:
    a = call.attrs
    return (
        tuple(int(size) for size in call.args[1].ty.shape.values[2:]) == (1, 1)
        and not any(ints(a.padding))
        and set(ints(a.strides)) == {1}
        and (a.data_layout, a.kernel_layout, a.out_layout) == ("NHWC", "OIHW", "NHWC")
    )


def _pool_before_convolution(site: Site) -> relax.Expr | None:
    """Average pixels before a 1x1 convolution mixes their channels: the transitions of DenseNet take a quarter."""
    call = site.block.definition(site.data, "nn.conv2d")
    if call is None or not site.block.used_once(site.data) or not _is_mean(site):
        return None
    fewer = size_of(site.result_shape()) < size_of(site.shape())
    if not fewer or not _mixes_channels_only(call):
        return None
    a = site.attrs
    pooled = op.nn.avg_pool2d(
        call.args[0],
        ints(a.pool_size),
        ints(a.strides),
        ints(a.padding),
        ints(a.dilation),
        bool(a.ceil_mode),
        bool(a.count_include_pad),
        "NHWC",
        "NHWC",
    )
    return relax.Call(call.op, [site.emit(pooled), call.args[1]], call.attrs, call.ty_args)


REORDER: dict[str, Rule] = {"nn.avg_pool2d": _pool_before_convolution}
