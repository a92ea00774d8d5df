// What a group may not give out is computed behind it instead.
#pragma once

#include <torch/csrc/jit/ir/ir.h>

namespace torch_tvm::jit {

// Makes the group's outputs fresh tensors and numbers: views of inputs, of each other and of one
// base, lists, and numbers in tensors are made again outside, from what the group gives out.
// Afterwards the group computes nothing that nobody uses.
void TrimOutputs(torch::jit::Node* group);

}  // namespace torch_tvm::jit
