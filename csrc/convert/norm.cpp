// Converters of norms of vectors and matrices, and of weights normalised by them.
#include "convert/norm.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace torch_tvm::convert {

Term NormOf(const Term& x, double order, const Sizes& dims, bool keepdim) {
  const auto sum = [&](const Term& term) { return Reduce("sum", term, dims, keepdim); };
  if (order == 2) return dims.empty() ? Abs(x) : Sqrt(sum(x * x));
  if (order == 0) return sum((!(x == 0)).As(x.dtype));
  if (std::isinf(order)) return Reduce(order > 0 ? "max" : "min", Abs(x), dims, keepdim);
  if (order == 1 || dims.empty()) return sum(Abs(x));
  return Apply("power", sum(Apply("power", Abs(x), x.Of(order))), x.Of(1 / order));
}

namespace {

// The sizes with 1 for some dimensions.
Sizes Kept(Sizes sizes, const Sizes& dims) {
  for (const int64_t dim : dims) sizes[static_cast<size_t>(dim)] = 1;
  return sizes;
}

const char* SelfName(const Context& ctx) {
  return ctx.node()->schema().arguments()[0].name().c_str();
}

// The argument's dimensions; none, or an empty list, are all.
Sizes DimsOrAll(const Context& ctx, int64_t rank) {
  Sizes dims;
  if (ctx.Has("dim")) dims = ctx.Dims("dim", std::max<int64_t>(rank, 1));
  return dims.empty() || rank == 0 ? Counted(static_cast<size_t>(rank)) : dims;
}

// The argument in the dtype that the norm is computed in. With dtype= it is rounded to it first.
Term Measured(const Context& ctx) {
  const Operand self = ctx.Tensor(SelfName(ctx));
  const ScalarType dtype = ctx.Result().dtype, math = MathType(dtype);
  return {ctx, ctx.Cast(ctx.Cast(self, dtype), dtype, math), math};
}

// A norm of no elements is zero, that of singular values too; PyTorch raises where the order is
// negative or infinite.
std::optional<Expr> OfNothing(const Context& ctx, const Sizes& dims) {
  const Sizes sizes = ctx.Tensor(SelfName(ctx)).sizes();
  const auto none = [&](int64_t dim) { return sizes[static_cast<size_t>(dim)] == 0; };
  if (std::none_of(dims.begin(), dims.end(), none)) return std::nullopt;
  return ctx.Full(0, ctx.Result().sizes, ctx.Result().dtype);
}

Results VectorNormOver(const Context& ctx, double order, const Sizes& dims) {
  if (const auto zero = OfNothing(ctx, dims)) {
    if (order < 0) ctx.Refuse("it is a norm of negative order, of no elements");
    return *zero;
  }
  return Settle(NormOf(Measured(ctx), order, dims, ctx.BoolOr("keepdim", false)));
}

Results VectorNorm(Context& ctx) {
  const char* order = ctx.Has("ord") ? "ord" : "p";
  return VectorNormOver(ctx, ctx.Has(order) ? ctx.Double(order) : 2,
                        DimsOrAll(ctx, ctx.Tensor(SelfName(ctx)).rank()));
}

// Sums of sizes over one dimension, then the largest or smallest over the other.
Results MatrixNormOver(const Context& ctx, double order, const Sizes& dims) {
  const double size = std::abs(order);
  const bool columns = size == 1, singular = size == 2;
  const int64_t summed = dims[columns ? 0 : 1], compared = dims[columns ? 1 : 0];
  if (const auto zero = OfNothing(ctx, dims)) {
    const bool none = ctx.Tensor(SelfName(ctx)).sizes()[static_cast<size_t>(compared)] == 0;
    if (order < 0 && (none || singular)) {
      ctx.Refuse("ord=" + std::to_string(order) + " of no elements, for which PyTorch raises");
    }
    return *zero;
  }
  if (!columns && !std::isinf(size)) {
    ctx.Refuse(
        "ord=" + std::to_string(order) +
        " is a norm of singular values; those of order 1, -1, inf, -inf and 'fro' are converted");
  }
  const Term sums = Reduce("sum", Abs(Measured(ctx)), {summed}, true);
  const Term norm = Reduce(order > 0 ? "max" : "min", sums, {compared}, true);
  return ctx.Reshape(Settle(norm), Kept(ctx.Tensor(SelfName(ctx)).sizes(), dims),
                     ctx.Result().sizes);
}

Results FrobeniusOver(const Context& ctx, const Sizes& dims) {
  const std::string order = ctx.String("ord");
  if (order == "nuc" && dims.size() == 2) {
    if (const auto zero = OfNothing(ctx, dims)) return *zero;
  }
  if (order != "fro") {
    ctx.Refuse("ord='" + order + "' is a norm of singular values; only 'fro' is converted");
  }
  return VectorNormOver(ctx, 2, dims);
}

Results MatrixNorm(Context& ctx) {
  const int64_t rank = ctx.Tensor(SelfName(ctx)).rank();
  const Sizes dims = ctx.Dims("dim", rank);
  if (!ctx.Value("ord").isString()) return MatrixNormOver(ctx, ctx.Double("ord"), dims);
  return FrobeniusOver(ctx, dims);
}

// torch.linalg.norm: of a vector, of a matrix, or, without an order, of all elements.
Results AnyNorm(Context& ctx) {
  const int64_t rank = ctx.Tensor(SelfName(ctx)).rank();
  const Sizes dims = DimsOrAll(ctx, rank);
  if (!ctx.Has("ord")) return VectorNormOver(ctx, 2, dims);
  if (ctx.Value("ord").isString()) return FrobeniusOver(ctx, dims);
  if (dims.size() == 2) return MatrixNormOver(ctx, ctx.Double("ord"), dims);
  return VectorNormOver(ctx, ctx.Double("ord"), dims);
}

Results Frobenius(Context& ctx) {
  return VectorNormOver(ctx, 2, DimsOrAll(ctx, ctx.Tensor("self").rank()));
}

// All dimensions but one, which is none for -1.
Sizes Others(const Context& ctx, int64_t rank) {
  Sizes dims = Counted(static_cast<size_t>(rank));
  const int64_t kept = ctx.Int("dim");
  std::erase_if(dims, [&](int64_t dim) { return dim == kept; });
  return dims;
}

Results NormExceptDim(Context& ctx) {
  const Operand v = ctx.Tensor("v");
  const Sizes others = Others(ctx, v.rank());
  const Term norm = NormOf(Lift(ctx, "v"), ctx.Double("pow"), others, true);
  return ctx.Reshape(Settle(norm), Kept(v.sizes(), others), ctx.Result().sizes);
}

// Slices whose norm is above a bound, scaled down to it.
Results Renorm(Context& ctx) {
  const Term x = Lift(ctx, "self");
  Sizes others = Counted(static_cast<size_t>(ctx.Tensor("self").rank()));
  const int64_t kept = ctx.Dim("dim", ctx.Tensor("self").rank());
  std::erase(others, kept);
  const Term norm = NormOf(x, ctx.Scalar("p").toDouble(), others, true);
  const double most = ctx.Scalar("maxnorm").toDouble();
  constexpr double kEpsilon = 1e-7;  // PyTorch's, against division by zero
  return Settle(x * Where(norm > most, most / (norm + kEpsilon), norm.Of(1)));
}

// Weights of a given length: v * (g / norm(v)).
Results WeightNorm(Context& ctx) {
  const Operand v = ctx.Tensor("v");
  const Term x = Lift(ctx, "v");
  const Sizes others = Others(ctx, v.rank());
  const Term norm = NormOf(x, 2, others, true);
  const Term g = Lift(ctx, "g");
  std::vector<Expr> results = {Settle(x * (g / norm))};
  if (ctx.NumResults() == 2) {
    results.push_back(ctx.Reshape(Settle(norm, 1), Kept(v.sizes(), others), ctx.Result(1).sizes));
  }
  return results;
}

const Registrar kNorm({
    {"aten::norm.Scalar", VectorNorm},
    {"aten::norm.ScalarOpt_dim", VectorNorm},
    {"aten::norm.ScalarOpt_dtype", VectorNorm},
    {"aten::norm.ScalarOpt_dim_dtype", VectorNorm},
    {"aten::linalg_vector_norm", VectorNorm},
    {"aten::linalg_matrix_norm", MatrixNorm},
    {"aten::linalg_matrix_norm.str_ord", MatrixNorm},
    {"aten::linalg_norm", AnyNorm},
    {"aten::linalg_norm.ord_str", AnyNorm},
    {"aten::frobenius_norm.dim", Frobenius},
    {"aten::norm_except_dim", NormExceptDim},
    {"aten::renorm", Renorm},
    {"aten::_weight_norm", WeightNorm},
    {"aten::_weight_norm_interface", WeightNorm},
});

}  // namespace
}  // namespace torch_tvm::convert
