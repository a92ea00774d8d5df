// Converters of integrals by the trapezoidal rule.
#include <algorithm>

#include "convert/term.h"

namespace torch_tvm::convert {
namespace {

// Twice the area under each interval: the distance of neighbours times the sum of their values.
struct Areas {
  Term doubled;
  int64_t dim;
};

Areas AreasOf(const Context& ctx) {
  const Operand y = ctx.Tensor("y");
  const ScalarType dtype = ctx.Result().dtype;
  if (!IsFloat(dtype)) ctx.Refuse("y holds integers");
  const ScalarType math = MathType(dtype);
  const int64_t dim = ctx.Dim("dim", y.rank());
  const int64_t count = y.sizes()[static_cast<size_t>(dim)];
  const auto neighbours = [&](const Term& x, int64_t axis, int64_t size) {
    return std::pair<Term, Term>{{ctx, ctx.Slice(x.expr, axis, 0, size - 1), math},
                                 {ctx, ctx.Slice(x.expr, axis, 1, size), math}};
  };
  const auto heights = neighbours(Lift(ctx, "y", dtype), dim, count);
  const Term sum = heights.first + heights.second;
  if (!ctx.Has("x")) return {sum * ctx.Scalar("dx"), dim};
  // One-dimensional places lie along the dimension; others broadcast to the values.
  const Operand x = ctx.Tensor("x");
  Sizes sizes(y.sizes().size(), 1);
  if (x.rank() == 1) {
    sizes[static_cast<size_t>(dim)] = x.sizes()[0];
  } else {
    std::copy(x.sizes().begin(), x.sizes().end(), sizes.end() - x.rank());
  }
  const int64_t size = sizes[static_cast<size_t>(dim)];
  if (size < 2) ctx.Refuse("x has no intervals along the dimension");
  const Term places(ctx, ctx.Reshape(Lift(ctx, "x", dtype).expr, x.sizes(), sizes), math);
  const auto ends = neighbours(places, dim, size);
  return {(ends.second - ends.first) * sum, dim};
}

bool HasIntervals(const Context& ctx) {
  const Operand y = ctx.Tensor("y");
  return y.sizes()[static_cast<size_t>(ctx.Dim("dim", y.rank()))] > 1;
}

Results Integral(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  if (!HasIntervals(ctx)) return ctx.Full(0, result.sizes, result.dtype);
  const Areas areas = AreasOf(ctx);
  return Settle(Reduce("sum", areas.doubled, {areas.dim}) / 2);
}

Results RunningIntegral(Context& ctx) {
  const Areas areas = AreasOf(ctx);
  const Term& doubled = areas.doubled;
  const Expr sums = ctx.Call("cumsum", {doubled.expr},
                             {{"axis", areas.dim}, {"dtype", DtypeName(doubled.dtype)}});
  return Settle(Term(ctx, sums, doubled.dtype) / 2);
}

const Registrar kIntegral({
    {"aten::trapezoid.x", Integral},
    {"aten::trapezoid.dx", Integral},
    {"aten::trapz.x", Integral},
    {"aten::trapz.dx", Integral},
    {"aten::cumulative_trapezoid.x", RunningIntegral},
    {"aten::cumulative_trapezoid.dx", RunningIntegral},
});

}  // namespace
}  // namespace torch_tvm::convert
