// Converters that put elements into a copy of a tensor, at places that indices name or that are
// known.
#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

#include "convert/broadcast.h"
#include "convert/indices.h"

namespace torch_tvm::convert {
namespace {

// How updates combine with what is there: Relay's word, and what of a bool does the same.
struct Combination {
  const char* relay;
  const char* of_bools;
};

Combination CombinationOf(const Context& ctx, const std::string& reduce) {
  static const std::map<std::string, Combination> known = {
      {"add", {"add", "max"}},  {"sum", {"add", "max"}},      {"mean", {"add", "max"}},
      {"prod", {"mul", "min"}}, {"multiply", {"mul", "min"}}, {"amax", {"max", "max"}},
      {"amin", {"min", "min"}},
  };
  const auto found = known.find(reduce);
  if (found == known.end()) ctx.Refuse("reduce='" + reduce + "'");
  return found->second;
}

const char* ModeOf(const Combination& combination, ScalarType dtype) {
  return dtype == ScalarType::Bool ? combination.of_bools : combination.relay;
}

// What a tensor holds where `self` shall not count: what changes nothing under a reduction.
at::Scalar Neutral(const std::string& reduce, ScalarType dtype) {
  if (reduce == "prod") return 1;
  if (reduce != "amax" && reduce != "amin") return 0;
  const bool most = reduce == "amin";
  if (IsFloat(dtype)) {
    const double infinity = std::numeric_limits<double>::infinity();
    return most ? infinity : -infinity;
  }
  if (dtype == ScalarType::Bool) return most;
  return AT_DISPATCH_INTEGRAL_TYPES(dtype, "Neutral", [&] {
    return at::Scalar(static_cast<int64_t>(most ? std::numeric_limits<scalar_t>::max()
                                                : std::numeric_limits<scalar_t>::lowest()));
  });
}

Sizes AtLeastOne(const Sizes& sizes) { return sizes.empty() ? Sizes{1} : sizes; }

// Data, and where updates go: elements of `index` replace the coordinate on a dimension. Scalars
// get a dimension.
struct Elements {
  explicit Elements(Context& context)
      : ctx(context),
        self(ctx.Tensor("self")),
        index(AsLong(ctx, ctx.Tensor("index"))),
        sizes(AtLeastOne(self.sizes())),
        covered(AtLeastOne(index.sizes())),
        data(ctx.Reshape(self.expr, self.sizes(), sizes)),
        dim(ctx.Dim("dim", static_cast<int64_t>(sizes.size()))) {
    index.expr = ctx.Reshape(index.expr, index.sizes(), covered);
  }
  int64_t size() const { return sizes[static_cast<size_t>(dim)]; }

  // The part of the updates that the index names.
  Expr Updates(const Operand& source) const {
    const Sizes whole = AtLeastOne(source.sizes());
    const Expr expr = ctx.Cast(source, self.dtype());
    return ctx.Leading(ctx.Reshape(expr, source.sizes(), whole), whole, covered);
  }

  Expr Scatter(const Expr& target, const Expr& updates, const char* reduction) const {
    return ctx.Call("scatter_elements", {target, index.expr, updates},
                    {{"axis", dim}, {"reduction", reduction}});
  }
  Expr Result(const Expr& value) const { return ctx.Reshape(value, sizes, self.sizes()); }

  Context& ctx;
  Operand self;
  Operand index;  // int64
  Sizes sizes;    // of data
  Sizes covered;  // of index and updates
  Expr data;
  int64_t dim;
};

// Sum, product, mean or extreme of the updates that meet each element, with the element or without.
Expr Reduced(const Elements& into, const Expr& updates, const std::string& reduce,
             bool include_self) {
  Context& ctx = into.ctx;
  const ScalarType dtype = into.self.dtype();
  const Combination combination = CombinationOf(ctx, reduce);
  const char* mode = ModeOf(combination, dtype);
  const auto count_type = ScalarType::Int;
  const auto full = [&](const at::Scalar& value, const Sizes& sizes, ScalarType type) {
    return ctx.Full(value, sizes, type);
  };
  const bool mean = reduce == "mean";
  Expr count = full(include_self ? 1 : 0, into.sizes, count_type);
  if (mean || !include_self) {
    count = into.Scatter(count, full(1, into.covered, count_type), "add");
  }
  Expr base = into.data;
  if (!include_self) {
    const Expr none = ctx.Call("equal", {count, ctx.Constant(0, count_type)});
    const Expr neutral = full(Neutral(reduce, dtype), into.sizes, dtype);
    base = ctx.Call("where", {none, base, neutral});
  }
  const Expr value = into.Scatter(base, updates, mode);
  if (!mean) return value;
  const Expr least = ctx.Call("maximum", {count, ctx.Constant(1, count_type)});
  if (IsFloat(dtype)) {
    const ScalarType math = MathType(dtype);
    const Expr divisor = ctx.Cast(least, count_type, math);
    return ctx.Cast(ctx.Call("divide", {ctx.Cast(value, dtype, math), divisor}), math, dtype);
  }
  return ctx.Call("floor_divide", {value, ctx.Cast(least, count_type, dtype)});
}

Results Scatter(Context& ctx) {
  const Elements into(ctx);
  if (into.index.info.numel() == 0) return into.self.expr;
  RequireWithin(ctx, into.index, 0, into.size());
  const Expr updates = ctx.Has("src")
                           ? into.Updates(ctx.Tensor("src"))
                           : ctx.Full(ctx.Scalar("value"), into.covered, into.self.dtype());
  if (!ctx.Has("reduce")) return into.Result(into.Scatter(into.data, updates, "update"));
  const bool include = ctx.BoolOr("include_self", true);
  return into.Result(Reduced(into, updates, ctx.String("reduce"), include));
}

Results ScatterAdd(Context& ctx) {
  const Elements into(ctx);
  if (into.index.info.numel() == 0) return into.self.expr;
  RequireWithin(ctx, into.index, 0, into.size());
  return into.Result(Reduced(into, into.Updates(ctx.Tensor("src")), "sum", true));
}

// Whole slices of one dimension: the index is that of every element of a slice.
Results IndexReduce(Context& ctx) {
  Elements into(ctx);
  const Operand source = ctx.Tensor("source");
  if (source.info.numel() == 0) return into.self.expr;
  RequireWithin(ctx, into.index, 0, into.size());
  const Sizes whole = AtLeastOne(source.sizes());
  Sizes line(whole.size(), 1);
  line[static_cast<size_t>(into.dim)] = into.index.info.numel();
  into.index.expr = ctx.BroadcastTo(ctx.Reshape(into.index.expr, into.covered, line), line, whole);
  into.covered = whole;
  return into.Result(
      Reduced(into, into.Updates(source), ctx.String("reduce"), ctx.Bool("include_self")));
}

// Whole slices of one dimension, by a vector of indices. Relay's scatter_nd replaces leading
// dimensions, so the dimension stands in front meanwhile.
struct Slices {
  explicit Slices(Context& context)
      : ctx(context),
        self(ctx.Tensor("self")),
        index(AsLong(ctx, ctx.Tensor("index"))),
        sizes(AtLeastOne(self.sizes())),
        slice(sizes),
        dim(ctx.Dim("dim", static_cast<int64_t>(sizes.size()))),
        axes(DimsFirst({dim}, static_cast<int64_t>(sizes.size()))),
        data(ctx.Transpose(ctx.Reshape(self.expr, self.sizes(), sizes), axes)),
        count(index.info.numel()) {
    index.expr = ctx.Reshape(index.expr, index.sizes(), {1, count});
    index.info.sizes = {1, count};
    slice[static_cast<size_t>(dim)] = count;
  }
  int64_t size() const { return sizes[static_cast<size_t>(dim)]; }

  // A source of the slices' sizes, or of fewer dimensions if there is one slice, in scatter_nd's
  // order.
  Expr Updates(const Operand& source) const {
    const Expr shaped = ctx.Reshape(ctx.Cast(source, self.dtype()), source.sizes(), slice);
    return ctx.Transpose(shaped, axes);
  }
  Expr Filled(const Expr& scalar) const {
    return ctx.BroadcastTo(scalar, {}, Permuted(slice, axes));
  }
  Expr Scatter(const Expr& updates, const char* mode) const {
    const Expr value = ctx.Call("scatter_nd", {data, index.expr, updates}, {{"mode", mode}});
    return ctx.Reshape(ctx.Transpose(value, InversePermutation(axes)), sizes, self.sizes());
  }

  Context& ctx;
  Operand self;
  Operand index;  // int64, 1 x count
  Sizes sizes, slice;
  int64_t dim;
  Sizes axes;
  Expr data;
  int64_t count;
};

Results IndexAdd(Context& ctx) {
  const Slices into(ctx);
  if (into.count == 0) return into.self.expr;
  RequireWithin(ctx, into.index, 0, into.size());
  const ScalarType dtype = into.self.dtype();
  Expr updates = into.Updates(ctx.Tensor("source"));
  const at::Scalar alpha = ctx.Scalar("alpha");
  if (alpha.toDouble() != 1) {
    const ScalarType math = MathType(dtype);
    if (dtype == ScalarType::Bool) ctx.Refuse("alpha of bools");
    updates = ctx.Call("multiply", {ctx.Cast(updates, dtype, math), ctx.Constant(alpha, math)});
    updates = ctx.Cast(updates, math, dtype);
  }
  return into.Scatter(updates, dtype == ScalarType::Bool ? "max" : "add");
}

Results IndexCopy(Context& ctx) {
  const Slices into(ctx);
  if (into.count == 0) return into.self.expr;
  RequireWithin(ctx, into.index, 0, into.size());
  return into.Scatter(into.Updates(ctx.Tensor("source")), "update");
}

Results IndexFill(Context& ctx) {
  Slices into(ctx);
  if (into.count == 0) return into.self.expr;
  RequireWithin(ctx, into.index, -into.size(), into.size());
  into.index = Wrapped(ctx, into.index, into.size());
  const ScalarType dtype = into.self.dtype();
  const Expr value = ctx.Value("value").isTensor() ? ctx.Cast(ctx.Tensor("value"), dtype)
                                                   : ctx.Constant(ctx.Scalar("value"), dtype);
  return into.Scatter(into.Filled(value), "update");
}

// x[mask] = value: the mask covers the leading dimensions of x, and the value stands for every
// element that it selects.
std::optional<Expr> PutByMask(Context& ctx, const Operand& self, const Operand& values) {
  const auto list = ctx.Value("indices").toListRef();
  int64_t before = 0;
  std::optional<Operand> mask;
  for (const c10::IValue& element : list) {
    if (!element.isTensor() || !element.toTensor().defined()) {
      before += mask ? 0 : 1;
      continue;
    }
    const Operand index = ctx.Given(element.toTensor());
    if (index.dtype() != ScalarType::Bool && index.dtype() != ScalarType::Byte) return std::nullopt;
    if (mask) ctx.Refuse("several masks: which elements they select together depends on values");
    mask = index;
  }
  if (!mask) return std::nullopt;
  // Dimensions behind the mask's are those of the values; a dimension of selected elements must be
  // 1.
  const int64_t behind = self.rank() - before - mask->rank();
  if (before > 0 ? values.info.numel() != 1 : values.rank() > behind + 1) {
    ctx.Refuse(
        "values of more than one element for what a mask selects: how many it selects is "
        "known only when the kernels have run");
  }
  Sizes value = values.sizes();
  if (static_cast<int64_t>(value.size()) == behind + 1) {
    if (value[0] != 1) {
      ctx.Refuse("values of " + std::to_string(value[0]) +
                 " slices for what a mask selects: how many it selects is known only when the "
                 "kernels have run");
    }
    value.erase(value.begin());
  }
  if (before > 0) value.clear();
  Sizes covers(static_cast<size_t>(before), 1);
  covers.insert(covers.end(), mask->sizes().begin(), mask->sizes().end());
  covers.insert(covers.end(), static_cast<size_t>(behind), 1);
  const Expr chosen = ctx.Reshape(ctx.Cast(*mask, ScalarType::Bool), mask->sizes(), covers);
  const ScalarType dtype = self.dtype();
  Expr put = ctx.Reshape(ctx.Cast(values, dtype), values.sizes(), value);
  if (ctx.Bool("accumulate")) {
    const ScalarType math = MathType(dtype);
    put = dtype == ScalarType::Bool
              ? ctx.Call("logical_or", {self.expr, put})
              : ctx.Cast(ctx.Call("add", {ctx.Cast(self, math), ctx.Cast(put, dtype, math)}), math,
                         dtype);
  }
  return ctx.Call("where", {chosen, put, self.expr});
}

// The broadcast shape of index tensors.
Sizes Spread(const Indexing& indexing) {
  std::vector<int64_t> sizes;
  for (const Operand& index : indexing.indices) {
    sizes = at::infer_size(sizes, index.sizes());
  }
  return sizes;
}

// x[i, :, j] = values. The indexed dimensions stand in front meanwhile, as scatter_nd has them; the
// values' dimensions of the indices stand where eager PyTorch has them: where the indexed ones are,
// or in front if these are not neighbours.
Results IndexPut(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const Operand values = ctx.Tensor("values");
  const ScalarType dtype = self.dtype();
  if (const auto masked = PutByMask(ctx, self, values)) return *masked;
  const Indexing indexing = IndicesOf(ctx, self);
  if (indexing.dims.empty()) ctx.Refuse("indices are all None");
  const Sizes spread = Spread(indexing);
  const Sizes axes = DimsFirst(indexing.dims, self.rank());
  const auto count = static_cast<int64_t>(indexing.dims.size());
  const bool neighbours = indexing.dims.back() - indexing.dims.front() + 1 == count;
  const int64_t first = neighbours ? indexing.dims.front() : 0;
  const auto ranks = static_cast<int64_t>(spread.size());

  // What eager PyTorch broadcasts the values to, and how that is permuted for scatter_nd.
  Sizes rest;
  for (size_t i = indexing.dims.size(); i < axes.size(); ++i) {
    rest.push_back(self.sizes()[static_cast<size_t>(axes[i])]);
  }
  Sizes indexed(rest.begin(), rest.begin() + first);
  indexed.insert(indexed.end(), spread.begin(), spread.end());
  indexed.insert(indexed.end(), rest.begin() + first, rest.end());
  if (Product(indexed) == 0) return self.expr;
  Sizes order(static_cast<size_t>(ranks));
  std::iota(order.begin(), order.end(), first);
  order = DimsFirst(order, static_cast<int64_t>(indexed.size()));
  const Expr wide = ctx.BroadcastTo(ctx.Cast(values, dtype), values.sizes(), indexed);
  Expr updates = ctx.Transpose(wide, order);

  std::vector<Expr> coordinates;
  for (const Operand& index : indexing.indices) {
    const Expr whole = ctx.BroadcastTo(index.expr, index.sizes(), spread);
    coordinates.push_back(ctx.Reshape(whole, spread, {1, Product(spread)}));
  }
  const Expr places = ctx.Concatenate(coordinates, 0);
  Sizes flat = {Product(spread)};
  flat.insert(flat.end(), rest.begin(), rest.end());
  updates = ctx.Reshape(updates, Permuted(indexed, order), flat);
  const char* mode = !ctx.Bool("accumulate") ? "update" : dtype == ScalarType::Bool ? "max" : "add";
  const Expr value =
      ctx.Call("scatter_nd", {ctx.Transpose(self.expr, axes), places, updates}, {{"mode", mode}});
  return ctx.Transpose(value, InversePermutation(axes));
}

// put: indices into the flattened tensor.
Results Put(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const Operand source = ctx.Tensor("source");
  Operand index = AsLong(ctx, ctx.Tensor("index"));
  const int64_t size = self.info.numel();
  const int64_t count = index.info.numel();
  if (count == 0) return self.expr;
  if (self.dtype() == ScalarType::Bool && ctx.Bool("accumulate")) ctx.Refuse("accumulate of bools");
  RequireWithin(ctx, index, -size, size);
  index = Wrapped(ctx, index, size);
  const Expr value = ctx.Call("scatter_nd",
                              {ctx.Reshape(self.expr, self.sizes(), {size}),
                               ctx.Reshape(index.expr, index.sizes(), {1, count}),
                               ctx.Reshape(source.expr, source.sizes(), {count})},
                              {{"mode", ctx.Bool("accumulate") ? "add" : "update"}});
  return ctx.Reshape(value, {size}, self.sizes());
}

// masked_scatter: the n-th element that the mask selects becomes the n-th of the source.
Results MaskedScatter(Context& ctx) {
  const Sizes sizes = ctx.Result().sizes;
  const Operand self = ctx.Tensor("self");
  const Operand mask = ctx.Tensor("mask");
  const Operand source = ctx.Tensor("source");
  const int64_t count = source.info.numel();
  const ScalarType wide = ScalarType::Long;
  const Expr chosen = ctx.BroadcastTo(ctx.Cast(mask, ScalarType::Bool), mask.sizes(), sizes);
  const Sizes flat = {Product(sizes)};
  const Expr line = ctx.Cast(ctx.Reshape(chosen, sizes, flat), ScalarType::Bool, wide);
  const Expr number = ctx.Call("cumsum", {line}, {{"axis", 0}, {"dtype", DtypeName(wide)}});
  ctx.RefuseIf(ctx.Call("greater", {number, ctx.Constant(count, wide)}),
               "a source of fewer elements than the mask selects");
  const Expr data = ctx.BroadcastTo(self.expr, self.sizes(), sizes);
  if (count == 0) return data;
  const Expr one = ctx.Constant(1, wide);
  const Expr place =
      ctx.Call("maximum", {ctx.Call("subtract", {number, one}), ctx.Constant(0, wide)});
  const Expr values =
      ctx.Call("take", {ctx.Reshape(source.expr, source.sizes(), {count}), place}, {{"axis", 0}});
  return ctx.Call("where", {chosen, ctx.Reshape(values, flat, sizes), data});
}

// Replaces the elements begin, begin + step, ... of one dimension, `count` of them.
Expr Replaced(const Context& ctx, const Operand& self, const Expr& source, int64_t dim,
              int64_t begin, int64_t step, int64_t count) {
  const Sizes& sizes = self.sizes();
  const int64_t size = sizes[static_cast<size_t>(dim)];
  if (step == 1) {
    std::vector<Expr> parts;
    if (begin > 0) parts.push_back(ctx.Slice(self.expr, dim, 0, begin));
    parts.push_back(source);
    if (begin + count < size) parts.push_back(ctx.Slice(self.expr, dim, begin + count, size));
    return ctx.Concatenate(parts, dim);
  }
  const Sizes axes = DimsFirst({dim}, self.rank());
  const Expr places = ctx.Reshape(ctx.Arange(count, begin, step), {count}, {1, count});
  const Expr value =
      ctx.Call("scatter_nd", {ctx.Transpose(self.expr, axes), places, ctx.Transpose(source, axes)},
               {{"mode", "update"}});
  return ctx.Transpose(value, InversePermutation(axes));
}

Results SelectScatter(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const Operand src = ctx.Tensor("src");
  const int64_t dim = ctx.Dim("dim", self.rank());
  int64_t index = ctx.Int("index");
  if (index < 0) index += self.sizes()[static_cast<size_t>(dim)];
  const Expr source = ctx.Call("expand_dims", {ctx.Cast(src, self.dtype())}, {{"axis", dim}});
  return Replaced(ctx, self, source, dim, index, 1, 1);
}

Results SliceScatter(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const Operand src = ctx.Tensor("src");
  const int64_t dim = ctx.Dim("dim", self.rank());
  const int64_t size = self.sizes()[static_cast<size_t>(dim)];
  int64_t begin = ctx.Has("start") ? ctx.Int("start") : 0;
  if (begin < 0) begin += size;
  begin = std::clamp<int64_t>(begin, 0, size);
  if (src.info.numel() == 0) return self.expr;
  const int64_t count = src.sizes()[static_cast<size_t>(dim)];
  return Replaced(ctx, self, ctx.Cast(src, self.dtype()), dim, begin, ctx.Int("step"), count);
}

// A diagonal is the elements whose numbers in two dimensions differ by the offset.
Results DiagonalScatter(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const Operand src = ctx.Tensor("src");
  if (src.info.numel() == 0) return self.expr;
  const int64_t dim1 = ctx.Dim("dim1", self.rank());
  const int64_t dim2 = ctx.Dim("dim2", self.rank());
  const int64_t offset = ctx.Int("offset");
  const int64_t count = src.sizes().back();
  const Sizes axes = DimsFirst({dim1, dim2}, self.rank());
  Sizes front = Counted(src.sizes().size());
  std::rotate(front.begin(), front.end() - 1, front.end());
  const auto places = [&](int64_t start) {
    return ctx.Reshape(ctx.Arange(count, start), {count}, {1, count});
  };
  const std::vector<Expr> coordinates = {places(std::max<int64_t>(-offset, 0)),
                                         places(std::max<int64_t>(offset, 0))};
  const Expr value = ctx.Call("scatter_nd",
                              {ctx.Transpose(self.expr, axes), ctx.Concatenate(coordinates, 0),
                               ctx.Transpose(ctx.Cast(src, self.dtype()), front)},
                              {{"mode", "update"}});
  return ctx.Transpose(value, InversePermutation(axes));
}

const Registrar kScatter({
    {"aten::scatter.src", Scatter},
    {"aten::scatter.value", Scatter},
    {"aten::scatter.reduce", Scatter},
    {"aten::scatter.value_reduce", Scatter},
    {"aten::scatter_reduce.two", Scatter},
    {"aten::scatter_add", ScatterAdd},
    {"aten::index_add", IndexAdd},
    {"aten::index_reduce", IndexReduce},
    {"aten::index_copy", IndexCopy},
    {"aten::index_fill.int_Scalar", IndexFill},
    {"aten::index_fill.int_Tensor", IndexFill},
    {"aten::index_put", IndexPut},
    {"aten::index_put.hacked_twin", IndexPut},
    {"aten::put", Put},
    {"aten::masked_scatter", MaskedScatter},
    {"aten::select_scatter", SelectScatter},
    {"aten::slice_scatter", SliceScatter},
    {"aten::diagonal_scatter", DiagonalScatter},
});

}  // namespace
}  // namespace torch_tvm::convert
