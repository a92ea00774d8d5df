// Converters that roll dimensions, repeat elements, and combine those of several vectors.
#include <torch/csrc/jit/ir/constants.h>

#include <algorithm>

#include "convert/context.h"

namespace torch_tvm::convert {
namespace {

// The last elements of a dimension come to stand before the first ones.
Expr Rolled(const Context& ctx, const Expr& expr, int64_t dim, int64_t size, int64_t shift) {
  const int64_t moved = ((shift % size) + size) % size;
  if (moved == 0) return expr;
  const Expr last = ctx.Slice(expr, dim, size - moved, size);
  return ctx.Concatenate({last, ctx.Slice(expr, dim, 0, size - moved)}, dim);
}

Results Roll(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const Sizes shifts = ctx.Ints("shifts");
  if (self.rank() == 0) return self.expr;
  const Sizes dims = ctx.Dims("dims", self.rank());
  if (dims.empty()) {
    const Sizes flat = {self.info.numel()};
    const Expr line = ctx.Reshape(self.expr, self.sizes(), flat);
    return ctx.Reshape(Rolled(ctx, line, 0, flat[0], shifts.at(0)), flat, self.sizes());
  }
  Expr value = self.expr;
  for (size_t i = 0; i < dims.size(); ++i) {
    value =
        Rolled(ctx, value, dims[i], self.sizes().at(static_cast<size_t>(dims[i])), shifts.at(i));
  }
  return value;
}

// Vectors along a dimension each, broadcast to one another.
std::vector<Expr> Grid(const Context& ctx, const std::vector<Operand>& vectors) {
  std::vector<Expr> fields;
  for (const Operand& vector : vectors) {
    fields.push_back(ctx.Reshape(vector.expr, vector.sizes(), {vector.info.numel()}));
  }
  const relay::Tuple tuple(ffi::Array<Expr>(fields.begin(), fields.end()));
  const Expr grid = ctx.Call("meshgrid", {tuple}, {{"indexing", "ij"}});
  std::vector<Expr> parts;
  for (size_t i = 0; i < fields.size(); ++i) {
    parts.push_back(relay::TupleGetItem(grid, static_cast<int64_t>(i), grid->span));
  }
  return parts;
}

// indexing="xy" swaps the first two dimensions of every result.
Results MeshGrid(Context& ctx) {
  const std::vector<Operand> vectors = ctx.Tensors("tensors");
  const std::string indexing = ctx.Has("indexing") ? ctx.String("indexing") : "ij";
  std::vector<Expr> parts = Grid(ctx, vectors);
  if (indexing != "xy" || vectors.size() < 2) return parts;
  Sizes axes = Counted(vectors.size());
  std::swap(axes[0], axes[1]);
  for (Expr& part : parts) part = ctx.Transpose(part, axes);
  return parts;
}

Results CartesianProduct(Context& ctx) {
  const std::vector<Operand> vectors = ctx.Tensors("tensors");
  if (vectors.size() == 1) return vectors[0].expr;
  const TensorInfo& result = ctx.Result();
  Sizes grid;
  for (const Operand& vector : vectors) grid.push_back(vector.info.numel());
  std::vector<Expr> columns = Grid(ctx, vectors);
  for (Expr& column : columns) column = ctx.Reshape(column, grid, {result.sizes[0], 1});
  return ctx.Concatenate(columns, 1);
}

// repeats is a tensor and output_size is given: result i is of the element whose share of the
// running sum of repeats it falls into.
Expr RepeatedPlaces(Context& ctx, const Operand& repeats, int64_t size, int64_t count) {
  const Sizes one = {repeats.info.numel()};
  const ScalarType wide = ScalarType::Long;
  Expr each = ctx.Reshape(ctx.Cast(repeats, wide), repeats.sizes(), one);
  each = ctx.BroadcastTo(each, one, {size});
  const auto number = [&](int64_t value) { return ctx.Constant(value, wide); };
  ctx.RefuseIf(ctx.Call("less", {each, number(0)}), "negative repeats");
  const Expr ends = ctx.Call("cumsum", {each}, {{"axis", 0}, {"dtype", DtypeName(wide)}});
  const Expr total = ctx.Reshape(ctx.Slice(ends, 0, size - 1, size), {1}, {});
  ctx.RefuseIf(ctx.Call("not_equal", {total, number(count)}),
               "output_size is not the sum of repeats");
  return ctx.Call("searchsorted", {ends, ctx.Arange(count)},
                  {{"right", true}, {"dtype", DtypeName(wide)}});
}

Results RepeatByTensor(Context& ctx) {
  Operand self = ctx.Tensor("self");
  const Operand repeats = ctx.Tensor("repeats");
  const TensorInfo& result = ctx.Result();
  if (!ctx.Has("dim")) {
    const Sizes flat = {self.info.numel()};
    self.expr = ctx.Reshape(self.expr, self.sizes(), flat);
    self.info.sizes = flat;
  }
  const int64_t dim = ctx.Has("dim") ? ctx.Dim("dim", std::max<int64_t>(self.rank(), 1)) : 0;
  if (self.rank() == 0) ctx.Refuse("self is a scalar");
  const auto at = static_cast<size_t>(dim);
  const Expr places = RepeatedPlaces(ctx, repeats, self.sizes().at(at), result.sizes.at(at));
  return ctx.Call("take", {self.expr, places}, {{"axis", dim}});
}

Results RepeatedIndices(Context& ctx) {
  const Operand repeats = ctx.Tensor("repeats");
  const TensorInfo& result = ctx.Result();
  const Expr places = RepeatedPlaces(ctx, repeats, repeats.info.numel(), result.numel());
  return ctx.Cast(places, ScalarType::Long, result.dtype);
}

std::string WithoutOutputSize(const torch::jit::Node& node) {
  const auto size = torch::jit::toIValue(node.namedInput("output_size"));
  if (!size || !size->isNone()) return "";
  return "output_size=None; how large the result is depends on the values of repeats";
}

const Registrar kRepetition({
    {"aten::roll", Roll},
    {"aten::meshgrid", MeshGrid},
    {"aten::meshgrid.indexing", MeshGrid},
    {"aten::cartesian_prod", CartesianProduct},
    {"aten::repeat_interleave.self_Tensor", RepeatByTensor, WithoutOutputSize},
    {"aten::repeat_interleave.Tensor", RepeatedIndices, WithoutOutputSize},
});

}  // namespace
}  // namespace torch_tvm::convert
