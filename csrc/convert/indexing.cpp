// Converters that choose elements by indices or by a condition.
#include <ATen/ATen.h>

#include "convert/broadcast.h"
#include "convert/context.h"

namespace torch_tvm::convert {
namespace {

// Indices outside of the table raise in PyTorch; kernels clip them, which reads no foreign memory.
Expr Take(const Context& ctx, const Expr& data, const Expr& indices, int64_t axis) {
  return ctx.Call("take", {data, indices}, {{"axis", axis}});
}

Results Embedding(Context& ctx) {
  if (ctx.Tensor("weight").info.numel() == 0) ctx.Refuse("weight has no elements");
  return Take(ctx, ctx.Tensor("weight").expr, ctx.Tensor("indices").expr, 0);
}

Results IndexSelect(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const Operand index = ctx.Tensor("index");
  if (self.info.numel() == 0) ctx.Refuse("self has no elements");
  const int64_t dim = ctx.Dim("dim", std::max<int64_t>(self.rank(), 1));
  const Expr data =
      ctx.Reshape(self.expr, self.sizes(), self.rank() == 0 ? Sizes{1} : self.sizes());
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
  covered[static_cast<size_t>(dim)] = self.sizes()[static_cast<size_t>(dim)];
  Expr data = self.expr;
  if (covered != self.sizes()) {
    data = ctx.Call("strided_slice", {data},
                    {{"begin", IntArray(Sizes(covered.size(), 0))},
                     {"end", IntArray(covered)},
                     {"strides", IntArray(Sizes(covered.size(), 1))},
                     {"axes", ffi::Any(nullptr)}});
  }
  return ctx.Call("gather", {data, index.expr}, {{"axis", dim}});
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
