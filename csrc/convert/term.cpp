#include "convert/term.h"

#include <cmath>
#include <limits>

namespace torch_tvm::convert {

Term Lift(const Context& ctx, const char* name, ScalarType common) {
  return {ctx, OperandAs(ctx, name, common), MathType(common)};
}

Term Lift(const Context& ctx, const char* name) { return Lift(ctx, name, ctx.Result().dtype); }

Term Lift(const Operand& operand, const Context& ctx, ScalarType common) {
  return {ctx, OperandAs(ctx, operand, common), MathType(common)};
}

Expr Settle(const Term& term, size_t result) {
  return term.As(term.ctx->Result(result).dtype).expr;
}

Term Apply(const char* op, const Term& x) { return {*x.ctx, x.ctx->Call(op, {x.expr}), x.dtype}; }

Term Apply(const char* op, const Term& a, const Term& b) {
  return {*a.ctx, a.ctx->Call(op, {a.expr, b.expr}), a.dtype};
}

Term Test(const char* op, const Term& x) {
  return {*x.ctx, x.ctx->Call(op, {x.expr}), ScalarType::Bool};
}

Term Test(const char* op, const Term& a, const Term& b) {
  return {*a.ctx, a.ctx->Call(op, {a.expr, b.expr}), ScalarType::Bool};
}

Term Where(const Term& condition, const Term& a, const Term& b) {
  return {*a.ctx, a.ctx->Call("where", {condition.expr, a.expr, b.expr}), a.dtype};
}

Term SignBit(const Term& x) {
  const ScalarType bits = x.dtype == ScalarType::Double ? ScalarType::Long : ScalarType::Int;
  const Expr integer = x.ctx->Call("reinterpret", {x.expr}, {{"dtype", DtypeName(bits)}});
  return Term(*x.ctx, integer, bits) < 0;
}

Term CopySign(const Term& magnitude, const Term& sign) {
  const Term size = Abs(magnitude);
  return Where(SignBit(sign), -size, size);
}

// What is lost in rounding u = 1 + x is made up for by the quotient x / (u - 1), which is 1 but for
// rounding.
Term Log1p(const Term& x) {
  const Term u = x + 1;
  const Term rest = u - 1;
  const Term factor =
      Where((rest == 0) | (u == std::numeric_limits<double>::infinity()), 1.0, x / rest);
  return Where(rest == 0, x, Log(u) * factor);
}

// tanh(x / 2) = (e^x - 1) / (e^x + 1)
Term Expm1(const Term& x) { return Apply("tanh", x * 0.5) * (Exp(x) + 1); }

Term LogSigmoid(const Term& x) { return Min(x, x.Of(0)) - Log1p(Exp(-Abs(x))); }

Term Reduce(const char* op, const Term& x, const Sizes& dims, bool keepdim) {
  if (dims.empty()) return x;
  return {*x.ctx, x.ctx->Call(op, {x.expr}, {{"axis", IntArray(dims)}, {"keepdims", keepdim}}),
          x.dtype};
}

}  // namespace torch_tvm::convert
