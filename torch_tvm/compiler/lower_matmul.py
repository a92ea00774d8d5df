"""Matrix products: operands read through views, weights packed once per binding, the result stored permuted."""

from __future__ import annotations

from functools import partial

from torch_tvm.kernels import matmul
from torch_tvm.kernels.matrix_view import MatrixView, Part

from .access import Access, stored
from .fusion import Group
from .graph import Node, Tensor
from .launch import Argument
from .lower_kernels import FAMILIES, Family, Lowerer, group_name, has_elements, supported_dtypes
from .rewrite import size_of


def _supports(node: Node) -> bool:
    ranks = [len(arg.shape) for arg in node.args]
    return min(ranks) >= 2 and supported_dtypes(node, ("float32", "float64")) and has_elements(node)


def matrix_view(size: int, access: Access, names: tuple[str, ...]) -> MatrixView | None:
    """Describe an access to a stored tensor of `size` elements as a view, one name for each dim of the access.

    None if strides walk the tensor in a way that no factorisation of it into dims can say. Batch axes
    along which the access repeats are left out.
    """
    dims = [
        (stride, extent, name)
        for stride, extent, name in zip(access.strides, access.shape, names, strict=True)
        if extent > 1 and not (stride == 0 and name.startswith("b"))
    ]
    if any(stride <= 0 for stride, _, _ in dims):
        return None
    shape: list[int] = []
    axes: list[str | int | Part] = []
    offset = access.offset
    for stride, extent, name in sorted(dims, reverse=True):
        count, first = size // stride, offset // stride
        if size % stride or first + extent > count:
            return None
        if count % extent or first % extent:
            shape.append(count)
            axes.append(Part(name, first, extent))
        else:
            if count > extent:
                shape.append(count // extent)
                axes.append(first // extent)
            shape.append(extent)
            axes.append(name)
        offset -= first * stride
        size = stride
    if size > 1:
        shape.append(size)
        axes.append(offset)
    missing = [n for n, e in zip(names, access.shape, strict=True) if e == 1 and not n.startswith("b")]
    return MatrixView((*[1] * len(missing), *shape), (*missing, *axes))


def operand_view(
    lowerer: Lowerer,
    tensor: Tensor,
    batch: tuple[int, ...],
    last: tuple[str, str],
    *,
    copied: bool = False,
) -> tuple[Argument, MatrixView]:
    """Return a view of an operand whose last two dims are `last` and whose batch dims are those of the result.

    The operand is copied if no view reaches it, or if `copied` asks for it.
    """
    names = (*(f"b{i}" for i in range(len(batch))), *last)
    shape = (*batch, *tensor.shape[-2:])
    if not copied:
        source, access = lowerer.view(tensor)
        view = matrix_view(size_of(source.shape), access.broadcast(shape), names)
        if view is not None:
            return Argument(source.storage, view.shape, source.dtype), view
    source = lowerer.argument(tensor)
    view = matrix_view(tensor.size, stored(tensor).broadcast(shape), names)
    assert view is not None, "a stored tensor is a view of itself"
    return Argument(source.storage, view.shape, source.dtype), view


def result_view(group: Group, columns: str = "n") -> MatrixView:
    """Return where the matrices of a group's result lie, with "m" and `columns` for their axes."""
    names = (*(f"b{i}" for i in range(len(group.shape) - 2)), "m", columns)
    order = group.order or tuple(range(len(names)))
    return MatrixView(tuple(group.shape[i] for i in order), tuple(names[i] for i in order))


def packs_right(group: Group) -> bool:
    """Say whether the right operand of a product is packed, once for all calls."""
    return group.root.args[1].weight_only and not group.weight_only


def launch_product(
    lowerer: Lowerer,
    group: Group,
    pack_name: str,
    workload: matmul.Matmul,
    a: Argument,
    b: Argument,
    flops: float,
) -> None:
    """Launch a matrix product of two arguments, the right one packed first where the workload says so."""
    schedule = lowerer.choose(matmul.default_schedule, workload, lowerer.target, lowerer.threads)
    if workload.packed:
        b = lowerer.packed(
            pack_name,
            (workload.b, workload.n, schedule.packing),
            [b],
            matmul.packed_shape(workload, schedule),
            partial(matmul.build_pack, workload=workload, schedule=schedule.packing, target=lowerer.target),
            packing=True,
        )
    lowerer.launch_anchor(
        group,
        group_name(group),
        (workload, schedule),
        partial(matmul.build, workload=workload, schedule=schedule, target=lowerer.target),
        [a, b],
        flops=float(flops),
    )


def _lower(lowerer: Lowerer, group: Group) -> None:
    left, right = group.root.args
    batch = group.shape[:-2]
    a, a_view = operand_view(lowerer, left, batch, ("m", "k"))
    b, b_view = operand_view(lowerer, right, batch, ("k", "n"))
    workload = matmul.Matmul(a_view, b_view, result_view(group), packs_right(group), left.dtype)
    launch_product(lowerer, group, "pack_matmul", workload, a, b, workload.flops)


FAMILIES["matmul"] = Family(_supports, _lower, stores_permuted=True, stores_parts=True)
