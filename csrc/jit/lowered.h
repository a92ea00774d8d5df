// What the compiler and the executor are told of a lowered subgraph.
#pragma once

#include <ATen/core/ivalue.h>
#include <tvm/ffi/tvm_ffi.h>

#include <string>
#include <vector>

#include "convert/lower.h"
#include "core/options.h"
#include "jit/compile.h"
#include "runtime/strides.h"

namespace torch_tvm::jit {

const at::Tensor& WeightTensor(const convert::WeightSource& source,
                               c10::ArrayRef<c10::IValue> inputs);

std::vector<runtime::TensorSpec> InputSpecs(const convert::Lowered& lowered);
std::vector<runtime::TensorSpec> OutputSpecs(const convert::Lowered& lowered);
std::vector<runtime::TensorSpec> WeightSpecs(const convert::Lowered& lowered,
                                             c10::ArrayRef<c10::IValue> inputs);

// In which order the dimensions of each tensor lie in memory.
std::vector<std::vector<int64_t>> Orders(const std::vector<runtime::TensorSpec>& specs);
tvm::ffi::Array<tvm::ffi::Array<int64_t>> ToArrays(const std::vector<std::vector<int64_t>>& rows);

tvm::ffi::Map<tvm::ffi::String, tvm::ffi::Any> CompilerOptions(const Options& options,
                                                               const std::string& name);

// A weight that changes between calls is an input like others: its packed form must not be kept.
std::vector<convert::InputKind> Kinds(const Source& source);

std::string Describe(const convert::Refusal& refusal);

// A reason has one line.
std::string FirstLine(const std::string& message);

}  // namespace torch_tvm::jit
