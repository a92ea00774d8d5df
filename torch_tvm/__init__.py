"""TVM as a backend of PyTorch's TorchScript JIT on CPU."""

import torch  # noqa: F401
import tvm  # noqa: F401  libtvm must be loaded before the core is

from torch_tvm import _C  # noqa: F401
