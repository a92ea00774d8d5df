"""Relay function to plan: the pipeline, Relay to Relax, passes, fusion, kernels, memory.

The C++ core calls `compile` through the global function ``torch_tvm.compiler.compile``.
"""

from torch_tvm.compiler.pipeline import compile_function as compile

__all__ = ["compile"]
