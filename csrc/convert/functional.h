// A graph without writes in place, as far as nothing outside of it can see them.
#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <memory>

namespace torch_tvm::convert {

// Gives operators that write in place their functional form, on tensors and on lists, and drops
// those that do not write after all: dropout that does not train.
void MakeFunctional(const std::shared_ptr<torch::jit::Graph>& graph);

}  // namespace torch_tvm::convert
