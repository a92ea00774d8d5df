// Converters of quantiles and covariances.
#include <algorithm>
#include <limits>

#include "convert/indices.h"
#include "convert/term.h"

namespace torch_tvm::convert {
namespace {

constexpr ScalarType kLong = ScalarType::Long;

// Rows of the elements that a quantile is taken of, and the sizes of what is left.
struct Samples {
  Term sorted;  // (rows, count), NaN last
  Term nan;     // (rows, 1): how many are NaN
  int64_t rows;
  int64_t count;
};

Samples SamplesOf(const Context& ctx, const Operand& self) {
  const int64_t size = self.info.numel();
  int64_t count = size;
  Expr rows = self.expr;
  if (ctx.Has("dim") && self.rank() > 0) {
    const int64_t dim = ctx.Dim("dim", self.rank());
    Sizes axes;
    for (int64_t axis = 0; axis < self.rank(); ++axis) {
      if (axis != dim) axes.push_back(axis);
    }
    axes.push_back(dim);
    count = self.sizes()[static_cast<size_t>(dim)];
    rows = ctx.Reshape(ctx.Transpose(self.expr, axes), Permuted(self.sizes(), axes),
                       {size / count, count});
  } else {
    rows = ctx.Reshape(self.expr, self.sizes(), {1, count});
  }
  const Term x(ctx, rows, self.dtype());
  const Term sorted(ctx, ctx.Call("sort", {rows}, {{"axis", 1}, {"is_ascend", true}}), x.dtype);
  return {sorted, Reduce("sum", IsNan(x).As(kLong), {1}, true), size / count, count};
}

// The places of quantiles in the sorted rows: (rows, quantiles). Where a row holds NaN, quantile
// takes its last element, and nanquantile counts the others alone.
Term RanksOf(const Samples& samples, const Term& q, bool skips_nan) {
  if (skips_nan) {
    const Term last = samples.count - samples.nan - 1;
    return Max(q * Max(last, last.Of(0)).As(q.dtype), q.Of(0));
  }
  const auto last = static_cast<double>(samples.count - 1);
  return Where(samples.nan == 0, q * last, last);
}

Term ElementAt(const Samples& samples, const Term& rank) {
  const Context& ctx = *rank.ctx;
  const Term place = rank.As(kLong);
  const Term within = Max(Min(place, place.Of(samples.count - 1)), place.Of(0));
  return {ctx, ctx.Call("gather", {samples.sorted.expr, within.expr}, {{"axis", 1}}),
          samples.sorted.dtype};
}

Term QuantileAt(const Samples& samples, const Term& rank, const std::string& interpolation) {
  if (interpolation == "lower") return ElementAt(samples, Apply("floor", rank));
  if (interpolation == "higher") return ElementAt(samples, Apply("ceil", rank));
  if (interpolation == "nearest") return ElementAt(samples, Apply("round", rank));
  const Term floor = Apply("floor", rank);
  const Term below = ElementAt(samples, floor), above = ElementAt(samples, Apply("ceil", rank));
  const Term difference = above - below;
  if (interpolation == "midpoint") return above - difference * 0.5;
  const Term weight = rank - floor;
  return Where(weight < 0.5, below + weight * difference, above - difference * (1 - weight));
}

Converter Quantile(bool skips_nan) {
  return [skips_nan](Context& ctx) -> Results {
    const Operand self = ctx.Tensor("self");
    const TensorInfo& result = ctx.Result();
    if (self.info.numel() == 0) ctx.Refuse("self has no elements");
    const Samples samples = SamplesOf(ctx, self);
    int64_t quantiles = 1;
    Term q(ctx, ctx.Constant(0, self.dtype()), self.dtype());
    const bool known = !ctx.Value("q").isTensor();
    if (known) {
      q = q.Of(ctx.Scalar("q"));
      if (!(ctx.Double("q") >= 0 && ctx.Double("q") <= 1)) {
        ctx.Refuse("q lies outside of [0, 1], for which PyTorch raises");
      }
    } else {
      const Operand given = ctx.Tensor("q");
      quantiles = given.info.numel();
      q.expr = ctx.Reshape(given.expr, given.sizes(), {1, quantiles});
      ctx.RefuseIf((!((q >= 0) & (q <= 1))).expr, "a quantile outside of [0, 1]");
    }
    Term rank = RanksOf(samples, q, skips_nan);
    if (known) {
      rank.expr = ctx.BroadcastTo(rank.expr, {}, {samples.rows, 1});
    }
    const Term value = QuantileAt(samples, rank, ctx.String("interpolation"));
    // Quantiles come first in the result.
    const Expr moved = ctx.Transpose(value.expr, {1, 0});
    return ctx.Reshape(moved, {quantiles, samples.rows}, result.sizes);
  };
}

// The covariance matrix of the rows of a matrix; weights count an observation several times, or
// weigh it.
Term Covariance(Context& ctx, int64_t correction, const std::optional<Operand>& repeats,
                const std::optional<Operand>& weights) {
  const Operand self = ctx.Tensor("self");
  const ScalarType dtype = self.dtype();
  if (MathType(dtype) != dtype || !IsFloat(dtype)) {
    ctx.Refuse(std::string("self holds ") + c10::toString(dtype) +
               "; float32 and float64 are converted");
  }
  const int64_t count = self.rank() == 0 ? 1 : self.sizes().back();
  if (self.info.numel() == 0) ctx.Refuse("self has no elements");
  const int64_t rows = self.info.numel() / count;
  const Term x(ctx, ctx.Reshape(self.expr, self.sizes(), {rows, count}), dtype);
  const auto row = [&](const Operand& operand) {
    return Term(ctx, ctx.Reshape(ctx.Cast(operand, dtype), operand.sizes(), {1, count}), dtype);
  };
  std::optional<Term> weight;
  for (const auto& given : {repeats, weights}) {
    if (!given) continue;
    ctx.RefuseIf((row(*given) < 0).expr, "a negative weight");
    weight = weight ? *weight * row(*given) : row(*given);
  }
  Term sum = x.Of(static_cast<double>(count));
  if (weight) {
    sum = Reduce("sum", *weight, {1}, true);
    ctx.RefuseIf((sum == 0).expr, "weights that add up to zero");
  }
  Term divisor = sum - static_cast<double>(correction);
  if (weights && correction != 0) {
    const Term squares = Reduce("sum", *weight * row(*weights), {1}, true);
    divisor = sum - static_cast<double>(correction) * squares / sum;
  }
  const Term mean = Reduce("sum", weight ? x * *weight : x, {1}, true) / sum;
  const Term offset = x - mean;
  const Term weighted = weight ? offset * *weight : offset;
  ctx.AddFlops(2.0 * static_cast<double>(rows * rows * count));
  const Term product(ctx, ctx.Call("nn.dense", {offset.expr, weighted.expr}, {{"units", rows}}),
                     dtype);
  return product / Max(divisor, divisor.Of(0));
}

Results Cov(Context& ctx) {
  const Term value = Covariance(ctx, ctx.Int("correction"), ctx.OptionalTensor("fweights"),
                                ctx.OptionalTensor("aweights"));
  const Sizes& sizes = ctx.Result().sizes;
  return ctx.Call("reshape", {value.expr}, {{"newshape", IntArray(sizes)}});
}

// Covariances over the deviations of both rows.
Results Corrcoef(Context& ctx) {
  const Term covariance = Covariance(ctx, 1, std::nullopt, std::nullopt);
  const Sizes& sizes = ctx.Result().sizes;
  if (sizes.empty()) {
    const Term value = covariance / covariance;
    return ctx.Reshape(value.expr, {1, 1}, sizes);
  }
  const int64_t rows = sizes[0];
  const Expr flat = ctx.Reshape(covariance.expr, sizes, {rows * rows});
  const Term variance(ctx, ctx.Slice(flat, 0, 0, rows * rows, rows + 1), covariance.dtype);
  const Term deviation = Sqrt(variance);
  const Term column(ctx, ctx.Reshape(deviation.expr, {rows}, {rows, 1}), covariance.dtype);
  const Term value = covariance / column / deviation;
  return Max(Min(value, value.Of(1)), value.Of(-1)).expr;
}

const Registrar kStatistics({
    {"aten::quantile", Quantile(false)},
    {"aten::quantile.scalar", Quantile(false)},
    {"aten::nanquantile", Quantile(true)},
    {"aten::nanquantile.scalar", Quantile(true)},
    {"aten::cov", Cov},
    {"aten::corrcoef", Corrcoef},
});

}  // namespace
}  // namespace torch_tvm::convert
