// Converters of pooling. PyTorch drops a window that would start in the right padding and Relay
// does not, so ceil_mode is always spelled out as padding, which gives exactly the windows that
// PyTorch has.
#include "convert/pooling.h"

#include <algorithm>
#include <functional>

namespace torch_tvm::convert {
namespace {

Sizes PerDimension(const Context& ctx, const char* name, size_t dims, const Sizes& absent) {
  if (!ctx.Has(name)) return absent;
  Sizes values = ctx.Ints(name);
  if (values.empty()) return absent;
  if (values.size() == 1) values.resize(dims, values[0]);
  return values;
}

}  // namespace

Window WindowOf(const Context& ctx, const Operand& self, size_t dims) {
  Window window;
  const auto spatial = static_cast<int64_t>(dims);
  const Sizes& out = ctx.Result().sizes;
  window.in.assign(self.sizes().end() - spatial, self.sizes().end());
  window.out.assign(out.end() - spatial, out.end());
  window.kernel = PerDimension(ctx, "kernel_size", dims, {});
  window.strides = PerDimension(ctx, "stride", dims, window.kernel);
  window.dilation = PerDimension(ctx, "dilation", dims, Sizes(dims, 1));
  window.padding = PerDimension(ctx, "padding", dims, Sizes(dims, 0));
  for (size_t i = 0; i < dims; ++i) {
    const int64_t extent = window.dilation[i] * (window.kernel[i] - 1) + 1;
    const int64_t covered = (window.out[i] - 1) * window.strides[i] + extent;
    window.extra.push_back(std::max(window.padding[i], covered - window.in[i] - window.padding[i]));
  }
  return window;
}

namespace {

// Pools (N, C, spatial...); an input without a batch gets one for the time.
Expr Batched(const Context& ctx, const Operand& self, size_t dims, ScalarType math,
             const std::function<Expr(const Expr&)>& pool) {
  const Expr x = ctx.Cast(self, math);
  if (self.sizes().size() == dims + 2) return pool(x);
  const Expr batch = ctx.Call("expand_dims", {x}, {{"axis", int64_t{0}}});
  return ctx.Call("squeeze", {pool(batch)}, {{"axis", IntArray({0})}});
}

Sizes BothEnds(const Window& window) {
  Sizes padding = window.padding;
  padding.insert(padding.end(), window.extra.begin(), window.extra.end());
  return padding;
}

std::string PoolName(const char* kind, size_t dims) {
  return std::string("nn.") + kind + "_pool" + std::to_string(dims) + "d";
}

// Where nothing uses the indices, Relay's pooling gives all.
bool NeedsIndices(const Context& ctx) { return ctx.NumResults() == 2 && ctx.IsUsed(1); }

Converter MaxPool(size_t dims) {
  return [dims](Context& ctx) -> Results {
    if (NeedsIndices(ctx)) return MaxPoolWithIndices(ctx, dims);
    const ScalarType dtype = ctx.Result().dtype;
    const Operand self = ctx.Tensor("self");
    const Window window = WindowOf(ctx, self, dims);
    const Expr value = Batched(ctx, self, dims, MathType(dtype), [&](const Expr& x) {
      return ctx.Call(PoolName("max", dims), {x},
                      {{"pool_size", IntArray(window.kernel)},
                       {"strides", IntArray(window.strides)},
                       {"dilation", IntArray(window.dilation)},
                       {"padding", IntArray(BothEnds(window))}});
    });
    std::vector<Expr> results = {ctx.Cast(value, MathType(dtype), dtype)};
    if (ctx.NumResults() == 2) results.push_back(results[0]);
    return results;
  };
}

// PyTorch's divisor of each window along one dimension, over the kernel's size: windows reach into
// the given padding, not beyond it.
std::vector<double> Shares(const Window& window, size_t dim) {
  std::vector<double> shares;
  for (int64_t i = 0; i < window.out[dim]; ++i) {
    const int64_t start = i * window.strides[dim] - window.padding[dim];
    const int64_t end = std::min(start + window.kernel[dim], window.in[dim] + window.padding[dim]);
    shares.push_back(static_cast<double>(end - start) / static_cast<double>(window.kernel[dim]));
  }
  return shares;
}

// Multiplies by kernel size / divisor where PyTorch divides by other than the kernel size.
Expr Rescale(const Context& ctx, Expr value, const Window& window, ScalarType math) {
  const size_t dims = window.out.size();
  if (ctx.Has("divisor_override")) {
    const auto divisor = static_cast<double>(ctx.Int("divisor_override"));
    const double factor = static_cast<double>(Product(window.kernel)) / divisor;
    return factor == 1 ? value : ctx.Call("multiply", {value, ctx.Constant(factor, math)});
  }
  for (size_t dim = 0; dim < dims; ++dim) {
    const std::vector<double> shares = Shares(window, dim);
    if (std::all_of(shares.begin(), shares.end(), [](double s) { return s == 1; })) continue;
    Sizes shape(dims + 2, 1);
    shape[dim + 2] = window.out[dim];
    value = ctx.Call("divide", {value, ctx.ConstantTensor(shares, shape, math)});
  }
  return value;
}

Converter AveragePool(size_t dims) {
  return [dims](Context& ctx) -> Results {
    const ScalarType dtype = ctx.Result().dtype;
    if (!IsFloat(dtype)) ctx.Refuse("self holds integers");
    const ScalarType math = MathType(dtype);
    const Operand self = ctx.Tensor("self");
    const Window window = WindowOf(ctx, self, dims);
    const bool whole = ctx.Has("divisor_override");
    const bool count_padding = whole || ctx.BoolOr("count_include_pad", true);
    const Expr value = Batched(ctx, self, dims, math, [&](const Expr& x) {
      const Expr mean = ctx.Call(PoolName("avg", dims), {x},
                                 {{"pool_size", IntArray(window.kernel)},
                                  {"strides", IntArray(window.strides)},
                                  {"padding", IntArray(BothEnds(window))},
                                  {"count_include_pad", count_padding}});
      return count_padding ? Rescale(ctx, mean, window, math) : mean;
    });
    return ctx.Cast(value, math, dtype);
  };
}

Converter AdaptivePool(const char* kind, size_t dims) {
  return [=](Context& ctx) -> Results {
    const ScalarType dtype = ctx.Result().dtype;
    const Operand self = ctx.Tensor("self");
    if (self.info.numel() == 0) ctx.Refuse("self has no elements");
    if (NeedsIndices(ctx)) return AdaptiveMaxPoolWithIndices(ctx, dims);
    const Sizes& sizes = ctx.Result().sizes;
    const Sizes out(sizes.end() - static_cast<int64_t>(dims), sizes.end());
    const std::string name =
        std::string("nn.adaptive_") + kind + "_pool" + std::to_string(dims) + "d";
    const Expr value = Batched(ctx, self, dims, MathType(dtype), [&](const Expr& x) {
      return ctx.Call(name, {x}, {{"output_size", IntArray(out)}});
    });
    std::vector<Expr> results = {ctx.Cast(value, MathType(dtype), dtype)};
    if (ctx.NumResults() == 2) results.push_back(results[0]);
    return results;
  };
}

const Registrar kPooling({
    {"aten::max_pool1d", MaxPool(1)},
    {"aten::max_pool2d", MaxPool(2)},
    {"aten::max_pool3d", MaxPool(3)},
    {"aten::max_pool1d_with_indices", MaxPool(1)},
    {"aten::max_pool2d_with_indices", MaxPool(2)},
    {"aten::max_pool3d_with_indices", MaxPool(3)},
    {"aten::avg_pool1d", AveragePool(1)},
    {"aten::avg_pool2d", AveragePool(2)},
    {"aten::avg_pool3d", AveragePool(3)},
    {"aten::adaptive_avg_pool1d", AdaptivePool("avg", 1)},
    {"aten::adaptive_avg_pool2d", AdaptivePool("avg", 2)},
    {"aten::adaptive_avg_pool3d", AdaptivePool("avg", 3)},
    {"aten::adaptive_max_pool1d", AdaptivePool("max", 1)},
    {"aten::adaptive_max_pool2d", AdaptivePool("max", 2)},
    {"aten::adaptive_max_pool3d", AdaptivePool("max", 3)},
});

}  // namespace
}  // namespace torch_tvm::convert
