// Converters of attention.
#include <torch/csrc/jit/ir/constants.h>

#include <cmath>
#include <limits>

#include "convert/context.h"

namespace torch_tvm::convert {
namespace {

struct Attention {
  explicit Attention(const Context& ctx)
      : query(ctx.Tensor("query")), key(ctx.Tensor("key")), value(ctx.Tensor("value")) {
    const auto edge = [](const Operand& operand) { return operand.sizes().end() - 2; };
    batch.assign(ctx.Result().sizes.begin(), ctx.Result().sizes.end() - 2);
    rows = *edge(query);
    columns = *edge(key);
    width = query.sizes().back();
    value_width = value.sizes().back();
  }

  Sizes WithBatch(int64_t first, int64_t second) const {
    Sizes sizes = batch;
    sizes.push_back(first);
    sizes.push_back(second);
    return sizes;
  }

  Operand query;
  Operand key;
  Operand value;
  Sizes batch;  // every dimension but the last two, broadcast
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t width = 0;
  int64_t value_width = 0;
};

// (..., rows, columns) with all leading dimensions in one; grouped-query heads repeated, others
// broadcast.
Expr Batched(const Context& ctx, const Attention& shape, const Operand& operand, ScalarType math,
             bool grouped) {
  const int64_t rows = *(operand.sizes().end() - 2);
  const int64_t columns = operand.sizes().back();
  Expr expr = ctx.Cast(operand, math);
  Sizes sizes = operand.sizes();
  const size_t heads = sizes.size() - 3;
  if (grouped && sizes.size() >= 3 && sizes[heads] != shape.batch.back()) {
    const int64_t repeats = shape.batch.back() / sizes[heads];
    expr =
        ctx.Call("repeat", {expr}, {{"repeats", repeats}, {"axis", static_cast<int64_t>(heads)}});
    sizes[heads] = shape.batch.back();
  }
  const Sizes full = shape.WithBatch(rows, columns);
  return ctx.Reshape(ctx.BroadcastTo(expr, sizes, full), full,
                     {Product(shape.batch), rows, columns});
}

// Where attention is allowed: below the diagonal.
Expr CausalMask(const Context& ctx, const Attention& shape) {
  const Expr column = ctx.Reshape(ctx.Arange(shape.columns), {shape.columns}, {1, shape.columns});
  const Expr row = ctx.Reshape(ctx.Arange(shape.rows), {shape.rows}, {shape.rows, 1});
  return ctx.Call("less_equal", {column, row});
}

// A row that is masked out entirely gives zeros in PyTorch, where softmax gives NaN. The mask alone
// tells, and is smaller than the scores.
Expr ZeroMaskedRows(const Context& ctx, const Operand& mask, const Expr& attended,
                    ScalarType math) {
  const bool boolean = mask.dtype() == ScalarType::Bool;
  const Expr most = ctx.Call(boolean ? "any" : "max", {boolean ? mask.expr : ctx.Cast(mask, math)},
                             {{"axis", IntArray({-1})}, {"keepdims", true}});
  const Expr lowest = ctx.Constant(-std::numeric_limits<double>::infinity(), math);
  const Expr kept = boolean ? most : ctx.Call("not_equal", {most, lowest});
  return ctx.Call("where", {kept, attended, ctx.Constant(0, math)});
}

Expr Weights(const Context& ctx, const Attention& shape, Expr scores, ScalarType math) {
  const Sizes full = shape.WithBatch(shape.rows, shape.columns);
  const Sizes flat = {Product(shape.batch), shape.rows, shape.columns};
  const Expr lowest = ctx.Constant(-std::numeric_limits<double>::infinity(), math);
  const auto mask = ctx.OptionalTensor("attn_mask");
  const bool causal = ctx.BoolOr("is_causal", false);
  if (!mask && !causal) return ctx.Call("nn.softmax", {scores}, {{"axis", int64_t{-1}}});
  scores = ctx.Reshape(scores, flat, full);
  if (causal) scores = ctx.Call("where", {CausalMask(ctx, shape), scores, lowest});
  if (mask && mask->dtype() == ScalarType::Bool) {
    scores = ctx.Call("where", {mask->expr, scores, lowest});
  } else if (mask) {
    scores = ctx.Call("add", {scores, ctx.Cast(*mask, math)});
  }
  const Expr weights = ctx.Call("nn.softmax", {scores}, {{"axis", int64_t{-1}}});
  return ctx.Reshape(weights, full, flat);
}

Results ScaledDotProduct(Context& ctx) {
  if (ctx.Has("dropout_p") && ctx.Double("dropout_p") != 0) ctx.Refuse("dropout_p is not 0");
  const TensorInfo& result = ctx.Result();
  const ScalarType math = MathType(result.dtype);
  const Attention shape(ctx);
  if (shape.columns == 0 || shape.width == 0) ctx.Refuse("key has no elements");
  const bool grouped = ctx.BoolOr("enable_gqa", false);
  const double scale =
      ctx.Has("scale") ? ctx.Double("scale") : 1 / std::sqrt(static_cast<double>(shape.width));
  const Expr query = Batched(ctx, shape, shape.query, math, false);
  const Expr key = Batched(ctx, shape, shape.key, math, grouped);
  const Expr value = Batched(ctx, shape, shape.value, math, grouped);
  Expr scores = ctx.Call("nn.batch_matmul", {query, key}, {{"transpose_b", true}});
  scores = ctx.Call("multiply", {scores, ctx.Constant(scale, math)});
  const Expr weights = Weights(ctx, shape, scores, math);
  const double pairs = static_cast<double>(Product(shape.batch)) * static_cast<double>(shape.rows) *
                       static_cast<double>(shape.columns);
  ctx.AddFlops(2.0 * pairs * static_cast<double>(shape.width + shape.value_width));
  Expr attended = ctx.Call("nn.batch_matmul", {weights, value});
  attended =
      ctx.Reshape(attended, {Product(shape.batch), shape.rows, shape.value_width}, result.sizes);
  if (const auto mask = ctx.OptionalTensor("attn_mask")) {
    attended = ZeroMaskedRows(ctx, *mask, attended, math);
  }
  return ctx.Cast(attended, math, result.dtype);
}

std::string DropoutCheck(const torch::jit::Node& node) {
  const auto value = torch::jit::toIValue(node.namedInput("dropout_p"));
  if (!value || !value->isDouble() || value->toDouble() == 0) return "";
  return "dropout_p=" + std::to_string(value->toDouble()) + " is random";
}

const Registrar kAttention({
    {"aten::scaled_dot_product_attention", ScaledDotProduct, DropoutCheck},
});

}  // namespace
}  // namespace torch_tvm::convert
