// Converters of losses that compare elements; loss_of_classes.cpp has those of classes.
#include "convert/loss.h"

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>

#include <cmath>

#include "convert/norm.h"

namespace torch_tvm::convert {

Expr Reduced(const Context& ctx, const Term& loss, const Sizes& sizes) {
  enum { kNone, kMean, kSum };
  const int64_t reduction = ctx.Int("reduction");
  if (reduction == kNone) return Settle(loss);
  if (Product(sizes) == 0) {
    return ctx.Full(reduction == kMean ? std::nan("") : 0, {}, ctx.Result().dtype);
  }
  return Settle(Reduce(reduction == kMean ? "mean" : "sum", loss, Counted(sizes.size())));
}

namespace {

Sizes Broadcast(const Context& ctx, std::initializer_list<const char*> names) {
  Sizes sizes;
  for (const char* name : names) {
    if (ctx.Has(name)) sizes = at::infer_size(sizes, ctx.Tensor(name).sizes());
  }
  return sizes;
}

// A loss of the elements of `self` and `target`.
Converter Compared(Term (*loss)(const Context&, const Term& self, const Term& target)) {
  return [loss](Context& ctx) -> Results {
    const Term value = loss(ctx, Lift(ctx, "self"), Lift(ctx, "target"));
    return Reduced(ctx, value, Broadcast(ctx, {"self", "target"}));
  };
}

Term Squared(const Context&, const Term& self, const Term& target) {
  const Term difference = self - target;
  return difference * difference;
}

Term Absolute(const Context&, const Term& self, const Term& target) { return Abs(self - target); }

Term SmoothAbsolute(const Context& ctx, const Term& self, const Term& target) {
  const double beta = ctx.Double("beta");
  const Term size = Abs(self - target);
  if (beta == 0) return size;
  return Where(size < beta, size * size * 0.5 / beta, size - 0.5 * beta);
}

Term Huber(const Context& ctx, const Term& self, const Term& target) {
  const double delta = ctx.Double("delta");
  const Term size = Abs(self - target);
  return Where(size <= delta, size * size * 0.5, (size - 0.5 * delta) * delta);
}

Term Divergence(const Context& ctx, const Term& self, const Term& target) {
  if (ctx.Bool("log_target")) return Exp(target) * (target - self);
  const Term entropy = Where(target == 0, 0, target * Log(target));
  return entropy - target * self;
}

// PyTorch rounds the product and its exponential: of float16, the exponential overflows.
Term SoftMargin(const Context& ctx, const Term& self, const Term& target) {
  const ScalarType dtype = ctx.Result().dtype;
  return Log1p(Exp((-target * self).Rounded(dtype)).Rounded(dtype));
}

Term HingeEmbedding(const Context& ctx, const Term& self, const Term& target) {
  const Term margin = Max(ctx.Scalar("margin") - self, self.Of(0));
  const Term apart = Where(target == 1, 0, margin);
  return apart + Where(target == -1, 0, self);
}

// Weighted, with logarithms of at least -100.
Results CrossEntropyOfBits(Context& ctx) {
  const Term x = Lift(ctx, "self"), target = Lift(ctx, "target");
  ctx.RefuseIf((!((x >= 0) & (x <= 1))).expr, "self outside of 0 to 1");
  const Term miss = (target - 1) * Max(Log1p(-x), x.Of(-100));
  Term loss = miss - target * Max(Log(x), x.Of(-100));
  if (ctx.Has("weight")) loss = loss * Lift(ctx, "weight");
  return Reduced(ctx, loss, Broadcast(ctx, {"self", "target"}));
}

Results CrossEntropyOfLogits(Context& ctx) {
  const Term x = Lift(ctx, "self"), target = Lift(ctx, "target");
  Term hit = LogSigmoid(x);
  if (ctx.Has("pos_weight")) hit = hit * ((Lift(ctx, "pos_weight") - 1) * target + 1);
  Term loss = (1 - target) * x - hit;
  if (ctx.Has("weight")) loss = loss * Lift(ctx, "weight");
  return Reduced(ctx, loss, Broadcast(ctx, {"self", "target", "pos_weight", "weight"}));
}

Results PoissonNll(Context& ctx) {
  const Term x = Lift(ctx, "input"), target = Lift(ctx, "target");
  Term loss = ctx.Bool("log_input") ? Exp(x) - target * x : x - target * Log(x + ctx.Scalar("eps"));
  if (ctx.Bool("full")) {  // Stirling's approximation of log(target!)
    const Term factorial = target * Log(target) - target + Log(target * (2 * M_PI)) * 0.5;
    loss = loss + Where(target <= 1, 0, factorial);
  }
  return Reduced(ctx, loss, Broadcast(ctx, {"input", "target"}));
}

Results MarginRanking(Context& ctx) {
  const Term difference = Lift(ctx, "input1") - Lift(ctx, "input2");
  const Term loss = Max(-Lift(ctx, "target") * difference + ctx.Scalar("margin"), difference.Of(0));
  return Reduced(ctx, loss, Broadcast(ctx, {"input1", "input2", "target"}));
}

Results CosineEmbedding(Context& ctx) {
  const Term a = Lift(ctx, "input1"), b = Lift(ctx, "input2"), target = Lift(ctx, "target");
  const Sizes sizes = Broadcast(ctx, {"input1", "input2"});
  const auto rank = static_cast<int64_t>(sizes.size());
  const int64_t dim = ctx.Tensor("target").rank();
  if (dim != rank - 1) ctx.Refuse("target has not one dimension less than the inputs");
  const auto sum = [&](const Term& x) { return Reduce("sum", x, {dim}); };
  const double epsilon = 1e-12;
  const Term lengths = (sum(a * a) + epsilon) * (sum(b * b) + epsilon);
  const Term cosine = sum(a * b) / Sqrt(lengths);
  const Term apart = Max(cosine - ctx.Scalar("margin"), cosine.Of(0));
  const Term loss = Where(target == 1, 1 - cosine, 0) + Where(target == -1, apart, 0);
  return Reduced(ctx, loss, {sizes.begin(), sizes.end() - 1});
}

Results TripletMargin(Context& ctx) {
  const Term anchor = Lift(ctx, "anchor"), positive = Lift(ctx, "positive");
  const Term negative = Lift(ctx, "negative");
  const Sizes sizes = Broadcast(ctx, {"anchor", "positive", "negative"});
  const auto distance = [&](const Term& a, const Term& b) {
    const auto last = static_cast<int64_t>(sizes.size()) - 1;
    return NormOf(a - b + ctx.Scalar("eps"), ctx.Double("p"), {last}, false);
  };
  for (const char* name : {"anchor", "positive", "negative"}) {
    if (ctx.Tensor(name).sizes().size() != sizes.size()) ctx.Refuse("its inputs differ in rank");
  }
  Term apart = distance(anchor, negative);
  if (ctx.Bool("swap")) apart = Min(apart, distance(positive, negative));
  const Term loss = distance(anchor, positive) - apart + ctx.Scalar("margin");
  return Reduced(ctx, Max(loss, loss.Of(0)), {sizes.begin(), sizes.end() - 1});
}

const Registrar kLoss({
    {"aten::mse_loss", Compared(Squared)},
    {"aten::l1_loss", Compared(Absolute)},
    {"aten::smooth_l1_loss", Compared(SmoothAbsolute)},
    {"aten::huber_loss", Compared(Huber)},
    {"aten::kl_div", Compared(Divergence)},
    {"aten::soft_margin_loss", Compared(SoftMargin)},
    {"aten::hinge_embedding_loss", Compared(HingeEmbedding)},
    {"aten::binary_cross_entropy", CrossEntropyOfBits},
    {"aten::binary_cross_entropy_with_logits", CrossEntropyOfLogits},
    {"aten::poisson_nll_loss", PoissonNll},
    {"aten::margin_ranking_loss", MarginRanking},
    {"aten::cosine_embedding_loss", CosineEmbedding},
    {"aten::triplet_margin_loss", TripletMargin},
});

}  // namespace
}  // namespace torch_tvm::convert
