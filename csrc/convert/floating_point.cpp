// Converters of element-wise functions of the parts and the classes of numbers: signs, fractions,
// infinities, NaN, angles, bits.
#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "convert/term.h"

namespace torch_tvm::convert {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Expr Never(const Context& ctx) { return ctx.Full(false, ctx.Result().sizes, ScalarType::Bool); }

// Bools are their own sign.
Results Sign(Context& ctx) {
  if (ctx.Result().dtype == ScalarType::Bool) return ctx.Tensor("self").expr;
  return Settle(Apply("sign", Lift(ctx, "self")));
}

Results SignBitOf(Context& ctx) {
  const ScalarType dtype = ctx.Tensor("self").dtype();
  if (dtype == ScalarType::Bool || dtype == ScalarType::Byte) return Never(ctx);
  const Term x = Lift(ctx, "self", dtype);
  return (IsFloat(dtype) ? SignBit(x) : x < 0).expr;
}

Results CopySignOf(Context& ctx) { return Settle(CopySign(Lift(ctx, "self"), Lift(ctx, "other"))); }

// The neighbour of a number in the direction of another one: the next bits, but across zero.
Results NextAfter(Context& ctx) {
  const ScalarType dtype = ctx.Result().dtype;
  if (dtype != ScalarType::Float && dtype != ScalarType::Double) {
    ctx.Refuse(std::string("the result is ") + c10::toString(dtype) +
               "; float32 and float64 are converted");
  }
  const bool wide = dtype == ScalarType::Double;
  const ScalarType integer = wide ? ScalarType::Long : ScalarType::Int;
  const TensorInfo& result = ctx.Result();
  const auto spread = [&](const char* name) {
    return Term(ctx, ctx.BroadcastTo(Lift(ctx, name).expr, ctx.Tensor(name).sizes(), result.sizes),
                dtype);
  };
  const auto reinterpreted = [&](const Term& x, ScalarType to) {
    return Term(ctx, ctx.Call("reinterpret", {x.expr}, {{"dtype", DtypeName(to)}}), to);
  };
  const Term x = spread("self"), y = spread("other");
  const Term bits = reinterpreted(x, integer);
  const Term away = Where((x < y) == (x > 0), bits + 1, bits - 1);
  // Either sign of zero has the smallest number beside it, which arithmetic could flush to zero.
  const at::Scalar negative = wide ? std::numeric_limits<int64_t>::min() + 1
                                   : int64_t{std::numeric_limits<int32_t>::min()} + 1;
  const Term least = Where(y > 0, bits.Of(1), bits.Of(negative));
  const Term next = reinterpreted(Where((bits == 0) | (bits + bits == 0), least, away), dtype);
  return Where(IsNan(x) | IsNan(y), x + y, Where(x == y, y, next)).expr;
}

// The angle of the smaller side, then its place among the eight octants.
Results Atan2(Context& ctx) {
  const Term y = Lift(ctx, "self");
  const Term x = Lift(ctx, "other");
  const Term height = Abs(y), width = Abs(x);
  const Term longer = Max(height, width), shorter = Min(height, width);
  // 0 / 0 is an angle of 0 here, inf / inf one of 1.
  const Term quotient = Where(longer == 0, 0, Where(shorter == kInfinity, 1, shorter / longer));
  const Term steep = Apply("atan", quotient);
  const Term octant = Where(height > width, M_PI_2 - steep, steep);
  return Settle(CopySign(Where(SignBit(x), M_PI - octant, octant), y));
}

// The longer side is factored out, so that no square overflows. With an infinite side NaN does not
// matter.
Results Hypot(Context& ctx) {
  const Term a = Abs(Lift(ctx, "self")), b = Abs(Lift(ctx, "other"));
  const Term longer = Max(a, b), shorter = Min(a, b);
  const Term ratio = Where(longer == 0, 0, shorter / longer);
  const Term infinite = (a == kInfinity) | (b == kInfinity);
  return Settle(Where(infinite, kInfinity, longer * Sqrt(ratio * ratio + 1)));
}

// The other operand where one is NaN.
Converter IgnoringNan(const char* op, const char* op_on_bools) {
  return [=](Context& ctx) -> Results {
    const Term a = Lift(ctx, "self");
    const Term b = Lift(ctx, "other");
    if (!IsFloat(a.dtype)) {
      return Apply(a.dtype == ScalarType::Bool ? op_on_bools : op, a, b).expr;
    }
    return Settle(Where(IsNan(a), b, Where(IsNan(b), a, Apply(op, a, b))));
  };
}

// 0 below zero (and for NaN), 1 above, `values` at zero.
Results Heaviside(Context& ctx) {
  const ScalarType dtype = ctx.Result().dtype;
  if (dtype == ScalarType::Bool) {
    const Term self = Lift(ctx, "self");
    return (self | Lift(ctx, "values")).expr;
  }
  const Term x = Lift(ctx, "self");
  const Term step = Where(x > 0, x.Of(1), x.Of(0));
  return Settle(Where(x == 0, Lift(ctx, "values"), step));
}

Results Frac(Context& ctx) {
  const Term x = Lift(ctx, "self");
  return Settle(x - Apply("trunc", x));
}

Converter Scaled(double factor) {
  return [factor](Context& ctx) -> Results { return Settle(Lift(ctx, "self") * factor); };
}

at::Scalar Largest(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Half:
      return static_cast<double>(std::numeric_limits<c10::Half>::max());
    case ScalarType::BFloat16:
      return static_cast<double>(std::numeric_limits<c10::BFloat16>::max());
    case ScalarType::Float:
      return static_cast<double>(std::numeric_limits<float>::max());
    default:
      return std::numeric_limits<double>::max();
  }
}

Results NanToNum(Context& ctx) {
  const ScalarType dtype = ctx.Result().dtype;
  if (!IsFloat(dtype)) return ctx.Tensor("self").expr;
  const auto or_else = [&](const char* name, double absent) {
    return ctx.Has(name) ? ctx.Double(name) : absent;
  };
  const double largest = Largest(dtype).toDouble();
  const Term x = Lift(ctx, "self");
  const Term low = Where(x == -kInfinity, or_else("neginf", -largest), x);
  const Term high = Where(x == kInfinity, or_else("posinf", largest), low);
  return Settle(Where(IsNan(x), or_else("nan", 0), high));
}

Converter IsInfinity(double infinity) {
  return [infinity](Context& ctx) -> Results {
    const ScalarType dtype = ctx.Tensor("self").dtype();
    if (!IsFloat(dtype)) return Never(ctx);
    return (Lift(ctx, "self", dtype) == infinity).expr;
  };
}

Results IsReal(Context& ctx) { return ctx.Full(true, ctx.Result().sizes, ScalarType::Bool); }

// pi for negative numbers, NaN for NaN.
Results Angle(Context& ctx) {
  const Term x = Lift(ctx, "self");
  return Settle(Where(IsNan(x), x, Where(x < 0, x.Of(M_PI), x.Of(0))));
}

// |a - b| <= atol + rtol * |b|, each step rounded as eager PyTorch's tensors are. Equal infinities
// are close.
Results IsClose(Context& ctx) {
  const ScalarType dtype = ctx.Tensor("self").dtype();
  const bool floats = IsFloat(dtype);
  const Term a = Lift(ctx, "self", dtype), b = Lift(ctx, "other", dtype);
  const bool bools = dtype == ScalarType::Bool;
  Term close = bools ? a.As(ScalarType::Byte) == b.As(ScalarType::Byte) : a == b;
  if (ctx.Bool("equal_nan") && floats) close = close | (IsNan(a) & IsNan(b));
  const double rtol = ctx.Double("rtol"), atol = ctx.Double("atol");
  if (rtol == 0 && atol == 0) return close.expr;
  const ScalarType compared = floats ? dtype : c10::typeMetaToScalarType(at::get_default_dtype());
  const ScalarType math = MathType(compared);
  const Term other = b.As(math);
  const Term allowed = (Abs((other * rtol).Rounded(compared)) + atol).Rounded(compared);
  const Term actual = Abs((a.As(math) - other).Rounded(compared));
  return (close | (Test("isfinite", actual) & (actual <= allowed))).expr;
}

// self * 2^other; the power is computed in the dtype that pow(2.0, other) has.
Results Ldexp(Context& ctx) {
  const ScalarType dtype = at::result_type(at::Scalar(2.0), ctx.Meta("other"));
  const Term exponent = Lift(ctx, "other", dtype);
  const Term power = Apply("power", exponent.Of(2), exponent).Rounded(dtype);
  const Term self = Lift(ctx, "self");
  return Settle(self * power.As(self.dtype));
}

// self + weight * (end - self), from the nearer end.
Results Lerp(Context& ctx) {
  const Term self = Lift(ctx, "self");
  const Term end = Lift(ctx, "end");
  const Term distance = end - self;
  if (const auto known = KnownNumber(ctx, "weight")) {
    const double weight = known->toDouble();
    return Settle(std::abs(weight) < 0.5 ? self + distance * *known
                                         : end - distance * (1 - weight));
  }
  const Term weight = Lift(ctx, "weight");
  return Settle(Where(Abs(weight) < 0.5, self + weight * distance, end - distance * (1 - weight)));
}

Converter Shift(const char* op) {
  return [op](Context& ctx) -> Results {
    const ScalarType dtype = ctx.Result().dtype;
    if (IsFloat(dtype) || dtype == ScalarType::Bool) {
      ctx.Refuse(std::string("it shifts ") + c10::toString(dtype) +
                 "; only integers are converted");
    }
    return Apply(op, Lift(ctx, "self"), Lift(ctx, "other")).expr;
  };
}

Results Self(Context& ctx) { return ctx.Tensor("self").expr; }

const Registrar kParts({
    {"aten::sign", Sign},
    {"aten::sgn", Sign},
    {"aten::signbit", SignBitOf},
    {"aten::copysign.Tensor", CopySignOf},
    {"aten::copysign.Scalar", CopySignOf},
    {"aten::atan2", Atan2},
    {"aten::arctan2", Atan2},
    {"aten::hypot", Hypot},
    {"aten::nextafter", NextAfter},
    {"aten::fmax", IgnoringNan("maximum", "logical_or")},
    {"aten::fmin", IgnoringNan("minimum", "logical_and")},
    {"aten::heaviside", Heaviside},
    {"aten::frac", Frac},
    {"aten::deg2rad", Scaled(M_PI / 180)},
    {"aten::rad2deg", Scaled(180 / M_PI)},
    {"aten::nan_to_num", NanToNum},
    {"aten::isposinf", IsInfinity(kInfinity)},
    {"aten::isneginf", IsInfinity(-kInfinity)},
    {"aten::isreal", IsReal},
    {"aten::isclose", IsClose},
    {"aten::angle", Angle},
    {"aten::real", Self},
    {"aten::conj_physical", Self},
    {"aten::resolve_conj", Self},
    {"aten::resolve_neg", Self},
    {"aten::ldexp.Tensor", Ldexp},
    {"aten::lerp.Scalar", Lerp},
    {"aten::lerp.Tensor", Lerp},
    {"aten::bitwise_left_shift.Tensor", Shift("left_shift")},
    {"aten::bitwise_left_shift.Tensor_Scalar", Shift("left_shift")},
    {"aten::bitwise_left_shift.Scalar_Tensor", Shift("left_shift")},
    {"aten::bitwise_right_shift.Tensor", Shift("right_shift")},
    {"aten::bitwise_right_shift.Tensor_Scalar", Shift("right_shift")},
    {"aten::bitwise_right_shift.Scalar_Tensor", Shift("right_shift")},
    {"aten::__lshift__.Tensor", Shift("left_shift")},
    {"aten::__lshift__.Scalar", Shift("left_shift")},
    {"aten::__rshift__.Tensor", Shift("right_shift")},
    {"aten::__rshift__.Scalar", Shift("right_shift")},
});

}  // namespace
}  // namespace torch_tvm::convert
