// Converters of losses of classes: negative log likelihood, cross entropy, margins between classes.
#include <limits>

#include "convert/loss.h"

namespace torch_tvm::convert {
namespace {

// Numbers of classes, and where they count. PyTorch raises for numbers that are no class.
struct Targets {
  Targets(Context& context, int64_t classes, std::optional<int64_t> ignored)
      : ctx(context),
        given(ctx.Tensor("target")),
        number(Term(ctx, given.expr, given.dtype()).As(ScalarType::Long)) {
    const Term outside = (number < 0) | (number >= classes);
    if (ignored) {
      counted = !(number == *ignored);
      context.RefuseIf((outside & *counted).expr, "a target that is no class");
    } else {
      context.RefuseIf(outside.expr, "a target that is no class");
    }
    number.expr = ctx.Call("clip", {number.expr},
                           {{"a_min", 0.0}, {"a_max", static_cast<double>(classes - 1)}});
  }

  // The value where it counts, else zero.
  Term Counted(const Term& x) const { return counted ? Where(*counted, x, 0) : x; }

  // x's element of each target's class, along one dimension.
  Term Of(const Term& x, int64_t dim, bool keepdim) const {
    Sizes one = given.sizes();
    one.insert(one.begin() + dim, 1);
    const Expr index = ctx.Reshape(number.expr, given.sizes(), one);
    const Expr value = ctx.Call("gather", {x.expr, index}, {{"axis", dim}});
    return {ctx, keepdim ? value : ctx.Reshape(value, one, given.sizes()), x.dtype};
  }

  // An element of a vector for each target.
  Term Among(const Operand& vector, ScalarType dtype) const {
    return {ctx, ctx.Call("take", {ctx.Cast(vector, dtype), number.expr}, {{"axis", int64_t{0}}}),
            dtype};
  }

  const Context& ctx;
  Operand given;
  Term number;
  std::optional<Term> counted;
};

Sizes Dims(const Sizes& sizes) {
  Sizes dims;
  for (size_t dim = 0; dim < sizes.size(); ++dim) dims.push_back(static_cast<int64_t>(dim));
  return dims;
}

enum Reduction : int64_t { kNone, kMean, kSum };

int64_t ClassDim(const Operand& self) { return self.rank() == 1 ? 0 : 1; }

// The weight of each target: of its class, or 1, and 0 where it does not count.
Term WeightOf(const Context& ctx, const Targets& targets, ScalarType math) {
  const auto weight = ctx.OptionalTensor("weight");
  const Term ones(ctx, ctx.Full(1, targets.given.sizes(), math), math);
  return targets.Counted(weight ? targets.Among(*weight, math) : ones);
}

// -log_likelihood[target] * weight[target]; its mean is by weight.
Term NegativeLogLikelihood(const Context& ctx, const Term& likelihood, const Targets& targets,
                           int64_t dim) {
  const Term weight = WeightOf(ctx, targets, likelihood.dtype);
  const Term loss = targets.Counted(-targets.Of(likelihood, dim, false) * weight);
  const int64_t reduction = ctx.Int("reduction");
  if (reduction == kNone) return loss;
  const Sizes dims = Dims(targets.given.sizes());
  const Term sum = Reduce("sum", loss, dims);
  return reduction == kSum ? sum : sum / Reduce("sum", weight, dims);
}

void RequireElements(const Context& ctx) {
  for (const char* name : {"self", "target"}) {
    if (ctx.Tensor(name).info.numel() == 0) ctx.Refuse(std::string(name) + " has no elements");
  }
}

Results NllLoss(Context& ctx) {
  RequireElements(ctx);
  const Operand self = ctx.Tensor("self");
  const int64_t dim = ClassDim(self);
  const Targets targets(ctx, self.sizes()[static_cast<size_t>(dim)], ctx.Int("ignore_index"));
  return Settle(NegativeLogLikelihood(ctx, Lift(self, ctx, ctx.Result().dtype), targets, dim));
}

// The weight of each class, to be multiplied with what has classes in dimension `dim` of `rank`.
std::optional<Term> WeightOfClasses(const Context& ctx, const Operand& self, int64_t dim,
                                    ScalarType math) {
  const auto weight = ctx.OptionalTensor("weight");
  if (!weight) return std::nullopt;
  Sizes shape(self.sizes().size(), 1);
  shape[static_cast<size_t>(dim)] = weight->info.numel();
  return Term(ctx, ctx.Reshape(ctx.Cast(*weight, math), weight->sizes(), shape), math);
}

Expr CrossEntropyOfProbabilities(const Context& ctx, const Operand& self, const Term& likelihood,
                                 int64_t dim) {
  const auto classes = static_cast<double>(self.sizes()[static_cast<size_t>(dim)]);
  const double smoothing = ctx.Double("label_smoothing");
  Term target = Lift(ctx.Tensor("target"), ctx, ctx.Result().dtype);
  if (smoothing > 0) target = target * (1 - smoothing) + smoothing / classes;
  Term loss = -likelihood * target;
  if (const auto weight = WeightOfClasses(ctx, self, dim, likelihood.dtype)) loss = loss * *weight;
  const int64_t reduction = ctx.Int("reduction");
  if (reduction == kNone) return Settle(Reduce("sum", loss, {dim}));
  const Term sum = Reduce("sum", loss, Dims(self.sizes()));
  return Settle(reduction == kSum ? sum : sum / (static_cast<double>(self.info.numel()) / classes));
}

// The mean over the classes of what each of them would cost, where the target counts.
Term SmoothedPart(const Context& ctx, const Operand& self, const Term& likelihood,
                  const Targets& targets, int64_t dim) {
  const auto weight = WeightOfClasses(ctx, self, dim, likelihood.dtype);
  const Term weighted = weight ? likelihood * *weight : likelihood;
  const Term loss = targets.Counted(-Reduce("sum", weighted, {dim}));
  const int64_t reduction = ctx.Int("reduction");
  if (reduction == kNone) return loss;
  const Sizes dims = Dims(targets.given.sizes());
  const Term sum = Reduce("sum", loss, dims);
  if (reduction == kSum) return sum;
  return sum / Reduce("sum", WeightOf(ctx, targets, likelihood.dtype), dims);
}

Results CrossEntropy(Context& ctx) {
  RequireElements(ctx);
  const Operand self = ctx.Tensor("self");
  const int64_t dim = ClassDim(self);
  const ScalarType math = MathType(self.dtype());
  const Term x(ctx, ctx.Cast(self, math), math);
  const Term likelihood(ctx, ctx.Call("nn.log_softmax", {x.expr}, {{"axis", dim}}), math);
  if (self.sizes() == ctx.Tensor("target").sizes()) {
    return CrossEntropyOfProbabilities(ctx, self, likelihood, dim);
  }
  const int64_t classes = self.sizes()[static_cast<size_t>(dim)];
  const Targets targets(ctx, classes, ctx.Int("ignore_index"));
  const Term loss = NegativeLogLikelihood(ctx, likelihood, targets, dim);
  const double smoothing = ctx.Double("label_smoothing");
  if (smoothing == 0) return Settle(loss);
  const Term smoothed = SmoothedPart(ctx, self, likelihood, targets, dim);
  return Settle(loss * (1 - smoothing) + smoothed * (smoothing / static_cast<double>(classes)));
}

// What every other class lacks to the margin below the target's.
Results MultiMargin(Context& ctx) {
  RequireElements(ctx);
  const Operand self = ctx.Tensor("self");
  if (self.rank() == 0) ctx.Refuse("self has rank 0");
  const int64_t dim = self.rank() - 1;
  const int64_t classes = self.sizes().back();
  if (ctx.Tensor("target").rank() != dim) ctx.Refuse("target has not one dimension less than self");
  const Targets targets(ctx, classes, std::nullopt);
  const Term x = Lift(ctx, "self");
  const Term lacking = Max(ctx.Scalar("margin") - targets.Of(x, dim, true) + x, x.Of(0));
  Term loss = ctx.Int("p") == 1 ? lacking : lacking * lacking;
  Sizes one = targets.given.sizes();
  one.push_back(1);
  const Term number(ctx, ctx.Reshape(targets.number.expr, targets.given.sizes(), one),
                    targets.number.dtype);
  const Term column(ctx, ctx.Arange(classes), ScalarType::Long);
  loss = Reduce("sum", Where(number == column, 0, loss), {dim}) / static_cast<double>(classes);
  if (const auto weight = ctx.OptionalTensor("weight")) {
    loss = loss * targets.Among(*weight, x.dtype);
  }
  return Reduced(ctx, loss, targets.given.sizes());
}

const Registrar kLossOfClasses({
    {"aten::nll_loss", NllLoss},
    {"aten::nll_loss2d", NllLoss},
    {"aten::nll_loss_nd", NllLoss},
    {"aten::cross_entropy_loss", CrossEntropy},
    {"aten::multi_margin_loss", MultiMargin},
});

}  // namespace
}  // namespace torch_tvm::convert
