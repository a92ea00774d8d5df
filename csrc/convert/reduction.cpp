// Converters of reductions: sums, extremes, their indices, moments, any and all.
#include <cmath>
#include <limits>
#include <numeric>

#include "convert/broadcast.h"
#include "convert/context.h"

namespace torch_tvm::convert {
namespace {

// What a reduction runs over. PyTorch reads no dimensions, and an empty list of them, as all.
struct Reduction {
  explicit Reduction(const Context& context, const char* name = "self")
      : ctx(context), self(context.Tensor(name)) {
    if (ctx.Has("dim")) dims = ctx.Dims("dim", std::max<int64_t>(self.rank(), 1));
    if (dims.empty()) {
      dims.resize(self.sizes().size());
      std::iota(dims.begin(), dims.end(), 0);
    }
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

// The Euclidean and the absolute norm; others are refused.
Results VectorNorm(Context& ctx) {
  const Reduction over(ctx);
  const TensorInfo& result = ctx.Result();
  if (over.Count() == 0) return ctx.Full(0, result.sizes, result.dtype);
  const char* order_name = ctx.Has("ord") ? "ord" : "p";
  const double order = ctx.Has(order_name) ? ctx.Double(order_name) : 2;
  const ScalarType math = MathType(result.dtype);
  const Expr x = ctx.Cast(over.self, math);
  if (order == 1) {
    return ctx.Cast(over.Reduce("sum", ctx.Call("abs", {x})), math, result.dtype);
  }
  if (order != 2)
    ctx.Refuse(std::string(order_name) + " is " + std::to_string(order) +
               "; only the norms of order 1 and 2 are converted");
  const Expr squares = over.Reduce("sum", ctx.Call("multiply", {x, x}));
  return ctx.Cast(ctx.Call("sqrt", {squares}), math, result.dtype);
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
    {"aten::cumsum", Scan("cumsum")},
    {"aten::cumprod", Scan("cumprod")},
    {"aten::norm.Scalar", VectorNorm},
    {"aten::norm.ScalarOpt_dim", VectorNorm},
    {"aten::linalg_vector_norm", VectorNorm},
});

}  // namespace
}  // namespace torch_tvm::convert
