// Converters of the fused operators that tracing nn.TransformerEncoderLayer and
// nn.MultiheadAttention gives in evaluation mode without gradients: self-attention with its
// projections, and the whole encoder layer.
#include <cmath>

#include "convert/context.h"

namespace torch_tvm::convert {
namespace {

// Builds layers on (batch, length, width) tensors in one math dtype.
class Encoder {
 public:
  Encoder(Context& context, const Operand& source)
      : ctx_(context),
        math_(MathType(context.Result().dtype)),
        batch_(source.sizes().at(0)),
        length_(source.sizes().at(1)),
        width_(ctx_.Int("embed_dim")),
        heads_(ctx_.Int(ctx_.Has("num_heads") ? "num_heads" : "num_head")) {}

  ScalarType math() const { return math_; }

  Expr Linear(const Expr& x, const char* weight, const char* bias) const {
    const Operand matrix = ctx_.Tensor(weight);
    const int64_t units = matrix.sizes().at(0);
    ctx_.AddFlops(2.0 * static_cast<double>(batch_ * length_) *
                  static_cast<double>(matrix.info.numel()));
    const Expr product = ctx_.Call("nn.dense", {x, ctx_.Cast(matrix, math_)}, {{"units", units}});
    return ctx_.Call("nn.bias_add", {product, ctx_.Cast(ctx_.Tensor(bias), math_)},
                     {{"axis", int64_t{-1}}});
  }

  Expr Norm(const Expr& x, const char* weight, const char* bias) const {
    return ctx_.Call(
        "nn.layer_norm",
        {x, ctx_.Cast(ctx_.Tensor(weight), math_), ctx_.Cast(ctx_.Tensor(bias), math_)},
        {{"epsilon", ctx_.Double("eps")}});
  }

  Expr SelfAttention(const Expr& x) const {
    if (ctx_.Has("mask")) ctx_.Refuse("mask is given; trace with gradients enabled to avoid it");
    const Expr projected = Linear(x, "qkv_weight", "qkv_bias");
    const Expr parts = ctx_.Call("split", {projected},
                                 {{"indices_or_sections", int64_t{3}}, {"axis", int64_t{-1}}});
    const Expr query = Heads(relay::TupleGetItem(parts, 0));
    const Expr key = Heads(relay::TupleGetItem(parts, 1));
    const Expr value = Heads(relay::TupleGetItem(parts, 2));
    const auto head_width = static_cast<double>(width_ / heads_);
    const Expr scaled =
        ctx_.Call("multiply", {query, ctx_.Constant(1 / std::sqrt(head_width), math_)});
    const Expr scores = ctx_.Call("nn.batch_matmul", {scaled, key}, {{"transpose_b", true}});
    const Expr weights = ctx_.Call("nn.softmax", {scores}, {{"axis", int64_t{-1}}});
    ctx_.AddFlops(4.0 * static_cast<double>(batch_ * length_ * length_) *
                  static_cast<double>(width_));
    const Expr attended = ctx_.Call("nn.batch_matmul", {weights, value});
    return Linear(Joined(attended), "proj_weight", "proj_bias");
  }

  Expr FeedForward(const Expr& x) const {
    const Expr wide = Linear(x, "ffn_weight_1", "ffn_bias_1");
    return Linear(ctx_.Bool("use_gelu") ? Gelu(wide) : ctx_.Call("nn.relu", {wide}), "ffn_weight_2",
                  "ffn_bias_2");
  }

  Expr Add(const Expr& a, const Expr& b) const { return ctx_.Call("add", {a, b}); }

 private:
  // (batch, length, width) -> (batch * heads, length, head width)
  Expr Heads(const Expr& x) const {
    const Sizes split = {batch_, length_, heads_, width_ / heads_};
    const Expr heads = ctx_.Transpose(ctx_.Reshape(x, {}, split), {0, 2, 1, 3});
    return ctx_.Reshape(heads, {}, {batch_ * heads_, length_, width_ / heads_});
  }

  Expr Joined(const Expr& x) const {
    const Sizes split = {batch_, heads_, length_, width_ / heads_};
    const Expr rows = ctx_.Transpose(ctx_.Reshape(x, {}, split), {0, 2, 1, 3});
    return ctx_.Reshape(rows, {}, {batch_, length_, width_});
  }

  Expr Gelu(const Expr& x) const {
    const Expr half = ctx_.Constant(0.5, math_);
    const Expr inner =
        ctx_.Call("erf", {ctx_.Call("multiply", {x, ctx_.Constant(M_SQRT1_2, math_)})});
    const Expr gate = ctx_.Call("add", {half, ctx_.Call("multiply", {half, inner})});
    return ctx_.Call("multiply", {x, gate});
  }

  Context& ctx_;
  ScalarType math_;
  int64_t batch_;
  int64_t length_;
  int64_t width_;
  int64_t heads_;
};

void RequireBatched(const Context& ctx, const Operand& source) {
  if (source.rank() != 3) ctx.Refuse("its input is nested or has no batch");
}

Results EncoderLayer(Context& ctx) {
  const Operand source = ctx.Tensor("src");
  RequireBatched(ctx, source);
  const Encoder layer(ctx, source);
  const bool norm_first = ctx.Bool("norm_first");
  const Expr input = ctx.Cast(source, layer.math());
  const Expr normed = norm_first ? layer.Norm(input, "norm_weight_1", "norm_bias_1") : input;
  Expr middle = layer.Add(layer.SelfAttention(normed), input);
  if (!norm_first) middle = layer.Norm(middle, "norm_weight_1", "norm_bias_1");
  const Expr fed = norm_first ? layer.Norm(middle, "norm_weight_2", "norm_bias_2") : middle;
  Expr result = layer.Add(layer.FeedForward(fed), middle);
  if (!norm_first) result = layer.Norm(result, "norm_weight_2", "norm_bias_2");
  return ctx.Cast(result, layer.math(), ctx.Result().dtype);
}

Results MultiHeadAttention(Context& ctx) {
  const Operand query = ctx.Tensor("query");
  RequireBatched(ctx, query);
  const at::Tensor meta = ctx.Meta("query");
  if (!meta.is_same(ctx.Meta("key")) || !meta.is_same(ctx.Meta("value"))) {
    ctx.Refuse("query, key and value differ; trace with gradients enabled to avoid it");
  }
  if (ctx.IsUsed(1)) ctx.Refuse("its attention weights are used");
  const Encoder layer(ctx, query);
  const Expr value = layer.SelfAttention(ctx.Cast(query, layer.math()));
  const Expr result = ctx.Cast(value, layer.math(), ctx.Result().dtype);
  return std::vector<Expr>(ctx.NumResults(), result);
}

const Registrar kEncoder({
    {"aten::_transformer_encoder_layer_fwd", EncoderLayer},
    {"aten::_native_multi_head_attention", MultiHeadAttention},
});

}  // namespace
}  // namespace torch_tvm::convert
