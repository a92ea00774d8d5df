#include "convert/indices.h"

#include <ATen/ATen.h>
#include <ATen/DLConvertor.h>

#include <algorithm>

namespace torch_tvm::convert {
namespace {

// Whether an expression holds numbers of an arange within [0, size) only: as indices they need no
// care.
bool CountsWithin(const Expr& expr, int64_t size) {
  const auto* call = expr.as<relay::CallObj>();
  const auto* op = call == nullptr ? nullptr : call->op.as<relay::OpObj>();
  if (op == nullptr) return false;
  if (op->name == "reshape" || op->name == "expand_dims" || op->name == "broadcast_to") {
    return CountsWithin(call->args[0], size);
  }
  if (op->name != "arange") return false;
  const auto number = [&](size_t i) {
    return at::fromDLPack(call->args[i].as<relay::ConstantObj>()->data.ToDLPack())
        .item()
        .toDouble();
  };
  return number(0) >= 0 && number(1) <= static_cast<double>(size) && number(2) > 0;
}

}  // namespace

// PyTorch raises for indices outside of [low, high).
void RequireWithin(Context& ctx, const Operand& index, int64_t low, int64_t high) {
  if (CountsWithin(index.expr, high)) return;
  const auto bound = [&](int64_t value) { return ctx.Constant(value, index.dtype()); };
  ctx.RefuseIf(ctx.Call("logical_or", {ctx.Call("less", {index.expr, bound(low)}),
                                       ctx.Call("greater_equal", {index.expr, bound(high)})}),
               "an index out of range");
}

// Indices that kernels may use unchecked.
Expr Within(const Context& ctx, const Operand& index, int64_t size) {
  if (CountsWithin(index.expr, size)) return index.expr;
  return ctx.Call("clip", {index.expr}, {{"a_min", 0.0}, {"a_max", static_cast<double>(size - 1)}});
}

// Negative indices count from the end.
Operand Wrapped(const Context& ctx, const Operand& index, int64_t size) {
  if (CountsWithin(index.expr, size)) return index;
  const ScalarType dtype = index.dtype();
  const Expr negative = ctx.Call("less", {index.expr, ctx.Constant(0, dtype)});
  const Expr wrapped = ctx.Call("add", {index.expr, ctx.Constant(size, dtype)});
  return {ctx.Call("where", {negative, wrapped, index.expr}), index.info};
}

Operand AsLong(const Context& ctx, const Operand& index) {
  Operand wide{ctx.Cast(index, ScalarType::Long), index.info};
  wide.info.dtype = ScalarType::Long;
  return wide;
}

Indexing IndicesOf(Context& ctx, const Operand& self) {
  Indexing indexing;
  int64_t dim = 0;
  for (const c10::IValue& element : ctx.Value("indices").toListRef()) {
    if (element.isTensor() && element.toTensor().defined()) {
      Operand index = ctx.Given(element.toTensor());
      if (index.dtype() == ScalarType::Bool || index.dtype() == ScalarType::Byte) {
        ctx.Refuse("a mask selects: how many elements is known only when the kernels have run");
      }
      index = AsLong(ctx, index);
      const int64_t size = self.sizes().at(static_cast<size_t>(dim));
      RequireWithin(ctx, index, -size, size);
      indexing.indices.push_back(Wrapped(ctx, index, size));
      indexing.dims.push_back(dim);
    }
    ++dim;
  }
  return indexing;
}

Sizes DimsFirst(const Sizes& dims, int64_t rank) {
  Sizes axes = dims;
  for (int64_t dim = 0; dim < rank; ++dim) {
    if (std::find(dims.begin(), dims.end(), dim) == dims.end()) axes.push_back(dim);
  }
  return axes;
}

Sizes InversePermutation(const Sizes& axes) {
  Sizes inverse(axes.size());
  for (size_t i = 0; i < axes.size(); ++i) {
    inverse[static_cast<size_t>(axes[i])] = static_cast<int64_t>(i);
  }
  return inverse;
}

}  // namespace torch_tvm::convert
