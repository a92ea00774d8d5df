// Converters of activation functions made of exponentials, of gated and of shrinking ones.
#include <cmath>
#include <limits>

#include "convert/term.h"

namespace torch_tvm::convert {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Results EluOf(Context& ctx, double alpha, double scale, double input_scale) {
  const Term x = Lift(ctx, "self");
  const auto times = [](const Term& term, double factor) {
    return factor == 1 ? term : term * factor;
  };
  const Term negative = times(Expm1(times(x, input_scale)), alpha * scale);
  return Settle(Where(x < 0, negative, times(x, scale)));
}

Results Elu(Context& ctx) {
  return EluOf(ctx, ctx.Double("alpha"), ctx.Double("scale"), ctx.Double("input_scale"));
}

Results Celu(Context& ctx) {
  const double alpha = ctx.Double("alpha");
  return EluOf(ctx, alpha, 1, 1 / alpha);
}

// The constants of the paper on self-normalising networks, in the digits of PyTorch's documentation
// and more.
Results Selu(Context& ctx) {
  return EluOf(ctx, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 1);
}

Results Softplus(Context& ctx) {
  const Term x = Lift(ctx, "self");
  const double beta = ctx.Double("beta");
  const Term scaled = beta == 1 ? x : x * beta;
  const Term soft = Log1p(Exp(scaled));
  return Settle(
      Where(scaled > ctx.Scalar("threshold"), x, beta == 1 ? soft : soft / ctx.Scalar("beta")));
}

Results LogSigmoidOf(Context& ctx) { return Settle(LogSigmoid(Lift(ctx, "self"))); }

// x * tanh(log(1 + e^x)), where tanh(log(1 + e)) = e (e + 2) / (e (e + 2) + 2): one exponential.
// From 20 on the quotient is 1.
Results Mish(Context& ctx) {
  const Term x = Lift(ctx, "self");
  const Term power = Exp(Min(x, x.Of(20)));
  const Term numerator = power * (power + 2);
  return Settle(x * (numerator / (numerator + 2)));
}

Results Glu(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const int64_t dim = ctx.Dim("dim", self.rank());
  const Expr halves = ctx.Call("split", {ctx.Cast(self, MathType(self.dtype()))},
                               {{"indices_or_sections", ffi::Any(int64_t{2})}, {"axis", dim}});
  const auto half = [&](int64_t index) {
    return Term(ctx, relay::TupleGetItem(halves, index, halves->span), MathType(self.dtype()));
  };
  return Settle(half(0) * Apply("sigmoid", half(1)));
}

Results Hardshrink(Context& ctx) {
  const Term x = Lift(ctx, "self");
  const at::Scalar bound = ctx.Scalar("lambd");
  const Term inside = (x >= -bound.toDouble()) & (x <= bound);
  return Settle(Where(inside, 0, x));
}

// Products with zero keep NaN.
Results Softshrink(Context& ctx) {
  const Term x = Lift(ctx, "self");
  const at::Scalar bound = ctx.Scalar("lambd");
  const double negated = -bound.toDouble();
  return Settle(Where(x > bound, x - bound, Where(x < negated, x + bound, x * 0)));
}

// Evaluated, its slope is the mean of the bounds.
Results Rrelu(Context& ctx) {
  if (ctx.Bool("training")) ctx.Refuse("training=True is random");
  const Term x = Lift(ctx, "self");
  const double slope = (ctx.Double("lower") + ctx.Double("upper")) / 2;
  return Settle({ctx, ctx.Call("nn.leaky_relu", {x.expr}, {{"alpha", slope}}), x.dtype});
}

// The logarithm of p / (1 - p), of p clamped to eps .. 1 - eps if that is given.
Results Logit(Context& ctx) {
  Term p = Lift(ctx, "self");
  if (ctx.Has("eps")) {
    const Term low = p.Of(ctx.Scalar("eps"));
    const Term high = p.Of(1 - ctx.Double("eps"));
    p = Where(p < low, low, Where(p > high, high, p));
  }
  return Settle(Log(p / (1 - p)));
}

Results Log1pOf(Context& ctx) { return Settle(Log1p(Lift(ctx, "self"))); }
Results Expm1Of(Context& ctx) { return Settle(Expm1(Lift(ctx, "self"))); }

Results Exp2(Context& ctx) {
  const Term x = Lift(ctx, "self");
  return Settle(Apply("power", x.Of(2), x));
}

// log(e^a + e^b) and log2(2^a + 2^b) around the larger one. Equal infinities stay.
Results LogAddExp(Context& ctx) {
  const Term a = Lift(ctx, "self");
  const Term b = Lift(ctx, "other");
  const Term sum = Max(a, b) + Log1p(Exp(-Abs(a - b)));
  return Settle(Where((a == b) & Test("isinf", a), a, sum));
}

Results LogAddExp2(Context& ctx) {
  const Term a = Lift(ctx, "self");
  const Term b = Lift(ctx, "other");
  const Term less = Apply("power", a.Of(2), -Abs(a - b));
  const Term sum = Max(a, b) + Log1p(less) * M_LOG2E;
  return Settle(Where((a == b) & Test("isinf", a), a, sum));
}

// x * log(y), zero for x = 0 unless y is NaN.
Converter ProductWithLog(Term (*logarithm)(const Term&)) {
  return [logarithm](Context& ctx) -> Results {
    const Term x = Lift(ctx, "self");
    const Term y = Lift(ctx, "other");
    return Settle(Where(IsNan(y), y, Where(x == 0, 0, x * logarithm(y))));
  };
}

// -x log(x)
Results Entropy(Context& ctx) {
  const Term x = Lift(ctx, "self");
  const Term rest = Where(x == 0, 0, Where(x < 0, -kInfinity, x));  // NaN stays
  return Settle(Where(x > 0, -x * Log(x), rest));
}

// sin(pi x) / (pi x)
Results Sinc(Context& ctx) {
  const Term x = Lift(ctx, "self");
  const Term angle = x * M_PI;
  return Settle(Where(x == 0, 1, Apply("sin", angle) / angle));
}

const Registrar kExponential({
    {"aten::elu", Elu},
    {"aten::celu", Celu},
    {"aten::selu", Selu},
    {"aten::softplus", Softplus},
    {"aten::log_sigmoid", LogSigmoidOf},
    {"aten::mish", Mish},
    {"aten::glu", Glu},
    {"aten::hardshrink", Hardshrink},
    {"aten::softshrink", Softshrink},
    {"aten::rrelu", Rrelu, RequireFalse("training")},
    {"aten::logit", Logit},
    {"aten::special_logit", Logit},
    {"aten::log1p", Log1pOf},
    {"aten::special_log1p", Log1pOf},
    {"aten::expm1", Expm1Of},
    {"aten::special_expm1", Expm1Of},
    {"aten::exp2", Exp2},
    {"aten::special_exp2", Exp2},
    {"aten::logaddexp", LogAddExp},
    {"aten::logaddexp2", LogAddExp2},
    {"aten::xlogy.Tensor", ProductWithLog(Log)},
    {"aten::xlogy.Scalar_Other", ProductWithLog(Log)},
    {"aten::xlogy.Scalar_Self", ProductWithLog(Log)},
    {"aten::special_xlogy", ProductWithLog(Log)},
    {"aten::special_xlogy.other_scalar", ProductWithLog(Log)},
    {"aten::special_xlogy.self_scalar", ProductWithLog(Log)},
    {"aten::special_xlog1py", ProductWithLog(Log1p)},
    {"aten::special_xlog1py.other_scalar", ProductWithLog(Log1p)},
    {"aten::special_xlog1py.self_scalar", ProductWithLog(Log1p)},
    {"aten::special_entr", Entropy},
    {"aten::sinc", Sinc},
    {"aten::special_sinc", Sinc},
});

}  // namespace
}  // namespace torch_tvm::convert
