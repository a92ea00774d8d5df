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

// fftshift moves the first half behind the rest, ifftshift back.
Converter ShiftByHalf(bool back) {
  return [back](Context& ctx) -> Results {
    const Operand self = ctx.Tensor("self");
    const Sizes dims = ctx.Has("dim") ? ctx.Dims("dim", self.rank()) : Counted(self.sizes().size());
    Expr value = self.expr;
    for (const int64_t dim : dims) {
      const int64_t size = self.sizes()[static_cast<size_t>(dim)];
      value = Rolled(ctx, value, dim, size, back ? (size + 1) / 2 : size / 2);
    }
    return value;
  };
}

// The next choice of ascending places, in the order of their numbers; false behind the last one.
bool Advance(Sizes& places, int64_t count, bool repeats) {
  const auto r = static_cast<int64_t>(places.size());
  for (int64_t i = r - 1; i >= 0; --i) {
    const int64_t most = repeats ? count - 1 : count - r + i;
    int64_t& place = places[static_cast<size_t>(i)];
    if (place == most) continue;
    int64_t next = ++place;
    for (int64_t j = i + 1; j < r; ++j) {
      next += repeats ? 0 : 1;
      places[static_cast<size_t>(j)] = next;
    }
    return true;
  }
  return false;
}

constexpr int64_t kMostChosen = 1 << 20;

Results Combinations(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const TensorInfo& result = ctx.Result();
  if (result.numel() > kMostChosen) {
    ctx.Refuse("its result has " + std::to_string(result.numel()) +
               " elements; tables of at most 2^20 are carried as constants");
  }
  const bool repeats = ctx.Bool("with_replacement");
  Sizes places(static_cast<size_t>(ctx.Int("r")), 0);
  if (!repeats) places = Counted(places.size());
  std::vector<double> table;
  do {
    table.insert(table.end(), places.begin(), places.end());
  } while (Advance(places, self.info.numel(), repeats));
  const Expr index = ctx.ConstantTensor(table, result.sizes, ScalarType::Long);
  return ctx.Call("take", {self.expr, index}, {{"axis", 0}});
}

// Powers 0, 1, ... of each element, as running products.
Results Vandermonde(Context& ctx) {
  const Operand x = ctx.Tensor("x");
  const TensorInfo& result = ctx.Result();
  const ScalarType math = MathType(result.dtype);
  const int64_t count = result.sizes.back(), last = result.rank() - 1;
  Sizes column = x.rank() == 0 ? Sizes{1} : x.sizes();
  Sizes whole = column;
  column.push_back(1);
  whole.push_back(count - 1);
  std::vector<Expr> parts = {ctx.Full(1, column, math)};
  if (count > 1) {
    const Expr spread =
        ctx.BroadcastTo(ctx.Reshape(ctx.Cast(x, math), x.sizes(), column), column, whole);
    parts.push_back(ctx.Call("cumprod", {spread}, {{"axis", last}, {"dtype", DtypeName(math)}}));
  }
  return ctx.Cast(ctx.Concatenate(parts, last), math, result.dtype);
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
    {"aten::fft_fftshift", ShiftByHalf(false)},
    {"aten::fft_ifftshift", ShiftByHalf(true)},
    {"aten::combinations", Combinations},
    {"aten::linalg_vander", Vandermonde},
    {"aten::meshgrid", MeshGrid},
    {"aten::meshgrid.indexing", MeshGrid},
    {"aten::cartesian_prod", CartesianProduct},
    {"aten::repeat_interleave.self_Tensor", RepeatByTensor, WithoutOutputSize},
    {"aten::repeat_interleave.Tensor", RepeatedIndices, WithoutOutputSize},
});

}  // namespace
}  // namespace torch_tvm::convert
