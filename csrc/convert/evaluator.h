// Runs the nodes of a subgraph without data: tensors stand on the meta device, numbers and lists
// are real. The first half of lowering (lower.h).
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/jit/ir/ir.h>

#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "convert/lower.h"

namespace torch_tvm::convert {

// Values hold two sorts of tensors. A meta tensor stands for data that exists only at run time. A
// CPU tensor of at most one element is known data (a constant, or shape arithmetic that tracing
// wrote with tensors) and is computed with for real. What stands for a quantised tensor is one of
// its integers, and a quantiser.
class Evaluator {
 public:
  void Set(const torch::jit::Value* value, c10::IValue known) { values_[value] = std::move(known); }
  bool Knows(const torch::jit::Value* value) const { return values_.count(value) != 0; }
  const c10::IValue& Get(const torch::jit::Value* value) const { return values_.at(value); }

  // Evaluates a node whose inputs are all known. Returns why it could not be, or an empty string.
  std::string Run(const torch::jit::Node* node);

  // Evaluates a node by its own operation, with the very lists that it is given.
  std::string RunAsItIs(const torch::jit::Node* node);

  // The inputs a node was last run with, known data replaced by its meta twin where the node has to
  // be converted.
  const std::vector<c10::IValue>& inputs() const { return inputs_; }

  // The known data of which a tensor is the meta twin; undefined if it is none.
  at::Tensor Known(const at::Tensor& twin) const;

  // How a quantised tensor's integers stand for numbers; none for other tensors.
  std::optional<Quantiser> QuantiserOf(const at::Tensor& tensor) const;
  void SetQuantiser(const at::Tensor& tensor, const Quantiser& quantiser);

  // The meta tensor that stands for a known CPU tensor.
  at::Tensor Twin(const at::Tensor& known);

 private:
  std::string Attempt(const torch::jit::Node* node, const std::function<void()>& run);
  bool RunStructural(const torch::jit::Node* node);
  void RunOperator(const torch::jit::Node* node);
  bool RunQuantised(const torch::jit::Node* node);
  std::vector<c10::IValue> Call(const torch::jit::Node* node, std::vector<c10::IValue> inputs);
  c10::IValue WithTwins(const c10::IValue& value);
  void SetOutputs(const torch::jit::Node* node, std::vector<c10::IValue> outputs);

  std::unordered_map<const torch::jit::Value*, c10::IValue> values_;
  std::vector<c10::IValue> inputs_;
  std::unordered_map<c10::TensorImpl*, at::Tensor> twins_;  // known -> twin
  std::unordered_map<c10::TensorImpl*, at::Tensor> known_;  // twin -> known
  // The tensors are kept, so that no other one takes their address.
  std::unordered_map<c10::TensorImpl*, std::pair<at::Tensor, Quantiser>> quantisers_;
};

// Calls `visit` for each defined tensor in a value: itself, or in lists and tuples of any depth.
template <typename Visit>
void ForEachTensor(const c10::IValue& value, const Visit& visit) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) visit(value.toTensor());
  } else if (value.isList()) {
    for (const c10::IValue& element : value.toListRef()) ForEachTensor(element, visit);
  } else if (value.isTuple()) {
    for (const c10::IValue& element : value.toTupleRef().elements()) ForEachTensor(element, visit);
  }
}

// A tensor on the meta device with the sizes, strides and dtype of `tensor`; that of the integers
// if it is quantised.
at::Tensor MetaLike(const at::Tensor& tensor);

}  // namespace torch_tvm::convert
