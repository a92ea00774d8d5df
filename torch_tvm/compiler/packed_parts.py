"""What of the packed block plans can share: the parts that are made of weights by the same kernels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np

from torch_tvm.kernels.target import CpuTarget
from torch_tvm.runtime import PartDescription

from .launch import Argument, Launch, Storage
from .memory import aligned, lifetimes

Numbers: TypeAlias = list[int]  # of launches, rising


class _Recipes:
    """Tells how packed memory is made."""

    def __init__(self, packing: Sequence[Launch], constants: Sequence[np.ndarray], target: CpuTarget) -> None:
        self._packing = packing
        self._constants = constants
        self._target = target
        self._writers: dict[Storage, Numbers] = {}
        for number, launch in enumerate(packing):
            for storage in {argument.storage: None for argument in launch.outputs}:
                self._writers.setdefault(storage, []).append(number)

    def parts(self) -> list[list[Storage]]:
        """Group packed memory that one launch writes, so that each launch that a part needs writes no other part."""
        part_of: dict[Storage, list[Storage]] = {}
        for storage in lifetimes(self._packing, "packed"):
            part_of[storage] = [storage]
        for launch in self._packing:
            together = [a.storage for a in launch.outputs if a.storage in part_of]
            for other in together[1:]:
                merged, moved = part_of[together[0]], part_of[other]
                if merged is moved:
                    continue
                merged += moved
                part_of |= dict.fromkeys(moved, merged)
        return list({id(part): part for part in part_of.values()}.values())

    def makers(self, part: Sequence[Storage], *, shared: bool) -> Numbers:
        """Return the launches that make a part.

        Parameters
        ----------
        shared
            Whether those are left out that make other parts, which this one is made of.
        """
        found: set[int] = set()
        waiting = list(part)
        while waiting:
            for number in self._writers.get(waiting.pop(), ()):
                if number in found:
                    continue
                found.add(number)
                for argument in (*self._packing[number].inputs, *self._packing[number].outputs):
                    if not (shared and argument.storage.kind == "packed"):
                        waiting.append(argument.storage)
        return sorted(found)

    def key(self, part: Sequence[Storage]) -> tuple[str, list[int]]:
        """Return what tells parts that differ from each other, and the weights that it is made of."""
        numbers: dict[Storage, int] = {}
        digest = hashlib.sha256(str(self._target.spec).encode())

        def text(arguments: Iterable[Argument]) -> str:
            return str(
                [(numbers.setdefault(a.storage, len(numbers)), a.offset, a.shape, a.dtype) for a in arguments]
            )

        for number in self.makers(part, shared=False):
            launch = self._packing[number]
            digest.update(
                f"{launch.kernel.name} {launch.kernel.key} {text(launch.inputs)} {text(launch.outputs)}".encode()
            )
        for storage, number in numbers.items():
            place = storage.offset - part[0].offset if storage in part else ""
            digest.update(f"{number} {storage.kind} {place}".encode())
            if storage.kind == "constant":
                digest.update(self._constants[storage.index].tobytes())
        return digest.hexdigest(), [storage.index for storage in numbers if storage.kind == "weight"]


def plan_packed(
    packing: Sequence[Launch], constants: Sequence[np.ndarray], target: CpuTarget
) -> list[PartDescription]:
    """Give every "packed" storage its offset, and return the parts of the packed block.

    Parameters
    ----------
    packing
        The launches that pack.
    constants
        Those of the plan.
    target
        What the kernels are generated for.
    """
    recipes = _Recipes(packing, constants, target)
    described: list[PartDescription] = []
    end = 0
    for part in recipes.parts():
        begin = end
        for storage in part:
            storage.offset = end
            end += aligned(storage.bytes)
        described.append((*recipes.key(part), begin, end - begin, recipes.makers(part, shared=True)))
    return described
