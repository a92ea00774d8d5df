// Converters that choose elements by indices or by a condition.
#include <torch/csrc/jit/ir/constants.h>

#include <algorithm>

#include "convert/broadcast.h"
#include "convert/indices.h"
#include "convert/term.h"

namespace torch_tvm::convert {
namespace {

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
  const Expr data = ctx.Leading(self.expr, self.sizes(), covered);
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

// Several index tensors: adv_index indexes the leading dimensions, so the indexed ones are moved
// there, and the result's dimensions back if the indexed ones were neighbours.
Expr AdvancedIndex(const Context& ctx, const Operand& self, const Indexing& indexing) {
  const Sizes& dims = indexing.dims;
  std::vector<Expr> fields = {ctx.Transpose(self.expr, DimsFirst(dims, self.rank()))};
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

// take: indices into the flattened tensor.
Results TakeFlat(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  if (self.info.numel() == 0) ctx.Refuse("self has no elements");
  const int64_t size = self.info.numel();
  const Operand index = ctx.Tensor("index");
  RequireWithin(ctx, index, -size, size);
  const Expr data = ctx.Reshape(self.expr, self.sizes(), {size});
  return Take(ctx, data, Wrapped(ctx, index, size).expr, 0);
}

// take_along_dim: as gather, with self and indices broadcast to one another in the other
// dimensions.
Results TakeAlongDim(Context& ctx) {
  Operand self = ctx.Tensor("self");
  Operand index = ctx.Tensor("indices");
  if (self.info.numel() == 0) ctx.Refuse("self has no elements");
  int64_t dim = 0;
  if (ctx.Has("dim")) {
    dim = ctx.Dim("dim", self.rank());
  } else {
    const auto flatten = [&](Operand& operand) {
      const Sizes flat = {operand.info.numel()};
      operand.expr = ctx.Reshape(operand.expr, operand.sizes(), flat);
      operand.info.sizes = flat;
    };
    flatten(self);
    flatten(index);
  }
  const auto axis = static_cast<size_t>(dim);
  const int64_t size = self.sizes().at(axis);
  RequireWithin(ctx, index, 0, size);
  Sizes whole = ctx.Result().sizes;
  const Expr places = ctx.BroadcastTo(Within(ctx, index, size), index.sizes(), whole);
  whole.at(axis) = size;
  return ctx.Call("gather", {ctx.BroadcastTo(self.expr, self.sizes(), whole), places},
                  {{"axis", dim}});
}

Results OneHot(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const int64_t classes = ctx.Int("num_classes");
  RequireWithin(ctx, self, 0, classes);
  const ScalarType dtype = ctx.Result().dtype;
  return ctx.Call("one_hot", {self.expr, ctx.Constant(1, dtype), ctx.Constant(0, dtype)},
                  {{"depth", classes}, {"axis", -1}, {"dtype", DtypeName(dtype)}});
}

// The places of the first `size` elements that are not zero; there may be fewer.
Results FirstNonzero(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const TensorInfo& result = ctx.Result();
  const ScalarType wide = ScalarType::Long;
  const int64_t size = result.sizes[0], count = self.info.numel();
  const Term fill(ctx, ctx.Full(ctx.Scalar("fill_value"), {size, 1}, wide), wide);
  if (count == 0) return ctx.BroadcastTo(fill.expr, {size, 1}, result.sizes);
  const Expr flat = ctx.Reshape(ctx.Cast(self, ScalarType::Bool), self.sizes(), {count});
  const Term chosen(ctx, flat, ScalarType::Bool);
  const Term number(
      ctx, ctx.Call("cumsum", {chosen.As(wide).expr}, {{"axis", 0}, {"dtype", DtypeName(wide)}}),
      wide);
  // What is not wanted goes behind the last place.
  const Term place = Where(chosen & (number <= size), number - 1, size);
  const Expr found =
      ctx.Call("scatter_elements", {ctx.Full(-1, {size + 1}, wide), place.expr, ctx.Arange(count)},
               {{"axis", 0}, {"reduction", "update"}});
  const Expr first = ctx.Reshape(ctx.Slice(found, 0, 0, size), {size}, {size, 1});
  const Term element(ctx, first, wide);
  std::vector<Expr> columns;
  int64_t stride = count;
  for (const int64_t extent : self.sizes()) {
    stride /= extent;
    const Term coordinate =
        Apply("floor_mod", Apply("floor_divide", element, element.Of(stride)), element.Of(extent));
    columns.push_back(Where(element < 0, fill, coordinate).expr);
  }
  return ctx.Concatenate(columns, 1);
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

// How many classes there are by default depends on values.
std::string WithoutClasses(const torch::jit::Node& node) {
  const auto classes = torch::jit::toIValue(node.namedInput("num_classes"));
  if (!classes || !classes->isInt() || classes->toInt() >= 0) return "";
  return "num_classes=-1; how many classes there are is known only when the kernels have run";
}

const Registrar kIndexing({
    {"aten::embedding", Embedding},
    {"aten::index.Tensor", Index},
    {"aten::index.Tensor_hacked_twin", Index},
    {"aten::index_select", IndexSelect},
    {"aten::gather", Gather},
    {"aten::take", TakeFlat},
    {"aten::take_along_dim", TakeAlongDim},
    {"aten::nonzero_static", FirstNonzero},
    {"aten::one_hot", OneHot, WithoutClasses},
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
