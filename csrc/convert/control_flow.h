// Branches and loops. What depends on sizes and constants only is followed; what depends on the
// data of tensors becomes Relay's `if` and recursive functions, where the caller wants it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "convert/builder.h"

namespace torch_tvm::convert {

class ControlFlow {
 public:
  // `run_time`: whether control flow that depends on data is lowered. If not, it is refused.
  ControlFlow(Builder& builder, bool run_time) : builder_(builder), run_time_(run_time) {}

  // Lowers a branch, a loop, or an operator on a list; false if the node is none of them.
  bool Lower(const torch::jit::Node* node);

 private:
  using Values = c10::ArrayRef<const torch::jit::Value*>;
  // Two values that a leaf of a result may have, and the tensor that stands for it.
  struct Choice {
    at::Tensor result;
    c10::IValue first, second;
  };
  struct Loop;

  void If(const torch::jit::Node* node);
  void RunTimeIf(const torch::jit::Node* node, const at::Tensor& condition);
  c10::IValue Join(const torch::jit::Node* node, const c10::IValue& a, const c10::IValue& b,
                   std::vector<Choice>& choices);

  void LowerLoop(const torch::jit::Node* node);
  enum class Followed : uint8_t { kToTheEnd, kToRunTime, kTooFar };
  Followed Unroll(const torch::jit::Node* node, int64_t most);
  void RunTimeLoop(const torch::jit::Node* node);
  bool LowerBody(const torch::jit::Node* node, Loop& loop);
  void SetCondition(const torch::jit::Node* node, Loop& loop);
  void SetNext(const torch::jit::Node* node, Loop& loop);
  bool Generalise(const torch::jit::Node* node, Loop& loop);
  void EmitLoop(const torch::jit::Node* node, Loop& loop);
  c10::IValue Parameter(const c10::IValue& initial, const std::string& name, Loop& loop);

  bool List(const torch::jit::Node* node);

  bool SetFrom(Values values, Values sources);
  // The expression of a leaf: a tensor, a number, or, where it is uninitialised, zeros like `like`.
  Expr LeafExpr(const torch::jit::Node* node, const c10::IValue& leaf, const at::Tensor& like);

  Builder& builder_;
  const bool run_time_;
  int run_time_depth_ = 0;  // of branches and loops that are not followed
};

}  // namespace torch_tvm::convert
