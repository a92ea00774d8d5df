// Converters of products and distances of vectors: outer products, cross products, norms of
// differences, angles.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "convert/norm.h"
#include "convert/term.h"

namespace torch_tvm::convert {
namespace {

Term Multiplied(const Term& a, const Term& b) {
  return a.dtype == ScalarType::Bool ? a & b : a * b;
}

Term Reshaped(const Term& x, const Sizes& from, const Sizes& to) {
  return {*x.ctx, x.ctx->Reshape(x.expr, from, to), x.dtype};
}

Term OuterOf(const Context& ctx, const char* left, const char* right) {
  const int64_t rows = ctx.Tensor(left).info.numel();
  const Term a = Reshaped(Lift(ctx, left), {rows}, {rows, 1});
  return Multiplied(a, Lift(ctx, right));
}

Results Outer(Context& ctx) { return Settle(OuterOf(ctx, "self", "vec2")); }

// beta * self + alpha * outer(vec1, vec2); with beta = 0 self is not looked at.
Results AddOuter(Context& ctx) {
  Term product = OuterOf(ctx, "vec1", "vec2");
  if (product.dtype == ScalarType::Bool) ctx.Refuse("the operands are bool");
  if (ctx.Double("alpha") != 1) product = product * ctx.Scalar("alpha");
  if (ctx.Double("beta") == 0) {
    return ctx.Cast(product.expr, product.dtype, ctx.Result().dtype);
  }
  const Term self = Lift(ctx, "self");
  return Settle((ctx.Double("beta") == 1 ? self : self * ctx.Scalar("beta")) + product);
}

// Every element of self times the whole of other, in its place.
Results Kron(Context& ctx) {
  const auto rank = static_cast<size_t>(ctx.Result().rank());
  const auto padded = [&](const Operand& operand) {
    Sizes sizes(rank - operand.sizes().size(), 1);
    sizes.insert(sizes.end(), operand.sizes().begin(), operand.sizes().end());
    return sizes;
  };
  const Operand self = ctx.Tensor("self"), other = ctx.Tensor("other");
  const Sizes outer = padded(self), inner = padded(other);
  Sizes outer_spread, inner_spread, whole;
  for (size_t dim = 0; dim < rank; ++dim) {
    outer_spread.insert(outer_spread.end(), {outer[dim], 1});
    inner_spread.insert(inner_spread.end(), {1, inner[dim]});
    whole.insert(whole.end(), {outer[dim], inner[dim]});
  }
  const Term product = Multiplied(Reshaped(Lift(ctx, "self"), self.sizes(), outer_spread),
                                  Reshaped(Lift(ctx, "other"), other.sizes(), inner_spread));
  return Settle(Reshaped(product, whole, ctx.Result().sizes));
}

// The dimension of three elements that torch.cross looks for when none is given.
int64_t CrossDim(const Context& ctx) {
  const int64_t rank = ctx.Result().rank();
  if (ctx.Has("dim")) return ctx.Dim("dim", rank);
  const Sizes sizes = ctx.Tensor("self").sizes();
  return std::find(sizes.begin(), sizes.end(), 3) - sizes.begin();
}

Results Cross(Context& ctx) {
  const int64_t dim = CrossDim(ctx);
  // The three components turned by `places`.
  const auto turned = [&](const Term& x, int64_t places) {
    const Expr head = ctx.Slice(x.expr, dim, places, 3);
    return Term(ctx, ctx.Concatenate({head, ctx.Slice(x.expr, dim, 0, places)}, dim), x.dtype);
  };
  const Term a = Lift(ctx, "self"), b = Lift(ctx, "other");
  return Settle(turned(a, 1) * turned(b, 2) - turned(a, 2) * turned(b, 1));
}

// The sum of products along one dimension.
Converter Dot(const char* left, const char* right) {
  return [=](Context& ctx) -> Results {
    if (ctx.Result().dtype == ScalarType::Bool) ctx.Refuse("the operands are bool");
    const Term product = Lift(ctx, left) * Lift(ctx, right);
    const int64_t rank = std::max(ctx.Tensor(left).rank(), ctx.Tensor(right).rank());
    const int64_t dim = ctx.Has("dim") ? ctx.Dim("dim", rank) : 0;
    return Settle(Reduce("sum", product, {dim}));
  };
}

// -- Distances

Results Dist(Context& ctx) {
  const Term difference = Lift(ctx, "self") - Lift(ctx, "other");
  const Sizes a = ctx.Tensor("self").sizes(), b = ctx.Tensor("other").sizes();
  const Sizes dims = Counted(std::max(a.size(), b.size()));
  if (ctx.Tensor("self").info.numel() == 0 || ctx.Tensor("other").info.numel() == 0) {
    return ctx.Full(0, {}, ctx.Result().dtype);
  }
  return Settle(NormOf(difference, ctx.Double("p"), dims, false));
}

// All pairs of rows: the rows of x1 stand across those of x2.
Results PairwiseOfRows(Context& ctx) {
  const Operand x1 = ctx.Tensor("x1"), x2 = ctx.Tensor("x2");
  const auto spread = [&](const char* name, const Operand& operand, int64_t behind) {
    Sizes sizes = operand.sizes();
    sizes.insert(sizes.end() - behind, 1);
    return Reshaped(Lift(ctx, name), operand.sizes(), sizes);
  };
  if (x1.sizes().back() == 0) return ctx.Full(0, ctx.Result().sizes, ctx.Result().dtype);
  const Term difference = spread("x1", x1, 1) - spread("x2", x2, 2);
  return Settle(NormOf(difference, ctx.Double("p"), {ctx.Result().rank()}, false));
}

Results PairwiseDistance(Context& ctx) {
  const Term difference = Lift(ctx, "x1") - Lift(ctx, "x2") + ctx.Scalar("eps");
  const int64_t rank = std::max(ctx.Tensor("x1").rank(), ctx.Tensor("x2").rank());
  return Settle(NormOf(difference, ctx.Double("p"), {rank - 1}, ctx.Bool("keepdim")));
}

// Both sides are divided by their lengths, which count as eps at least, before they are multiplied.
// Distances of every row from those behind it, by tables of their numbers.
Results PairsOfRows(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const TensorInfo& result = ctx.Result();
  const int64_t rows = self.sizes().at(0), count = result.numel();
  if (self.sizes().at(1) == 0) return ctx.Full(0, result.sizes, result.dtype);
  std::vector<double> former, latter;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = i + 1; j < rows; ++j) {
      former.push_back(static_cast<double>(i));
      latter.push_back(static_cast<double>(j));
    }
  }
  const Term x = Lift(ctx, "self");
  const auto taken = [&](const std::vector<double>& numbers) {
    const Expr index = ctx.ConstantTensor(numbers, {count}, ScalarType::Long);
    return Term(ctx, ctx.Call("take", {x.expr, index}, {{"axis", 0}}), x.dtype);
  };
  return Settle(NormOf(taken(former) - taken(latter), ctx.Double("p"), {1}, false));
}

Results CosineSimilarity(Context& ctx) {
  const ScalarType dtype = ctx.Result().dtype;
  const int64_t rank = std::max(ctx.Tensor("x1").rank(), ctx.Tensor("x2").rank());
  const int64_t dim = ctx.Dim("dim", std::max<int64_t>(rank, 1));
  const auto unit = [&](const char* name) {
    const Operand operand = ctx.Tensor(name);
    Term x = Lift(ctx, name, dtype);
    Sizes sizes(static_cast<size_t>(rank) - operand.sizes().size(), 1);
    sizes.insert(sizes.end(), operand.sizes().begin(), operand.sizes().end());
    x = Reshaped(x, operand.sizes(), sizes);
    if (rank == 0) return x / Max(Abs(x), x.Of(ctx.Scalar("eps")));
    // Broadcasting comes before the lengths: an element that is repeated counts as often.
    const auto at = static_cast<size_t>(dim);
    const Sizes a = ctx.Tensor("x1").sizes(), b = ctx.Tensor("x2").sizes();
    int64_t extent = 1;
    for (const Sizes* side : {&a, &b}) {
      const size_t lead = static_cast<size_t>(rank) - side->size();
      if (at >= lead) extent = std::max(extent, (*side)[at - lead]);
    }
    if (sizes[at] != extent) {
      Sizes wide = sizes;
      wide[at] = extent;
      x.expr = ctx.BroadcastTo(x.expr, sizes, wide);
    }
    return x / Max(NormOf(x, 2, {dim}, true), x.Of(ctx.Scalar("eps")));
  };
  const Term product = unit("x1") * unit("x2");
  return Settle(rank == 0 ? product : Reduce("sum", product, {dim}));
}

const Registrar kDistance({
    {"aten::outer", Outer},
    {"aten::ger", Outer},
    {"aten::addr", AddOuter},
    {"aten::kron", Kron},
    {"aten::cross", Cross},
    {"aten::linalg_cross", Cross},
    {"aten::linalg_vecdot", Dot("x", "y")},
    {"aten::vdot", Dot("self", "other")},
    {"aten::dist", Dist},
    {"aten::cdist", PairwiseOfRows},
    {"aten::_cdist_forward", PairwiseOfRows},
    {"aten::pairwise_distance", PairwiseDistance},
    {"aten::pdist", PairsOfRows},
    {"aten::cosine_similarity", CosineSimilarity},
});

}  // namespace
}  // namespace torch_tvm::convert
