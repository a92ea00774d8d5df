// Converters of reductions: sums, extremes, their indices, moments, any and all.
#include <cmath>
#include <limits>

#include "convert/broadcast.h"
#include "convert/context.h"
#include "convert/term.h"

namespace torch_tvm::convert {
namespace {

// What a reduction runs over. PyTorch reads no dimensions, and an empty list of them, as all.
struct Reduction {
  explicit Reduction(const Context& context, const char* name = "self")
      : ctx(context), self(context.Tensor(name)) {
    if (ctx.Has("dim")) dims = ctx.Dims("dim", std::max<int64_t>(self.rank(), 1));
    if (dims.empty()) dims = Counted(self.sizes().size());
    keepdim = ctx.BoolOr("keepdim", false);
  }

  // Elements that go into one result.
  int64_t Count() const {
    int64_t count = 1;
    for (const int64_t dim : dims) {
      if (self.rank() > 0) count *= self.sizes()[static_cast<size_t>(dim)];
    }
    return count;
  }

  Expr Reduce(const char* op, const Expr& expr, bool keep) const {
    if (self.rank() == 0) return expr;
    return ctx.Call(op, {expr}, {{"axis", IntArray(dims)}, {"keepdims", keep}});
  }
  Expr Reduce(const char* op, const Expr& expr) const { return Reduce(op, expr, keepdim); }

  const Context& ctx;
  Operand self;
  Sizes dims;
  bool keepdim = false;
};

// sum, prod, mean: in the result's dtype; `of_nothing` is what no elements give.
Converter Accumulate(const char* op, double of_nothing) {
  return [op, of_nothing](Context& ctx) -> Results {
    const Reduction over(ctx);
    const TensorInfo& result = ctx.Result();
    if (over.Count() == 0) return ctx.Full(of_nothing, result.sizes, result.dtype);
    if (result.dtype == ScalarType::Bool) ctx.Refuse("dtype is bool");
    const ScalarType math = MathType(result.dtype);
    // Widening before the sum is exact; narrowing (dtype=) rounds each element, as PyTorch does.
    const Expr x = ctx.Cast(ctx.Cast(over.self, result.dtype == math ? math : result.dtype),
                            result.dtype, math);
    return ctx.Cast(over.Reduce(op, x), math, result.dtype);
  };
}

// max and min of bools are any and all.
Expr Extreme(const Reduction& over, const char* op, const char* op_on_bools) {
  if (over.Count() == 0) over.ctx.Refuse("it reduces no elements, for which PyTorch raises");
  const bool bools = over.self.dtype() == ScalarType::Bool;
  const ScalarType math = MathType(over.self.dtype());
  const Expr value = over.Reduce(bools ? op_on_bools : op, over.ctx.Cast(over.self, math));
  return over.ctx.Cast(value, math, over.self.dtype());
}

Converter Extremes(const char* op, const char* op_on_bools) {
  return [=](Context& ctx) -> Results { return Extreme(Reduction(ctx), op, op_on_bools); };
}

// The index of the first extreme along one dimension, int64 as PyTorch gives it; Relay's is int32.
Expr IndexAlong(const Context& ctx, const char* op, const Operand& self, int64_t dim,
                bool keepdim) {
  if (self.rank() == 0) return ctx.Constant(0, ScalarType::Long);
  const Expr index = ctx.Call(op, {ctx.Cast(self, MathType(self.dtype()))},
                              {{"axis", IntArray({dim})}, {"keepdims", keepdim}});
  return ctx.Call("cast", {index}, {{"dtype", DtypeName(ScalarType::Long)}});
}

// max.dim and min.dim: values and indices.
Converter ExtremeAndIndex(const char* op, const char* op_on_bools, const char* op_of_index) {
  return [=](Context& ctx) -> Results {
    const Reduction over(ctx);
    const Expr value = Extreme(over, op, op_on_bools);
    Operand self = over.self;
    if (self.dtype() == ScalarType::Bool) {
      self.expr = ctx.Cast(self, ScalarType::Byte);
      self.info.dtype = ScalarType::Byte;
    }
    return std::vector<Expr>{value, IndexAlong(ctx, op_of_index, self,
                                               over.dims.empty() ? 0 : over.dims[0], over.keepdim)};
  };
}

// argmax and argmin; without a dimension, of the flattened tensor.
Converter IndexOf(const char* op) {
  return [op](Context& ctx) -> Results {
    Operand self = ctx.Tensor("self");
    if (self.info.numel() == 0) ctx.Refuse("it reduces no elements, for which PyTorch raises");
    const bool keepdim = ctx.BoolOr("keepdim", false);
    if (ctx.Has("dim")) {
      return IndexAlong(ctx, op, self, ctx.Dim("dim", std::max<int64_t>(self.rank(), 1)), keepdim);
    }
    const Sizes flat = {self.info.numel()};
    self.expr = ctx.Reshape(self.expr, self.sizes(), flat);
    self.info.sizes = flat;
    return ctx.Reshape(IndexAlong(ctx, op, self, 0, false), {}, ctx.Result().sizes);
  };
}

Converter Quantifier(const char* op, bool of_nothing) {
  return [op, of_nothing](Context& ctx) -> Results {
    const Reduction over(ctx);
    const TensorInfo& result = ctx.Result();
    if (over.Count() == 0) return ctx.Full(of_nothing, result.sizes, result.dtype);
    const Expr value = over.Reduce(op, ctx.Cast(over.self, ScalarType::Bool));
    return ctx.Cast(value, ScalarType::Bool, result.dtype);
  };
}

// Mean and variance with the divisor max(n - correction, 0).
struct Moments {
  Expr mean;      // reduced dimensions kept
  Expr variance;  // as keepdim says
};

double Correction(const Context& ctx) {
  if (ctx.Has("unbiased")) return ctx.Bool("unbiased") ? 1 : 0;
  return ctx.Has("correction") ? ctx.Double("correction") : 1;
}

Moments MomentsOf(const Reduction& over, const Expr& x, ScalarType math) {
  const Context& ctx = over.ctx;
  const double correction = Correction(ctx);
  const auto count = static_cast<double>(over.Count());
  const Expr mean = over.Reduce("mean", x, true);
  const bool plain = correction == 0 || (correction == 1 && count > 1);
  if (plain && over.self.rank() > 0) {
    return {mean, ctx.Call("variance", {x, mean},
                           {{"axis", IntArray(over.dims)},
                            {"keepdims", over.keepdim},
                            {"unbiased", correction == 1}})};
  }
  const Expr offset = ctx.Call("subtract", {x, mean});
  const Expr squares = over.Reduce("sum", ctx.Call("multiply", {offset, offset}));
  const Expr divisor = ctx.Constant(std::max(count - correction, 0.0), math);
  return {mean, ctx.Call("divide", {squares, divisor})};
}

enum class Give { kVariance, kDeviation, kVarianceAndMean, kDeviationAndMean };

Converter Variance(Give give) {
  return [give](Context& ctx) -> Results {
    const Reduction over(ctx);
    const TensorInfo& result = ctx.Result();
    const ScalarType math = MathType(result.dtype);
    if (over.Count() == 0) {
      const Expr nan = ctx.Full(std::nan(""), result.sizes, result.dtype);
      return std::vector<Expr>(ctx.NumResults(), nan);
    }
    const Moments moments = MomentsOf(over, ctx.Cast(over.self, math), math);
    Expr spread = moments.variance;
    if (give == Give::kDeviation || give == Give::kDeviationAndMean) {
      spread = ctx.Call("sqrt", {spread});
    }
    std::vector<Expr> results = {ctx.Cast(spread, math, result.dtype)};
    if (ctx.NumResults() == 2) {
      Sizes kept = over.self.sizes();
      for (const int64_t dim : over.dims) {
        if (!kept.empty()) kept[static_cast<size_t>(dim)] = 1;
      }
      results.push_back(
          ctx.Cast(ctx.Reshape(moments.mean, kept, ctx.Result(1).sizes), math, result.dtype));
    }
    return results;
  };
}

// Running sums and products.
Converter Scan(const char* op) {
  return [op](Context& ctx) -> Results {
    const TensorInfo& result = ctx.Result();
    const ScalarType math = MathType(result.dtype);
    if (result.dtype == ScalarType::Bool) ctx.Refuse("dtype is bool");
    const Expr x = ctx.Cast(ctx.Cast(ctx.Tensor("self"), result.dtype), result.dtype, math);
    if (result.sizes.empty()) return ctx.Cast(x, math, result.dtype);
    const Expr value =
        ctx.Call(op, {x}, {{"axis", ctx.Dim("dim", result.rank())}, {"dtype", DtypeName(math)}});
    return ctx.Cast(value, math, result.dtype);
  };
}

// The least and the greatest element.
Results LeastAndGreatest(Context& ctx) {
  const Reduction over(ctx);
  return std::vector<Expr>{Extreme(over, "min", "all"), Extreme(over, "max", "any")};
}

// log(sum(e^x)) around the largest element, which counts as 0 where it is infinite.
Results LogSumExp(Context& ctx) {
  const Reduction over(ctx);
  const TensorInfo& result = ctx.Result();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (over.Count() == 0) return ctx.Full(-kInfinity, result.sizes, result.dtype);
  const Term x = Lift(over.self, ctx, result.dtype);
  const Term largest(ctx, over.Reduce("max", x.expr, true), x.dtype);
  const Term offset = Where(Abs(largest) == kInfinity, 0, largest);
  const Term sum(ctx, over.Reduce("sum", Exp(x - offset).expr), x.dtype);
  Sizes kept = over.self.sizes();
  for (const int64_t dim : over.dims) {
    if (!kept.empty()) kept[static_cast<size_t>(dim)] = 1;
  }
  const Term back(ctx, ctx.Reshape(offset.expr, kept, result.sizes), x.dtype);
  return Settle(Log(sum) + back);
}

Results CountNonzero(Context& ctx) {
  const Reduction over(ctx);
  const TensorInfo& result = ctx.Result();
  if (over.Count() == 0) return ctx.Full(0, result.sizes, result.dtype);
  const Expr nonzero = ctx.Cast(over.self, ScalarType::Bool);
  return over.Reduce("sum", ctx.Cast(nonzero, ScalarType::Bool, result.dtype));
}

// Sums and means of what is not NaN; the mean of nothing is NaN.
Converter IgnoringNan(bool mean) {
  return [mean](Context& ctx) -> Results {
    const Reduction over(ctx);
    const TensorInfo& result = ctx.Result();
    const double of_nothing = mean ? std::nan("") : 0;
    if (over.Count() == 0) return ctx.Full(of_nothing, result.sizes, result.dtype);
    const ScalarType math = MathType(result.dtype);
    if (!IsFloat(over.self.dtype())) {
      if (mean) ctx.Refuse("self holds integers");
      return over.Reduce("sum", ctx.Cast(over.self, result.dtype));
    }
    const Term whole(ctx, ctx.Cast(over.self, MathType(over.self.dtype())),
                     MathType(over.self.dtype()));
    const Term x = whole.Rounded(result.dtype).As(math);
    const Term nan = IsNan(whole);
    const Term sum(ctx, over.Reduce("sum", Where(nan, 0, x).expr), math);
    if (!mean) return Settle(sum);
    return Settle(sum / Term(ctx, over.Reduce("sum", (!nan).As(math).expr), math));
  };
}

// The sum over the dimensions that the given size lacks or has 1 in.
Results SumToSize(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const Sizes& sizes = ctx.Result().sizes;
  const size_t lead = self.sizes().size() - sizes.size();
  Sizes dims;
  for (size_t dim = 0; dim < self.sizes().size(); ++dim) {
    const bool kept = dim >= lead && sizes[dim - lead] == self.sizes()[dim];
    if (!kept) dims.push_back(static_cast<int64_t>(dim));
  }
  if (dims.empty()) return ctx.Cast(self, ctx.Result().dtype);
  if (self.dtype() == ScalarType::Bool || self.info.numel() == 0) {
    ctx.Refuse("self is bool or has no elements");
  }
  const Term sum = Reduce("sum", Lift(ctx, "self"), dims, true);
  Sizes summed = self.sizes();
  for (const int64_t dim : dims) summed[static_cast<size_t>(dim)] = 1;
  return ctx.Reshape(Settle(sum), summed, sizes);
}

// Softmax whose rows of nothing but -inf are zeros.
Results SafeSoftmax(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  const Term x = Lift(ctx, "self");
  if (result.sizes.empty()) ctx.Refuse("self has rank 0");
  const int64_t dim = ctx.Dim("dim", result.rank());
  const Term value(ctx, ctx.Call("nn.softmax", {x.expr}, {{"axis", dim}}), x.dtype);
  const Term largest = Reduce("max", x, {dim}, true);
  return Settle(Where(largest == -std::numeric_limits<double>::infinity(), 0, value));
}

// Running extremes and sums of exponentials: Relay has no such scans. Each step joins what the
// elements 1, 2, 4, ... places before have gathered.
struct Doubling {
  explicit Doubling(const Context& context)
      : ctx(context),
        dim(ctx.Dim("dim", ctx.Result().rank())),
        size(ctx.Result().sizes[static_cast<size_t>(dim)]) {}

  // A term without its first, or last, elements along the dimension.
  Term Behind(const Term& x, int64_t places) const {
    return {ctx, ctx.Slice(x.expr, dim, places, size), x.dtype};
  }
  Term Before(const Term& x, int64_t places) const {
    return {ctx, ctx.Slice(x.expr, dim, 0, size - places), x.dtype};
  }
  Term Joined(const Term& x, const Term& rest, int64_t places) const {
    return {ctx, ctx.Concatenate({ctx.Slice(x.expr, dim, 0, places), rest.expr}, dim), x.dtype};
  }

  const Context& ctx;
  int64_t dim, size;
};

Results RunningLogSumExp(Context& ctx) {
  Term x = Lift(ctx, "self");
  if (ctx.Result().sizes.empty()) return Settle(x);
  const Doubling scan(ctx);
  for (int64_t places = 1; places < scan.size; places *= 2) {
    const Term a = scan.Before(x, places), b = scan.Behind(x, places);
    const Term larger = Max(a, b);
    const Term sum = larger + Log1p(Exp(-Abs(a - b)));
    x = scan.Joined(x, Where((a == b) & Test("isinf", a), a, sum), places);
  }
  return Settle(x);
}

// Among equal elements the last one counts; from the first NaN on, the last NaN.
Converter RunningExtreme(Term (*reaches)(const Term&, const Term&)) {
  return [reaches](Context& ctx) -> Results {
    const ScalarType dtype = ctx.Result().dtype;
    if (dtype == ScalarType::Bool) ctx.Refuse("self is bool");
    Term x = Lift(ctx, "self", dtype);
    if (ctx.Result().sizes.empty()) {
      return std::vector<Expr>{ctx.Tensor("self").expr, ctx.Constant(0, ScalarType::Long)};
    }
    const Doubling scan(ctx);
    Sizes line(ctx.Result().sizes.size(), 1);
    line[static_cast<size_t>(scan.dim)] = scan.size;
    const Expr counted = ctx.Reshape(ctx.Arange(scan.size), {scan.size}, line);
    Term index(ctx, ctx.BroadcastTo(counted, line, ctx.Result().sizes), ScalarType::Long);
    for (int64_t places = 1; places < scan.size; places *= 2) {
      const Term a = scan.Before(x, places), b = scan.Behind(x, places);
      Term later = reaches(b, a);
      if (IsFloat(dtype)) later = later | IsNan(b);
      const Term chosen = Where(later, b, a);
      const Term at = Where(later, scan.Behind(index, places), scan.Before(index, places));
      x = scan.Joined(x, chosen, places);
      index = scan.Joined(index, at, places);
    }
    return std::vector<Expr>{Settle(x), index.expr};
  };
}

const Converter kSum = Accumulate("sum", 0);
const Converter kProd = Accumulate("prod", 1);
const Converter kMean = Accumulate("mean", std::numeric_limits<double>::quiet_NaN());
const Converter kMax = Extremes("max", "any");
const Converter kMin = Extremes("min", "all");

const Registrar kReduction({
    {"aten::sum", kSum},
    {"aten::sum.dim_IntList", kSum},
    {"aten::prod", kProd},
    {"aten::prod.dim_int", kProd},
    {"aten::mean", kMean},
    {"aten::mean.dim", kMean},
    {"aten::amax", kMax},
    {"aten::amin", kMin},
    {"aten::max", kMax},
    {"aten::min", kMin},
    {"aten::max.dim", ExtremeAndIndex("max", "any", "argmax")},
    {"aten::min.dim", ExtremeAndIndex("min", "all", "argmin")},
    {"aten::argmax", IndexOf("argmax")},
    {"aten::argmin", IndexOf("argmin")},
    {"aten::any", Quantifier("any", false)},
    {"aten::any.dim", Quantifier("any", false)},
    {"aten::any.dims", Quantifier("any", false)},
    {"aten::all", Quantifier("all", true)},
    {"aten::all.dim", Quantifier("all", true)},
    {"aten::all.dims", Quantifier("all", true)},
    {"aten::var", Variance(Give::kVariance)},
    {"aten::var.dim", Variance(Give::kVariance)},
    {"aten::var.correction", Variance(Give::kVariance)},
    {"aten::std", Variance(Give::kDeviation)},
    {"aten::std.dim", Variance(Give::kDeviation)},
    {"aten::std.correction", Variance(Give::kDeviation)},
    {"aten::var_mean", Variance(Give::kVarianceAndMean)},
    {"aten::var_mean.dim", Variance(Give::kVarianceAndMean)},
    {"aten::var_mean.correction", Variance(Give::kVarianceAndMean)},
    {"aten::std_mean", Variance(Give::kDeviationAndMean)},
    {"aten::std_mean.dim", Variance(Give::kDeviationAndMean)},
    {"aten::std_mean.correction", Variance(Give::kDeviationAndMean)},
    {"aten::aminmax", LeastAndGreatest},
    {"aten::_aminmax", LeastAndGreatest},
    {"aten::_aminmax.dim", LeastAndGreatest},
    {"aten::logsumexp", LogSumExp},
    {"aten::special_logsumexp", LogSumExp},
    {"aten::count_nonzero", CountNonzero},
    {"aten::count_nonzero.dim_IntList", CountNonzero},
    {"aten::sum_to_size", SumToSize},
    {"aten::nansum", IgnoringNan(false)},
    {"aten::nanmean", IgnoringNan(true)},
    {"aten::_safe_softmax", SafeSoftmax},
    {"aten::cummax", RunningExtreme(operator>=)},
    {"aten::cummin", RunningExtreme(operator<=)},
    {"aten::logcumsumexp", RunningLogSumExp},
    {"aten::cumsum", Scan("cumsum")},
    {"aten::cumprod", Scan("cumprod")},
});

}  // namespace
}  // namespace torch_tvm::convert
