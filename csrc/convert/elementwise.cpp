// Converters of arithmetic, comparison and logic, one element at a time.
#include <ATen/ATen.h>

#include <cmath>

#include "convert/broadcast.h"
#include "convert/context.h"

namespace torch_tvm::convert {
namespace {

// dtype-in, dtype-out operators: computed in MathType of the result, rounded once.
Converter Unary(const char* op) {
  return [op](Context& ctx) -> Results {
    const ScalarType result = ctx.Result().dtype;
    const ScalarType math = MathType(result);
    return ctx.Cast(ctx.Call(op, {OperandAs(ctx, "self", result)}), math, result);
  };
}

// Operators that leave integers as they are (ceil, floor, ...).
Converter RoundingUnary(const char* op) {
  return [op](Context& ctx) -> Results {
    if (!IsFloat(ctx.Result().dtype)) return ctx.Tensor("self").expr;
    if (ctx.Has("decimals") && ctx.Int("decimals") != 0) ctx.Refuse("decimals is not 0");
    return Unary(op)(ctx);
  };
}

// isnan, isinf, isfinite: integers and bools are looked at as floats that hold them.
Converter Classify(const char* op) {
  return [op](Context& ctx) -> Results {
    const Operand self = ctx.Tensor("self");
    const ScalarType math = IsFloat(self.dtype()) ? MathType(self.dtype()) : ScalarType::Float;
    return ctx.Call(op, {ctx.Cast(self, math)});
  };
}

// scale * expr in dtype, or expr itself for scale 1.
Expr Scaled(const Context& ctx, Expr expr, const at::Scalar& scale, ScalarType dtype) {
  if (scale.toDouble() == 1) return expr;
  return ctx.Call("multiply", {expr, ctx.Constant(scale, dtype)});
}

Results AddOrSubtract(Context& ctx, const char* op, const char* left, const char* right) {
  const ScalarType result = ctx.Result().dtype;
  if (result == ScalarType::Bool) {  // PyTorch has no difference of bools
    return ctx.Call("logical_or", {OperandAs(ctx, left, result), OperandAs(ctx, right, result)});
  }
  const ScalarType math = MathType(result);
  const Expr scaled = Scaled(ctx, OperandAs(ctx, right, result),
                             ctx.Has("alpha") ? ctx.Scalar("alpha") : at::Scalar(1), math);
  return ctx.Cast(ctx.Call(op, {OperandAs(ctx, left, result), scaled}), math, result);
}

Results Add(Context& ctx) { return AddOrSubtract(ctx, "add", "self", "other"); }
Results Subtract(Context& ctx) { return AddOrSubtract(ctx, "subtract", "self", "other"); }
Results ReverseSubtract(Context& ctx) { return AddOrSubtract(ctx, "subtract", "other", "self"); }

// Operators of two operands of the result's dtype.
Converter Binary(const char* op, const char* op_on_bools = nullptr) {
  return [op, op_on_bools](Context& ctx) -> Results {
    const ScalarType result = ctx.Result().dtype;
    const char* chosen = op;
    if (result == ScalarType::Bool) {
      if (op_on_bools == nullptr) ctx.Refuse("the operands are bool");
      chosen = op_on_bools;
    }
    const ScalarType math = MathType(result);
    const Expr value =
        ctx.Call(chosen, {OperandAs(ctx, "self", result), OperandAs(ctx, "other", result)});
    return ctx.Cast(value, math, result);
  };
}

// PyTorch raises for integers divided by zero; the kernels give something.
void RequireDivisor(Context& ctx, const Expr& divisor, ScalarType dtype) {
  if (IsFloat(dtype)) return;
  if (const auto number = KnownNumber(ctx, "other")) {
    if (number->toDouble() == 0) ctx.Refuse("it divides integers by zero");
    return;
  }
  ctx.RefuseIf(ctx.Call("equal", {divisor, ctx.Constant(0, dtype)}),
               "a division of integers by zero");
}

// floor_divide, remainder, fmod and div with a rounding mode.
Results DivideRounded(Context& ctx, const char* op) {
  const ScalarType result = ctx.Result().dtype;
  if (result == ScalarType::Bool) ctx.Refuse("the operands are bool");
  const ScalarType math = MathType(result);
  const Expr left = OperandAs(ctx, "self", result);
  const Expr right = OperandAs(ctx, "other", result);
  RequireDivisor(ctx, right, result);
  if (IsFloat(result) && std::string(op) == "trunc_divide") {
    return ctx.Cast(ctx.Call("trunc", {ctx.Call("divide", {left, right})}), math, result);
  }
  return ctx.Cast(ctx.Call(op, {left, right}), math, result);
}

Results Divide(Context& ctx) {
  if (!ctx.Has("rounding_mode")) return Binary("divide")(ctx);
  const std::string mode = ctx.String("rounding_mode");
  if (mode == "floor") return DivideRounded(ctx, "floor_divide");
  if (mode == "trunc") return DivideRounded(ctx, "trunc_divide");
  ctx.Refuse("rounding_mode='" + mode + "' is unknown");
}

Converter Division(const char* op) {
  return [op](Context& ctx) { return DivideRounded(ctx, op); };
}

// base * base * ... by repeated squaring; exponent >= 1.
Expr IntegerPower(const Context& ctx, Expr base, int64_t exponent) {
  std::optional<Expr> product;
  for (;; base = ctx.Call("multiply", {base, base})) {
    if (exponent % 2 == 1) product = product ? ctx.Call("multiply", {*product, base}) : base;
    exponent /= 2;
    if (exponent == 0) return *product;
  }
}

// The exponents for which PyTorch takes a shorter way than pow, with another rounding.
std::optional<Expr> ShortPower(const Context& ctx, const Expr& base, double exponent,
                               ScalarType dtype) {
  const auto inverse = [&](const Expr& value) {
    return ctx.Call("divide", {ctx.Constant(1, dtype), value});
  };
  if (exponent == 1) return base;
  if (exponent == 2 || exponent == 3)
    return IntegerPower(ctx, base, static_cast<int64_t>(exponent));
  if (!IsFloat(dtype)) return std::nullopt;
  if (exponent == 0.5) return ctx.Call("sqrt", {base});
  if (exponent == -0.5) return ctx.Call("rsqrt", {base});
  if (exponent == -1) return inverse(base);
  if (exponent == -2) return inverse(ctx.Call("multiply", {base, base}));
  return std::nullopt;
}

Results PowerOfNumber(Context& ctx, double exponent) {
  const TensorInfo& result = ctx.Result();
  const ScalarType math = MathType(result.dtype);
  if (result.dtype == ScalarType::Bool) ctx.Refuse("the base is bool");
  if (exponent == 0) return ctx.Full(1, result.sizes, result.dtype);
  const Expr base = OperandAs(ctx, "self", result.dtype);
  // For float16 PyTorch has no shorter way to roots: -0.0 and -inf give pow's results, not sqrt's.
  const bool half_root = result.dtype == ScalarType::Half && std::abs(exponent) == 0.5;
  if (const auto value = half_root ? std::nullopt : ShortPower(ctx, base, exponent, math)) {
    return ctx.Cast(*value, math, result.dtype);
  }
  if (!IsFloat(math)) {
    if (exponent < 0) ctx.Refuse("PyTorch raises for integers to a negative power");
    return IntegerPower(ctx, base, static_cast<int64_t>(exponent));
  }
  return ctx.Cast(ctx.Call("power", {base, ctx.Constant(exponent, math)}), math, result.dtype);
}

Results Power(Context& ctx) {
  if (const auto exponent = KnownNumber(ctx, "exponent")) {
    return PowerOfNumber(ctx, exponent->toDouble());
  }
  const ScalarType result = ctx.Result().dtype;
  if (result == ScalarType::Bool) ctx.Refuse("the base and the exponent are bool");
  const Expr value =
      ctx.Call("power", {OperandAs(ctx, "self", result), OperandAs(ctx, "exponent", result)});
  return ctx.Cast(value, MathType(result), result);
}

Results Reciprocal(Context& ctx) {
  const ScalarType result = ctx.Result().dtype;
  const ScalarType math = MathType(result);
  const Expr one = ctx.Constant(1, math);
  return ctx.Cast(ctx.Call("divide", {one, OperandAs(ctx, "self", result)}), math, result);
}

Results Square(Context& ctx) {
  const ScalarType result = ctx.Result().dtype;
  if (result == ScalarType::Bool) ctx.Refuse("self is bool");
  const ScalarType math = MathType(result);
  const Expr self = OperandAs(ctx, "self", result);
  return ctx.Cast(ctx.Call("multiply", {self, self}), math, result);
}

Results Absolute(Context& ctx) {
  if (ctx.Result().dtype == ScalarType::Bool || ctx.Result().dtype == ScalarType::Byte) {
    return ctx.Tensor("self").expr;
  }
  return Unary("abs")(ctx);
}

// Comparisons happen in the dtype that PyTorch would promote both operands to. Bools are compared
// as uint8: Relay orders no bools.
Converter Compare(const char* op) {
  return [op](Context& ctx) -> Results {
    ScalarType common = PromotedType(ctx, "self", "other");
    if (common == ScalarType::Bool) common = ScalarType::Byte;
    return ctx.Call(op, {Rounded(ctx, "self", common), Rounded(ctx, "other", common)});
  };
}

Converter Logical(const char* op) {
  return [op](Context& ctx) -> Results {
    const ScalarType boolean = ScalarType::Bool;
    return ctx.Call(op, {OperandAs(ctx, "self", boolean), OperandAs(ctx, "other", boolean)});
  };
}

Results LogicalNot(Context& ctx) {
  return ctx.Call("logical_not", {OperandAs(ctx, "self", ScalarType::Bool)});
}

Results BitwiseNot(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  return ctx.Call(self.dtype() == ScalarType::Bool ? "logical_not" : "bitwise_not", {self.expr});
}

// addcmul and addcdiv: self + value * (tensor1 op tensor2)
Converter AddCombined(const char* op) {
  return [op](Context& ctx) -> Results {
    const ScalarType result = ctx.Result().dtype;
    const ScalarType math = MathType(result);
    const Expr first = Scaled(ctx, OperandAs(ctx, "tensor1", result), ctx.Scalar("value"), math);
    const Expr combined = ctx.Call(op, {first, OperandAs(ctx, "tensor2", result)});
    return ctx.Cast(ctx.Call("add", {OperandAs(ctx, "self", result), combined}), math, result);
  };
}

const Converter kAnd = Binary("bitwise_and", "logical_and");
const Converter kOr = Binary("bitwise_or", "logical_or");
const Converter kXor = Binary("bitwise_xor", "logical_xor");

const Registrar kArithmetic({
    {"aten::add.Tensor", Add},
    {"aten::add.Scalar", Add},
    {"aten::sub.Tensor", Subtract},
    {"aten::sub.Scalar", Subtract},
    {"aten::subtract.Tensor", Subtract},
    {"aten::subtract.Scalar", Subtract},
    {"aten::rsub.Tensor", ReverseSubtract},
    {"aten::rsub.Scalar", ReverseSubtract},
    {"aten::mul.Tensor", Binary("multiply", "logical_and")},
    {"aten::mul.Scalar", Binary("multiply", "logical_and")},
    {"aten::multiply.Tensor", Binary("multiply", "logical_and")},
    {"aten::multiply.Scalar", Binary("multiply", "logical_and")},
    {"aten::div.Tensor", Divide},
    {"aten::div.Scalar", Divide},
    {"aten::div.Tensor_mode", Divide},
    {"aten::div.Scalar_mode", Divide},
    {"aten::divide.Tensor", Divide},
    {"aten::divide.Scalar", Divide},
    {"aten::divide.Tensor_mode", Divide},
    {"aten::divide.Scalar_mode", Divide},
    {"aten::true_divide.Tensor", Divide},
    {"aten::true_divide.Scalar", Divide},
    {"aten::floor_divide", Division("floor_divide")},
    {"aten::floor_divide.Scalar", Division("floor_divide")},
    {"aten::remainder.Tensor", Division("floor_mod")},
    {"aten::remainder.Scalar", Division("floor_mod")},
    {"aten::remainder.Scalar_Tensor", Division("floor_mod")},
    {"aten::fmod.Tensor", Division("trunc_mod")},
    {"aten::fmod.Scalar", Division("trunc_mod")},
    {"aten::pow.Tensor_Scalar", Power},
    {"aten::pow.Tensor_Tensor", Power},
    {"aten::pow.Scalar", Power},
    {"aten::float_power.Tensor_Tensor", Power},
    {"aten::float_power.Tensor_Scalar", Power},
    {"aten::float_power.Scalar", Power},
    {"aten::maximum", Binary("maximum", "logical_or")},
    {"aten::minimum", Binary("minimum", "logical_and")},
    {"aten::max.other", Binary("maximum", "logical_or")},
    {"aten::min.other", Binary("minimum", "logical_and")},
    {"aten::addcmul", AddCombined("multiply")},
    {"aten::addcdiv", AddCombined("divide")},
});

const Registrar kUnary({
    {"aten::neg", Unary("negative")},
    {"aten::negative", Unary("negative")},
    {"aten::abs", Absolute},
    {"aten::absolute", Absolute},
    {"aten::exp", Unary("exp")},
    {"aten::log", Unary("log")},
    {"aten::log2", Unary("log2")},
    {"aten::log10", Unary("log10")},
    {"aten::sqrt", Unary("sqrt")},
    {"aten::rsqrt", Unary("rsqrt")},
    {"aten::sin", Unary("sin")},
    {"aten::cos", Unary("cos")},
    {"aten::tan", Unary("tan")},
    {"aten::tanh", Unary("tanh")},
    {"aten::sinh", Unary("sinh")},
    {"aten::cosh", Unary("cosh")},
    {"aten::asin", Unary("asin")},
    {"aten::acos", Unary("acos")},
    {"aten::atan", Unary("atan")},
    {"aten::asinh", Unary("asinh")},
    {"aten::acosh", Unary("acosh")},
    {"aten::atanh", Unary("atanh")},
    {"aten::arcsin", Unary("asin")},
    {"aten::arccos", Unary("acos")},
    {"aten::arctan", Unary("atan")},
    {"aten::arcsinh", Unary("asinh")},
    {"aten::arccosh", Unary("acosh")},
    {"aten::arctanh", Unary("atanh")},
    {"aten::erf", Unary("erf")},
    {"aten::special_erf", Unary("erf")},
    {"aten::sigmoid", Unary("sigmoid")},
    {"aten::special_expit", Unary("sigmoid")},
    {"aten::floor", RoundingUnary("floor")},
    {"aten::ceil", RoundingUnary("ceil")},
    {"aten::trunc", RoundingUnary("trunc")},
    {"aten::fix", RoundingUnary("trunc")},
    {"aten::round", RoundingUnary("round")},
    {"aten::round.decimals", RoundingUnary("round")},
    {"aten::isnan", Classify("isnan")},
    {"aten::isinf", Classify("isinf")},
    {"aten::isfinite", Classify("isfinite")},
    {"aten::reciprocal", Reciprocal},
    {"aten::square", Square},
});

const Registrar kComparison({
    {"aten::eq.Tensor", Compare("equal")},
    {"aten::eq.Scalar", Compare("equal")},
    {"aten::ne.Tensor", Compare("not_equal")},
    {"aten::ne.Scalar", Compare("not_equal")},
    {"aten::lt.Tensor", Compare("less")},
    {"aten::lt.Scalar", Compare("less")},
    {"aten::le.Tensor", Compare("less_equal")},
    {"aten::le.Scalar", Compare("less_equal")},
    {"aten::gt.Tensor", Compare("greater")},
    {"aten::gt.Scalar", Compare("greater")},
    {"aten::ge.Tensor", Compare("greater_equal")},
    {"aten::ge.Scalar", Compare("greater_equal")},
    {"aten::not_equal.Tensor", Compare("not_equal")},
    {"aten::not_equal.Scalar", Compare("not_equal")},
    {"aten::less.Tensor", Compare("less")},
    {"aten::less.Scalar", Compare("less")},
    {"aten::less_equal.Tensor", Compare("less_equal")},
    {"aten::less_equal.Scalar", Compare("less_equal")},
    {"aten::greater.Tensor", Compare("greater")},
    {"aten::greater.Scalar", Compare("greater")},
    {"aten::greater_equal.Tensor", Compare("greater_equal")},
    {"aten::greater_equal.Scalar", Compare("greater_equal")},
});

const Registrar kLogic({
    {"aten::logical_and", Logical("logical_and")},
    {"aten::logical_or", Logical("logical_or")},
    {"aten::logical_xor", Logical("logical_xor")},
    {"aten::logical_not", LogicalNot},
    {"aten::bitwise_not", BitwiseNot},
    {"aten::bitwise_and.Tensor", kAnd},
    {"aten::bitwise_and.Scalar", kAnd},
    {"aten::bitwise_and.Scalar_Tensor", kAnd},
    {"aten::bitwise_or.Tensor", kOr},
    {"aten::bitwise_or.Scalar", kOr},
    {"aten::bitwise_or.Scalar_Tensor", kOr},
    {"aten::bitwise_xor.Tensor", kXor},
    {"aten::bitwise_xor.Scalar", kXor},
    {"aten::bitwise_xor.Scalar_Tensor", kXor},
    {"aten::__and__.Tensor", kAnd},
    {"aten::__and__.Scalar", kAnd},
    {"aten::__or__.Tensor", kOr},
    {"aten::__or__.Scalar", kOr},
    {"aten::__xor__.Tensor", kXor},
    {"aten::__xor__.Scalar", kXor},
});

}  // namespace
}  // namespace torch_tvm::convert
