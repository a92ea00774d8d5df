"""Relay function to plan: the pipeline, Relay to Relax, passes, fusion, kernels, memory.

The C++ core calls `compile` and `compile_symbolic` through global functions of these names.
"""

from torch_tvm.compiler.pipeline import compile_function as compile
from torch_tvm.compiler.symbolic import compile_symbolic

__all__ = ["compile", "compile_symbolic"]
