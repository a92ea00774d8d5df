// embedding_bag: rows of a table, reduced bag by bag. A bag is what stands between two offsets.
#include <limits>

#include "convert/indices.h"

namespace torch_tvm::convert {
namespace {

enum class Mode : int64_t { kSum = 0, kMean = 1, kMax = 2 };

class Bags {
 public:
  explicit Bags(Context& ctx)
      : ctx_(ctx),
        weight_(ctx.Tensor("weight")),
        indices_(AsLong(ctx, ctx.Tensor("indices"))),
        offsets_(AsLong(ctx, ctx.Tensor("offsets"))),
        dtype_(ctx.Result().dtype),
        math_(MathType(dtype_)),
        count_(indices_.info.numel()),
        bags_(ctx.Result().sizes.at(0)),
        width_(ctx.Result().sizes.at(1)) {
    if (indices_.rank() != 1)
      ctx.Refuse("indices have " + std::to_string(indices_.rank()) + " dimensions");
    RequireWithin(ctx_, indices_, 0, weight_.sizes().at(0));
    RequireOrder();
  }

  Expr Reduce() {
    const auto mode = static_cast<Mode>(ctx_.Int("mode"));
    if (count_ == 0) return ctx_.Full(0, {bags_, width_}, dtype_);
    const Expr places = Places();
    Expr rows = ctx_.Call("take", {ctx_.Cast(weight_, math_), indices_.expr}, {{"axis", 0}});
    if (const auto scales = ctx_.OptionalTensor("per_sample_weights")) {
      const Expr column = ctx_.Reshape(ctx_.Cast(*scales, math_), {count_}, {count_, 1});
      rows = ctx_.Call("multiply", {rows, column});
    }
    const double lowest = -std::numeric_limits<double>::infinity();
    Expr value = Gathered(rows, places, mode == Mode::kMax ? "max" : "add",
                          mode == Mode::kMax ? lowest : 0, {width_});
    if (mode == Mode::kSum) return ctx_.Cast(value, math_, dtype_);
    const Expr ones = ctx_.Full(1, {count_, 1}, math_);
    const Expr found = Gathered(ones, places, "add", 0, {1});
    if (mode == Mode::kMean) {
      value = ctx_.Call("divide", {value, ctx_.Call("maximum", {found, ctx_.Constant(1, math_)})});
    } else {
      const Expr empty = ctx_.Call("equal", {found, ctx_.Constant(0, math_)});
      value = ctx_.Call("where", {empty, ctx_.Constant(0, math_), value});
    }
    return ctx_.Cast(value, math_, dtype_);
  }

 private:
  // PyTorch raises unless offsets begin at 0 and stay within the indices; those that fall it reads
  // in ways of its own.
  void RequireOrder() {
    const int64_t size = offsets_.info.numel();
    const auto part = [&](int64_t begin, int64_t end) {
      return ctx_.Slice(offsets_.expr, 0, begin, end);
    };
    const Expr zero = ctx_.Constant(0, ScalarType::Long);
    ctx_.RefuseIf(ctx_.Call("not_equal", {part(0, 1), zero}), "offsets[0] is not 0");
    const Expr count = ctx_.Constant(count_, ScalarType::Long);
    ctx_.RefuseIf(ctx_.Call("greater", {offsets_.expr, count}), "offsets behind the indices");
    if (size > 1) {
      ctx_.RefuseIf(ctx_.Call("less", {part(1, size), part(0, size - 1)}), "offsets that fall");
    }
  }

  // The bag of every index. What is in none - behind the last offset, or padding - is in one more.
  Expr Places() const {
    const auto number = [&](int64_t value) { return ctx_.Constant(value, ScalarType::Long); };
    const Expr behind = ctx_.Call("searchsorted", {offsets_.expr, ctx_.Arange(count_)},
                                  {{"right", true}, {"dtype", DtypeName(ScalarType::Long)}});
    Expr places = ctx_.Call("subtract", {behind, number(1)});
    if (ctx_.Has("padding_idx")) {
      int64_t padding = ctx_.Int("padding_idx");
      if (padding < 0) padding += weight_.sizes()[0];
      const Expr is_padding = ctx_.Call("equal", {indices_.expr, number(padding)});
      places = ctx_.Call("where", {is_padding, number(bags_), places});
    }
    return ctx_.Reshape(places, {count_}, {1, count_});
  }

  // Rows of `updates` combined at their places.
  Expr Gathered(const Expr& updates, const Expr& places, const char* mode, double initial,
                const Sizes& width) const {
    const Expr start = ctx_.Full(initial, {bags_ + 1, width[0]}, math_);
    const Expr all = ctx_.Call("scatter_nd", {start, places, updates}, {{"mode", mode}});
    return ctx_.Slice(all, 0, 0, bags_);
  }

  Context& ctx_;
  Operand weight_, indices_, offsets_;
  ScalarType dtype_, math_;
  int64_t count_, bags_, width_;
};

// The three other results serve the backward pass.
Results EmbeddingBag(Context& ctx) {
  std::vector<Expr> results = {Bags(ctx).Reduce()};
  for (size_t i = 1; i < ctx.NumResults(); ++i) {
    if (ctx.IsUsed(i)) ctx.Refuse("its result " + std::to_string(i) + " is used");
    const TensorInfo& result = ctx.Result(i);
    results.push_back(ctx.Call(
        "zeros", {}, {{"shape", IntArray(result.sizes)}, {"dtype", DtypeName(result.dtype)}}));
  }
  return results;
}

const Registrar kEmbeddingBag({
    {"aten::embedding_bag", EmbeddingBag},
    {"aten::embedding_bag.padding_idx", EmbeddingBag},
});

}  // namespace
}  // namespace torch_tvm::convert
