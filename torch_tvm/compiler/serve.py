"""The program of the process that compiles (torch_tvm.compile_process): requests in, plans out.

It is started by its path, with the number of the file descriptor that it talks through and the seconds without a
request after which it ends. It is ready in 0.9 s, where `import torch_tvm.compiler` takes 2.9 s: it has neither PyTorch
for Python nor the parts of TVM for other devices, and no error is raised while it loads, because the first one makes
libbacktrace read the symbols of all libraries (0.7 s with PyTorch's).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import traceback
import types
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def load() -> None:
    """Load the parts of the package that compile."""
    package = types.ModuleType("torch_tvm")
    package.__path__ = [str(Path(__file__).parent.parent)]
    sys.modules["torch_tvm"] = package
    sys.modules["torch"] = None  # type: ignore[assignment]  # an import of it fails
    os.environ["TVM_DEVICE_BACKEND_AUTOLOAD"] = "0"
    from tvm_ffi.libinfo import load_lib_ctypes

    from torch_tvm.paths import get_library

    load_lib_ctypes("apache-tvm", "tvm_runtime", "RTLD_GLOBAL")
    load_lib_ctypes("apache-tvm", "tvm_runtime_extra", "RTLD_LOCAL")
    ctypes.CDLL(get_library())  # has Relay
    gc.disable()
    import torch_tvm.compiler  # noqa: F401

    gc.freeze()  # what is loaded stays
    gc.enable()


def answer(connection: Connection) -> tuple[str, Any]:
    """Compile what the next request asks for.

    Returns
    -------
    tuple
        "plan" and its description, or "error" with the error's kind and message.
    """
    from torch_tvm.compiler.pipeline import lower_function
    from torch_tvm.compiler.symbolic import lower_symbolic

    try:
        request = connection.recv()
        with contextlib.suppress(OSError):  # a CPU may have gone meanwhile
            os.sched_setaffinity(0, request["cpus"])
        lower: Any = {"lower_function": lower_function, "lower_symbolic": lower_symbolic}[request["lower"]]
        plan = lower(*request["arguments"])
        return "plan", plan.link(Path(request["library"]), request["cpus"])
    except (EOFError, ConnectionResetError):
        raise
    except Exception as error:
        kind = getattr(error, "kind", type(error).__name__)
        return "error", (kind, str(error) or traceback.format_exc())


def main(descriptor: int, idle_seconds: float) -> None:
    """Answer requests until the other end is closed or has been silent for long."""
    with (
        Connection(descriptor) as connection,
        contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError),
    ):
        load()
        while connection.poll(idle_seconds):
            connection.send(answer(connection))
        from torch_tvm.compile_process import IDLE

        connection.send((IDLE, None))


if __name__ == "__main__":
    del sys.path[0]  # the folder of this file, whose names would stand for other packages
    main(int(sys.argv[1]), float(sys.argv[2]))
    sys.stderr.flush()
    os._exit(0)  # what TVM and LLVM would tidy up ends with the process
