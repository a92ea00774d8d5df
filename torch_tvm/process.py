"""What is one per process: the switch, the options, the statistics and the log of the C++ core."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import tvm_ffi
from typing_extensions import Unpack

from torch_tvm import _C
from torch_tvm.options import OptionArguments, Options, changed

LOGGER = logging.getLogger("torch_tvm")

_lock = threading.RLock()
_options = Options()


def _apply(options: Options, switched_on: bool) -> None:
    """Hand options and switch to the core; the caller holds the lock."""
    global _options  # noqa: PLW0603  the one record of what the process was asked for
    if options.debug:
        _show_debug_log()
    _C.set_options(options.core())
    _C.set_enabled(switched_on)
    _options = options


def _show_debug_log() -> None:
    """Let the log reach the terminal, as far as the program has not arranged logging itself."""
    if not LOGGER.hasHandlers():
        LOGGER.addHandler(logging.StreamHandler())
    if LOGGER.level == logging.NOTSET:
        LOGGER.setLevel(logging.DEBUG)


def enable(**options: Unpack[OptionArguments]) -> None:
    """Switch torch_tvm on, with these options and the defaults for all others.

    Functions and modules that PyTorch optimises from now on get groups, and groups run on TVM. What was called before,
    while torch_tvm was off, keeps the plan that PyTorch made for it.

    Parameters
    ----------
    **options
        The fields of `torch_tvm.options.Options`.

    Raises
    ------
    TypeError, ValueError
        For an unknown option or a value that is not valid. Nothing has changed then.

    Examples
    --------
    >>> import torch_tvm
    >>> torch_tvm.enable(opt_level=2, strict=True)
    >>> torch_tvm.enable(opt_level=7)
    Traceback (most recent call last):
    ...
    ValueError: opt_level: expected an int from 0 to 3, got 7
    """
    checked = changed(Options(), options)
    with _lock:
        _apply(checked, switched_on=True)


def disable() -> None:
    """Switch torch_tvm off: no new groups, and groups that exist are run by PyTorch's interpreter.

    Examples
    --------
    >>> import torch_tvm
    >>> torch_tvm.disable()
    >>> torch_tvm.is_enabled()
    False
    """
    with _lock:
        _apply(_options, switched_on=False)


def is_enabled() -> bool:
    """Say whether torch_tvm is on.

    Examples
    --------
    >>> import torch_tvm
    >>> with torch_tvm.enabled():
    ...     torch_tvm.is_enabled()
    True
    """
    return bool(_C.is_enabled())


@contextlib.contextmanager
def _restored() -> Iterator[Options]:
    """Give the options of now, and bring back options and switch of now at the end."""
    with _lock:
        before, was_on = _options, is_enabled()
    try:
        yield before
    finally:
        with _lock:
            _apply(before, was_on)


@contextlib.contextmanager
def enabled(**options: Unpack[OptionArguments]) -> Iterator[None]:
    """Switch torch_tvm on within a ``with`` block, with some options changed.

    Options that are not named stay as they are around the block. At its end, also by an exception, options and switch
    are again what they were at its start. The switch is one for the whole process, not one per thread.

    Parameters
    ----------
    **options
        The fields of `torch_tvm.options.Options`.

    Examples
    --------
    >>> import torch, torch_tvm
    >>> double = torch.jit.trace(lambda x: (x + x).relu(), torch.ones(3))
    >>> with torch_tvm.enabled(strict=True):
    ...     double(torch.ones(3))
    tensor([2., 2., 2.])
    """
    with _restored() as around:
        with _lock:
            _apply(changed(around, options), switched_on=True)
        yield


@contextlib.contextmanager
def disabled() -> Iterator[None]:
    """Switch torch_tvm off within a ``with`` block.

    Examples
    --------
    >>> import torch_tvm
    >>> with torch_tvm.disabled():
    ...     torch_tvm.is_enabled()
    False
    """
    with _restored():
        disable()
        yield


def stats() -> dict[str, Any]:
    """Return what torch_tvm has done since the process began or since `reset_stats`.

    Returns
    -------
    dict
        ``groups`` alive now; ``compiled`` plans built; ``cache_hits`` calls served by a plan that was there;
        ``fallbacks`` calls run by PyTorch's interpreter and ``fallback_reasons`` as {reason: calls}; ``packed``
        bindings packed, ``packed_bytes`` that they hold now; ``compile_seconds``; ``kernels``, what calls under
        ``debug_runtime`` spent as {group: {kernel: {"calls": int, "seconds": float}}}; ``guard``, how the plans did
        that were timed against PyTorch's interpreter: dicts of ``group``, ``plan_seconds``, ``interpreter_seconds``
        (of a typical call: the middle third by how much faster the plan was), ``kept`` ("plan" or "interpreter") and
        ``reason``; ``symbolic``, what became of groups that get many sizes: ``plans``, dicts of ``group``, ``bounds``
        (the least and largest value of each dimension) and ``values`` (for how many values the plan was used), and
        ``refusals`` as {reason: times}.

    Examples
    --------
    >>> import torch, torch_tvm
    >>> torch_tvm.reset_stats()
    >>> traced = torch.jit.trace(lambda x: (x * 2).sigmoid(), torch.ones(3))
    >>> with torch_tvm.enabled():
    ...     y = traced(torch.ones(3))
    >>> torch_tvm.stats()["compiled"]
    1
    """
    return dict(_C.stats())


def reset_stats() -> None:
    """Set the counters of `stats` to zero; what is alive (``groups``, ``packed_bytes``) stays as it is.

    Examples
    --------
    >>> import torch_tvm
    >>> torch_tvm.reset_stats()
    >>> torch_tvm.stats()["cache_hits"]
    0
    """
    _C.reset_stats()


def clear_cache() -> None:
    """Forget all plans, bindings and packed weights; the next call of each group compiles again.

    Needed by hand only where weights changed behind PyTorch's back: ``p.data.add_()`` and writes through
    ``p.detach().numpy()`` leave no trace that torch_tvm could check.

    Examples
    --------
    >>> import torch_tvm
    >>> torch_tvm.clear_cache()
    >>> torch_tvm.stats()["packed_bytes"]
    0
    """
    _C.clear_cache()


def _compile(*arguments: Any) -> Any:
    """Compile a Relay function, where the options say; the arguments are those of `compiler.pipeline.lower_function`."""
    return _run_compiler("compile", arguments)


def _compile_symbolic(*arguments: Any) -> Any:
    """Compile Relay functions that differ in sizes; the arguments are those of `compiler.symbolic.lower_symbolic`."""
    return _run_compiler("compile_symbolic", arguments)


def _run_compiler(name: str, arguments: tuple[Any, ...]) -> Any:
    """Call a function of the compiler, in its own process where there is one."""
    if _options.compile_process and not _options.debug:  # what stages log is to reach the program's handlers
        from torch_tvm import compile_process

        try:
            return getattr(compile_process.PROCESS, name)(*arguments)
        except compile_process.UnavailableError as error:
            _log_once(f"compiling in this process, which TVM's compiler makes 250 MB larger: {error}")
    from torch_tvm import compiler

    return getattr(compiler, name)(*arguments)


@functools.cache
def _log_once(message: str) -> None:
    LOGGER.warning(message)


def start() -> None:
    """Connect the core to Python and switch torch_tvm on unless the environment says TORCH_TVM=0."""
    tvm_ffi.register_error(
        "KeyboardInterrupt", KeyboardInterrupt
    )  # reaches the core by its name, not as RuntimeError
    tvm_ffi.register_global_func("torch_tvm.log", LOGGER.log)
    tvm_ffi.register_global_func("torch_tvm.compiler.compile", _compile)
    tvm_ffi.register_global_func("torch_tvm.compiler.compile_symbolic", _compile_symbolic)
    with _lock:
        _apply(Options(), switched_on=os.environ.get("TORCH_TVM") != "0")
