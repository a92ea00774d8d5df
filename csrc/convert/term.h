// Arithmetic on expressions, written as formulas: every operator is one call of a Relay operator.
#pragma once

#include "convert/broadcast.h"
#include "convert/context.h"

namespace torch_tvm::convert {

// An expression and its dtype. Both sides of an operator have one dtype; numbers take the other
// side's.
struct Term {
  Term(const Context& context, Expr expression, ScalarType type)
      : ctx(&context), expr(std::move(expression)), dtype(type) {}

  // A number of this dtype.
  Term Of(const at::Scalar& number) const { return {*ctx, ctx->Constant(number, dtype), dtype}; }
  Term As(ScalarType to) const { return {*ctx, ctx->Cast(expr, dtype, to), to}; }
  // Rounded to a narrower dtype and held as this one, as between two operators of eager PyTorch.
  Term Rounded(ScalarType to) const { return MathType(to) == dtype ? As(to).As(dtype) : *this; }

  const Context* ctx;
  Expr expr;
  ScalarType dtype;
};

// The argument as arithmetic in `common` takes it (broadcast.h), in MathType(common); `common` is
// the result's dtype if it is not given.
TORCH_TVM_API Term Lift(const Context& ctx, const char* name, ScalarType common);
TORCH_TVM_API Term Lift(const Context& ctx, const char* name);
TORCH_TVM_API Term Lift(const Operand& operand, const Context& ctx, ScalarType common);

// The term, rounded to the dtype of a result.
TORCH_TVM_API Expr Settle(const Term& term, size_t result = 0);

// A call of an operator whose result has the operands' dtype, and of one that gives bools.
TORCH_TVM_API Term Apply(const char* op, const Term& x);
TORCH_TVM_API Term Apply(const char* op, const Term& a, const Term& b);
TORCH_TVM_API Term Test(const char* op, const Term& x);
TORCH_TVM_API Term Test(const char* op, const Term& a, const Term& b);

#define TORCH_TVM_TERM_OPERATOR(symbol, make, op)                                                  \
  inline Term operator symbol(const Term& a, const Term& b) { return make(op, a, b); }             \
  inline Term operator symbol(const Term& a, const at::Scalar& b) { return make(op, a, a.Of(b)); } \
  inline Term operator symbol(const at::Scalar& a, const Term& b) { return make(op, b.Of(a), b); }
TORCH_TVM_TERM_OPERATOR(+, Apply, "add")
TORCH_TVM_TERM_OPERATOR(-, Apply, "subtract")
TORCH_TVM_TERM_OPERATOR(*, Apply, "multiply")
TORCH_TVM_TERM_OPERATOR(/, Apply, "divide")
TORCH_TVM_TERM_OPERATOR(<, Test, "less")
TORCH_TVM_TERM_OPERATOR(<=, Test, "less_equal")
TORCH_TVM_TERM_OPERATOR(>, Test, "greater")
TORCH_TVM_TERM_OPERATOR(>=, Test, "greater_equal")
TORCH_TVM_TERM_OPERATOR(==, Test, "equal")
#undef TORCH_TVM_TERM_OPERATOR

inline Term operator&(const Term& a, const Term& b) { return Test("logical_and", a, b); }
inline Term operator|(const Term& a, const Term& b) { return Test("logical_or", a, b); }
inline Term operator!(const Term& x) { return Test("logical_not", x); }
inline Term operator-(const Term& x) { return Apply("negative", x); }

TORCH_TVM_API Term Where(const Term& condition, const Term& a, const Term& b);
inline Term Where(const Term& condition, const at::Scalar& a, const Term& b) {
  return Where(condition, b.Of(a), b);
}
inline Term Where(const Term& condition, const Term& a, const at::Scalar& b) {
  return Where(condition, a, a.Of(b));
}

inline Term Abs(const Term& x) { return Apply("abs", x); }
inline Term Exp(const Term& x) { return Apply("exp", x); }
inline Term Log(const Term& x) { return Apply("log", x); }
inline Term Sqrt(const Term& x) { return Apply("sqrt", x); }
inline Term Max(const Term& a, const Term& b) { return Apply("maximum", a, b); }
inline Term Min(const Term& a, const Term& b) { return Apply("minimum", a, b); }
inline Term IsNan(const Term& x) { return Test("isnan", x); }

// Whether the sign bit is set: of negative zeros and negative NaN too.
TORCH_TVM_API Term SignBit(const Term& x);
// |magnitude| with the sign of `sign`.
TORCH_TVM_API Term CopySign(const Term& magnitude, const Term& sign);
// log(1 + x) and e^x - 1 without cancellation near zero; Relay has no such operators.
TORCH_TVM_API Term Log1p(const Term& x);
TORCH_TVM_API Term Expm1(const Term& x);
TORCH_TVM_API Term LogSigmoid(const Term& x);

// A reduction over dimensions, whose result has the term's dtype; none leaves the term as it is.
TORCH_TVM_API Term Reduce(const char* op, const Term& x, const Sizes& dims, bool keepdim = false);

}  // namespace torch_tvm::convert
