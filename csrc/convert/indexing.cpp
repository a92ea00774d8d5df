// Converters that choose elements by indices or by a condition.
#include <ATen/ATen.h>
#include <ATen/DLConvertor.h>

#include <algorithm>

#include "convert/broadcast.h"
#include "convert/context.h"

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

// `take` clips indices outside of the table, which reads no foreign memory.
Expr Take(const Context& ctx, const Expr& data, const Expr& indices, int64_t axis) {
  return ctx.Call("take", {data, indices}, {{"axis", axis}});
}

Results Embedding(Context& ctx) {
  const Operand weight = ctx.Tensor("weight");
  const Operand indices = ctx.Tensor("indices");
  if (weight.info.numel() == 0) ctx.Refuse("weight has no elements");
  RequireWithin(ctx, indices, 0, weight.sizes()[0]);
  return Take(ctx, weight.expr, indices.expr, 0);
}

Results IndexSelect(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const Operand index = ctx.Tensor("index");
  if (self.info.numel() == 0) ctx.Refuse("self has no elements");
  const int64_t dim = ctx.Dim("dim", std::max<int64_t>(self.rank(), 1));
  const Expr data =
      ctx.Reshape(self.expr, self.sizes(), self.rank() == 0 ? Sizes{1} : self.sizes());
  RequireWithin(ctx, index, 0, self.rank() == 0 ? 1 : self.sizes()[static_cast<size_t>(dim)]);
  const Expr flat = ctx.Reshape(index.expr, index.sizes(), {index.info.numel()});
  Sizes taken = self.rank() == 0 ? Sizes{1} : self.sizes();
  taken[static_cast<size_t>(dim)] = index.info.numel();
  return ctx.Reshape(Take(ctx, data, flat, dim), taken, ctx.Result().sizes);
}

// Gather reads only the part of self that the index covers in the other dimensions.
Results Gather(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const Operand index = ctx.Tensor("index");
  if (self.info.numel() == 0) ctx.Refuse("self has no elements");
  if (self.rank() == 0) return self.expr;
  const int64_t dim = ctx.Dim("dim", self.rank());
  Sizes covered = index.sizes();
  const int64_t size = self.sizes()[static_cast<size_t>(dim)];
  covered[static_cast<size_t>(dim)] = size;
  RequireWithin(ctx, index, 0, size);
  Expr data = self.expr;
  if (covered != self.sizes()) {
    data = ctx.Call("strided_slice", {data},
                    {{"begin", IntArray(Sizes(covered.size(), 0))},
                     {"end", IntArray(covered)},
                     {"strides", IntArray(Sizes(covered.size(), 1))},
                     {"axes", ffi::Any(nullptr)}});
  }
  return ctx.Call("gather", {data, Within(ctx, index, size)}, {{"axis", dim}});
}

Results Where(Context& ctx) {
  const ScalarType result = ctx.Result().dtype;
  const auto branch = [&](const char* name) -> Expr {
    if (!ctx.Value(name).isTensor()) return ctx.Constant(ctx.Scalar(name), result);
    return ctx.Cast(ctx.Tensor(name), result);
  };
  const Expr condition = ctx.Cast(ctx.Tensor("condition"), ScalarType::Bool);
  const Expr value = ctx.Call("where", {condition, branch("self"), branch("other")});
  return value;
}

Results MaskedFill(Context& ctx) {
  const ScalarType result = ctx.Result().dtype;
  const Operand self = ctx.Tensor("self");
  const Expr value = ctx.Value("value").isTensor() ? ctx.Cast(ctx.Tensor("value"), result)
                                                   : ctx.Constant(ctx.Scalar("value"), result);
  return ctx.Call("where", {ctx.Cast(ctx.Tensor("mask"), ScalarType::Bool), value, self.expr});
}

struct Indexing {
  Sizes dims;                    // that an index is given for
  std::vector<Operand> indices;  // int64, non-negative
};

Indexing IndicesOf(Context& ctx, const Operand& self) {
  Indexing indexing;
  int64_t dim = 0;
  for (const c10::IValue& element : ctx.Value("indices").toListRef()) {
    if (element.isTensor() && element.toTensor().defined()) {
      Operand index = ctx.Given(element.toTensor());
      if (index.dtype() == ScalarType::Bool || index.dtype() == ScalarType::Byte) {
        ctx.Refuse("a mask selects: how many elements is known only when the kernels have run");
      }
      index = {ctx.Cast(index, ScalarType::Long), index.info};
      index.info.dtype = ScalarType::Long;
      const int64_t size = self.sizes().at(static_cast<size_t>(dim));
      RequireWithin(ctx, index, -size, size);
      indexing.indices.push_back(Wrapped(ctx, index, size));
      indexing.dims.push_back(dim);
    }
    ++dim;
  }
  return indexing;
}

// Several index tensors: adv_index indexes the leading dimensions, so the indexed ones are moved
// there, and the result's dimensions back if the indexed ones were neighbours.
Expr AdvancedIndex(const Context& ctx, const Operand& self, const Indexing& indexing) {
  const Sizes& dims = indexing.dims;
  Sizes axes = dims;
  for (int64_t dim = 0; dim < self.rank(); ++dim) {
    if (std::find(dims.begin(), dims.end(), dim) == dims.end()) axes.push_back(dim);
  }
  std::vector<Expr> fields = {ctx.Transpose(self.expr, axes)};
  for (size_t i = 0; i < dims.size(); ++i) {
    fields.push_back(Within(ctx, indexing.indices[i], self.sizes()[static_cast<size_t>(dims[i])]));
  }
  const relay::Tuple tuple(ffi::Array<Expr>(fields.begin(), fields.end()));
  const Expr value = ctx.Call("adv_index", {tuple});
  const int64_t first = dims.front();
  const auto count = static_cast<int64_t>(dims.size());
  if (dims.back() - first + 1 != count || first == 0) return value;
  const int64_t spread = ctx.Result().rank() - (self.rank() - count);  // rank of the indices
  Sizes back;
  for (int64_t i = 0; i < first; ++i) back.push_back(spread + i);
  for (int64_t i = 0; i < spread; ++i) back.push_back(i);
  for (int64_t i = first + spread; i < ctx.Result().rank(); ++i) back.push_back(i);
  return ctx.Transpose(value, back);
}

Results Index(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  if (self.info.numel() == 0) ctx.Refuse("self has no elements");
  const Indexing indexing = IndicesOf(ctx, self);
  if (indexing.dims.empty()) return self.expr;
  if (indexing.dims.size() > 1) return AdvancedIndex(ctx, self, indexing);
  return Take(ctx, self.expr, indexing.indices[0].expr, indexing.dims[0]);
}

// tril and triu, by comparing row and column numbers.
Converter Triangle(const char* keeps) {
  return [keeps](Context& ctx) -> Results {
    const Operand self = ctx.Tensor("self");
    const Sizes& sizes = self.sizes();
    const int64_t rows = sizes.at(sizes.size() - 2);
    const int64_t columns = sizes.back();
    const ScalarType index = ScalarType::Long;
    const Expr column = ctx.Reshape(ctx.Arange(columns), {columns}, {1, columns});
    const Expr row = ctx.Reshape(ctx.Arange(rows), {rows}, {rows, 1});
    const Expr edge = ctx.Call("add", {row, ctx.Constant(ctx.Int("diagonal"), index)});
    const Expr kept = ctx.Call(keeps, {column, edge});
    return ctx.Call("where", {kept, self.expr, ctx.Constant(0, self.dtype())});
  };
}

const Registrar kIndexing({
    {"aten::embedding", Embedding},
    {"aten::index.Tensor", Index},
    {"aten::index.Tensor_hacked_twin", Index},
    {"aten::index_select", IndexSelect},
    {"aten::gather", Gather},
    {"aten::where.self", Where},
    {"aten::where.ScalarSelf", Where},
    {"aten::where.ScalarOther", Where},
    {"aten::where.Scalar", Where},
    {"aten::masked_fill.Scalar", MaskedFill},
    {"aten::masked_fill.Tensor", MaskedFill},
    {"aten::tril", Triangle("less_equal")},
    {"aten::triu", Triangle("greater_equal")},
});

}  // namespace
}  // namespace torch_tvm::convert
