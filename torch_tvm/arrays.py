"""Tensors as numpy arrays and back; bfloat16, which numpy's own exchange does not know, is that of ml_dtypes."""

from __future__ import annotations

import numpy as np
import tvm_ffi


def to_numpy(tensor: tvm_ffi.Tensor) -> np.ndarray:
    """Give an array that shares memory with a tensor.

    Examples
    --------
    >>> import torch, tvm_ffi
    >>> from torch_tvm.arrays import to_numpy
    >>> to_numpy(tvm_ffi.from_dlpack(torch.tensor([1.5], dtype=torch.bfloat16))).dtype
    dtype(bfloat16)
    """
    if str(tensor.dtype) != "bfloat16":
        return np.from_dlpack(tensor)
    import ml_dtypes
    import torch

    return torch.from_dlpack(tensor).view(torch.uint16).numpy().view(ml_dtypes.bfloat16)


def from_numpy(array: np.ndarray) -> tvm_ffi.Tensor:
    """Give a tensor that shares memory with a contiguous array.

    Examples
    --------
    >>> import numpy as np
    >>> from torch_tvm.arrays import from_numpy
    >>> from_numpy(np.ones((2, 3))).shape
    (2, 3)
    """
    if array.dtype.name != "bfloat16":
        return tvm_ffi.from_dlpack(array)
    import torch

    return tvm_ffi.from_dlpack(torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16))
