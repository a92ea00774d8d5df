// What the parts of lowering share that stand beside the converters: control flow and numbers that
// are known only at run time.
#pragma once

#include <string>
#include <vector>

#include "convert/context.h"
#include "convert/evaluator.h"

namespace torch_tvm::convert {

// A variable of a function that stands for an expression outside of it.
struct Capture {
  relay::Var var;
  Expr outer;
};

// Within a function, the expression of a tensor from outside becomes a captured variable.
class Builder : public Surroundings {
 public:
  virtual ~Builder() = default;
  virtual Evaluator& evaluator() = 0;
  virtual void SetExpr(const at::Tensor& tensor, Expr expr) = 0;
  virtual void EnterFunction() = 0;
  virtual std::vector<Capture> LeaveFunction() = 0;

  virtual void LowerBlock(const torch::jit::Block* block) = 0;
  // For calls of Relay operators with the node's span.
  virtual Context ContextOf(const torch::jit::Node* node) = 0;

  virtual void Refuse(const torch::jit::Node* node, std::string reason) = 0;
  virtual size_t CountRefusals() const = 0;
  virtual void ForgetRefusals(size_t all_but) = 0;
};

// A tensor of rank 0 that stands for a number of this dtype; type promotion takes it for one.
at::Tensor NumberOf(ScalarType dtype);

// Whether the value is a number, or a boolean, that is known only at run time: the evaluator holds
// a tensor for it.
bool IsRunTimeNumber(const torch::jit::Value* value, const c10::IValue& held);

// The dtype of the tensor that stands for a number; nullopt for what is no number.
std::optional<ScalarType> NumberType(const c10::IValue& number);

}  // namespace torch_tvm::convert
