"""TVM as a backend of PyTorch's TorchScript JIT.

Importing this package is all it takes: from then on every subgraph of a traced or scripted function that Relay can
express is compiled by TVM at its first call. ``TORCH_TVM=0`` in the environment leaves it off until `enable` is called.

Examples
--------
>>> import torch, torch_tvm
>>> def smooth(x):
...     return x * torch.tanh(x.exp() + 1)
>>> traced = torch.jit.trace(smooth, torch.rand(100))
>>> torch.allclose(traced(torch.ones(100)), smooth(torch.ones(100)))
True
"""

# ruff: noqa: E402  the order of imports is part of what this file does
from __future__ import annotations

import torch

from torch_tvm._version import __version__, check_torch

check_torch(torch.__version__)  # the extension itself would only say which symbol it misses

from tvm_ffi.libinfo import load_lib_ctypes

# The core puts torch's threads in the place of TVM's, which register themselves when this library is loaded: it has to
# come first. The compiler, and with it `import tvm`, waits for the first compilation: 12 ms instead of 1.4 s.
load_lib_ctypes("apache-tvm", "tvm_runtime", "RTLD_GLOBAL")

import torch_tvm._C  # noqa: F401  what the other modules look up in it at import has to be there
from torch_tvm import relay
from torch_tvm.errors import CompileError, NotConvertibleError
from torch_tvm.frontend import register_operator, to_relax, to_relay
from torch_tvm.paths import get_include, get_library
from torch_tvm.process import (
    clear_cache,
    disable,
    disabled,
    enable,
    enabled,
    is_enabled,
    reset_stats,
    start,
    stats,
)

__all__ = [
    "CompileError",
    "NotConvertibleError",
    "__version__",
    "clear_cache",
    "disable",
    "disabled",
    "enable",
    "enabled",
    "get_include",
    "get_library",
    "is_enabled",
    "register_operator",
    "relay",
    "reset_stats",
    "stats",
    "to_relax",
    "to_relay",
]

start()
del start
