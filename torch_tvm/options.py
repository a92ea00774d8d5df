"""The options of `torch_tvm.enable`: their names, defaults and valid values.

Everything is checked here, before the C++ core (csrc/core) sees any of it: a call that fails changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypedDict

import torch


class OptionArguments(TypedDict, total=False):
    """The keyword arguments of `torch_tvm.enable`, as type checkers see them."""

    opt_level: int
    strict: bool
    debug: bool
    debug_runtime: bool
    device_type: str
    device: str | Mapping[str, Any] | None
    host: str | Mapping[str, Any] | None
    device_id: int
    is_training: bool
    guard: bool
    winograd: Literal["off", "f2", "auto"]
    compile_process: bool
    min_group_size: int
    max_signatures: int
    max_static_signatures: int


@dataclass(frozen=True)
class Options:
    """What `torch_tvm.enable` was asked for.

    Parameters
    ----------
    opt_level
        0 to 3. 0 fuses nothing and uses no Winograd convolution, 3 does all.
    strict
        Raise instead of leaving a group to PyTorch.
    debug
        Log graphs, Relay and generated code through the logger ``torch_tvm``.
    debug_runtime
        Time every kernel; `torch.profiler` then shows kernels by name.
    device_type
        ``"cpu"``.
    device
        The TVM target that code is generated for, such as ``"llvm -mcpu=haswell"``; None is this machine's CPU.
    host
        The target of the code around kernels, which on a CPU is that of the kernels: None or the same as `device`.
    device_id
        0, the only CPU.
    is_training
        Weights change between calls: they are packed at every call, and no packed copy of them is kept.
    guard
        Never be slower: at up to ten of the first calls of a plan (three where PyTorch takes longer than 17 ms) run
        PyTorch's interpreter too, right beside it, and drop the plan if it was slower at typical ones;
        ``torch_tvm.stats()["guard"]`` tells. Plans stay under `strict` and `debug_runtime`.
    winograd
        How 3x3 convolutions of stride 1 may be computed: ``"off"`` directly, ``"f2"`` also by Winograd's algorithm
        in tiles of 2x2 (as exact as directly), ``"auto"`` also in tiles of 4x4 (about ten times the rounding
        error), whichever is fastest. Off below `opt_level` 3.
    compile_process
        Compile in a process of its own, so that TVM's compiler does not stay in this one's memory. It starts with the
        first compilation and ends 20 seconds after the last; without it this process grows by about 250 MB. Under
        `debug`, and on machines without g++, gcc or clang++ to link with, this process compiles.
    min_group_size
        Groups of fewer operators are left to PyTorch.
    max_signatures
        Number of plans that one group keeps, the least recently used going first.
    max_static_signatures
        Number of signatures of a group that differ in sizes only (batch, length, size of an image) and are compiled one
        by one. The next one is compiled together with all others that may come, as one plan whose sizes are known when it
        runs. Where that cannot be, further signatures are left to PyTorch until they have been called three times.

    Examples
    --------
    >>> from torch_tvm.options import Options
    >>> Options(min_group_size=4).opt_level
    3
    """

    opt_level: int = 3
    strict: bool = False
    debug: bool = False
    debug_runtime: bool = False
    device_type: str = "cpu"
    device: str | Mapping[str, Any] | None = None
    host: str | Mapping[str, Any] | None = None
    device_id: int = 0
    is_training: bool = False
    guard: bool = True
    winograd: Literal["off", "f2", "auto"] = "auto"
    compile_process: bool = True
    min_group_size: int = 2
    max_signatures: int = 32
    max_static_signatures: int = 4

    def core(self) -> dict[str, Any]:
        """Return the options as the C++ core has them."""
        return {
            "opt_level": self.opt_level,
            "strict": self.strict,
            "debug": self.debug,
            "debug_runtime": self.debug_runtime,
            "is_training": self.is_training,
            "guard": self.guard,
            "winograd": self.winograd,
            "min_group_size": self.min_group_size,
            "max_signatures": self.max_signatures,
            "max_static_signatures": self.max_static_signatures,
            "target": self.target(),
        }

    def target(self) -> str:
        """Return the target as TVM's JSON text, empty for this machine's CPU."""
        for option, value in (("device", self.device), ("host", self.host)):
            if value is not None:
                from torch_tvm.kernels import parse_target

                return parse_target(value, option).spec
        return ""


def changed(options: Options, arguments: Mapping[str, Any]) -> Options:
    """Return `options` with the named ones replaced, all checked.

    Raises
    ------
    TypeError
        For an option that does not exist or has a value of the wrong type.
    ValueError
        For a value that is not among the valid ones.
    """
    names = [field.name for field in fields(Options)]
    for name, value in arguments.items():
        if name not in names:
            raise TypeError(f"torch_tvm has no option {name!r}; its options are {', '.join(names)}")
        _CHECKS[name](name, value)
    result = replace(options, **arguments)
    _check_targets(result)
    return result


def _boolean(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")


def _integer(minimum: int, maximum: int | None = None) -> Callable[[str, object], None]:
    valid = f"an int >= {minimum}" if maximum is None else f"an int from {minimum} to {maximum}"

    def check(name: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name}: expected {valid}, got {value!r}")
        if value < minimum or (maximum is not None and value > maximum):
            raise ValueError(f"{name}: expected {valid}, got {value}")

    return check


def _device_type(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected 'cpu', got {value!r}")
    if value in ("gpu", "cuda"):
        reason = (
            "PyTorch sees no GPU here" if not torch.cuda.is_available() else "TVM plans run on the CPU only"
        )
        raise ValueError(f"{name}: {value!r} cannot be used: {reason}; the valid value is 'cpu'")
    if value != "cpu":
        raise ValueError(f"{name}: expected 'cpu', got {value!r}")


def _one_of(*valid: str) -> Callable[[str, object], None]:
    listed = ", ".join(map(repr, valid))

    def check(name: str, value: object) -> None:
        if not isinstance(value, str):
            raise TypeError(f"{name}: expected one of {listed}, got {value!r}")
        if value not in valid:
            raise ValueError(f"{name}: expected one of {listed}, got {value!r}")

    return check


def _target(name: str, value: object) -> None:
    if value is not None and not isinstance(value, (str, Mapping)):
        raise TypeError(
            f"{name}: expected None (this machine's CPU) or a TVM target such as 'llvm -mcpu=haswell', got {value!r}"
        )


def _check_targets(options: Options) -> None:
    """Check what needs TVM to be imported, so only where a target is given at all."""
    if options.device is None and options.host is None:
        return
    from torch_tvm.kernels import parse_target

    specs = {
        name: parse_target(value, name).spec
        for name, value in (("device", options.device), ("host", options.host))
        if value is not None
    }
    if len(set(specs.values())) > 1:
        raise ValueError(
            f"host: kernels and the code around them run on the same CPU, so host has to be None or equal to "
            f"device; got host={options.host!r} and device={options.device!r}"
        )


_CHECKS: dict[str, Callable[[str, object], None]] = {
    "opt_level": _integer(0, 3),
    "strict": _boolean,
    "debug": _boolean,
    "debug_runtime": _boolean,
    "device_type": _device_type,
    "device": _target,
    "host": _target,
    "device_id": _integer(0, 0),
    "is_training": _boolean,
    "guard": _boolean,
    "winograd": _one_of("off", "f2", "auto"),
    "compile_process": _boolean,
    "min_group_size": _integer(1),
    "max_signatures": _integer(1),
    "max_static_signatures": _integer(1),
}
