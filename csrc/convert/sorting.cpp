// Converters that sort, and that search in what is sorted.
#include <algorithm>
#include <limits>

#include "convert/broadcast.h"
#include "convert/indices.h"

namespace torch_tvm::convert {
namespace {

// A dimension of a tensor that has at least one: eager PyTorch gives scalars a dimension here.
struct Along {
  Along(const Context& ctx, int64_t along) : Along(ctx, ctx.Tensor("self"), along) {}
  Along(const Context& ctx, const Operand& given, int64_t along)
      : sizes(given.rank() == 0 ? Sizes{1} : given.sizes()),
        expr(ctx.Reshape(given.expr, given.sizes(), sizes)),
        dtype(given.dtype()),
        dim(along),
        size(sizes[static_cast<size_t>(along)]) {}
  // The sizes with `count` along the dimension.
  Sizes With(int64_t count) const {
    Sizes changed = sizes;
    changed[static_cast<size_t>(dim)] = count;
    return changed;
  }
  Operand operand() const { return {expr, {dtype, sizes, {}}}; }

  Sizes sizes;
  Expr expr;
  ScalarType dtype;
  int64_t dim;
  int64_t size;
};

int64_t DimOr(const Context& ctx, int64_t absent) {
  const int64_t rank = std::max<int64_t>(ctx.Tensor("self").rank(), 1);
  return ctx.Has("dim") ? ctx.Dim("dim", rank) : absent;
}

Expr Sorted(const Context& ctx, const Along& over, bool ascending) {
  return ctx.Call("sort", {over.expr}, {{"axis", over.dim}, {"is_ascend", ascending}});
}

Expr SortingIndices(const Context& ctx, const Along& over, bool ascending) {
  return ctx.Call(
      "argsort", {over.expr},
      {{"axis", over.dim}, {"is_ascend", ascending}, {"dtype", DtypeName(ScalarType::Long)}});
}

// Relay's sort is stable in TVM; NaN counts as the largest number in both.
Results Sort(Context& ctx) {
  const Along over(ctx, DimOr(ctx, 0));
  const bool ascending = !ctx.BoolOr("descending", false);
  const auto shaped = [&](const Expr& expr) {
    return ctx.Reshape(expr, over.sizes, ctx.Result().sizes);
  };
  const Expr values = shaped(Sorted(ctx, over, ascending));
  if (ctx.NumResults() == 1) return values;
  return std::vector<Expr>{values, shaped(SortingIndices(ctx, over, ascending))};
}

Results ArgSort(Context& ctx) {
  const Along over(ctx, DimOr(ctx, 0));
  const Expr indices = SortingIndices(ctx, over, !ctx.Bool("descending"));
  return ctx.Reshape(indices, over.sizes, ctx.Result().sizes);
}

struct Top {
  Expr values;
  Expr indices;
};

Top TopOf(const Context& ctx, const Along& over, int64_t k, bool largest) {
  const Expr both = ctx.Call("topk", {over.expr},
                             {{"k", k},
                              {"axis", over.dim},
                              {"ret_type", "both"},
                              {"is_ascend", !largest},
                              {"dtype", DtypeName(ScalarType::Long)}});
  return {relay::TupleGetItem(both, 0, both->span), relay::TupleGetItem(both, 1, both->span)};
}

// With sorted=False any order is right, the sorted one too.
Results TopK(Context& ctx) {
  const Along over(ctx, DimOr(ctx, 0));
  const int64_t k = ctx.Int("k");
  const Top top = TopOf(ctx, over, k, ctx.Bool("largest"));
  const Sizes from = over.With(k);
  return std::vector<Expr>{ctx.Reshape(top.values, from, ctx.Result(0).sizes),
                           ctx.Reshape(top.indices, from, ctx.Result(1).sizes)};
}

Expr LastAlong(const Context& ctx, const Along& over, const Expr& expr, int64_t count) {
  if (count == 1) return expr;
  return ctx.Slice(expr, over.dim, count - 1, count);
}

// The k-th smallest; NaN counts as the largest.
Results KthValue(Context& ctx) {
  const Along over(ctx, DimOr(ctx, 0));
  if (over.size == 0) ctx.Refuse("it reduces no elements, for which PyTorch raises");
  const int64_t k = ctx.Int("k");
  const Top top = TopOf(ctx, over, k, false);
  const auto at = [&](const Expr& expr, size_t result) {
    return ctx.Reshape(LastAlong(ctx, over, expr, k), over.With(1), ctx.Result(result).sizes);
  };
  return std::vector<Expr>{at(top.values, 0), at(top.indices, 1)};
}

// What stands at a place of the sorted order that may differ from row to row, and its index.
Top Ordered(const Context& ctx, const Along& over, const Expr& place) {
  const Expr order = SortingIndices(ctx, over, true);
  const Expr index = ctx.Call("gather", {order, place}, {{"axis", over.dim}});
  return {ctx.Call("gather", {over.expr, index}, {{"axis", over.dim}}), index};
}

// The lower one of two middle elements. A NaN, the first one, is the median of what holds it;
// nanmedian leaves NaN out, and gives one only if there is nothing else.
Top MedianOf(const Context& ctx, const Along& over, bool skips_nan) {
  if (!IsFloat(over.dtype)) {
    const int64_t k = (over.size - 1) / 2 + 1;
    const Top top = TopOf(ctx, over, k, false);
    return {LastAlong(ctx, over, top.values, k), LastAlong(ctx, over, top.indices, k)};
  }
  const auto number = [&](int64_t value) { return ctx.Constant(value, ScalarType::Long); };
  const Expr nan = ctx.Call("isnan", {ctx.Cast(over.operand(), MathType(over.dtype))});
  const Expr count = ctx.Call("sum", {ctx.Cast(nan, ScalarType::Bool, ScalarType::Long)},
                              {{"axis", IntArray({over.dim})}, {"keepdims", true}});
  const Expr rest = ctx.Call("subtract", {number(over.size), count});
  if (skips_nan) {
    const Expr last = ctx.Call("maximum", {ctx.Call("subtract", {rest, number(1)}), number(0)});
    return Ordered(ctx, over, ctx.Call("right_shift", {last, number(1)}));
  }
  const Expr middle = ctx.Full((over.size - 1) / 2, over.With(1), ScalarType::Long);
  const Expr none = ctx.Call("equal", {count, number(0)});
  return Ordered(ctx, over, ctx.Call("where", {none, middle, rest}));
}

Converter MedianAlong(bool skips_nan) {
  return [skips_nan](Context& ctx) -> Results {
    const Along over(ctx, DimOr(ctx, 0));
    if (over.size == 0) ctx.Refuse("it reduces no elements, for which PyTorch raises");
    const Top median = MedianOf(ctx, over, skips_nan);
    return std::vector<Expr>{ctx.Reshape(median.values, over.With(1), ctx.Result(0).sizes),
                             ctx.Reshape(median.indices, over.With(1), ctx.Result(1).sizes)};
  };
}

Converter MedianOfAll(bool skips_nan) {
  return [skips_nan](Context& ctx) -> Results {
    const Operand self = ctx.Tensor("self");
    const TensorInfo& result = ctx.Result();
    const int64_t count = self.info.numel();
    if (count == 0 && !IsFloat(result.dtype)) ctx.Refuse("self has no elements");
    if (count == 0) {
      return ctx.Full(std::numeric_limits<double>::quiet_NaN(), result.sizes, result.dtype);
    }
    Along over(ctx, 0);
    over.expr = ctx.Reshape(self.expr, self.sizes(), {count});
    over.sizes = {count};
    over.size = count;
    return ctx.Reshape(MedianOf(ctx, over, skips_nan).values, {1}, {});
  };
}

Expr Search(const Context& ctx, const Expr& sequence, const Expr& values, bool right,
            ScalarType dtype) {
  return ctx.Call("searchsorted", {sequence, values},
                  {{"right", right}, {"dtype", DtypeName(dtype)}});
}

// A sorted sequence that can be searched: eager PyTorch's search, and so ours, takes NaN for less
// than everything, sorting for more.
Expr WithoutNan(const Context& ctx, const Expr& sorted, const Sizes& sizes, ScalarType dtype) {
  if (!IsFloat(dtype)) return sorted;
  const ScalarType math = MathType(dtype);
  const Expr infinity = ctx.Full(std::numeric_limits<double>::infinity(), sizes, dtype);
  const Expr nan = ctx.Call("isnan", {ctx.Cast(sorted, dtype, math)});
  return ctx.Call("where", {nan, infinity, sorted});
}

// The smallest of the values that are there most often. In the sorted row, how often one is there
// is the distance of its last place from its first.
Results Mode(Context& ctx) {
  Along over(ctx, DimOr(ctx, 0));
  if (over.size == 0) ctx.Refuse("it reduces no elements, for which PyTorch raises");
  const bool bools = over.dtype == ScalarType::Bool;
  if (bools) {
    over.expr = ctx.Cast(over.expr, ScalarType::Bool, ScalarType::Byte);
    over.dtype = ScalarType::Byte;
  }
  Sizes axes;
  const auto rank = static_cast<int64_t>(over.sizes.size());
  for (int64_t axis = 0; axis < rank; ++axis) {
    if (axis != over.dim) axes.push_back(axis);
  }
  axes.push_back(over.dim);
  Along rows = over;
  rows.expr = ctx.Transpose(over.expr, axes);
  rows.sizes = Permuted(over.sizes, axes);
  rows.dim = rank - 1;
  const Expr sorted = Sorted(ctx, rows, true);
  const Expr sequence = WithoutNan(ctx, sorted, rows.sizes, rows.dtype);
  const Expr last = Search(ctx, sequence, sequence, true, ScalarType::Long);
  const Expr first = Search(ctx, sequence, sequence, false, ScalarType::Long);
  const Expr best = ctx.Call("cast",
                             {ctx.Call("argmax", {ctx.Call("subtract", {last, first})},
                                       {{"axis", IntArray({rows.dim})}, {"keepdims", true}})},
                             {{"dtype", DtypeName(ScalarType::Long)}});
  const auto at = [&](const Expr& expr, const Expr& place, size_t result) {
    const Expr found = ctx.Call("gather", {expr, place}, {{"axis", rows.dim}});
    return ctx.Reshape(found, rows.With(1), ctx.Result(result).sizes);
  };
  const Expr end = ctx.Call("gather", {last, best}, {{"axis", rows.dim}});
  const Expr one = ctx.Constant(1, ScalarType::Long);
  const Expr zero = ctx.Constant(0, ScalarType::Long);
  const Expr place = ctx.Call("maximum", {ctx.Call("subtract", {end, one}), zero});
  Expr value = at(sorted, best, 0);
  if (bools) value = ctx.Cast(value, ScalarType::Byte, ScalarType::Bool);
  return std::vector<Expr>{value, at(SortingIndices(ctx, rows, true), place, 1)};
}

// searchsorted and bucketize: values and boundaries are compared in the dtype they promote to.
Expr SearchIn(Context& ctx, const char* boundaries, const char* values) {
  const bool side = ctx.Has("side");
  const bool right = side ? ctx.String("side") == "right" : ctx.Bool("right");
  Operand sequence = ctx.Tensor(boundaries);
  const ScalarType common = PromotedType(ctx, boundaries, values);
  const ScalarType dtype = common == ScalarType::Bool ? ScalarType::Byte : common;
  Sizes sizes;
  Expr value = ctx.Value(values).isTensor() ? Expr(ctx.Cast(ctx.Tensor(values), dtype))
                                            : ctx.Constant(ctx.Scalar(values), dtype);
  if (ctx.Value(values).isTensor()) sizes = ctx.Tensor(values).sizes();
  const Sizes searched = sizes.empty() ? Sizes{1} : sizes;
  value = ctx.Reshape(value, sizes, searched);
  const TensorInfo& result = ctx.Result();
  if (sequence.sizes().back() == 0) return ctx.Full(0, result.sizes, result.dtype);
  if (const auto sorter = ctx.OptionalTensor("sorter")) {
    const int64_t size = sequence.sizes().back();
    RequireWithin(ctx, *sorter, 0, size);
    sequence.expr = ctx.Call("gather", {sequence.expr, Within(ctx, *sorter, size)},
                             {{"axis", sequence.rank() - 1}});
  }
  const Expr found = Search(ctx, ctx.Cast(sequence, dtype), value, right, result.dtype);
  return ctx.Reshape(found, searched, result.sizes);
}

Results SearchSorted(Context& ctx) { return SearchIn(ctx, "sorted_sequence", "self"); }

Results Bucketize(Context& ctx) { return SearchIn(ctx, "boundaries", "self"); }

// Few test elements are compared one by one; many are sorted and searched. NaN is in nothing.
constexpr int64_t kMostCompared = 16;

Expr IsIn(const Context& ctx, const Expr& elements, const Sizes& sizes, Operand tests,
          ScalarType dtype) {
  const int64_t count = tests.info.numel();
  const Expr flat = ctx.Reshape(tests.expr, tests.sizes(), {count});
  const int64_t size = Product(sizes);
  const Expr column = ctx.Reshape(elements, sizes, {size, 1});
  if (count <= kMostCompared || dtype == ScalarType::Bool) {
    const Expr equal = ctx.Call("equal", {column, ctx.Reshape(flat, {count}, {1, count})});
    return ctx.Call("any", {equal}, {{"axis", IntArray({1})}, {"keepdims", false}});
  }
  const Expr sorted = ctx.Call("sort", {flat}, {{"axis", 0}, {"is_ascend", true}});
  const Expr sought = ctx.Reshape(elements, sizes, {size});
  const Expr sequence = WithoutNan(ctx, sorted, {count}, dtype);
  const Operand found{Search(ctx, sequence, sought, false, ScalarType::Long),
                      {ScalarType::Long, {size}, {}}};
  const Expr nearest = ctx.Call("take", {sorted, Within(ctx, found, count)}, {{"axis", 0}});
  return ctx.Call("equal", {nearest, sought});
}

Converter IsInOf(const char* elements, const char* tests) {
  return [=](Context& ctx) -> Results {
    const TensorInfo& result = ctx.Result();
    const bool invert = ctx.Bool("invert");
    const ScalarType common = PromotedType(ctx, elements, tests);
    const ScalarType math = MathType(common);
    const auto info = [&](const char* name) {
      return ctx.Value(name).isTensor() ? ctx.Tensor(name).info : TensorInfo{common, {}, {}};
    };
    TensorInfo tested = info(tests);
    if (tested.numel() == 0) return ctx.Full(invert, result.sizes, ScalarType::Bool);
    tested.dtype = math;
    const Expr found = IsIn(ctx, Rounded(ctx, elements, common), info(elements).sizes,
                            {Rounded(ctx, tests, common), tested}, math);
    const Expr value = ctx.Reshape(found, {result.numel()}, result.sizes);
    return invert ? ctx.Call("logical_not", {value}) : value;
  };
}

const Registrar kSorting({
    {"aten::sort", Sort},
    {"aten::sort.stable", Sort},
    {"aten::msort", Sort},
    {"aten::argsort", ArgSort},
    {"aten::argsort.stable", ArgSort},
    {"aten::topk", TopK},
    {"aten::kthvalue", KthValue},
    {"aten::median", MedianOfAll(false)},
    {"aten::median.dim", MedianAlong(false)},
    {"aten::nanmedian", MedianOfAll(true)},
    {"aten::nanmedian.dim", MedianAlong(true)},
    {"aten::mode", Mode},
});

const Registrar kSearching({
    {"aten::searchsorted.Tensor", SearchSorted},
    {"aten::searchsorted.Scalar", SearchSorted},
    {"aten::bucketize.Tensor", Bucketize},
    {"aten::bucketize.Scalar", Bucketize},
    {"aten::isin.Tensor_Tensor", IsInOf("elements", "test_elements")},
    {"aten::isin.Tensor_Scalar", IsInOf("elements", "test_element")},
    {"aten::isin.Scalar_Tensor", IsInOf("element", "test_elements")},
});

}  // namespace
}  // namespace torch_tvm::convert
