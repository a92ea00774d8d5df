// The heavy headers that nearly every file of the core needs; precompiled once (a torch JIT header
// costs about 20 s a file otherwise).
#pragma once

#include <torch/csrc/jit/ir/alias_analysis.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/runtime/custom_operator.h>
#include <torch/csrc/jit/runtime/interpreter.h>
#include <tvm/ffi/tvm_ffi.h>
