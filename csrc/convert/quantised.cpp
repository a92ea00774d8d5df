// Converters of quantised operators, as Relay's qnn operators. What is rounded, and how, is that of
// PyTorch's engines for x86 (fbgemm, oneDNN): to the nearest even integer, with a float32 scale.
#include "convert/quantised.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <unordered_map>

#include "convert/context.h"
#include "convert/packed_weights.h"
#include "convert/quantised_rules.h"
#include "convert/term.h"

namespace torch_tvm::convert {
namespace {

constexpr ScalarType kFloat = ScalarType::Float;
constexpr ScalarType kDouble = ScalarType::Double;

// The scale (float32) and the zero point (int32) of a tensor that is quantised as it comes.
struct QuantiserExprs {
  Expr scale, zero_point;
};

// at::native's ChooseQuantizationParams: the range and zero in it onto 0 ... `levels`, in float64.
QuantiserExprs ChooseQuantiser(const Context& ctx, const Term& low, const Term& high, int levels) {
  // Scales below this one would be subnormal numbers of half precision.
  constexpr float kLeastScale = 6.1e-5F;
  const Term range = (high.As(kDouble) - low.As(kDouble)) / levels;
  const Term inverse = low.Of(1) / range.As(kFloat);
  const Term usable = Where(Test("isinf", inverse), 0.1, range);

  // A range that is too small grows, but zero stays where it is in it.
  const Term small = usable < static_cast<double>(kLeastScale);
  const Term scale = Where(small, static_cast<double>(kLeastScale), usable);
  const Term growth = low.Of(kLeastScale) / usable.As(kFloat);
  const float widest = kLeastScale * static_cast<float>(levels);
  const Term low_grown = Where(low == 0, low, Where(high == 0, -widest, low * growth));
  const Term high_grown = Where(low == 0, widest, Where(high == 0, high, high * growth));
  const Term below = Where(small, low_grown, low).As(kDouble) / scale;
  const Term above = Where(small, high_grown, high).As(kDouble) / scale;

  // From the end of the range where the error of this is smaller.
  const Term from_low = -below;
  const Term from_high = below.Of(levels) - above;
  const Term error_low = -Abs(below);
  const Term error_high = below.Of(levels) - Abs(above);
  const Term zero_point = Where(error_low < error_high, from_low, from_high);
  const Expr clipped =
      ctx.Call("clip", {zero_point.expr}, {{"a_min", 0.0}, {"a_max", static_cast<double>(levels)}});
  const Expr rounded = ctx.Call("round", {clipped});
  return {scale.As(kFloat).expr, ctx.Cast(rounded, kDouble, ScalarType::Int)};
}

// (values - zero_point) * scale of int32 sums of products, one scale for each column.
Expr DequantiseSums(const Context& ctx, const Expr& sums, const Expr& scale) {
  const Expr zero = ctx.Constant(0, ScalarType::Int);
  return ctx.Call("qnn.dequantize", {sums, scale, zero},
                  {{"out_dtype", DtypeName(kFloat)}, {"axis", int64_t{-1}}});
}

struct WeightExprs {
  Expr values, scales, zero_points;
};

WeightExprs Carry(const Context& ctx, const QuantisedWeight& weight) {
  const bool symmetric = !weight.zero_points.any().item<bool>();
  return {ctx.Weight(weight.values), ctx.Weight(weight.scales),
          symmetric ? ctx.Constant(0, ScalarType::Int) : ctx.Weight(weight.zero_points)};
}

Converter LinearDynamic(bool relu) {
  return [=](Context& ctx) -> Results {
    const Operand input = ctx.Tensor("X");
    const QuantisedWeight weight = UnpackLinear(ctx.Value("W_prepack"));
    const Sizes all = Counted(input.sizes().size());
    const Term values(ctx, input.expr, kFloat);
    const Term least = Reduce("min", values, all), most = Reduce("max", values, all);
    ctx.RefuseIf((!Test("isfinite", most - least)).expr,
                 "X has a NaN or an infinity; finite numbers are quantised");
    const int levels = ctx.Bool("reduce_range") ? 127 : 255;
    const QuantiserExprs quantiser =
        ChooseQuantiser(ctx, Min(least, least.Of(0)), Max(most, most.Of(0)), levels);

    const int64_t units = weight.values.size(0);
    ctx.AddFlops(2.0 * static_cast<double>(input.info.numel()) * static_cast<double>(units));
    const WeightExprs carried = Carry(ctx, weight);
    const Expr quantised =
        ctx.Call("qnn.quantize", {input.expr, quantiser.scale, quantiser.zero_point},
                 {{"out_dtype", DtypeName(ScalarType::Byte)}, {"axis", int64_t{-1}}});
    const Expr sums = ctx.Call("qnn.dense",
                               {quantised, carried.values, quantiser.zero_point,
                                carried.zero_points, quantiser.scale, carried.scales},
                               {{"units", units}, {"out_dtype", DtypeName(ScalarType::Int)}});
    const Expr scale = ctx.Call("multiply", {quantiser.scale, carried.scales});
    Expr value = DequantiseSums(ctx, sums, scale);
    if (weight.bias) {
      value = ctx.Call("nn.bias_add", {value, ctx.Weight(*weight.bias)}, {{"axis", int64_t{-1}}});
    }
    return relu ? ctx.Call("nn.relu", {value}) : value;
  };
}

// Constants of a quantiser that is known: scale (float32) and zero point (int32).
QuantiserExprs Known(const Context& ctx, const Quantiser& known) {
  return {ctx.Constant(known.scale, kFloat), ctx.Constant(known.zero_point, ScalarType::Int)};
}

QuantiserExprs Given(const Context& ctx, const char* scale, const char* zero_point) {
  return Known(ctx, {ctx.Double(scale), ctx.Int(zero_point)});
}

QuantiserExprs Of(const Context& ctx, const Operand& operand) {
  if (!operand.info.quantiser) ctx.Refuse("its argument is not quantised");
  return Known(ctx, *operand.info.quantiser);
}

Expr QuantiseBy(const Context& ctx, const Expr& value, const QuantiserExprs& quantiser,
                ScalarType dtype) {
  return ctx.Call("qnn.quantize", {value, quantiser.scale, quantiser.zero_point},
                  {{"out_dtype", DtypeName(dtype)}, {"axis", int64_t{-1}}});
}

Expr DequantiseBy(const Context& ctx, const Expr& value, const QuantiserExprs& quantiser) {
  return ctx.Call("qnn.dequantize", {value, quantiser.scale, quantiser.zero_point},
                  {{"out_dtype", DtypeName(kFloat)}, {"axis", int64_t{-1}}});
}

// Integers that stand for nothing below zero.
Expr ClipAtZero(const Context& ctx, const Expr& integers, const Quantiser& quantiser,
                ScalarType dtype) {
  const double most = dtype == ScalarType::Byte ? 255 : 127;
  return ctx.Call("clip", {integers},
                  {{"a_min", static_cast<double>(quantiser.zero_point)}, {"a_max", most}});
}

Results QuantisePerTensor(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  return QuantiseBy(ctx, ctx.Tensor("self").expr, Known(ctx, *result.quantiser), result.dtype);
}

Results Dequantise(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  if (!self.info.quantiser) return ctx.Cast(self, kFloat);
  return DequantiseBy(ctx, self.expr, Of(ctx, self));
}

// What engines do with int32 sums of products: rescaled in float32, with a bias in float32, clipped
// and rounded once. (TVM's frontend rounds the bias to the sums' integers first.)
Expr Finish(Context& ctx, const Expr& sums, const QuantiserExprs& input,
            const QuantisedWeight& weight, const WeightExprs& carried, int64_t axis,
            const QuantiserExprs& output, bool relu) {
  const Expr scale = ctx.Call("multiply", {input.scale, carried.scales});
  Expr value = ctx.Call("qnn.dequantize", {sums, scale, ctx.Constant(0, ScalarType::Int)},
                        {{"out_dtype", DtypeName(kFloat)}, {"axis", axis}});
  if (weight.bias) {
    value = ctx.Call("nn.bias_add", {value, ctx.Weight(*weight.bias)}, {{"axis", axis}});
  }
  if (relu) value = ctx.Call("nn.relu", {value});
  return QuantiseBy(ctx, value, output, ctx.Result().dtype);
}

Converter Linear(bool relu) {
  return [=](Context& ctx) -> Results {
    const Operand data = ctx.Tensor("X");
    const QuantisedWeight weight = UnpackLinear(ctx.Value("W_prepack"));
    const QuantiserExprs input = Of(ctx, data);
    const WeightExprs carried = Carry(ctx, weight);
    const int64_t units = weight.values.size(0);
    ctx.AddFlops(2.0 * static_cast<double>(data.info.numel()) * static_cast<double>(units));
    const Expr sums = ctx.Call("qnn.dense",
                               {data.expr, carried.values, input.zero_point, carried.zero_points,
                                input.scale, carried.scales},
                               {{"units", units}, {"out_dtype", DtypeName(ScalarType::Int)}});
    return Finish(ctx, sums, input, weight, carried, -1, Given(ctx, "Y_scale_i", "Y_zero_point_i"),
                  relu);
  };
}

Converter Convolution(bool relu) {
  return [=](Context& ctx) -> Results {
    const Operand data = ctx.Tensor("qx");
    const QuantisedConvolution conv = UnpackConv2d(ctx.Value("packed_weight"));
    const Sizes sizes = conv.weight.values.sizes().vec();
    if (conv.weight.zero_points.any().item<bool>()) {
      ctx.Refuse("packed_weight has zero points other than 0; symmetric weights are converted");
    }
    const QuantiserExprs input = Of(ctx, data);
    const WeightExprs carried = Carry(ctx, conv.weight);
    Sizes padding = conv.padding;  // top and left, bottom and right
    padding.insert(padding.end(), conv.padding.begin(), conv.padding.end());
    ctx.AddFlops(2.0 * static_cast<double>(ctx.Result().numel()) *
                 static_cast<double>(Product(sizes) / sizes[0]));
    const Expr sums = ctx.Call("qnn.conv2d",
                               {data.expr, carried.values, input.zero_point, carried.zero_points,
                                input.scale, carried.scales},
                               {{"strides", IntArray(conv.stride)},
                                {"padding", IntArray(padding)},
                                {"dilation", IntArray(conv.dilation)},
                                {"groups", conv.groups},
                                {"channels", sizes[0]},
                                {"kernel_size", IntArray({sizes[2], sizes[3]})},
                                {"out_dtype", DtypeName(ScalarType::Int)}});
    return Finish(ctx, sums, input, conv.weight, carried, 1,
                  Given(ctx, "output_scale", "output_zero_point"), relu);
  };
}

// Each element of an image spreads by a filter; output_padding of the stride and more adds what
// nothing reaches, which Relay has no form for.
Results TransposedConvolution(Context& ctx) {
  const Operand data = ctx.Tensor("qx");
  const QuantisedConvolution conv = UnpackConv2d(ctx.Value("packed_weight"), /*transposed=*/true);
  const Sizes sizes = conv.weight.values.sizes().vec();  // inputs, outputs of a group, kernel
  if (conv.weight.zero_points.any().item<bool>()) {
    ctx.Refuse("packed_weight has zero points other than 0; symmetric weights are converted");
  }
  for (size_t i = 0; i < conv.stride.size(); ++i) {
    if (conv.output_padding[i] < conv.stride[i]) continue;
    ctx.Refuse("output_padding=" + std::to_string(conv.output_padding[i]) + " with stride=" +
               std::to_string(conv.stride[i]) + "; less than the stride is converted");
  }
  const QuantiserExprs input = Of(ctx, data);
  const WeightExprs carried = Carry(ctx, conv.weight);
  Sizes padding = conv.padding;
  padding.insert(padding.end(), conv.padding.begin(), conv.padding.end());
  ctx.AddFlops(2.0 * static_cast<double>(data.info.numel()) *
               static_cast<double>(Product(sizes) / sizes[0]));
  const Expr sums = ctx.Call("qnn.conv2d_transpose",
                             {data.expr, carried.values, input.zero_point, carried.zero_points,
                              input.scale, carried.scales},
                             {{"channels", sizes[1] * conv.groups},
                              {"kernel_size", IntArray({sizes[2], sizes[3]})},
                              {"strides", IntArray(conv.stride)},
                              {"output_padding", IntArray(conv.output_padding)},
                              {"padding", IntArray(padding)},
                              {"dilation", IntArray(conv.dilation)},
                              {"groups", conv.groups},
                              {"out_dtype", DtypeName(ScalarType::Int)}});
  return Finish(ctx, sums, input, conv.weight, carried, 1,
                Given(ctx, "output_scale", "output_zero_point"), /*relu=*/false);
}

double NumberOf(const Context& ctx, const char* name) {
  const auto number = KnownNumber(ctx, name);
  if (!number) ctx.Refuse(std::string(name) + " is known only at run time");
  return number->toDouble();
}

// Integers stay as they are while a zero point of 8 bits can stand for the number.
Converter AddNumber(bool relu) {
  return [=](Context& ctx) -> Results {
    const Operand a = ctx.Tensor("qa");
    const Quantiser result = *ctx.Result().quantiser;
    const Quantiser moved{a.info.quantiser->scale,
                          MovedZeroPoint(*a.info.quantiser, NumberOf(ctx, "b"))};
    Expr integers = a.expr;
    if (moved.zero_point != result.zero_point) {
      integers = QuantiseBy(ctx, DequantiseBy(ctx, a.expr, Known(ctx, moved)), Known(ctx, result),
                            a.dtype());
    }
    return relu ? ClipAtZero(ctx, integers, result, a.dtype()) : integers;
  };
}

Converter MultiplyByNumber(bool relu) {
  return [=](Context& ctx) -> Results {
    const Operand a = ctx.Tensor("qa");
    const double number = NumberOf(ctx, "b");
    if (number == 0) return ctx.Full(0, a.sizes(), a.dtype());
    Expr integers = a.expr;
    if (number < 0) {  // from the other end of what 8 bits hold
      const Expr ends = ctx.Constant(a.dtype() == ScalarType::Byte ? 255 : -1, a.dtype());
      integers = ctx.Call("subtract", {ends, integers});
    }
    return relu ? ClipAtZero(ctx, integers, *ctx.Result().quantiser, a.dtype()) : integers;
  };
}

Converter Binary(const char* op, bool relu) {
  return [=](Context& ctx) -> Results {
    const Operand a = ctx.Tensor("qa"), b = ctx.Tensor("qb");
    const QuantiserExprs left = Of(ctx, a), right = Of(ctx, b);
    const Quantiser known{ctx.Double("scale"), ctx.Int("zero_point")};
    const QuantiserExprs output = Known(ctx, known);
    const Expr result = ctx.Call(op, {a.expr, b.expr, left.scale, left.zero_point, right.scale,
                                      right.zero_point, output.scale, output.zero_point});
    return relu ? ClipAtZero(ctx, result, known, ctx.Result().dtype) : result;
  };
}

Results ConcatenateAll(Context& ctx, const std::vector<Operand>& tensors) {
  std::vector<Expr> parts, scales, zero_points;
  for (const Operand& part : tensors) {
    const QuantiserExprs quantiser = Of(ctx, part);
    parts.push_back(part.expr);
    scales.push_back(quantiser.scale);
    zero_points.push_back(quantiser.zero_point);
  }
  const auto rank = static_cast<int64_t>(ctx.Result().sizes.size());
  const auto tuple = [](const std::vector<Expr>& fields) {
    return relay::Tuple(ffi::Array<Expr>(fields.begin(), fields.end()));
  };
  const QuantiserExprs output = Known(ctx, *ctx.Result().quantiser);
  return ctx.Call(
      "qnn.concatenate",
      {tuple(parts), tuple(scales), tuple(zero_points), output.scale, output.zero_point},
      {{"axis", ctx.Dim("dim", rank)}});
}

Converter Concatenate(const char* name) {
  return [=](Context& ctx) { return ConcatenateAll(ctx, ctx.Tensors(name)); };
}

// The integers of what lies between 0 and 6.
Results Relu6(Context& ctx) {
  const Operand input = ctx.Tensor("qx");
  const Quantiser quantiser = *input.info.quantiser;
  const auto scale = static_cast<float>(quantiser.scale);
  const double six =
      std::nearbyint(6.0F * (1.0F / scale)) + static_cast<double>(quantiser.zero_point);
  const double most = input.dtype() == ScalarType::Byte ? 255 : 127;
  return ctx.Call(
      "clip", {input.expr},
      {{"a_min", static_cast<double>(quantiser.zero_point)}, {"a_max", std::min(six, most)}});
}

// A function of what the integers stand for.
Converter Unary(const char* name, std::function<Expr(const Context&, const Term&)> function) {
  return [name, function = std::move(function)](Context& ctx) -> Results {
    const Operand input = ctx.Tensor(name);
    const Term value(ctx, DequantiseBy(ctx, input.expr, Of(ctx, input)), kFloat);
    return QuantiseBy(ctx, function(ctx, value), Given(ctx, "output_scale", "output_zero_point"),
                      input.dtype());
  };
}

Expr Hardswish(const Context& ctx, const Term& x) {
  const Expr gate = ctx.Call("clip", {(x + 3).expr}, {{"a_min", 0.0}, {"a_max", 6.0}});
  return (x * Term(ctx, gate, kFloat) / 6).expr;
}

Expr LeakyRelu(const Context& ctx, const Term& x) {
  return ctx.Call("nn.leaky_relu", {x.expr}, {{"alpha", ctx.Scalar("negative_slope").toDouble()}});
}

Results QuantisedRelu(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  return ClipAtZero(ctx, self.expr, *self.info.quantiser, self.dtype());
}

// A mean of integers, rounded where PyTorch rounds it: as a distance from the zero point.
Results OfDistances(const Context& ctx, const std::function<Expr(const Expr&)>& mean) {
  const Operand self = ctx.Tensor("self");
  const QuantiserExprs unit{ctx.Constant(1.0, kFloat), Of(ctx, self).zero_point};
  return QuantiseBy(ctx, mean(DequantiseBy(ctx, self.expr, unit)), unit, self.dtype());
}

Results QuantisedAdaptivePool(Context& ctx) {
  return OfDistances(ctx, [&](const Expr& distances) {
    return ctx.Call("nn.adaptive_avg_pool2d", {distances},
                    {{"output_size", IntArray(ctx.Ints("output_size"))}});
  });
}

Results QuantisedMean(Context& ctx) {
  if (ctx.Has("dtype")) ctx.Refuse("dtype is given; the argument's own is converted");
  const int64_t rank = ctx.Tensor("self").rank();
  Sizes dims = ctx.Has("dim") ? ctx.Dims("dim", rank) : Sizes();
  if (dims.empty()) dims = Counted(static_cast<size_t>(rank));
  return OfDistances(ctx, [&](const Expr& distances) {
    return ctx.Call("mean", {distances},
                    {{"axis", IntArray(dims)}, {"keepdims", ctx.Bool("keepdim")}});
  });
}

const Registrar kQuantised({
    {"aten::dequantize.self", Dequantise},
    {"aten::quantize_per_tensor", QuantisePerTensor},
    {"aten::quantize_per_tensor.tensor_qparams", QuantisePerTensor},
    {"quantized::add", Binary("qnn.add", false)},
    {"quantized::add_relu", Binary("qnn.add", true)},
    {"quantized::add_scalar", AddNumber(false)},
    {"quantized::add_scalar.Tensor", AddNumber(false)},
    {"quantized::add_scalar_relu", AddNumber(true)},
    {"quantized::add_scalar_relu.Tensor", AddNumber(true)},
    {"quantized::cat", Concatenate("qx")},
    {"quantized::conv2d.new", Convolution(false)},
    {"quantized::conv2d_relu.new", Convolution(true)},
    {"quantized::conv_transpose2d", TransposedConvolution},
    {"quantized::hardswish", Unary("input", Hardswish)},
    {"quantized::leaky_relu", Unary("qx", LeakyRelu), RequireFalse("inplace")},
    {"quantized::linear", Linear(false)},
    {"quantized::linear_dynamic", LinearDynamic(false)},
    {"quantized::linear_relu", Linear(true)},
    {"quantized::linear_relu_dynamic", LinearDynamic(true)},
    {"quantized::mul", Binary("qnn.mul", false)},
    {"quantized::mul_relu", Binary("qnn.mul", true)},
    {"quantized::mul_scalar", MultiplyByNumber(false)},
    {"quantized::mul_scalar.Tensor", MultiplyByNumber(false)},
    {"quantized::mul_scalar_relu", MultiplyByNumber(true)},
    {"quantized::mul_scalar_relu.Tensor", MultiplyByNumber(true)},
    {"quantized::relu6", Relu6, RequireFalse("inplace")},
});

}  // namespace

Converter FindQuantisedConverter(const std::string& name) {
  static const std::unordered_map<std::string, Converter> converters = {
      {"aten::adaptive_avg_pool2d", QuantisedAdaptivePool},
      {"aten::cat", Concatenate("tensors")},
      {"aten::mean.dim", QuantisedMean},
      {"aten::relu", QuantisedRelu},
  };
  const auto found = converters.find(name);
  return found == converters.end() ? Converter() : found->second;
}

}  // namespace torch_tvm::convert
