// Converters of resizing by interpolation: image.resize1d, 2d and 3d where their rules are
// PyTorch's, else a weighted sum of elements taken along each dimension.
#include <algorithm>
#include <array>
#include <cmath>

#include "convert/term.h"

namespace torch_tvm::convert {
namespace {

enum class Method { kNearest, kNearestExact, kLinear, kCubic };

// One spatial dimension. `scale` is what the user gave as scale_factor, if anything.
struct Extent {
  int64_t in, out;
  std::optional<double> scale;
  bool align_corners;

  // Elements of the input for one of the output, in the precision of T.
  template <typename T>
  T Step() const {
    if (align_corners) {
      return out > 1 ? static_cast<T>(in - 1) / static_cast<T>(out - 1) : T{0};
    }
    return scale && *scale > 0 ? static_cast<T>(1.0 / *scale)
                               : static_cast<T>(in) / static_cast<T>(out);
  }

  // Whether Relay's rules, which know the two sizes only, give the same.
  bool FollowsFromSizes() const {
    if (in == out && (!scale || *scale == 1)) return true;
    if (align_corners) return out > 1;
    return !scale || *scale <= 0 ||
           static_cast<float>(1.0 / *scale) == static_cast<float>(in) / static_cast<float>(out);
  }
};

// What makes up each element of the output along one dimension: `count` elements of the input and
// their weights, element by element.
struct Taps {
  explicit Taps(int64_t outputs, int64_t each)
      : count(each), index(static_cast<size_t>(outputs * each), 0), weight(index.size(), 0) {}

  void Set(int64_t output, int64_t tap, int64_t from, double by) {
    const auto at = static_cast<size_t>(output * count + tap);
    index[at] = from;
    weight[at] = by;
  }

  int64_t count;
  Sizes index;
  std::vector<double> weight;
};

// The weights of elements t + 1, t, 1 - t and 2 - t away, by the cubic convolution with parameter
// a.
template <typename T>
std::array<T, 4> CubicWeights(T t, T a) {
  const auto near = [a](T x) { return ((a + 2) * x - (a + 3)) * x * x + 1; };
  const auto far = [a](T x) { return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a; };
  return {far(t + 1), near(t), near(1 - t), far(2 - t)};
}

// T is the precision that PyTorch finds places in: float, or double for double.
template <typename T>
Taps TapsOf(const Extent& extent, Method method) {
  const T step = extent.Step<T>();
  const int64_t last = extent.in - 1;
  Taps taps(extent.out, method == Method::kLinear ? 2 : method == Method::kCubic ? 4 : 1);
  for (int64_t i = 0; i < extent.out; ++i) {
    const auto place = static_cast<T>(i);
    if (method == Method::kNearest || method == Method::kNearestExact) {
      const auto single = static_cast<float>(place) + (method == Method::kNearest ? 0.0F : 0.5F);
      const auto from = static_cast<int64_t>(std::floor(single * extent.Step<float>()));
      taps.Set(i, 0, std::min(from, last), 1);
      continue;
    }
    T source = extent.align_corners ? step * place : step * (place + T(0.5)) - T(0.5);
    if (method == Method::kLinear) source = std::max(source, T{0});
    const auto from = static_cast<int64_t>(std::floor(source));
    if (method == Method::kLinear) {
      const int64_t low = std::min(from, last);
      const T rest = std::clamp<T>(source - static_cast<T>(low), 0, 1);
      taps.Set(i, 0, low, 1 - rest);
      taps.Set(i, 1, std::min(low + 1, last), rest);
      continue;
    }
    const auto weights = CubicWeights<T>(source - static_cast<T>(from), T(-0.75));
    for (int64_t tap = 0; tap < 4; ++tap) {
      const int64_t at = std::clamp<int64_t>(from - 1 + tap, 0, last);
      taps.Set(i, tap, at, weights[static_cast<size_t>(tap)]);
    }
  }
  return taps;
}

// Of antialiasing: a triangle, or a cubic convolution, as wide as what one output covers.
template <typename T>
Taps SmoothTapsOf(const Extent& extent, Method method) {
  const T step = extent.Step<T>();
  const T radius = method == Method::kLinear ? 1 : 2;
  const T support = step >= 1 ? radius * step : radius;
  const T shrink = step >= 1 ? 1 / step : 1;
  const auto filter = [&](T x) -> T {
    x = std::abs(x);
    if (x >= radius) return 0;
    if (method == Method::kLinear) return 1 - x;
    return CubicWeights<T>(x < 1 ? x : x - 1, T(-0.5))[x < 1 ? 1 : 0];
  };
  Taps taps(extent.out, static_cast<int64_t>(std::ceil(support)) * 2 + 1);
  for (int64_t i = 0; i < extent.out; ++i) {
    const T center = step * (static_cast<T>(i) + T(0.5));
    const int64_t first = std::max<int64_t>(static_cast<int64_t>(center - support + T(0.5)), 0);
    const int64_t end =
        std::min<int64_t>(static_cast<int64_t>(center + support + T(0.5)), extent.in);
    const int64_t used = std::clamp<int64_t>(end - first, 0, taps.count);
    T total = 0;
    const auto weight = [&](int64_t tap) {
      return filter((static_cast<T>(tap + first) - center + T(0.5)) * shrink);
    };
    for (int64_t tap = 0; tap < used; ++tap) total += weight(tap);
    for (int64_t tap = 0; tap < used; ++tap) {
      taps.Set(i, tap, first + tap, total == 0 ? weight(tap) : weight(tap) / total);
    }
  }
  return taps;
}

// More taps than these, and a sum of taken elements is no way to compute it.
constexpr int64_t kMostTaps = 32;

// Sums of weighted elements along one dimension of a tensor of these sizes.
Expr Sampled(const Context& ctx, const Expr& x, const Taps& taps, int64_t dim, int64_t rank,
             ScalarType dtype) {
  if (taps.count > kMostTaps) {
    ctx.Refuse("each element is made of " + std::to_string(taps.count) +
               "; at most 32 are converted");
  }
  const int64_t outputs = static_cast<int64_t>(taps.index.size()) / taps.count;
  Sizes line(static_cast<size_t>(rank), 1);
  line[static_cast<size_t>(dim)] = outputs;
  std::optional<Term> sum;
  for (int64_t tap = 0; tap < taps.count; ++tap) {
    std::vector<double> index, weight;
    for (int64_t i = 0; i < outputs; ++i) {
      const auto at = static_cast<size_t>(i * taps.count + tap);
      index.push_back(static_cast<double>(taps.index[at]));
      weight.push_back(taps.weight[at]);
    }
    const Expr taken = ctx.Call("take", {x, ctx.ConstantTensor(index, {outputs}, ScalarType::Long)},
                                {{"axis", dim}});
    if (taps.count == 1) return taken;
    const Term part =
        Term(ctx, taken, dtype) * Term(ctx, ctx.ConstantTensor(weight, line, dtype), dtype);
    sum = sum ? *sum + part : part;
  }
  return sum->expr;
}

// The dimensions that an upsample operator resizes, whichever way its overload says so.
std::vector<Extent> Extents(const Context& ctx, const Operand& self) {
  const size_t spatial = self.sizes().size() - 2;
  const bool aligned = ctx.BoolOr("align_corners", false);
  constexpr std::array<const char*, 3> kScales = {"scales_d", "scales_h", "scales_w"};
  std::vector<Extent> extents;
  for (size_t i = 0; i < spatial; ++i) {
    std::optional<double> scale;
    if (ctx.Has("scale_factors")) {
      scale = ctx.Value("scale_factors").toDoubleVector().at(i);
    } else {
      const char* name = spatial == 1 ? "scales" : kScales.at(3 - spatial + i);
      const auto index = ctx.node()->schema().argumentIndexWithName(name);
      if (index && ctx.Has(name)) scale = ctx.Double(name);
    }
    extents.push_back({self.sizes()[2 + i], ctx.Result().sizes[2 + i], scale, aligned});
  }
  return extents;
}

Expr AsRelayResizes(const Context& ctx, const Expr& x, const std::vector<Extent>& extents,
                    Method method) {
  constexpr std::array<const char*, 3> kLayouts = {"NCW", "NCHW", "NCDHW"};
  const bool nearest = method == Method::kNearest || method == Method::kNearestExact;
  Sizes size;
  for (const Extent& extent : extents) size.push_back(extent.out);
  const char* place = method == Method::kNearest ? "asymmetric"
                      : extents[0].align_corners ? "align_corners"
                                                 : "half_pixel";
  const char* rounding = method == Method::kNearest        ? "floor"
                         : method == Method::kNearestExact ? "round_prefer_ceil"
                                                           : "";
  const char* name = nearest ? "nearest_neighbor" : method == Method::kLinear ? "linear" : "cubic";
  const ffi::Array<double> everything(extents.size() * 2, 0.0);
  return ctx.Call("image.resize" + std::to_string(extents.size()) + "d", {x},
                  {{"size", IntArray(size)},
                   {"roi", everything},
                   {"layout", ffi::String(kLayouts.at(extents.size() - 1))},
                   {"method", ffi::String(name)},
                   {"coordinate_transformation_mode", ffi::String(place)},
                   {"rounding_method", ffi::String(rounding)},
                   {"cubic_alpha", -0.75}});
}

Converter Upsample(Method method, bool antialias = false) {
  return [=](Context& ctx) -> Results {
    const Operand self = ctx.Tensor(ctx.node()->schema().arguments()[0].name().c_str());
    const ScalarType result = ctx.Result().dtype;
    const bool nearest = method == Method::kNearest || method == Method::kNearestExact;
    if (!nearest && !IsFloat(result)) {
      ctx.Refuse(std::string("self is ") + c10::toString(result) +
                 "; only floats are interpolated");
    }
    const ScalarType math = nearest ? result : MathType(result);
    const std::vector<Extent> extents = Extents(ctx, self);
    Expr x = ctx.Cast(self, math);
    const bool by_sizes = std::all_of(extents.begin(), extents.end(), [](const Extent& extent) {
      return extent.FollowsFromSizes();
    });
    if (by_sizes && !antialias) {
      return ctx.Cast(AsRelayResizes(ctx, x, extents, method), math, result);
    }
    for (size_t i = extents.size(); i-- > 0;) {
      const bool wide = result == ScalarType::Double;
      const Taps taps = antialias ? (wide ? SmoothTapsOf<double>(extents[i], method)
                                          : SmoothTapsOf<float>(extents[i], method))
                                  : (wide ? TapsOf<double>(extents[i], method)
                                          : TapsOf<float>(extents[i], method));
      x = Sampled(ctx, x, taps, static_cast<int64_t>(2 + i), self.rank(), math);
    }
    return ctx.Cast(x, math, result);
  };
}

const Registrar kResize({
    {"aten::upsample_nearest1d", Upsample(Method::kNearest)},
    {"aten::upsample_nearest1d.vec", Upsample(Method::kNearest)},
    {"aten::upsample_nearest2d", Upsample(Method::kNearest)},
    {"aten::upsample_nearest2d.vec", Upsample(Method::kNearest)},
    {"aten::upsample_nearest3d", Upsample(Method::kNearest)},
    {"aten::upsample_nearest3d.vec", Upsample(Method::kNearest)},
    {"aten::_upsample_nearest_exact1d", Upsample(Method::kNearestExact)},
    {"aten::_upsample_nearest_exact1d.vec", Upsample(Method::kNearestExact)},
    {"aten::_upsample_nearest_exact2d", Upsample(Method::kNearestExact)},
    {"aten::_upsample_nearest_exact2d.vec", Upsample(Method::kNearestExact)},
    {"aten::_upsample_nearest_exact3d", Upsample(Method::kNearestExact)},
    {"aten::_upsample_nearest_exact3d.vec", Upsample(Method::kNearestExact)},
    {"aten::upsample_linear1d", Upsample(Method::kLinear)},
    {"aten::upsample_linear1d.vec", Upsample(Method::kLinear)},
    {"aten::upsample_bilinear2d", Upsample(Method::kLinear)},
    {"aten::upsample_bilinear2d.vec", Upsample(Method::kLinear)},
    {"aten::upsample_trilinear3d", Upsample(Method::kLinear)},
    {"aten::upsample_trilinear3d.vec", Upsample(Method::kLinear)},
    {"aten::upsample_bicubic2d", Upsample(Method::kCubic)},
    {"aten::upsample_bicubic2d.vec", Upsample(Method::kCubic)},
    {"aten::_upsample_bilinear2d_aa", Upsample(Method::kLinear, true)},
    {"aten::_upsample_bilinear2d_aa.vec", Upsample(Method::kLinear, true)},
    {"aten::_upsample_bicubic2d_aa", Upsample(Method::kCubic, true)},
    {"aten::_upsample_bicubic2d_aa.vec", Upsample(Method::kCubic, true)},
});

}  // namespace
}  // namespace torch_tvm::convert
