// Results of operators whose meta kernels torch wrote in Python. The first call of one of those
// imports sympy and torch._dynamo: 1.5 s, as long as all else that compiling a small network takes.
#pragma once

#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>

#include <optional>
#include <vector>

namespace torch_tvm::convert {

// The outputs of a call, on the meta device; nullopt where there is no rule for it, or where the
// arguments are not valid, which the meta kernel says in PyTorch's words.
std::optional<std::vector<c10::IValue>> OutputsByRule(const c10::FunctionSchema& schema,
                                                      const std::vector<c10::IValue>& inputs);

}  // namespace torch_tvm::convert
