"""Scale and shift of batch norm into the weights in front of them, with weights as inputs."""

from __future__ import annotations

from tvm import relax
from tvm.relax import op

from ..rewrite import Rule, Site, is_constant, size_of

_PRODUCTS = ("nn.conv2d", "nn.conv3d", "nn.conv2d_transpose", "nn.conv3d_transpose", "matmul")


def _per_channel(site: Site, factor: relax.Expr) -> int | None:
    """Size of a weight-only factor that has one value for each element of the last axis, or one value."""
    if not site.block.weight_only(factor):
        return None
    shape, result = site.shape(factor), site.result_shape()
    count = size_of(shape)
    if count == 1 or (len(result) and shape and shape[-1] == count == result[-1]):
        return count
    return None


def _scaled_weight(site: Site, product: relax.Call, factor: relax.Expr, count: int) -> relax.Expr | None:
    """Scale the weight of a convolution or matrix product instead of its result."""
    weight = product.args[1]
    if not site.block.weight_only(weight):
        return None
    if product.op.name in ("relax.nn.conv2d", "relax.nn.conv3d"):
        if not product.attrs.out_layout.endswith("C") or not product.attrs.kernel_layout.startswith("O"):
            return None
        factor = site.reshape(factor, (count, *[1] * (len(site.shape(weight)) - 1)))
    elif product.op.name in ("relax.nn.conv2d_transpose", "relax.nn.conv3d_transpose"):
        return _scaled_transposed(site, product, factor, count)
    else:
        factor = site.reshape(factor, (count,))
    scaled = site.emit(op.multiply(weight, factor))
    return relax.Call(product.op, [product.args[0], scaled], product.attrs, product.ty_args)


def _scaled_transposed(site: Site, product: relax.Call, factor: relax.Expr, count: int) -> relax.Expr | None:
    """Scale the weight [channels, filters of a group, taps ...] of a transposed convolution."""
    data, weight = product.args
    if not product.attrs.out_layout.endswith("C") or not product.attrs.kernel_layout.startswith("IO"):
        return None
    groups, shape = int(product.attrs.groups), site.shape(weight)
    grouped = (groups, shape[0] // groups, *shape[1:])
    taps = [1] * (len(shape) - 2)
    per_filter = (groups, 1, shape[1], *taps) if count > 1 else (1, 1, 1, *taps)
    scaled = op.multiply(site.reshape(weight, grouped), site.reshape(factor, per_filter))
    scaled = site.reshape(site.emit(scaled), shape)
    return relax.Call(product.op, [data, scaled], product.attrs, product.ty_args)


def _operands_by_kind(site: Site) -> list[tuple[relax.Expr, relax.Expr, int]]:
    """(value, weight-only factor, size of the factor), for both orders of a commutative call."""
    left, right = site.args
    found = []
    for value, factor in ((left, right), (right, left)):
        count = _per_channel(site, factor)
        if count is not None and not is_constant(value) and site.shape(value) == site.result_shape():
            found.append((value, factor, count))
    return found


def _fold_multiply(site: Site) -> relax.Expr | None:
    for value, factor, count in _operands_by_kind(site):
        if not str(value.ty.dtype).startswith("float") or not site.block.used_once(value):
            continue
        product = site.block.definition(value, *_PRODUCTS)
        if product is not None and not is_constant(factor):
            return _scaled_weight(site, product, factor, count)
        total = site.block.definition(value, "add")
        if total is None or is_constant(factor):
            continue
        for source, bias in (total.args, list(total.args)[::-1]):
            product = site.block.definition(source, *_PRODUCTS)
            if product is None or not site.block.weight_only(bias) or not site.block.used_once(source):
                continue
            scaled = _scaled_weight(site, product, factor, count)
            if scaled is not None:
                return op.add(site.emit(scaled), site.emit(op.multiply(bias, factor)))
    return None


def _fold_add(site: Site) -> relax.Expr | None:
    """(product + bias) + shift = product + (bias + shift), where both are weights."""
    for value, shift, count in _operands_by_kind(site):
        total = site.block.definition(value, "add")
        if total is None or not str(value.ty.dtype).startswith("float") or not site.block.used_once(value):
            continue
        for source, bias in (total.args, list(total.args)[::-1]):
            product = site.block.definition(source, *_PRODUCTS)
            if product is not None and count > 1 and site.block.weight_only(bias):
                return op.add(source, site.emit(op.add(bias, shift)))
    return None


FOLD_WEIGHTS: dict[str, Rule] = {"multiply": _fold_multiply, "add": _fold_add}
