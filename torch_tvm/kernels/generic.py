"""A plain schedule for functions that no kernel family of this room makes: what TVM's own legalisation of an operator computes.

Element-wise producers are inlined, reductions are separated from their initialisation, outer loops run in parallel and the
innermost one is a vector where its stores are contiguous. Everything that does not have the regular form (scans, sorts, calls
of external functions, data-dependent loops) is left as it is: right, and run by one thread.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, sym, tirx
from tvm.tirx import PrimFunc

from torch_tvm.kernels.nest import task_count
from torch_tvm.kernels.target import CpuTarget

# What one iteration of a block costs, in nanoseconds, measured on Zen 5: LLVM vectorises most; with a call of libm it does not.
_ITERATION_NS, _CALL_NS = 0.1, 2.0
# Intrinsics that LLVM's code generator gets right for vectors; isinf, erf, sinh ... of a vector do not compile.
_VECTOR_INTRINSICS = frozenset(
    "tirx." + name
    for name in "exp exp2 log log2 log10 sin cos tan tanh sigmoid sqrt rsqrt floor ceil trunc round nearbyint fabs pow"
    " bitwise_and bitwise_or bitwise_xor bitwise_not shift_left shift_right".split()
)
_CHEAP_INTRINSICS = frozenset(
    "tirx." + name
    for name in "sqrt rsqrt floor ceil trunc round nearbyint fabs if_then_else likely isnan isinf isfinite"
    " bitwise_and bitwise_or bitwise_xor bitwise_not shift_left shift_right".split()
)
# The longest innermost loop that becomes one vector; longer ones are split.
_MAX_LANES = 64
# What a symbolic size is taken for that nothing is known of.
_LIKELY_SIZE = 64


def schedule(
    function: PrimFunc, target: CpuTarget, threads: int, hints: Mapping[str, int] | None = None
) -> PrimFunc:
    """Schedule a function of blocks for a CPU.

    Parameters
    ----------
    function
        As `relax.transform.LegalizeOps` makes it: loop nests with one block each.
    target
        The CPU to schedule for.
    threads
        Threads that will run it.
    hints
        Likely values of symbolic sizes, by the names of their variables.

    Returns
    -------
    PrimFunc
        An equal function. Parallel loops appear only where the work outweighs a parallel region.
    """
    if not isinstance(function.body, tirx.Stmt) or any(_is_opaque(node) for node in _walk(function.body)):
        return function
    if function.body.block.name_hint != "root":  # TVM adds no root block where there is one opaque block
        return function
    sch = s_tir.Schedule(tvm.IRModule({"main": function}), debug_mask="none", error_render_level="none")
    root = sch.get_sblock("root")
    for block in sch.get_child_blocks(root):
        if _is_inlineable(sch, root, block):
            sch.compute_inline(block)
    for block in sch.get_child_blocks(root):
        nest = _regular_nest(sch, block, hints or {})
        if nest is not None:
            _schedule_nest(sch, nest, target, threads)
    return sch.mod["main"].with_attrs(dict(function.attrs.items()) if function.attrs else {})


@dataclass
class _Nest:
    """A block whose loops are its iteration variables one to one; of those in `symbolic` sizes are only likely."""

    block: Any
    spatial: list[Any]
    reduction: list[Any]
    sizes: dict[Any, int]
    symbolic: set[Any]


def _walk(node: Any) -> Iterator[Any]:
    """Every object of the tree below `node`."""
    if isinstance(node, tvm_ffi.Array):
        for item in node:
            yield from _walk(item)
        return
    if not isinstance(node, tvm.ir.Node | tirx.Stmt) or isinstance(
        node, tirx.Buffer | tirx.Var | tvm.ir.Span
    ):
        return
    yield node
    for field in type(node).__tvm_ffi_type_info__.fields:
        if field.name not in ("span", "ty", "annotations"):
            yield from _walk(getattr(node, field.name))


def _calls(node: Any) -> set[str]:
    return {
        str(call.op.name)
        for call in _walk(node)
        if isinstance(call, tvm.ir.Call) and isinstance(call.op, tvm.ir.Op)
    }


def _is_opaque(node: Any) -> bool:
    """Whether a statement may do more than store into the buffers that its block names."""
    return isinstance(node, tirx.Evaluate | tirx.While | tirx.AttrStmt)


def _is_spatial(block: Any) -> bool:
    return all(iter_var.iter_type == tirx.IterVar.DataPar for iter_var in block.iter_vars)


def _is_inlineable(sch: s_tir.Schedule, root: Any, rv: Any) -> bool:
    """Whether the block computes an intermediate element by element and its only consumer would not compute it more often."""
    block = sch.get(rv)
    store = block.body
    if not _is_spatial(block) or block.init is not None or not isinstance(store, tirx.BufferStore):
        return False
    variables = [iter_var.var for iter_var in block.iter_vars]
    indices = list(store.indices)
    if len(indices) != len(variables) or any(
        not a.same_as(b) for a, b in zip(indices, variables, strict=True)
    ):
        return False
    if any(rv_out == rv for rv_out in sch.get_output_blocks(root)):
        return False
    consumers = sch.get_consumers(rv)
    if not consumers or (_calls(store) - _CHEAP_INTRINSICS and len(consumers) > 1):
        return False
    return all(_is_spatial(sch.get(consumer)) for consumer in consumers)


def _likely(extent: Any, hints: Mapping[str, int]) -> int:
    """Return the number of iterations of a loop, for likely values of what it depends on."""

    def value(var: tvm.ir.Var) -> Any:
        return tvm.tirx.const(hints.get(var.name, _LIKELY_SIZE), var.ty.dtype)

    return int(sym.Analyzer().simplify(tvm_ffi.structural_map(extent, (tvm.ir.Var, value))))


def _regular_nest(sch: s_tir.Schedule, rv: Any, hints: Mapping[str, int]) -> _Nest | None:
    block = sch.get(rv)
    loops = sch.get_loops(rv)
    by_variable = {sch.get(loop).loop_var: loop for loop in loops}
    realize = tvm.get_global_func("s_tir.schedule.GetSBlockRealize")(sch, rv)
    values = list(realize.iter_values)
    if len(values) != len(loops) or any(value not in by_variable for value in values):
        return None
    if any(len(sch.get_child_blocks(loop)) != 1 for loop in loops):
        return None
    extents = {loop: sch.get(loop).extent for loop in loops}
    symbolic = {loop for loop, extent in extents.items() if not isinstance(extent, tirx.IntImm)}
    if any(_depends_on(extents[loop], set(by_variable)) for loop in symbolic):
        return None
    kinds = {by_variable[value]: iv.iter_type for value, iv in zip(values, block.iter_vars, strict=True)}
    spatial = [loop for loop in loops if kinds[loop] == tirx.IterVar.DataPar]
    reduction = [loop for loop in loops if kinds[loop] == tirx.IterVar.CommReduce]
    if len(spatial) + len(reduction) != len(loops):
        return None
    return _Nest(
        rv, spatial, reduction, {loop: _likely(extent, hints) for loop, extent in extents.items()}, symbolic
    )


def _depends_on(extent: Any, variables: set[Any]) -> bool:
    found: set[Any] = set()

    def keep(var: tvm.ir.Var) -> Any:
        found.add(var)
        return var

    tvm_ffi.structural_map(extent, (tvm.ir.Var, keep))
    return not found.isdisjoint(variables)


def _schedule_nest(sch: s_tir.Schedule, nest: _Nest, target: CpuTarget, threads: int) -> None:
    block = sch.get(nest.block)
    calls = _calls(block.body)
    each = _CALL_NS if calls - _CHEAP_INTRINSICS else _ITERATION_NS
    tasks = task_count(math.prod(nest.sizes.values()) * each, threads)
    vectorise = calls <= _VECTOR_INTRINSICS and _stores_contiguously(block, nest)
    spatial = nest.spatial
    if nest.reduction and spatial:
        sch.reorder(*spatial, *nest.reduction)
    inner = []
    vectorise = vectorise and not (spatial and spatial[-1] in nest.symbolic)
    if vectorise and spatial and not nest.reduction:
        inner = [spatial[-1]]
        spatial = spatial[:-1]
        extent, lanes = nest.sizes[inner[0]], target.lanes(str(block.writes[0].source.dtype))
        if extent % lanes == 0 and extent > lanes:
            outer, vector = sch.split(inner[0], [None, lanes])
            spatial, inner = [*spatial, outer], [vector]
        elif extent > _MAX_LANES or extent == 1:
            vectorise = False
    if vectorise and inner:
        sch.vectorize(inner[0])
    if tasks > 1 and spatial:
        sch.parallel(sch.fuse(*spatial) if len(spatial) > 1 else spatial[0])
    if nest.reduction and block.init is not None:
        sch.decompose_reduction(nest.block, nest.reduction[0])


def _stores_contiguously(block: Any, nest: _Nest) -> bool:
    """Whether the innermost spatial loop walks along the last dimension of what the block stores."""
    store = block.body
    if not isinstance(store, tirx.BufferStore) or not nest.spatial or not len(store.indices):
        return False
    spatial = [iter_var.var for iter_var in block.iter_vars if iter_var.iter_type == tirx.IterVar.DataPar]
    return bool(store.indices[-1].same_as(spatial[-1]))
