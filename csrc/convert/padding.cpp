// Converters of padding: with a number, by reflection, with the edges, around.
#include <algorithm>

#include "convert/context.h"

namespace torch_tvm::convert {
namespace {

// Elements before and behind each dimension, the outermost first; negative ones crop.
struct Widths {
  Sizes before, behind;

  // PyTorch lists pairs from the last dimension on.
  Widths(const Context& ctx, const Operand& self, const char* name)
      : before(self.sizes().size(), 0), behind(before) {
    const Sizes pairs = ctx.Ints(name);
    for (size_t i = 0; i + 1 < pairs.size(); i += 2) {
      const size_t dim = before.size() - 1 - i / 2;
      before.at(dim) = pairs[i];
      behind.at(dim) = pairs[i + 1];
    }
  }

  // The pad_width attribute, of what is not cropped.
  ffi::Array<ffi::Array<int64_t>> Attribute() const {
    std::vector<ffi::Array<int64_t>> pairs;
    for (size_t dim = 0; dim < before.size(); ++dim) {
      pairs.push_back(
          IntArray({std::max<int64_t>(before[dim], 0), std::max<int64_t>(behind[dim], 0)}));
    }
    return {pairs.begin(), pairs.end()};
  }

  bool Empty() const {
    const auto positive = [](int64_t width) { return width > 0; };
    return std::none_of(before.begin(), before.end(), positive) &&
           std::none_of(behind.begin(), behind.end(), positive);
  }
};

// What negative widths leave of a tensor.
Expr Cropped(const Context& ctx, const Operand& self, const Widths& widths) {
  Expr x = self.expr;
  for (size_t dim = 0; dim < widths.before.size(); ++dim) {
    const int64_t begin = std::max<int64_t>(-widths.before[dim], 0);
    const int64_t end = self.sizes()[dim] - std::max<int64_t>(-widths.behind[dim], 0);
    if (begin == 0 && end == self.sizes()[dim]) continue;
    x = ctx.Slice(x, static_cast<int64_t>(dim), begin, end);
  }
  return x;
}

Expr PadWithNumber(const Context& ctx, const Operand& self, const Widths& widths) {
  const at::Scalar value = ctx.Has("value") ? ctx.Scalar("value") : at::Scalar(0);
  for (size_t dim = 0; dim < widths.before.size(); ++dim) {
    // Cropped to nothing, or beyond: nothing is left but padding.
    const int64_t kept = self.sizes()[dim] + std::min<int64_t>(widths.before[dim], 0) +
                         std::min<int64_t>(widths.behind[dim], 0);
    if (kept <= 0) return ctx.Full(value, ctx.Result().sizes, self.dtype());
  }
  const Expr cropped = Cropped(ctx, self, widths);
  if (widths.Empty()) return cropped;
  return ctx.Call("nn.pad", {cropped, ctx.Constant(value, self.dtype())},
                  {{"pad_width", widths.Attribute()}});
}

Expr PadAround(const Context& ctx, const Operand& self, const Widths& widths) {
  Expr x = Cropped(ctx, self, widths);
  for (size_t dim = 0; dim < widths.before.size(); ++dim) {
    const int64_t before = std::max<int64_t>(widths.before[dim], 0);
    const int64_t behind = std::max<int64_t>(widths.behind[dim], 0);
    if (before == 0 && behind == 0) continue;
    const int64_t size = ctx.Result().sizes[dim] - before - behind;
    if (before > size || behind > size) ctx.Refuse("pad goes around more than once");
    const auto axis = static_cast<int64_t>(dim);
    std::vector<Expr> parts;
    if (before > 0) parts.push_back(ctx.Slice(x, axis, size - before, size));
    parts.push_back(x);
    if (behind > 0) parts.push_back(ctx.Slice(x, axis, 0, behind));
    x = ctx.Concatenate(parts, axis);
  }
  return x;
}

Expr Padded(const Context& ctx, const std::string& mode, const char* pad) {
  const Operand self = ctx.Tensor("self");
  const Widths widths(ctx, self, pad);
  if (mode == "constant") {
    if (self.info.numel() == 0) {
      const at::Scalar value = ctx.Has("value") ? ctx.Scalar("value") : at::Scalar(0);
      return ctx.Full(value, ctx.Result().sizes, self.dtype());
    }
    return PadWithNumber(ctx, self, widths);
  }
  if (mode == "circular") return PadAround(ctx, self, widths);
  if (mode != "reflect" && mode != "replicate") ctx.Refuse("mode='" + mode + "' is unknown");
  Operand padded = self;
  if (!widths.Empty()) {
    padded.expr =
        mode == "reflect"
            ? ctx.Call("nn.mirror_pad", {self.expr},
                       {{"mode", ffi::String("REFLECT")}, {"pad_width", widths.Attribute()}})
            : ctx.Call("nn.pad", {self.expr, ctx.Constant(0, self.dtype())},
                       {{"pad_width", widths.Attribute()}, {"pad_mode", ffi::String("edge")}});
  }
  // What is reflected may be cropped itself, so that cropping comes last.
  for (size_t dim = 0; dim < widths.before.size(); ++dim) {
    padded.info.sizes[dim] +=
        std::max<int64_t>(widths.before[dim], 0) + std::max<int64_t>(widths.behind[dim], 0);
  }
  return Cropped(ctx, padded, widths);
}

Results Pad(Context& ctx) {
  return Padded(ctx, ctx.Has("mode") ? ctx.String("mode") : "constant", "pad");
}

Converter PadBy(const char* mode) {
  return [mode](Context& ctx) -> Results { return Padded(ctx, mode, "padding"); };
}

Results CircularPad(Context& ctx) { return Padded(ctx, "circular", "pad"); }

const Registrar kPadding({
    {"aten::pad", Pad},
    {"aten::constant_pad_nd", Pad},
    {"aten::_pad_circular", CircularPad},
    {"aten::reflection_pad1d", PadBy("reflect")},
    {"aten::reflection_pad2d", PadBy("reflect")},
    {"aten::reflection_pad3d", PadBy("reflect")},
    {"aten::replication_pad1d", PadBy("replicate")},
    {"aten::replication_pad2d", PadBy("replicate")},
    {"aten::replication_pad3d", PadBy("replicate")},
});

}  // namespace
}  // namespace torch_tvm::convert
