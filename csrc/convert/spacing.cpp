// Converters of numbers at even distances between ends that kernels compute.
#include "convert/creation.h"

namespace torch_tvm::convert {

Term Linspace(const Term& start, const Term& end, int64_t count, ScalarType dtype) {
  const Context& ctx = *start.ctx;
  if (count == 1) return {ctx, ctx.Reshape(start.expr, {}, {1}), start.dtype};
  // Half and bfloat16 are rounded behind each operator, as eager PyTorch rounds them.
  const auto rounded = [&](const Term& x) { return IsFloat(dtype) ? x.Rounded(dtype) : x; };
  const Term numbers(ctx, ctx.Arange(count), ScalarType::Long);
  const auto whole = [&](const Expr& expr) {
    return rounded(Term(ctx, expr, ScalarType::Long).As(start.dtype));
  };
  const Term distance = rounded(end - start);
  const Term intervals = rounded(start.Of(count - 1));
  const Term step = rounded(distance / intervals);
  // From the nearer end.
  const Term forward = rounded(start + rounded(step * whole(numbers.expr)));
  const Term backward = rounded(end - rounded(step * whole(((count - 1) - numbers).expr)));
  return Where(numbers < count / 2, forward, backward);
}

namespace {

// An end, converted to the result's dtype first and then held in the dtype of the arithmetic.
Term End(const Context& ctx, const char* name) {
  const ScalarType dtype = ctx.Result().dtype;
  const ScalarType math = IsFloat(dtype) ? MathType(dtype) : ScalarType::Double;
  if (!ctx.Value(name).isTensor()) {
    return Term(ctx, ctx.Constant(ctx.Scalar(name), dtype), dtype).As(math);
  }
  return Term(ctx, ctx.Cast(ctx.Tensor(name), dtype), dtype).As(math);
}

Results LinspaceOfTensors(Context& ctx) {
  if (IsComputable(ctx)) return Computed(ctx);
  const TensorInfo& result = ctx.Result();
  if (result.dtype == ScalarType::Bool) ctx.Refuse("dtype is bool");
  return Settle(Linspace(End(ctx, "start"), End(ctx, "end"), result.numel(), result.dtype));
}

Results LogspaceOfTensors(Context& ctx) {
  if (IsComputable(ctx)) return Computed(ctx);
  const TensorInfo& result = ctx.Result();
  if (MathType(result.dtype) != result.dtype || !IsFloat(result.dtype)) {
    ctx.Refuse(std::string("dtype is ") + c10::toString(result.dtype) +
               "; float32 and float64 are converted");
  }
  const Term exponents = Linspace(End(ctx, "start"), End(ctx, "end"), result.numel(), result.dtype);
  return Settle(Apply("power", exponents.Of(ctx.Double("base")), exponents));
}

const Registrar kSpacing({
    {"aten::linspace.Tensor_Tensor", LinspaceOfTensors},
    {"aten::linspace.Tensor_Scalar", LinspaceOfTensors},
    {"aten::linspace.Scalar_Tensor", LinspaceOfTensors},
    {"aten::logspace.Tensor_Tensor", LogspaceOfTensors},
    {"aten::logspace.Tensor_Scalar", LogspaceOfTensors},
    {"aten::logspace.Scalar_Tensor", LogspaceOfTensors},
});

}  // namespace
}  // namespace torch_tvm::convert
