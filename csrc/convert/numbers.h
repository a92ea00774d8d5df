// Numbers that are known only at run time (bool(x.sum() > 0), the counter of a loop) are tensors of
// rank 0 in Relay: what TorchScript computes with them is converted by the operators on tensors.
#pragma once

#include <memory>
#include <vector>

#include "convert/builder.h"

namespace torch_tvm::convert {

class Numbers {
 public:
  explicit Numbers(Builder& builder) : builder_(builder) {}

  // Lowers a node that makes such a number or takes one. False if it does neither.
  bool Lower(const torch::jit::Node* node);

 private:
  bool Read(const torch::jit::Node* node);
  void Select(const torch::jit::Node* node);
  at::Tensor Operand(const torch::jit::Node* node, const c10::IValue& number);
  void OnTensors(const torch::jit::Node* node);
  void SetNumber(const torch::jit::Node* node, const at::Tensor& from);

  Builder& builder_;
  std::vector<std::shared_ptr<torch::jit::Graph>> graphs_;  // refusals and spans point into them
};

}  // namespace torch_tvm::convert
