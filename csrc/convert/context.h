// What a converter sees of the node it converts, and what it builds Relay with. README.md in this
// folder says what a converter is guaranteed and what it owes.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Scalar.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "convert/lower.h"
#include "convert/registry.h"
#include "relay/builder.h"

namespace torch_tvm::convert {

namespace ffi = tvm::ffi;
using c10::ScalarType;
using relay::Expr;
using Sizes = std::vector<int64_t>;

// A tensor argument: its Relay expression and what eager PyTorch knows of it.
struct Operand {
  Expr expr;
  TensorInfo info;

  ScalarType dtype() const { return info.dtype; }
  const Sizes& sizes() const { return info.sizes; }
  int64_t rank() const { return info.rank(); }
};

// One expression for each tensor that the node gives, lists flattened in order.
struct Results {
  std::vector<Expr> exprs;
  Results(Expr expr) : exprs{std::move(expr)} {}  // NOLINT: a converter returns its expression
  Results(std::vector<Expr> many) : exprs(std::move(many)) {}  // NOLINT
};

// Thrown by Context::Refuse.
class TORCH_TVM_API Refused : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What a context asks of the graph that its node is in.
class Surroundings {
 public:
  // The expression of a tensor among the node's inputs.
  virtual Expr ExprOf(const at::Tensor& tensor) = 0;
  // A weight with this data.
  virtual Expr WeightOf(const at::Tensor& data) = 0;
  // What is known of a tensor among the node's inputs and outputs.
  virtual TensorInfo InfoOf(const at::Tensor& tensor) const = 0;

 protected:
  ~Surroundings() = default;
};

class TORCH_TVM_API Context {
 public:
  Context(const torch::jit::Node* node, const std::vector<c10::IValue>& inputs,
          const std::vector<at::Tensor>& outputs, Surroundings& surroundings,
          ffi::Optional<relay::Span> span);

  const torch::jit::Node* node() const { return node_; }
  const ffi::Optional<relay::Span>& span() const { return span_; }

  // Arguments, by the name in the operator's schema. A name that the schema lacks, and a value of
  // another kind than asked for, are refusals.
  bool Has(const char* name) const;  // in the schema, and not None
  const c10::IValue& Value(const char* name) const;
  Operand Tensor(const char* name) const;
  std::optional<Operand> OptionalTensor(const char* name) const;
  std::vector<Operand> Tensors(const char* name) const;
  Operand Input(size_t index) const;  // by position, for nodes without a schema
  Operand Given(const at::Tensor& tensor) const {
    return {surroundings_.ExprOf(tensor), surroundings_.InfoOf(tensor)};
  }
  const std::vector<c10::IValue>& inputs() const { return inputs_; }
  int64_t Int(const char* name) const;
  double Double(const char* name) const;
  bool Bool(const char* name) const;
  bool BoolOr(const char* name, bool absent) const;
  std::string String(const char* name) const;
  Sizes Ints(const char* name) const;  // an int counts as a list of one
  at::Scalar Scalar(const char* name) const;
  // The argument's at::Tensor, on the meta device, for at::result_type and the like.
  at::Tensor Meta(const char* name) const;

  // A dimension argument, made non-negative.
  int64_t Dim(const char* name, int64_t rank) const;
  Sizes Dims(const char* name, int64_t rank) const;

  // What eager PyTorch gives for the node's tensor results.
  const TensorInfo& Result(size_t index = 0) const { return results_.at(index); }
  size_t NumResults() const { return results_.size(); }
  // Whether anything uses the node's output of this index.
  bool IsUsed(size_t output) const { return !node_->output(output)->uses().empty(); }

  // A call of a Relay operator, with the node's source span.
  Expr Call(const std::string& op, std::vector<Expr> args, relay::AttrList attrs = {}) const;

  // The conversion that Tensor.to(dtype) makes; the expression itself when there is nothing to do.
  Expr Cast(Expr expr, ScalarType from, ScalarType to) const;
  Expr Cast(const Operand& operand, ScalarType to) const {
    return Cast(operand.expr, operand.dtype(), to);
  }

  // A weight that no argument is: data that an argument holds in a form of its own. It must not
  // change any more.
  Expr Weight(const at::Tensor& data) const { return surroundings_.WeightOf(data); }

  // A rank-0 constant; integers wrap as PyTorch's do.
  Expr Constant(const at::Scalar& value, ScalarType dtype) const;

  // A constant with these elements.
  Expr ConstantTensor(const std::vector<double>& values, const Sizes& shape,
                      ScalarType dtype) const;

  // start, start + step, ...: `count` numbers.
  Expr Arange(int64_t count, const at::Scalar& start = 0, const at::Scalar& step = 1,
              ScalarType dtype = ScalarType::Long) const;

  // Shape changes that are the expression itself when nothing changes.
  Expr Reshape(Expr expr, const Sizes& from, const Sizes& to) const;
  Expr Transpose(Expr expr, const Sizes& axes) const;
  Expr BroadcastTo(Expr expr, const Sizes& from, const Sizes& to) const;
  Expr Full(const at::Scalar& value, const Sizes& shape, ScalarType dtype) const;

  // The elements begin, begin + step, ... below end of one dimension, and parts side by side.
  Expr Slice(const Expr& expr, int64_t dim, int64_t begin, int64_t end, int64_t step = 1) const;
  Expr Concatenate(const std::vector<Expr>& parts, int64_t dim) const;

  // The leading part in every dimension; the expression itself when that is all.
  Expr Leading(const Expr& expr, const Sizes& from, const Sizes& to) const;

  // Says that the node cannot be converted; the reason names the argument and its value.
  [[noreturn]] void Refuse(const std::string& reason) const;

  // Says that PyTorch raises an error for values of a call where `condition` has a true element.
  // Kernels run all the same; then their results are dropped, and PyTorch runs the group and raises
  // its error.
  void RefuseIf(const Expr& condition, const std::string& reason) {
    runtime_refusals_.push_back({condition, reason});
  }
  struct RuntimeRefusal {
    Expr condition;
    std::string reason;
  };
  const std::vector<RuntimeRefusal>& runtime_refusals() const { return runtime_refusals_; }

  void AddFlops(double flops) { flops_ += flops; }
  double flops() const { return flops_; }

 private:
  std::optional<size_t> Index(const char* name) const;

  const torch::jit::Node* node_;
  const std::vector<c10::IValue>& inputs_;
  std::vector<TensorInfo> results_;
  Surroundings& surroundings_;
  ffi::Optional<relay::Span> span_;
  double flops_ = 0;
  std::vector<RuntimeRefusal> runtime_refusals_;
};

// The dtype that PyTorch computes in for tensors of a dtype: float32 for half and bfloat16.
TORCH_TVM_API ScalarType MathType(ScalarType dtype);

TORCH_TVM_API bool IsFloat(ScalarType dtype);

TORCH_TVM_API DLDataType
ToRelay(ScalarType dtype);  // throws Refused for a dtype that no kernel takes
TORCH_TVM_API ffi::String DtypeName(ScalarType dtype);

TORCH_TVM_API ffi::Array<int64_t> IntArray(const Sizes& values);

TORCH_TVM_API int64_t Product(const Sizes& sizes);

// 0, 1, ... `count` - 1: all dimensions of a tensor.
TORCH_TVM_API Sizes Counted(size_t count);

// `sizes` in the order of `axes`.
TORCH_TVM_API Sizes Permuted(const Sizes& sizes, const Sizes& axes);

// A constant that the Relay function carries; shares the data of a contiguous tensor.
TORCH_TVM_API relay::Constant CarriedConstant(const at::Tensor& tensor);

}  // namespace torch_tvm::convert
