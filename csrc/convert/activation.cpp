// Converters of activation functions and of softmax.
#include <cmath>
#include <limits>

#include "convert/broadcast.h"
#include "convert/context.h"
#include "convert/term.h"

namespace torch_tvm::convert {
namespace {

// The operand in its math dtype, with the two ends of what every activation does: lift, compute,
// round.
struct Lifted {
  Lifted(Context& context, const char* name = "self")
      : ctx(context),
        result(context.Result().dtype),
        math(MathType(result)),
        x(OperandAs(context, name, result)) {}

  Expr Number(double value) const { return ctx.Constant(value, math); }
  Expr Mul(const Expr& a, const Expr& b) const { return ctx.Call("multiply", {a, b}); }
  Expr Plus(const Expr& a, const Expr& b) const { return ctx.Call("add", {a, b}); }
  Expr Clip(const Expr& a, double low, double high) const {
    return ctx.Call("clip", {a}, {{"a_min", low}, {"a_max", high}});
  }
  Results Round(const Expr& value) const { return ctx.Cast(value, math, result); }

  Context& ctx;
  ScalarType result;
  ScalarType math;
  Expr x;
};

Results Relu(Context& ctx) {
  if (ctx.Result().dtype == ScalarType::Byte) return ctx.Tensor("self").expr;
  return ctx.Call("nn.relu", {ctx.Tensor("self").expr});
}

Results LeakyRelu(Context& ctx) {
  const Lifted in(ctx);
  return in.Round(ctx.Call("nn.leaky_relu", {in.x}, {{"alpha", ctx.Double("negative_slope")}}));
}

// Doubles hold integers up to 2^53 exactly; beyond, a bound as Relay's clip attribute would be
// another one.
bool ExactInDouble(const at::Scalar& bound) {
  return bound.isFloatingPoint() || std::abs(bound.toDouble()) < 9007199254740992.0;
}

// min(max(x, low), high), either bound may be missing; PyTorch gives `high` when low > high.
Results ClampTo(Context& ctx, std::optional<at::Scalar> low, std::optional<at::Scalar> high) {
  const Lifted in(ctx);
  if (in.result == ScalarType::Bool) ctx.Refuse("self is bool");
  for (const auto& bound : {low, high}) {
    if (bound && std::isnan(bound->toDouble())) ctx.Refuse("a bound is NaN");
  }
  if (low && high && low->toDouble() <= high->toDouble() && ExactInDouble(*low) &&
      ExactInDouble(*high)) {
    return in.Round(in.Clip(in.x, low->toDouble(), high->toDouble()));
  }
  Expr value = in.x;
  if (low) value = ctx.Call("maximum", {value, ctx.Constant(*low, in.math)});
  if (high) value = ctx.Call("minimum", {value, ctx.Constant(*high, in.math)});
  return in.Round(value);
}

std::optional<at::Scalar> Bound(const Context& ctx, const char* name) {
  return ctx.Has(name) ? std::optional(ctx.Scalar(name)) : std::nullopt;
}

Results Clamp(Context& ctx) { return ClampTo(ctx, Bound(ctx, "min"), Bound(ctx, "max")); }

Results Hardtanh(Context& ctx) {
  return ClampTo(ctx, ctx.Scalar("min_val"), ctx.Scalar("max_val"));
}

Results Relu6(Context& ctx) { return ClampTo(ctx, 0, 6); }

Results ClampByTensors(Context& ctx) {
  const Lifted in(ctx);
  if (in.result == ScalarType::Bool) ctx.Refuse("self is bool");
  Expr value = in.x;
  if (ctx.Has("min")) value = ctx.Call("maximum", {value, OperandAs(ctx, "min", in.result)});
  if (ctx.Has("max")) value = ctx.Call("minimum", {value, OperandAs(ctx, "max", in.result)});
  return in.Round(value);
}

// x where x > threshold, else value.
Results Threshold(Context& ctx) {
  const Lifted in(ctx);
  const Expr below = ctx.Call("less_equal", {in.x, ctx.Constant(ctx.Scalar("threshold"), in.math)});
  return in.Round(ctx.Call("where", {below, ctx.Constant(ctx.Scalar("value"), in.math), in.x}));
}

Results Gelu(Context& ctx) {
  const Lifted in(ctx);
  const std::string approximate = ctx.Has("approximate") ? ctx.String("approximate") : "none";
  const Expr half = in.Number(0.5);
  Expr inner = in.x;
  if (approximate == "none") {
    inner = ctx.Call("erf", {in.Mul(in.x, in.Number(M_SQRT1_2))});
  } else if (approximate == "tanh") {
    const Expr cube = in.Mul(in.Mul(in.x, in.x), in.x);
    const Expr sum = in.Plus(in.x, in.Mul(cube, in.Number(0.044715)));
    inner = ctx.Call("tanh", {in.Mul(sum, in.Number(M_SQRT2 * M_2_SQRTPI * 0.5))});
  } else {
    ctx.Refuse("approximate='" + approximate + "' is unknown");
  }
  return in.Round(in.Mul(in.x, in.Plus(half, in.Mul(half, inner))));
}

Results Silu(Context& ctx) {
  const Lifted in(ctx);
  return in.Round(in.Mul(in.x, ctx.Call("sigmoid", {in.x})));
}

Results Hardsigmoid(Context& ctx) {
  const Lifted in(ctx);
  const Expr clipped = in.Clip(in.Plus(in.x, in.Number(3)), 0, 6);
  return in.Round(ctx.Call("divide", {clipped, in.Number(6)}));
}

Results Hardswish(Context& ctx) {
  const Lifted in(ctx);
  const Expr clipped = in.Clip(in.Plus(in.x, in.Number(3)), 0, 6);
  return in.Round(ctx.Call("divide", {in.Mul(in.x, clipped), in.Number(6)}));
}

// prelu with one weight, or one for each channel (dimension 1).
Results Prelu(Context& ctx) {
  const Lifted in(ctx);
  const Operand weight = ctx.Tensor("weight");
  Sizes shape(std::max<int64_t>(ctx.Result().rank(), 1), 1);
  if (weight.info.numel() > 1) shape.at(1) = weight.info.numel();
  if (weight.info.numel() == 1) shape.clear();
  const Expr slope = ctx.Reshape(ctx.Cast(weight, in.math), weight.sizes(), shape);
  const Expr positive = ctx.Call("greater", {in.x, in.Number(0)});
  return in.Round(ctx.Call("where", {positive, in.x, in.Mul(in.x, slope)}));
}

// softmax and log_softmax; dtype= converts first.
Converter Softmax(const char* op) {
  return [op](Context& ctx) -> Results {
    const TensorInfo& result = ctx.Result();
    const ScalarType math = MathType(result.dtype);
    const Operand self = ctx.Tensor("self");
    Expr x = ctx.Cast(ctx.Cast(self, result.dtype), result.dtype, math);
    const bool scalar = result.sizes.empty();
    const int64_t axis = ctx.Dim("dim", std::max<int64_t>(result.rank(), 1));
    if (scalar) x = ctx.Reshape(x, {}, {1});
    Expr value = ctx.Call(op, {x}, {{"axis", axis}});
    if (scalar) value = ctx.Reshape(value, {1}, {});
    return ctx.Cast(value, math, result.dtype);
  };
}

// The gradient of softmax, and of log_softmax, from what it gave.
Converter SoftmaxGradient(bool logarithmic) {
  return [logarithmic](Context& ctx) -> Results {
    const Operand given = ctx.Tensor("grad_output");
    const ScalarType math = MathType(given.dtype());
    const int64_t rank = given.rank();
    if (rank == 0) ctx.Refuse("grad_output has rank 0");
    const Sizes dims = {ctx.Dim("dim", rank)};
    const Term gradient(ctx, ctx.Cast(given, math), math);
    const Term output(ctx, ctx.Cast(ctx.Tensor("output"), math), math);
    if (logarithmic) {
      return Settle(gradient - Exp(output) * Reduce("sum", gradient, dims, true));
    }
    return Settle(output * (gradient - Reduce("sum", gradient * output, dims, true)));
  };
}

Results DropoutGradient(Context& ctx) {
  const ScalarType dtype = ctx.Result().dtype;
  const Term gradient = Lift(ctx, "grad_output");
  const Term mask(ctx, ctx.Cast(ctx.Tensor("mask"), MathType(dtype)), MathType(dtype));
  return Settle(gradient * (mask * ctx.Scalar("scale")).Rounded(dtype));
}

const Registrar kActivation({
    {"aten::relu", Relu},
    {"aten::relu6", Relu6},
    {"aten::leaky_relu", LeakyRelu},
    {"aten::hardtanh", Hardtanh},
    {"aten::clamp", Clamp},
    {"aten::clip", Clamp},
    {"aten::clamp.Tensor", ClampByTensors},
    {"aten::clip.Tensor", ClampByTensors},
    {"aten::clamp_min", Clamp},
    {"aten::clamp_max", Clamp},
    {"aten::clamp_min.Tensor", ClampByTensors},
    {"aten::clamp_max.Tensor", ClampByTensors},
    {"aten::threshold", Threshold},
    {"aten::gelu", Gelu},
    {"aten::silu", Silu},
    {"aten::hardsigmoid", Hardsigmoid},
    {"aten::hardswish", Hardswish},
    {"aten::prelu", Prelu},
    {"aten::softmax.int", Softmax("nn.softmax")},
    {"aten::_softmax", Softmax("nn.softmax")},
    {"aten::log_softmax.int", Softmax("nn.log_softmax")},
    {"aten::_log_softmax", Softmax("nn.log_softmax")},
    {"aten::_softmax_backward_data", SoftmaxGradient(false)},
    {"aten::_log_softmax_backward_data", SoftmaxGradient(true)},
    {"aten::native_dropout_backward", DropoutGradient},
});

}  // namespace
}  // namespace torch_tvm::convert
