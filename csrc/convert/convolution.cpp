// Converters of convolutions and transposed convolutions in one, two and three dimensions.
#include "convert/context.h"

namespace torch_tvm::convert {
namespace {

// A list with one entry for each spatial dimension; PyTorch lets one entry stand for all.
Sizes Spatial(const Context& ctx, const char* name, size_t dims, int64_t absent) {
  if (!ctx.Has(name)) return Sizes(dims, absent);
  Sizes values = ctx.Ints(name);
  if (values.empty()) return Sizes(dims, absent);
  if (values.size() == 1) values.resize(dims, values[0]);
  if (values.size() != dims) {
    ctx.Refuse(std::string(name) + " has " + std::to_string(values.size()) + " entries for " +
               std::to_string(dims) + " spatial dimensions");
  }
  return values;
}

// Relay's padding: all begins, then all ends. 'same' puts the odd element at the end.
Sizes Padding(const Context& ctx, const Sizes& kernel, const Sizes& dilation) {
  const size_t dims = kernel.size();
  if (!ctx.Value("padding").isString()) {
    Sizes both = Spatial(ctx, "padding", dims, 0);
    both.insert(both.end(), both.begin(), both.begin() + static_cast<int64_t>(dims));
    return both;
  }
  Sizes padding(2 * dims, 0);
  const std::string mode = ctx.String("padding");
  if (mode == "valid") return padding;
  if (mode != "same") ctx.Refuse("padding='" + mode + "' is unknown");
  for (size_t i = 0; i < dims; ++i) {
    const int64_t total = dilation[i] * (kernel[i] - 1);
    padding[i] = total / 2;
    padding[dims + i] = total - padding[i];
  }
  return padding;
}

struct Convolution {
  explicit Convolution(const Context& ctx)
      : input(ctx.Tensor("input")),
        weight(ctx.Tensor("weight")),
        kernel(weight.sizes().begin() + 2, weight.sizes().end()),
        strides(Spatial(ctx, "stride", kernel.size(), 1)),
        dilation(Spatial(ctx, "dilation", kernel.size(), 1)),
        padding(Padding(ctx, kernel, dilation)),
        output_padding(Spatial(ctx, "output_padding", kernel.size(), 0)),
        groups(ctx.Int("groups")) {}

  // Relay wants output_padding below the stride; what is above it is as well not cut off from the
  // end.
  void BoundOutputPadding(const Context& ctx) {
    for (size_t i = 0; i < kernel.size(); ++i) {
      const int64_t excess = output_padding[i] - (strides[i] - 1);
      if (excess <= 0) continue;
      int64_t& end = padding[kernel.size() + i];
      if (excess > end) {
        ctx.Refuse("output_padding=" + std::to_string(output_padding[i]) + " with stride=" +
                   std::to_string(strides[i]) + " and padding=" + std::to_string(end) +
                   "; less than stride + padding is converted");
      }
      end -= excess;
      output_padding[i] -= excess;
    }
  }

  Operand input;
  Operand weight;
  Sizes kernel;
  Sizes strides;
  Sizes dilation;
  Sizes padding;
  Sizes output_padding;
  int64_t groups;
};

Expr Convolve(Context& ctx, const Convolution& conv, const Expr& input, const Expr& weight,
              bool transposed) {
  const std::string name = "nn.conv" + std::to_string(conv.kernel.size()) + "d";
  const auto taps = static_cast<double>(conv.weight.info.numel());
  const double per_image = transposed ? static_cast<double>(conv.input.info.numel())
                                      : static_cast<double>(ctx.Result().numel());
  ctx.AddFlops(2.0 * per_image * taps / static_cast<double>(conv.weight.sizes()[0]));
  const auto strides = IntArray(conv.strides);
  const auto padding = IntArray(conv.padding);
  const auto dilation = IntArray(conv.dilation);
  const auto kernel = IntArray(conv.kernel);
  if (!transposed) {
    return ctx.Call(name, {input, weight},
                    {{"strides", strides},
                     {"padding", padding},
                     {"dilation", dilation},
                     {"groups", conv.groups},
                     {"channels", conv.weight.sizes()[0]},
                     {"kernel_size", kernel}});
  }
  return ctx.Call(name + "_transpose", {input, weight},
                  {{"channels", conv.weight.sizes()[1] * conv.groups},
                   {"kernel_size", kernel},
                   {"strides", strides},
                   {"output_padding", IntArray(conv.output_padding)},
                   {"padding", padding},
                   {"dilation", dilation},
                   {"groups", conv.groups}});
}

Results ConvertConvolution(Context& ctx, bool transposed) {
  const TensorInfo& result = ctx.Result();
  if (!IsFloat(result.dtype)) ctx.Refuse("its operands are integers");
  const ScalarType math = MathType(result.dtype);
  Convolution conv(ctx);
  if (transposed) conv.BoundOutputPadding(ctx);
  const size_t dims = conv.kernel.size();
  if (dims < 1 || dims > 3) {
    ctx.Refuse("its weight has rank " + std::to_string(dims + 2) + "; ranks 3 to 5 are converted");
  }
  if (conv.weight.info.numel() == 0) ctx.Refuse("its weight has no elements");
  Expr input = ctx.Cast(conv.input, math);
  const bool single = conv.input.sizes().size() == dims + 1;  // an image without a batch
  if (single) input = ctx.Call("expand_dims", {input}, {{"axis", int64_t{0}}});
  Expr value = Convolve(ctx, conv, input, ctx.Cast(conv.weight, math), transposed);
  if (const auto bias = ctx.OptionalTensor("bias")) {
    value = ctx.Call("nn.bias_add", {value, ctx.Cast(*bias, math)});
  }
  if (single) value = ctx.Call("squeeze", {value}, {{"axis", IntArray({0})}});
  return ctx.Cast(value, math, result.dtype);
}

Results Forward(Context& ctx) { return ConvertConvolution(ctx, ctx.BoolOr("transposed", false)); }

Results Transposed(Context& ctx) { return ConvertConvolution(ctx, true); }

const Registrar kConvolution({
    {"aten::_convolution", Forward},
    {"aten::_convolution.deprecated", Forward},
    {"aten::_convolution_mode", Forward},
    {"aten::convolution", Forward},
    {"aten::conv1d", Forward},
    {"aten::conv1d.padding", Forward},
    {"aten::conv2d", Forward},
    {"aten::conv2d.padding", Forward},
    {"aten::conv3d", Forward},
    {"aten::conv3d.padding", Forward},
    {"aten::conv_transpose1d", Transposed},
    {"aten::conv_transpose2d.input", Transposed},
    {"aten::conv_transpose3d.input", Transposed},
});

}  // namespace
}  // namespace torch_tvm::convert
