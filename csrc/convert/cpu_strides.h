// Strides that eager PyTorch gives on the CPU where the operator's meta kernel gives others.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace torch_tvm::convert {

// Replaces the tensors among `outputs` whose strides are not those of the CPU; `inputs` and
// `outputs` are meta.
void CorrectStrides(const std::string& op, const std::vector<c10::IValue>& inputs,
                    std::vector<c10::IValue>& outputs);

}  // namespace torch_tvm::convert
