// Converters of normalisation layers, in inference.
#include <limits>

#include "convert/term.h"

namespace torch_tvm::convert {
namespace {

// A vector argument in the math dtype; `absent` everywhere when it is None.
Expr Vector(const Context& ctx, const char* name, int64_t length, double absent, ScalarType math) {
  if (const auto operand = ctx.OptionalTensor(name)) {
    return ctx.Reshape(ctx.Cast(*operand, math), operand->sizes(), {length});
  }
  return ctx.Full(absent, {length}, math);
}

// Normalises with given statistics over dimension 1.
Expr WithStatistics(const Context& ctx, const Expr& x, int64_t channels, ScalarType math) {
  if (!ctx.Has("running_mean") || !ctx.Has("running_var")) {
    ctx.Refuse("running_mean or running_var is None: it would normalise by the batch");
  }
  const Expr tuple = ctx.Call(
      "nn.batch_norm",
      {x, Vector(ctx, "weight", channels, 1, math), Vector(ctx, "bias", channels, 0, math),
       Vector(ctx, "running_mean", channels, 0, math),
       Vector(ctx, "running_var", channels, 1, math)},
      {{"epsilon", ctx.Double("eps")}, {"center", ctx.Has("bias")}, {"scale", ctx.Has("weight")}});
  return relay::TupleGetItem(tuple, 0, tuple->span);
}

Results BatchNorm(Context& ctx) {
  if (ctx.Bool("training")) ctx.Refuse("training=True changes the running statistics");
  const TensorInfo& result = ctx.Result();
  const ScalarType math = MathType(result.dtype);
  const Operand input = ctx.Tensor("input");
  const Expr value = WithStatistics(ctx, ctx.Cast(input, math), input.sizes().at(1), math);
  return ctx.Cast(value, math, result.dtype);
}

Results InstanceNorm(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  const ScalarType math = MathType(result.dtype);
  const Operand input = ctx.Tensor("input");
  const int64_t channels = input.sizes().at(1);
  const Expr x = ctx.Cast(input, math);
  if (!ctx.Bool("use_input_stats")) {
    return ctx.Cast(WithStatistics(ctx, x, channels, math), math, result.dtype);
  }
  if (ctx.Has("running_mean")) ctx.Refuse("use_input_stats=True changes the running statistics");
  const Expr value = ctx.Call(
      "nn.instance_norm",
      {x, Vector(ctx, "weight", channels, 1, math), Vector(ctx, "bias", channels, 0, math)},
      {{"epsilon", ctx.Double("eps")}, {"center", ctx.Has("bias")}, {"scale", ctx.Has("weight")}});
  return ctx.Cast(value, math, result.dtype);
}

// Relay normalises over one axis: several trailing dimensions are made one.
Results LayerNorm(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  const ScalarType math = MathType(result.dtype);
  const Operand input = ctx.Tensor("input");
  const Sizes shape = ctx.Ints("normalized_shape");
  const int64_t length = Product(shape);
  Sizes folded(input.sizes().begin(), input.sizes().end() - static_cast<int64_t>(shape.size()));
  folded.push_back(length);
  const Expr x = ctx.Reshape(ctx.Cast(input, math), input.sizes(), folded);
  const Expr value = ctx.Call(
      "nn.layer_norm",
      {x, Vector(ctx, "weight", length, 1, math), Vector(ctx, "bias", length, 0, math)},
      {{"epsilon", ctx.Double("eps")}, {"center", ctx.Has("bias")}, {"scale", ctx.Has("weight")}});
  return ctx.Cast(ctx.Reshape(value, folded, input.sizes()), math, result.dtype);
}

Results GroupNorm(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  const ScalarType math = MathType(result.dtype);
  const Operand input = ctx.Tensor("input");
  const int64_t channels = input.sizes().at(1);
  const char* groups = ctx.Has("num_groups") ? "num_groups" : "group";
  const Expr value = ctx.Call("nn.group_norm",
                              {ctx.Cast(input, math), Vector(ctx, "weight", channels, 1, math),
                               Vector(ctx, "bias", channels, 0, math)},
                              {{"num_groups", ctx.Int(groups)},
                               {"epsilon", ctx.Double("eps")},
                               {"center", ctx.Has("bias")},
                               {"scale", ctx.Has("weight")}});
  return ctx.Cast(value, math, result.dtype);
}

// The mean and the inverse of the deviation, which native operators give behind the result, of
// rows that were normalised.
Results WithMoments(Context& ctx, const Results& normalised, const char* name, int64_t rows) {
  std::vector<Expr> results = normalised.exprs;
  const Operand input = ctx.Tensor(name);
  const ScalarType math = MathType(input.dtype());
  const int64_t length = input.info.numel() / rows;
  const Term x(ctx, ctx.Reshape(ctx.Cast(input, math), input.sizes(), {rows, length}), math);
  const Term mean = Reduce("mean", x, {1}, true);
  const Term variance(ctx,
                      ctx.Call("variance", {x.expr, mean.expr},
                               {{"axis", IntArray({1})}, {"keepdims", true}, {"unbiased", false}}),
                      math);
  const Term inverse = Apply("rsqrt", variance + ctx.Double("eps"));
  const Sizes held = {rows, 1};
  results.push_back(
      ctx.Cast(ctx.Reshape(mean.expr, held, ctx.Result(1).sizes), math, ctx.Result(1).dtype));
  results.push_back(
      ctx.Cast(ctx.Reshape(inverse.expr, held, ctx.Result(2).sizes), math, ctx.Result(2).dtype));
  return results;
}

Results NativeLayerNorm(Context& ctx) {
  // Of half and bfloat16, meta kernels tell another dtype of the moments than the CPU gives.
  const ScalarType dtype = ctx.Tensor("input").dtype();
  if (MathType(dtype) != dtype) {
    ctx.Refuse(std::string("input holds ") + c10::toString(dtype) +
               "; float32 and float64 are converted");
  }
  return WithMoments(ctx, LayerNorm(ctx), "input", ctx.Result(1).numel());
}

Results NativeGroupNorm(Context& ctx) {
  return WithMoments(ctx, GroupNorm(ctx), "input", ctx.Result(1).numel());
}

// x / sqrt(mean(x^2) + eps), over the trailing dimensions, times the weight.
Results RmsNorm(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  const ScalarType math = MathType(result.dtype);
  const Operand input = ctx.Tensor("input");
  Sizes axes;
  const auto trailing = static_cast<int64_t>(ctx.Ints("normalized_shape").size());
  for (int64_t axis = input.rank() - trailing; axis < input.rank(); ++axis) axes.push_back(axis);
  // Without eps PyTorch adds the machine epsilon of the dtype it computes in.
  const double eps = ctx.Has("eps")               ? ctx.Double("eps")
                     : math == ScalarType::Double ? std::numeric_limits<double>::epsilon()
                                                  : std::numeric_limits<float>::epsilon();
  const Expr x = ctx.Cast(input, math);
  const Expr mean = ctx.Call("mean", {ctx.Call("multiply", {x, x})},
                             {{"axis", IntArray(axes)}, {"keepdims", true}});
  const Expr factor = ctx.Call("rsqrt", {ctx.Call("add", {mean, ctx.Constant(eps, math)})});
  Expr value = ctx.Call("multiply", {x, factor});
  if (const auto weight = ctx.OptionalTensor("weight")) {
    value = ctx.Call("multiply", {value, ctx.Cast(*weight, math)});
  }
  return ctx.Cast(value, math, result.dtype);
}

const Registrar kNormalization({
    {"aten::batch_norm", BatchNorm, RequireFalse("training")},
    {"aten::instance_norm", InstanceNorm},
    {"aten::layer_norm", LayerNorm},
    {"aten::group_norm", GroupNorm},
    {"aten::native_layer_norm", NativeLayerNorm},
    {"aten::native_group_norm", NativeGroupNorm},
    {"aten::rms_norm", RmsNorm},
});

}  // namespace
}  // namespace torch_tvm::convert
