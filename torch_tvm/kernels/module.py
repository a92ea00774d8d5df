"""From the PrimFuncs of a plan to code: a trimmed pass pipeline and LLVM, in few modules, on a few threads."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import tvm
import tvm_ffi
from tqdm import tqdm
from tvm import s_tir, tirx
from tvm.support import cc
from tvm.tirx import PrimFunc

from torch_tvm.kernels.extent import Size
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.tir import DIMS, NO_INNER_BLOCKS, PARAMETERS

# A module costs 20 to 40 ms whatever is in it (target machine, JIT session), a convolution 100 to 200 ms: with
# 8 functions a module the first is small and the threads still even out.
_FUNCTIONS_PER_MODULE = 8

Result = TypeVar("Result")


class NoLinkerError(RuntimeError):
    """Libraries cannot be linked on this machine."""


def _lower_flat(module: tvm.IRModule) -> tvm.IRModule:
    """Run the passes that a function of `tir.kernel` needs: it has no blocks, vector loops or threads of a GPU.

    Convolution with peeled borders: 26 ms instead of 49 ms in TVM's default pipeline, equally fast code.
    """
    return tvm.ir.transform.Sequential(
        [
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.LowerOpaqueBlock(),
            tirx.transform.FlattenBuffer(),
            tirx.transform.NarrowDataType(32),
            tirx.transform.StmtSimplify(),
            tirx.transform.AnnotateEntryFunc(),
            tirx.transform.SplitHostDevice(),
            tirx.transform.MakePackedAPI(),
            tirx.transform.BF16StorageLegalize(),
        ]
    )(module)


def _lower_scheduled(module: tvm.IRModule, target: tvm.target.Target) -> tvm.IRModule:
    """Run TVM's own pipeline, for functions with blocks."""
    pipeline, _, _ = tirx.get_default_tir_pipeline(target)
    return pipeline(module)


def _build(functions: Mapping[str, PrimFunc], target: tvm.target.Target, *, checked: bool) -> tvm_ffi.Module:
    bind = tirx.transform.BindTarget(target.with_host(target))
    named = {name: function.with_attr("global_symbol", name) for name, function in functions.items()}
    flat = {name: f for name, f in named.items() if NO_INNER_BLOCKS in f.attrs}
    scheduled = {name: f for name, f in named.items() if name not in flat}
    lowered = tvm.IRModule({})
    if flat:
        lowered.update(_lower_flat(bind(tvm.IRModule(flat))))
    if scheduled:
        lowered.update(_lower_scheduled(bind(tvm.IRModule(scheduled)), target))
    if not checked:
        lowered = tirx.transform.SkipAssert()(lowered)
    lowered = tirx.transform.LowerIntrin()(tirx.transform.LowerTVMBuiltin()(lowered))
    module: tvm_ffi.Module = tvm_ffi.get_global_func("target.build.llvm")(lowered, target)
    return module


def _in_batches(
    functions: Mapping[str, PrimFunc],
    cpus: Collection[int] | None,
    make: Callable[[Mapping[str, PrimFunc]], Result],
) -> Iterator[Result]:
    """Run `make` on the functions of a module at a time, on all CPUs at once."""
    names = list(functions)
    if not names:
        return
    cpus = cpus or os.sched_getaffinity(0)
    workers = min(len(cpus), len(names))
    modules = max(workers, -(-len(names) // _FUNCTIONS_PER_MODULE))
    batches = [{name: functions[name] for name in names[first::modules]} for first in range(modules)]
    with (
        ThreadPoolExecutor(workers, "torch_tvm_compile", _run_on, (cpus,)) as pool,
        tqdm(
            desc="torch_tvm", total=len(names), unit="kernel", delay=1, leave=False, disable=None
        ) as progress,
    ):
        for batch, made in zip(batches, pool.map(make, batches), strict=True):
            yield made
            progress.update(len(batch))


def compile_kernels(
    functions: Mapping[str, PrimFunc],
    target: CpuTarget,
    *,
    cpus: Collection[int] | None = None,
    checked: bool = True,
) -> dict[str, tvm_ffi.Function]:
    """Compile the kernels of a plan.

    Parameters
    ----------
    functions
        The kernels by the names that they get in the generated code, and in profiles.
    target
        The CPU to generate code for.
    cpus
        CPUs to compile on, a thread for each; by default those that the calling thread may use.
    checked
        Whether each call checks shapes, dtypes and strides of its tensors. The checks of a kernel with four
        tensors take 20 ms to compile; a caller that has applied `check_arguments` can do without.

    Returns
    -------
    dict
        For each name a function that takes the kernel's tensors in the order of its parameters.
    """
    compiled: dict[str, tvm_ffi.Function] = {}

    def build(batch: Mapping[str, PrimFunc]) -> dict[str, tvm_ffi.Function]:
        module = _build(batch, target.tvm, checked=checked)
        return {name: module[name] for name in batch}  # LLVM generates the code when the first is asked for

    for batch in _in_batches(functions, cpus, build):
        compiled |= batch
    return compiled


def link_kernels(
    functions: Mapping[str, PrimFunc],
    target: CpuTarget,
    library: Path,
    *,
    cpus: Collection[int] | None = None,
) -> None:
    """Compile the kernels of a plan to a shared library, which other processes can load.

    Parameters
    ----------
    functions, target, cpus
        As in `compile_kernels`; calls are not checked.
    library
        The file to write. ``tvm_ffi.load_module`` finds the functions in it by their names.

    Raises
    ------
    NoLinkerError
        If the machine has neither g++, gcc, clang++ nor what ``CXX`` names, or that fails.
    """
    if not cc.get_cc():
        raise NoLinkerError("no g++, gcc or clang++ is on the path to link with")
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:

        def build(batch: Mapping[str, PrimFunc]) -> str:
            path = Path(folder, f"{next(iter(batch))}.o")
            _build(batch, target.tvm, checked=False).write_to_file(str(path), "o")
            return str(path)

        objects = list(_in_batches(functions, cpus, build))
        try:
            cc.create_shared(str(library), objects)
        except (OSError, RuntimeError) as error:
            raise NoLinkerError(str(error)) from error


def _run_on(cpus: Collection[int]) -> None:
    """Let this thread run on some CPUs, wherever the thread that started it was bound."""
    with contextlib.suppress(OSError):  # a CPU may have gone meanwhile
        os.sched_setaffinity(0, cpus)


def check_arguments(
    function: PrimFunc, arguments: Sequence[tuple[tuple[Size, ...], str]], dims: Sequence[str] = ()
) -> None:
    """Raise ValueError unless the shapes and dtypes are those of the function's tensors, and `dims` its last parameters."""
    symbolic = PARAMETERS in function.attrs
    if symbolic:
        expected, given = str(function.attrs[PARAMETERS]), str(list(arguments))
        fits = given == expected and list(dims) == [str(name) for name in function.attrs[DIMS]]
    else:
        buffers = [parameter.ty for parameter in function.params]
        types = [(tuple(int(size) for size in buffer.shape), str(buffer.dtype)) for buffer in buffers]
        expected, fits = str(types), list(arguments) == types and not dims
    if not fits:
        behind = f" and sizes {list(map(str, function.attrs[DIMS]))}" if symbolic else ""
        got = f"{list(arguments)}{f' and {list(dims)}' if dims else ''}"
        raise ValueError(f"{function.attrs['global_symbol']}: expected tensors {expected}{behind}, got {got}")
