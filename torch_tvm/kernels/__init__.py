"""TIR kernel generators: one file per kernel family, each a workload, a schedule and a builder.

A generator turns a frozen workload (what is computed) and a frozen schedule (how: tile sizes, parallel axis)
into a `tvm.tirx.PrimFunc` for a `CpuTarget`. `compile_kernels` turns the functions of one plan into callables.
Nothing here knows of Relay, Relax, TorchScript or plans.
"""

from torch_tvm.kernels.module import compile_kernels
from torch_tvm.kernels.target import CpuTarget, host_target, parse_target

__all__ = ["CpuTarget", "compile_kernels", "host_target", "parse_target"]
