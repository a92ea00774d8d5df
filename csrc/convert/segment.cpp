// Reductions of consecutive slices of a dimension.
#include <limits>

#include "convert/term.h"

namespace torch_tvm::convert {
namespace {

constexpr ScalarType kLong = ScalarType::Long;

// Which slices make a segment: `ends` holds where each segment ends, in rows of `count`; slice j is
// in the first segment that ends behind it, and in none if its number is `count`.
struct Segments {
  int64_t rows;   // of the dimensions before the one that is reduced
  int64_t count;  // segments in a row
  Term numbers;   // (rows, slices): of the segment that each slice is in
  Term lengths;   // (rows, count)
};

Term Rows(const Context& ctx, const Operand& operand, int64_t rows, int64_t columns) {
  return {ctx, ctx.Reshape(ctx.Cast(operand, kLong), operand.sizes(), {rows, columns}), kLong};
}

// For each slice how many of the ascending `bounds` do not lie behind it.
Term Passed(const Term& bounds, int64_t rows, int64_t slices) {
  const Context& ctx = *bounds.ctx;
  const Expr places = ctx.BroadcastTo(ctx.Arange(slices), {slices}, {rows, slices});
  const Expr found = ctx.Call("searchsorted", {bounds.expr, places},
                              {{"right", true}, {"dtype", DtypeName(kLong)}});
  return {ctx, found, kLong};
}

Segments SegmentsOf(Context& ctx, int64_t slices) {
  const bool by_lengths = ctx.Has("lengths");
  const Operand given = ctx.Tensor(by_lengths ? "lengths" : "offsets");
  const int64_t columns = given.sizes().back();
  const int64_t rows = columns == 0 ? 0 : given.info.numel() / columns;
  const int64_t count = by_lengths ? columns : columns - 1;
  if (rows == 0 || count <= 0) ctx.Refuse("it has no segments");
  const Term bounds = Rows(ctx, given, rows, columns);
  if (by_lengths) {
    ctx.RefuseIf((bounds < 0).expr, "a negative length");
    const Term ends(
        ctx, ctx.Call("cumsum", {bounds.expr}, {{"axis", 1}, {"dtype", DtypeName(kLong)}}), kLong);
    const Term all(ctx, ctx.Slice(ends.expr, 1, count - 1, count), kLong);
    ctx.RefuseIf((!(all == slices)).expr, "lengths that do not add up to the slices");
    return {rows, count, Passed(ends, rows, slices), bounds};
  }
  const Term first(ctx, ctx.Slice(bounds.expr, 1, 0, count), kLong);
  const Term last(ctx, ctx.Slice(bounds.expr, 1, 1, columns), kLong);
  ctx.RefuseIf((last < first).expr, "offsets that do not ascend");
  ctx.RefuseIf(((first < 0) | (last > slices)).expr, "an offset out of range");
  const Term number = Passed(bounds, rows, slices) - 1;
  return {rows, count, Where(number < 0, count, number), last - first};
}

// What a segment begins with, and how a slice joins it.
struct Combination {
  const char* scatter;
  double initial;
};

Combination CombinationOf(const Context& ctx, const std::string& reduce) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (reduce == "sum" || reduce == "mean") return {"add", 0};
  if (reduce == "prod") return {"mul", 1};
  if (reduce == "max") return {"max", -kInfinity};
  if (reduce == "min") return {"min", kInfinity};
  ctx.Refuse("reduce='" + reduce + "'");
}

Results SegmentReduce(Context& ctx) {
  if (ctx.Has("indices")) ctx.Refuse("indices is given; lengths and offsets are converted");
  const Operand data = ctx.Tensor("data");
  const TensorInfo& result = ctx.Result();
  const ScalarType dtype = data.dtype();
  const std::string reduce = ctx.String("reduce");
  const Combination combination = CombinationOf(ctx, reduce);
  const int64_t dim = ctx.Tensor(ctx.Has("lengths") ? "lengths" : "offsets").rank() - 1;
  if (data.info.numel() == 0) ctx.Refuse("data has no elements");
  const int64_t slices = data.sizes().at(static_cast<size_t>(dim));
  const Segments segments = SegmentsOf(ctx, slices);
  const int64_t inner = data.info.numel() / segments.rows / slices;
  const Sizes each = {segments.rows, slices, inner};
  // Slices in no segment are gathered behind the last one.
  Sizes held = {segments.rows, segments.count + 1, inner};
  const at::Scalar initial = ctx.Has("initial") ? ctx.Scalar("initial") : combination.initial;
  const Expr index = ctx.BroadcastTo(
      ctx.Reshape(segments.numbers.expr, {segments.rows, slices}, {segments.rows, slices, 1}),
      {segments.rows, slices, 1}, each);
  const Expr gathered =
      ctx.Call("scatter_elements",
               {ctx.Full(initial, held, dtype), index, ctx.Reshape(data.expr, data.sizes(), each)},
               {{"axis", 1}, {"reduction", combination.scatter}});
  Term value(ctx, ctx.Slice(gathered, 1, 0, segments.count), dtype);
  if (reduce == "mean") {
    const ScalarType math = MathType(dtype);
    const Sizes column = {segments.rows, segments.count, 1};
    const Term length(
        ctx, ctx.Reshape(segments.lengths.expr, {segments.rows, segments.count}, column), kLong);
    const Term sum = value.As(math);
    const double of_nothing = std::numeric_limits<double>::quiet_NaN();
    const Term empty = ctx.Has("initial") ? sum : sum * of_nothing;
    value = Where(length == 0, empty, sum / Max(length, length.Of(1)).As(math)).As(dtype);
  }
  held[1] = segments.count;
  return ctx.Reshape(value.expr, held, result.sizes);
}

const Registrar kSegment({{"aten::segment_reduce", SegmentReduce}});

}  // namespace
}  // namespace torch_tvm::convert
