// What operators on quantised tensors give. PyTorch has no meta kernels for them; and a meta tensor
// cannot be quantised.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>

#include <functional>
#include <optional>
#include <vector>

#include "convert/lower.h"

namespace torch_tvm::convert {

struct QuantisedOutputs {
  std::vector<c10::IValue> outputs;
  std::optional<Quantiser> quantiser;  // of all tensors among them, unless they are plain ones
};

// The zero point of integers that, unchanged, stand for numbers that are greater by `number`. It
// may be none of 8 bits.
int64_t MovedZeroPoint(const Quantiser& quantiser, double number);

using QuantiserOf = std::function<std::optional<Quantiser>(const at::Tensor&)>;
using CallOperator = std::function<std::vector<c10::IValue>(std::vector<c10::IValue>)>;

// `inputs` hold meta tensors of integers for quantised ones; `call` runs the operator itself.
// Nothing if the operator has nothing to do with quantised tensors. Throws c10::Error for arguments
// that PyTorch refuses, and for operators on quantised tensors without a rule.
std::optional<QuantisedOutputs> RunQuantisedByRule(const c10::FunctionSchema& schema,
                                                   const std::vector<c10::IValue>& inputs,
                                                   const QuantiserOf& quantiser_of,
                                                   const CallOperator& call);

}  // namespace torch_tvm::convert
