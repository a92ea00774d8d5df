"""Groups as launches of kernels: which generator, on which workload, with which operands.

Each kernel family has one entry in `FAMILIES`; what no family takes becomes one function made by
TVM's legalisation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder as T

from torch_tvm.kernels import elementwise, tir
from torch_tvm.kernels import epilogue as epilogues
from torch_tvm.kernels.epilogue import PlacedExpression
from torch_tvm.kernels.expression import Expression, Operand, identity
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.views import View

from . import expressions
from .access import Access, AccessMap, stored
from .choices import Choices
from .fusion import Group
from .graph import Graph, Node, Tensor
from .launch import Argument, Kernel, Launch, Storage, element_bytes
from .legalized import legalized_launches
from .memory import ALIGNMENT
from .placement import place_parts
from .rewrite import size_of


@dataclass(frozen=True)
class Family:
    """A kernel generator as the compiler sees it.

    Attributes
    ----------
    supports
        Whether the generator takes a node.
    lower
        Emits the launches of a group that the node anchors.
    stores_permuted
        Whether the kernel can store its result with permuted dims, the last one staying last.
    takes_source
        For which nodes the kernel can compute its first operand on the fly.
    takes_epilogue
        Whether the kernel can compute element-wise nodes behind it on the fly.
    stores_parts
        Whether the kernel can store its result as a part of a larger tensor, the last dim contiguous.
    """

    supports: Callable[[Node], bool]
    lower: Callable[[Lowerer, Group], None]
    stores_permuted: bool = False
    takes_source: Callable[[Node], bool] = lambda _: False
    takes_epilogue: bool = True
    stores_parts: bool = False


FAMILIES: dict[str, Family] = {}

# What a kernel writes; the view says where in it if it is a part of a larger tensor.
Output = tuple[Argument, View | None]
# What an anchor does behind its result; None for nothing.
Epilogue = Expression | PlacedExpression | None

_NOTHING: Mapping[int, Any] = MappingProxyType({})


def find_family(node: Node) -> Family | None:
    """Return the kernel family that takes a node."""
    family = FAMILIES.get(node.op)
    return family if family is not None and family.supports(node) else None


def can_store(group: Group, place: Access) -> bool:
    """Say whether the kernel of a group can store its result at a strided place."""
    family = find_family(group.root) if group.anchored else None
    if family is None:
        return expressions.is_elementwise(group.root)
    if not family.stores_parts:
        return False
    over_loops = place.reshaped(group.stored_shape)
    return over_loops is not None and over_loops.unit


class Lowerer:
    """Turns the groups of one graph into launches and gives every stored tensor its memory."""

    def __init__(
        self,
        graph: Graph,
        groups: Sequence[Group],
        target: CpuTarget,
        threads: int,
        winograd: str,
        choices: Choices,
    ) -> None:
        self.target = target
        self.threads = threads
        self.winograd = winograd
        self.choose = choices.make
        self._computed = {tensor for group in groups for tensor in group.stored()}
        self.accesses = AccessMap(self._computed, place_parts(graph, groups, can_store))
        self.launches: list[Launch] = []
        self.constants: list[np.ndarray] = []
        self._constant_index: dict[tuple[str, tuple[int, ...], bytes], Storage] = {}
        self._storage: dict[Tensor, Storage] = {}
        self._packed: dict[Hashable, Argument] = {}
        self._graph = graph
        self._groups = groups
        for tensor in (*graph.inputs, *graph.weights):
            self._storage[tensor] = Storage(tensor.kind, tensor.index)
        self._assign_outputs()

    # -- memory ------------------------------------------------------------------------------------

    def _assign_outputs(self) -> None:
        """Let kernels write results straight into outputs where a result is nothing but an output."""
        self._copied: list[tuple[int, Tensor]] = []
        for index, tensor in enumerate(self._graph.outputs):
            base, access = self.accesses.of(tensor)
            direct = base in self._computed and not base.weight_only and access.contiguous
            if direct and base.size == tensor.size and base not in self._storage:
                self._storage[base] = Storage("output", index)
            else:
                self._copied.append((index, tensor))

    def storage(self, tensor: Tensor) -> Storage:
        """Memory of a stored tensor."""
        if tensor not in self._storage:
            if tensor.data is not None:
                self._storage[tensor] = self.constant(tensor.data, tensor.dtype)
            elif tensor in self._computed:
                self._storage[tensor] = self._memory_for(tensor)
            else:
                assert tensor.node is not None, "inputs and weights have memory from the beginning"
                self._copy_out(tensor, tensor.node.args[0])
        return self._storage[tensor]

    def _memory_for(self, tensor: Tensor) -> Storage:
        return self.temporary(tensor.size * element_bytes(tensor.dtype), tensor.weight_only)

    def _copy_out(self, tensor: Tensor, source: Tensor) -> None:
        """Store a tensor that is a strided view, `source`, of another, or a reshape of such a view."""
        base, access = self.accesses.of(source)
        memory = self._memory_for(tensor)
        self.copy(base, access, (Argument(memory, source.shape, source.dtype), None), tensor.weight_only)
        self._storage[tensor] = memory

    @staticmethod
    def temporary(size: int, packing: bool) -> Storage:
        """Memory for `size` bytes in the arena; what packing leaves for calls moves to the packed block."""
        return Storage("arena", bytes=size, packing=packing)

    def constant(self, data: np.ndarray, dtype: str) -> Storage:
        key = (dtype, data.shape, data.tobytes())
        if key not in self._constant_index:
            self._constant_index[key] = Storage("constant", len(self.constants))
            self.constants.append(data)
        return self._constant_index[key]

    def argument(self, tensor: Tensor) -> Argument:
        """Return a tensor as a contiguous argument of its own shape, copied first if it is a strided view."""
        base, access = self.accesses.of(tensor)
        # A buffer in the arena may be a part; one of an output has its size.
        whole = base.size == tensor.size or (base.kind == "node" and self.storage(base).kind == "arena")
        if access.contiguous and whole and tensor not in self._storage:
            return Argument(self.storage(base), tensor.shape, tensor.dtype)
        if tensor not in self._storage:
            self._copy_out(tensor, tensor)
        return Argument(self._storage[tensor], tensor.shape, tensor.dtype)

    def view(self, tensor: Tensor) -> tuple[Argument, Access]:
        """Return the argument that holds a value, and where in it."""
        base, access = self.where(tensor)
        return Argument(self.storage(base), base.shape, base.dtype), access

    def where(self, tensor: Tensor) -> tuple[Tensor, Access]:
        """Return the stored tensor that holds a value, and where in it."""
        return (tensor, stored(tensor)) if tensor in self._storage else self.accesses.of(tensor)

    def copy(self, base: Tensor, access: Access, target: Output, packing: bool) -> None:
        """Launch the copy of a view of a stored tensor."""
        expression = identity(access.shape, base.dtype)
        view = None if access.contiguous and base.shape == access.shape else _kernel_view(base.shape, access)
        source = Argument(self.storage(base), base.shape, base.dtype)
        self.elementwise("copy", expression, [view], [source], target, packing)

    # -- launches ----------------------------------------------------------------------------------

    def launch(
        self,
        name: str,
        key: Hashable,
        build: partial[tirx.PrimFunc],
        inputs: Sequence[Argument],
        outputs: Sequence[Argument],
        *,
        packing: bool,
        flops: float = 0.0,
        spreads_nonfinite: bool = False,
        overwriting: Mapping[int, tuple[Hashable, partial[tirx.PrimFunc]]] = _NOTHING,
    ) -> None:
        """Append one launch, unless it has nothing to write.

        Parameters
        ----------
        overwriting
            Key and builder of the kernels of `Launch.overwriting`.
        """
        if all(size_of(output.shape) == 0 for output in outputs):
            self._nothing(outputs)
            return

        def kernel(key: Hashable, build: partial[tirx.PrimFunc]) -> Kernel:
            return Kernel(name, key, build, flops, spreads_nonfinite)

        variants = {position: kernel(*variant) for position, variant in overwriting.items()}
        self.launches.append(Launch(kernel(key, build), list(inputs), list(outputs), packing, variants))

    def launch_anchor(
        self,
        group: Group,
        name: str,
        key: Hashable,
        build: partial[tirx.PrimFunc],
        operands: Sequence[Argument],
        *,
        flops: float,
        spreads_nonfinite: bool = False,
    ) -> None:
        """Launch a kernel that applies the group's epilogue to each element of its result once, where it stores it."""
        epilogue, extras, output = self.epilogue(group)
        results = len(group.root.results)
        placed = [epilogues.place(epilogue, results)] if epilogue is not None else []

        def variant(epilogue: Epilogue) -> tuple[Hashable, partial[tirx.PrimFunc]]:
            return (key, epilogue), partial(build, epilogue=epilogue)

        self.launch(
            name,
            *variant(epilogue),
            [*operands, *extras],
            [output],
            packing=group.weight_only,
            flops=flops,
            spreads_nonfinite=spreads_nonfinite,
            overwriting={
                len(operands) + k - results: variant(dataclasses.replace(each, overwritten=k))
                for each in placed
                for k in each.overwritable
            },
        )

    def _nothing(self, outputs: Sequence[Argument]) -> None:
        """Launch a kernel that does nothing, for outputs that every plan must name but that are empty."""
        for output in outputs:
            if output.storage.kind == "output":
                parameter = tir.Parameter("empty", (0,), output.dtype)
                kernel = Kernel("empty", ("empty", parameter), partial(_build_nothing, parameter=parameter))
                self.launches.append(Launch(kernel, [], [Argument(output.storage, (0,), output.dtype)]))

    def elementwise(
        self,
        name: str,
        expression: Expression,
        views: Sequence[View | None],
        inputs: Sequence[Argument],
        output: Output,
        packing: bool,
    ) -> None:
        """Launch a stand-alone element-wise kernel."""
        argument, place = output
        if size_of(expression.shape) == 0:
            self._nothing([argument])
            return
        workload = elementwise.Elementwise(
            expression, tuple(views) if any(views) else (), (place,) if place else ()
        )
        schedule = self.choose(elementwise.default_schedule, workload, self.target, self.threads)

        def variant(overwritten: int | None) -> tuple[Hashable, partial[tirx.PrimFunc]]:
            own = dataclasses.replace(workload, overwritten=overwritten)
            build = partial(elementwise.build, workload=own, schedule=schedule, target=self.target)
            return (own, schedule), build

        self.launch(
            name,
            *variant(None),
            inputs,
            [argument],
            packing=packing,
            flops=float(len(expression.instructions) * size_of(expression.shape)),
            overwriting={k: variant(k) for k in elementwise.overwritable(workload, schedule)},
        )

    def epilogue(self, group: Group) -> tuple[Epilogue, list[Argument], Argument]:
        """Return what an anchor does behind its result (None if nothing), its other operands, and the output."""
        accesses = self.accesses if group.order is None else None
        expression, operands = expressions.epilogue(group, None, accesses, unit=True)
        results = len(group.root.results)
        views, extras = self.read(expression.inputs[results:], operands)
        output, place = self.output(group)
        views.append(place)
        if any(views):
            return PlacedExpression(expression, tuple(views), results=results), extras, output
        trivial = not expression.instructions and len(expression.inputs) == 1
        return None if trivial else expression, extras, output

    def packed(
        self,
        name: str,
        key: Hashable,
        weights: Sequence[Argument],
        shape: tuple[int, ...],
        build: partial[tirx.PrimFunc],
        *,
        packing: bool,
    ) -> Argument:
        """Return weights in the form that a kernel wants, packed once for all kernels that want this form."""
        made = (*((weight.storage, weight.shape) for weight in weights), name, key)
        if made not in self._packed:
            dtype = weights[0].dtype
            packed = Argument(self.temporary(size_of(shape) * element_bytes(dtype), packing), shape, dtype)
            self.launch(name, (name, key), build, weights, [packed], packing=packing)
            self._packed[made] = packed
        return self._packed[made]

    def output(self, group: Group) -> Output:
        """Return where a group stores its result, in the shape of its loops, and the view of it if it is a part."""
        tensor = group.output
        base, access = self.accesses.of(tensor)
        if base is tensor:
            return Argument(self.storage(tensor), group.stored_shape, tensor.dtype), None
        place = access.reshaped(group.stored_shape)
        assert place is not None, "placement has asked can_store"
        return self.part(base, place)

    def part(self, base: Tensor, place: Access) -> Output:
        """Return a part of a stored tensor as something to write.

        In the arena it begins as near to the part as alignment allows: equal layers of a dense block then share their
        kernels.
        """
        storage = self.storage(base)
        if storage.kind != "arena":
            return Argument(storage, base.shape, base.dtype), _kernel_view(base.shape, place)
        size = element_bytes(base.dtype)
        skipped = place.offset * size // ALIGNMENT * ALIGNMENT
        first = place.offset - skipped // size
        shape = (first + place.reach + 1,)
        return Argument(storage, shape, base.dtype, skipped), View(shape, place.strides, first)

    # -- groups ------------------------------------------------------------------------------------

    def lower(self) -> None:
        """Lower all groups, then fill the outputs that no kernel writes by itself."""
        for group in self._groups:
            family = find_family(group.root) if group.anchored else None
            if family is not None:
                family.lower(self, group)
            elif expressions.is_elementwise(group.root):
                self._lower_elementwise(group)
            else:
                self._lower_legalized(group)
        for index, tensor in self._copied:
            self._copy_to_output(index, tensor)

    def _is_stored(self, tensor: Tensor) -> bool:
        return tensor in self._computed or tensor in self._storage

    def _copy_to_output(self, index: int, tensor: Tensor) -> None:
        base, access = self.accesses.of(tensor)
        shape = tensor.shape
        if tensor in self._storage:
            base, access = tensor, stored(tensor)
        elif (
            base.node is not None
            and not self._is_stored(base)
            and access.contiguous
            and base.size == tensor.size
        ):
            # A reshape of a strided view: what the view reads is stored in order.
            base, access = self.accesses.of(base.node.args[0])
            shape = access.shape
        self.copy(base, access, (Argument(Storage("output", index), shape, tensor.dtype), None), False)

    def _lower_elementwise(self, group: Group) -> None:
        expression, operands = expressions.stand_alone(group, self.accesses)
        views, inputs = self.read(expression.inputs, operands)
        self.elementwise(group_name(group), expression, views, inputs, self.output(group), group.weight_only)

    def read(
        self, inputs: Sequence[Operand], operands: expressions.Operands
    ) -> tuple[list[View | None], list[Argument]]:
        """Return the views and arguments of the operands of a kernel that takes strided ones."""
        views: list[View | None] = []
        arguments: list[Argument] = []
        for tensor, access, operand in zip(operands.tensors, operands.views, inputs, strict=True):
            base, own = self.accesses.of(tensor)
            if own.contiguous or access is None:
                views.append(None)
                arguments.append(Argument(self.argument(tensor).storage, operand.shape, operand.dtype))
            else:
                views.append(_kernel_view(base.shape, access))
                arguments.append(Argument(self.storage(base), base.shape, base.dtype))
        return views, arguments

    def _lower_legalized(self, group: Group) -> None:
        node = group.root
        inputs = [self.argument(arg) for arg in node.args]
        outputs = [Argument(self.storage(t), t.shape, t.dtype) for t in node.outputs]
        legalized_launches(self, node, inputs, outputs)


def _build_nothing(parameter: tir.Parameter, name: str) -> tirx.PrimFunc:
    return tir.kernel(name, [parameter], lambda _: T.evaluate(0))


def _kernel_view(shape: tuple[int, ...], access: Access) -> View:
    return View(shape, access.strides, access.offset)


def group_name(group: Group) -> str:
    """Name a group's kernel after its operators."""
    nodes = [each for node in group.nodes for each in (node, *node.absorbed)]
    names = [node.op.rpartition(".")[2] for node in nodes if node.op != "reshape"]
    return "_".join(names)[:60]


def supported_dtypes(node: Node, dtypes: Sequence[str]) -> bool:
    """Say whether all operands and results of a node have one of some dtypes, the same one."""
    kinds = {t.dtype for t in (*node.args, *node.outputs)}
    return len(kinds) == 1 and next(iter(kinds)) in dtypes


def has_elements(node: Node) -> bool:
    """Say whether no operand and no result of a node is empty."""
    return all(t.size for t in (*node.args, *node.outputs))


def pair(values: Any) -> tuple[int, int]:
    """Turn an attribute into the two ints that it has."""
    first, second = ints(values)
    return first, second


def ints(values: Any) -> tuple[int, ...]:
    """Turn an attribute into a tuple of ints."""
    return tuple(int(v) for v in values)
