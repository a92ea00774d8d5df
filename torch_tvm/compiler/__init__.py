"""Relay function to plan: the pipeline, Relay to Relax, passes, fusion, kernels, memory.

The C++ core calls this room through the global function ``torch_tvm.compiler.compile``.
"""

import tvm_ffi

from torch_tvm.compiler.pipeline import compile_function

__all__ = ["compile_function"]

tvm_ffi.register_global_func("torch_tvm.compiler.compile", compile_function, override=True)
