"""Channel shuffles (ShuffleNet) as one operator that interleaves, whatever made the groups of channels."""

from __future__ import annotations

from tvm import relax
from tvm.relax import op

from torch_tvm.kernels.interleave import MAX_OPERANDS

from ..operators import te_operators
from ..rewrite import Rule, Site, ints, static_shape


def _interleave(site: Site) -> relax.Expr | None:
    """Find reshape to [N, groups, C / groups, H, W], exchange of the two dims, reshape to what it was."""
    moved = site.block.definition(site.data, "permute_dims")
    split = site.block.definition(moved.args[0], "reshape") if moved is not None else None
    if moved is None or split is None or moved.attrs.axes is None:
        return None
    source = split.args[0]
    shape, groups = static_shape(source), static_shape(split)
    if len(shape) != 4 or shape != site.result_shape() or ints(moved.attrs.axes) != [0, 2, 1, 3, 4]:
        return None
    if (groups[0], groups[1] * groups[2], *groups[3:]) != shape or not 2 <= groups[1] <= MAX_OPERANDS:
        return None
    return te_operators.call("interleave", _groups(site, source, groups[1]), {"axis": 1})


def _groups(site: Site, source: relax.Expr, count: int) -> list[relax.Expr]:
    """Return the groups of channels of an NCHW tensor: what it was concatenated from, or slices of it."""
    size = static_shape(source)[1] // count
    whole = site.block.definition(source, "concat")
    if whole is not None and int(whole.attrs.axis) % 4 == 1:
        parts = list(whole.args[0].fields)
        if len(parts) == count and all(static_shape(part)[1] == size for part in parts):
            return parts
    return [site.emit(op.strided_slice(source, [1], [k * size], [(k + 1) * size])) for k in range(count)]


def moves(site: Site) -> relax.Expr:
    """Return the moves of data that an interleaving of the channels of NCHW tensors stands for."""
    parts, count = site.args, len(site.args)
    n, c, h, w = site.shape()
    slices = [site.block.definition(part, "strided_slice") for part in parts]
    sources = [piece.args[0] for k, piece in enumerate(slices) if piece is not None and _takes(piece, k * c)]
    whole = len(sources) == count and all(source.same_as(sources[0]) for source in sources)
    whole = whole and static_shape(sources[0])[1] == count * c
    joined = sources[0] if whole else site.emit(op.concat(parts, 1))
    split = site.reshape(joined, (n, count, c, h, w))
    return site.reshape(site.emit(op.permute_dims(split, [0, 2, 1, 3, 4])), site.result_shape())


def _takes(piece: relax.Call, first: int) -> bool:
    """Say whether a slice takes neighbouring channels from `first` on."""
    axes, begins, _, *rest = ([int(v) for v in arg.fields] for arg in piece.args[1:])
    return axes == [1] and begins == [first] and rest in ([], [[1]])


SHUFFLE: dict[str, Rule] = {"reshape": _interleave}
