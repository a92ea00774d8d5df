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

import tvm_ffi  # noqa: F401  loads libtvm_ffi, which the extension links to

from torch_tvm.errors import CompileError, NotConvertibleError
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
    "is_enabled",
    "reset_stats",
    "stats",
]

start()
del start
