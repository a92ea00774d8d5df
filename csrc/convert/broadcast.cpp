#include "convert/broadcast.h"

#include <ATen/ATen.h>
#include <ATen/DLConvertor.h>

namespace torch_tvm::convert {

Expr OperandAs(const Context& ctx, const char* name, ScalarType common) {
  const ScalarType math = MathType(common);
  if (!ctx.Value(name).isTensor()) return ctx.Constant(ctx.Scalar(name), math);
  return OperandAs(ctx, ctx.Tensor(name), common);
}

Expr OperandAs(const Context& ctx, const Operand& operand, ScalarType common) {
  const ScalarType math = MathType(common);
  if (operand.rank() == 0) return ctx.Cast(operand, math);
  return ctx.Cast(ctx.Cast(operand, common), common, math);
}

Expr Rounded(const Context& ctx, const char* name, ScalarType common) {
  const ScalarType math = MathType(common);
  if (!ctx.Value(name).isTensor()) {
    const at::Scalar number = ctx.Scalar(name);
    return ctx.Constant(at::scalar_tensor(number, at::dtype(number.type())).to(common).item(),
                        math);
  }
  const Operand operand = ctx.Tensor(name);
  return ctx.Cast(ctx.Cast(operand, common), common, math);
}

std::optional<at::Scalar> KnownNumber(const Context& ctx, const char* name) {
  if (!ctx.Value(name).isTensor()) return ctx.Scalar(name);
  const Operand operand = ctx.Tensor(name);
  const auto* constant = operand.expr.as<relay::ConstantObj>();
  if (constant == nullptr || operand.info.numel() != 1) return std::nullopt;
  return at::fromDLPack(constant->data.ToDLPack()).item();
}

ScalarType PromotedType(const Context& ctx, const char* left, const char* right) {
  const bool left_tensor = ctx.Value(left).isTensor();
  const bool right_tensor = ctx.Value(right).isTensor();
  if (left_tensor && right_tensor) return at::result_type(ctx.Meta(left), ctx.Meta(right));
  if (left_tensor) return at::result_type(ctx.Meta(left), ctx.Scalar(right));
  if (right_tensor) return at::result_type(ctx.Scalar(left), ctx.Meta(right));
  return at::result_type(ctx.Scalar(left), ctx.Scalar(right));
}

}  // namespace torch_tvm::convert
