"""One program for all sizes, out of the programs for a few: what they have in common, with expressions for what differs.

The examples are lowered one by one, each for its own sizes. Where they launch the same kernels on the same memory, and
each number in which they differ is an expression of the sizes, one program with these expressions stands for all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from torch_tvm.kernels.extent import Extent

from .choices import DifferentProgramsError
from .fit import Fitter, NoFitError
from .launch import Argument, Kernel, Launch, Storage


def generalised(values: Sequence[Any], fitter: Fitter) -> Any:
    """Return what stands for the values of all examples: equal but for numbers, which become extents.

    Of a dataclass, fields that do not take part in comparisons are those of the first value.

    Raises
    ------
    DifferentProgramsError, NoFitError
        If they differ in something else, or if no expression of the sizes explains a number.
    """
    first = values[0]
    kind = type(first)
    if any(type(value) is not kind for value in values):
        raise DifferentProgramsError(" or ".join(sorted({type(value).__name__ for value in values})))
    if kind is int:
        return fitter.fit(values)
    if kind in (tuple, list):
        _same([len(value) for value in values], "lengths")
        return kind(generalised(parts, fitter) for parts in zip(*values, strict=True))
    if dataclasses.is_dataclass(kind):
        return _generalised_fields(values, fitter)
    _same(values, kind.__name__)
    return first


def _generalised_fields(values: Sequence[Any], fitter: Fitter) -> Any:
    changed = {}
    for field in dataclasses.fields(values[0]):
        parts = [getattr(value, field.name) for value in values]
        if field.compare and any(part != parts[0] for part in parts):
            changed[field.name] = generalised(parts, fitter)
    return dataclasses.replace(values[0], **changed) if changed else values[0]


def _same(values: Sequence[Any], what: str) -> None:
    other = next((value for value in values if value != values[0]), None)
    if other is not None:
        raise DifferentProgramsError(f"{what}: {values[0]!s:.80} for some sizes, {other!s:.80} for others")


def holds_extents(value: Any) -> bool:
    """Say whether a number in some value is an extent."""
    if isinstance(value, Extent):
        return True
    if isinstance(value, tuple | list):
        return any(holds_extents(part) for part in value)
    if dataclasses.is_dataclass(value):
        return any(holds_extents(getattr(value, f.name)) for f in dataclasses.fields(value) if f.compare)
    return False


class _Generaliser:
    """Makes one list of launches out of those of the examples."""

    def __init__(self, fitter: Fitter) -> None:
        self._fitter = fitter
        self._storages: dict[tuple[Storage, ...], Storage] = {}
        self._paired: dict[Storage, tuple[Storage, ...]] = {}
        self._computed: set[Storage] = set()  # at every call, though of weights alone

    def launch(self, launches: Sequence[Launch]) -> Launch:
        kernels = [launch.kernel for launch in launches]
        _same([kernel.build.func for kernel in kernels], "generators")
        _same([launch.packing for launch in launches], "packing")
        inputs = self._arguments([launch.inputs for launch in launches])
        outputs = self._arguments([launch.outputs for launch in launches])
        key = generalised([kernel.key for kernel in kernels], self._fitter)
        arguments = (*inputs, *outputs)
        varies = holds_extents(key) or any(holds_extents((a.shape, a.offset)) for a in arguments)
        packing = launches[0].packing and not varies and not any(a.storage in self._computed for a in inputs)
        kernel = kernels[0] if packing else self._kernel(kernels, key)
        if launches[0].packing and not packing:
            for argument in outputs:
                argument.storage.packing = False
                self._computed.add(argument.storage)
        return Launch(kernel, inputs, outputs, packing)

    def _kernel(self, kernels: Sequence[Kernel], key: Any) -> Kernel:
        first = kernels[0]
        keywords = {
            name: generalised([kernel.build.keywords[name] for kernel in kernels], self._fitter)
            for name in first.build.keywords
        }
        return dataclasses.replace(first, key=key, build=partial(first.build.func, **keywords))

    def _arguments(self, lists: Sequence[Sequence[Argument]]) -> list[Argument]:
        _same([len(arguments) for arguments in lists], "operands")
        return [self._argument(arguments) for arguments in zip(*lists, strict=True)]

    def _argument(self, arguments: Sequence[Argument]) -> Argument:
        _same([argument.dtype for argument in arguments], "dtypes")
        return Argument(
            self._storage(tuple(argument.storage for argument in arguments)),
            generalised([argument.shape for argument in arguments], self._fitter),
            arguments[0].dtype,
            generalised([argument.offset for argument in arguments], self._fitter),
        )

    def _storage(self, storages: tuple[Storage, ...]) -> Storage:
        """Return the memory that stands for that of each example; where two share memory, they do in all examples."""
        if storages not in self._storages:
            if any(self._paired.setdefault(storage, storages) != storages for storage in storages):
                raise DifferentProgramsError("results share memory for some sizes only")
            _same([(storage.kind, storage.index, storage.packing) for storage in storages], "memory")
            size = self._fitter.fit([storage.bytes for storage in storages])
            self._storages[storages] = dataclasses.replace(storages[0], bytes=size)
        return self._storages[storages]


def generalise_launches(programs: Sequence[Sequence[Launch]], fitter: Fitter) -> list[Launch]:
    """Return launches that stand for those of each example.

    What depends on weights and sizes is computed at every call, not packed. Outputs lie where no input does.

    Raises
    ------
    DifferentProgramsError
        If the examples launch other kernels, or on memory that they share in other ways. The message names the kernel.
    """
    _same([len(launches) for launches in programs], "numbers of kernels")
    generaliser = _Generaliser(fitter)
    made = []
    for launches in zip(*programs, strict=True):
        try:
            made.append(generaliser.launch(launches))
        except (DifferentProgramsError, NoFitError) as error:
            raise DifferentProgramsError(f"{launches[0].kernel.name}: {error}") from error
    return made


def same_constants(programs: Sequence[Sequence[np.ndarray]]) -> Sequence[np.ndarray]:
    """Return the constants of the examples; raises `DifferentProgramsError` unless all have the same."""
    for constants in programs[1:]:
        pairs = zip(programs[0], constants, strict=False)
        if len(constants) != len(programs[0]) or not all(
            a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs
        ):
            raise DifferentProgramsError("a table of constants depends on the sizes")
    return programs[0]
