#include "convert/lower.h"

#include <ATen/ATen.h>

#include <unordered_map>

#include "convert/context.h"
#include "convert/evaluator.h"
#include "convert/source.h"

namespace torch_tvm::convert {
namespace {

using torch::jit::Node;
using torch::jit::Value;

std::string OperatorName(const Node* node) {
  const c10::FunctionSchema* schema = node->maybeSchema();
  return schema == nullptr ? node->kind().toQualString() : c10::toString(schema->operator_name());
}

ffi::Optional<relay::Span> SpanOf(const Node* node) {
  const auto place = PlaceOf(node);
  if (!place) return std::nullopt;
  return relay::Span(place->file, place->line, place->column, place->line, place->column);
}

std::string Summary(const std::vector<Refusal>& refusals) {
  std::string text = std::to_string(refusals.size()) +
                     (refusals.size() == 1 ? " node does" : " nodes do") + " not convert to Relay:";
  for (const Refusal& refusal : refusals) {
    text += "\n  " + refusal.op + ": " + refusal.reason + "\n    at " + refusal.source;
  }
  return text;
}

class Lowering {
 public:
  Lowering(const torch::jit::Graph& graph, const LowerOptions& options)
      : graph_(graph), options_(options) {}

  Lowered Run(c10::ArrayRef<c10::IValue> inputs, c10::ArrayRef<InputKind> kinds) {
    for (size_t i = 0; i < graph_.inputs().size(); ++i) AddInput(i, inputs[i], kinds[i]);
    LowerBlock(graph_.block());
    std::vector<Expr> results = AddOutputs();
    if (!refusals_.empty()) throw NotConvertible(std::move(refusals_));
    return Finish(std::move(results));
  }

 private:
  void AddInput(size_t index, const c10::IValue& input, InputKind kind);
  void AddWeight(const Value* value, const at::Tensor& tensor, WeightSource source);
  void LowerConstant(const Node* node);
  void LowerNode(const Node* node);
  void LowerBlock(const torch::jit::Block* block) {
    for (const Node* node : block->nodes()) LowerNode(node);
  }
  void LowerIf(const Node* node);
  void LowerLoop(const Node* node);
  bool SetFrom(c10::ArrayRef<const Value*> values, c10::ArrayRef<const Value*> sources);
  void Convert(const Node* node, const std::vector<at::Tensor>& fresh);
  Results CallConverter(const Node* node, const std::vector<at::Tensor>& fresh);
  std::vector<Expr> AddOutputs();
  void AddRuntimeRefusals(const Node* node, const Context& context);
  Lowered Finish(std::vector<Expr> results);

  relay::TensorType TypeOf(const at::Tensor& tensor) const {
    return {IntArray(tensor.sizes().vec()), ToRelay(tensor.scalar_type())};
  }
  relay::Var MakeParameter(const Value* value, const at::Tensor& tensor) const {
    return relay::MakeVar(value->debugName(), TypeOf(tensor));
  }
  bool HasExpr(const at::Tensor& tensor) const {
    return exprs_.count(tensor.unsafeGetTensorImpl()) != 0;
  }
  void SetExpr(const at::Tensor& tensor, Expr expr) {
    kept_.push_back(tensor);
    exprs_.insert_or_assign(tensor.unsafeGetTensorImpl(), std::move(expr));
  }
  Expr ExprOf(const at::Tensor& tensor);
  void Refuse(const Node* node, std::string reason) {
    refusals_.push_back({OperatorName(node), std::move(reason), SourceOf(node), node});
  }

  const torch::jit::Graph& graph_;
  const LowerOptions options_;
  Evaluator evaluator_;
  std::unordered_map<c10::TensorImpl*, Expr> exprs_;
  std::vector<at::Tensor> kept_;  // the keys of exprs_ must not be reused
  std::vector<relay::Var> input_vars_;
  std::vector<relay::Var> weight_vars_;
  std::vector<int64_t> inputs_;
  std::vector<TensorInfo> input_infos_;
  std::vector<WeightSource> weights_;
  std::vector<OutputSource> outputs_;
  std::vector<int64_t> sizes_;
  std::vector<Refusal> refusals_, runtime_refusals_;
  std::optional<Expr> refused_values_;  // whether one of runtime_refusals_ holds
  double flops_ = 0;
};

void Lowering::AddWeight(const Value* value, const at::Tensor& tensor, WeightSource source) {
  const at::Tensor meta = MetaLike(tensor);
  if (options_.weights_as_constants) {
    SetExpr(meta, CarriedConstant(tensor));
  } else {
    weight_vars_.push_back(MakeParameter(value, tensor));
    weights_.push_back(std::move(source));
    SetExpr(meta, weight_vars_.back());
  }
  evaluator_.Set(value, meta);
}

void Lowering::AddInput(size_t index, const c10::IValue& input, InputKind kind) {
  const Value* value = graph_.inputs()[index];
  if (!input.isTensor() || !input.toTensor().defined()) {
    bool holds_tensor = false;
    ForEachTensor(input, [&](const at::Tensor&) { holds_tensor = true; });
    if (holds_tensor) {
      Refuse(graph_.param_node(), "input " + value->debugName() + " is a " + input.tagKind() +
                                      " that holds tensors; only tensors and numbers are compiled");
    } else {
      evaluator_.Set(value, input);
    }
    return;
  }
  const at::Tensor& tensor = input.toTensor();
  try {
    const auto position = static_cast<int64_t>(index);
    if (kind == InputKind::kWeight) return AddWeight(value, tensor, {position, {}});
    const at::Tensor meta = MetaLike(tensor);
    input_vars_.push_back(MakeParameter(value, tensor));
    inputs_.push_back(position);
    input_infos_.push_back(InfoOf(tensor));
    SetExpr(meta, input_vars_.back());
    evaluator_.Set(value, meta);
  } catch (const Refused& refused) {
    Refuse(graph_.param_node(), "input " + value->debugName() + ": " + refused.what());
  }
}

Expr Lowering::ExprOf(const at::Tensor& tensor) {
  const auto found = exprs_.find(tensor.unsafeGetTensorImpl());
  if (found != exprs_.end()) return found->second;
  const at::Tensor known = tensor.is_meta() ? evaluator_.Known(tensor) : tensor;
  TORCH_INTERNAL_ASSERT(known.defined(), "a value without an expression");
  ToRelay(known.scalar_type());
  Expr expr = known.numel() == 0
                  ? Expr(relay::MakeCall("zeros", {},
                                         {{"shape", IntArray(known.sizes().vec())},
                                          {"dtype", DtypeName(known.scalar_type())}}))
                  : Expr(CarriedConstant(known.clone()));
  SetExpr(tensor, expr);
  return expr;
}

void Lowering::LowerConstant(const Node* node) {
  const auto constant = torch::jit::toIValue(node->output());
  if (!constant) return Refuse(node, "its constant cannot be read");
  const bool carries = constant->isTensor() && constant->toTensor().defined();
  if (!carries || (constant->toTensor().numel() <= 1 && constant->toTensor().is_cpu())) {
    return evaluator_.Set(node->output(), *constant);
  }
  try {
    AddWeight(node->output(), constant->toTensor(), {-1, constant->toTensor()});
  } catch (const Refused& refused) {
    Refuse(node, refused.what());
  }
}

// Gives values what the sources hold, all at once; false if one is unknown.
bool Lowering::SetFrom(c10::ArrayRef<const Value*> values, c10::ArrayRef<const Value*> sources) {
  std::vector<c10::IValue> held;
  for (const Value* source : sources) {
    if (!evaluator_.Knows(source)) return false;
    held.push_back(evaluator_.Get(source));
  }
  for (size_t i = 0; i < values.size(); ++i) evaluator_.Set(values[i], held[i]);
  return true;
}

// Control flow that depends on sizes and constants only is followed here; the rest stays with the
// interpreter.
void Lowering::LowerIf(const Node* node) {
  const c10::IValue& condition = evaluator_.Get(node->input(0));
  if (!condition.isBool()) return Refuse(node, "its condition is known only at run time");
  const torch::jit::Block* branch = node->blocks()[condition.toBool() ? 0 : 1];
  LowerBlock(branch);
  SetFrom(node->outputs(), branch->outputs());
}

void Lowering::LowerLoop(const Node* node) {
  const torch::jit::Block* body = node->blocks()[0];
  const auto carried = [](auto values) { return c10::ArrayRef<const Value*>(values).slice(1); };
  const int64_t limit = evaluator_.Get(node->input(0)).toInt();
  const Value* condition = node->input(1);
  if (!SetFrom(carried(body->inputs()), c10::ArrayRef<const Value*>(node->inputs()).slice(2)))
    return;
  for (int64_t trip = 0; trip < limit; ++trip) {
    if (!evaluator_.Knows(condition)) return;
    if (!evaluator_.Get(condition).isBool()) {
      return Refuse(node, "its condition is known only at run time");
    }
    if (!evaluator_.Get(condition).toBool()) break;
    evaluator_.Set(body->inputs()[0], trip);
    const size_t refused = refusals_.size();
    LowerBlock(body);
    if (refusals_.size() != refused) return;
    condition = body->outputs()[0];
    if (!SetFrom(carried(body->inputs()), carried(body->outputs()))) return;
  }
  SetFrom(node->outputs(), carried(body->inputs()));
}

void Lowering::LowerNode(const Node* node) {
  if (node->kind() == c10::prim::Constant) return LowerConstant(node);
  for (const Value* input : node->inputs()) {
    if (!evaluator_.Knows(input)) return;  // a refusal upstream covers it
  }
  if (node->kind() == c10::prim::If) return LowerIf(node);
  if (node->kind() == c10::prim::Loop) return LowerLoop(node);
  const bool runs = node->blocks().empty() && !node->hasSideEffects();
  if (const std::string reason = WhyNotConvertible(node); !reason.empty()) {
    Refuse(node, reason);
    if (!runs || (node->maybeSchema() != nullptr && node->schema().is_mutable())) return;
    if (!evaluator_.Run(node).empty()) return;
  } else if (const std::string error = evaluator_.Run(node); !error.empty()) {
    return Refuse(node, "PyTorch cannot tell its result: " + error);
  }
  std::vector<at::Tensor> fresh;
  for (const Value* output : node->outputs()) {
    ForEachTensor(evaluator_.Get(output), [&](const at::Tensor& tensor) {
      if (tensor.is_meta() && !HasExpr(tensor) && !evaluator_.Known(tensor).defined()) {
        fresh.push_back(tensor);
        sizes_.insert(sizes_.end(), tensor.sizes().begin(), tensor.sizes().end());
      }
    });
  }
  // A node may give back what it was given (Tensor.to without a change); known data needs no code.
  if (!fresh.empty()) Convert(node, fresh);
}

Results Lowering::CallConverter(const Node* node, const std::vector<at::Tensor>& fresh) {
  bool empty = true;
  for (const at::Tensor& tensor : fresh) empty = empty && tensor.numel() == 0;
  Context context(
      node, evaluator_.inputs(), fresh, [this](const at::Tensor& tensor) { return ExprOf(tensor); },
      SpanOf(node));
  if (empty) {
    std::vector<Expr> zeros;
    for (const at::Tensor& tensor : fresh) {
      zeros.push_back(context.Call(
          "zeros", {},
          {{"shape", IntArray(tensor.sizes().vec())}, {"dtype", DtypeName(tensor.scalar_type())}}));
    }
    return zeros;
  }
  const auto converter = FindConverter(node);
  if (!converter) context.Refuse("no converter is registered for it");
  Results results = converter(context);
  if (results.exprs.size() != fresh.size()) {
    context.Refuse("its converter gave " + std::to_string(results.exprs.size()) +
                   " expressions for " + std::to_string(fresh.size()) + " tensors");
  }
  flops_ += context.flops();
  if (options_.runtime_refusals) AddRuntimeRefusals(node, context);
  return results;
}

void Lowering::AddRuntimeRefusals(const Node* node, const Context& context) {
  for (const auto& [condition, reason] : context.runtime_refusals()) {
    const Expr holds = context.Call("any", {condition});
    refused_values_ =
        refused_values_ ? context.Call("logical_or", {*refused_values_, holds}) : holds;
    runtime_refusals_.push_back({OperatorName(node), reason, SourceOf(node), node});
  }
}

void Lowering::Convert(const Node* node, const std::vector<at::Tensor>& fresh) {
  std::string reason;
  try {
    for (const at::Tensor& tensor : fresh) ToRelay(tensor.scalar_type());
    Results results = CallConverter(node, fresh);
    for (size_t i = 0; i < fresh.size(); ++i) SetExpr(fresh[i], results.exprs[i]);
    return;
  } catch (const Refused& refused) {
    reason = refused.what();
  } catch (const ffi::Error& error) {
    reason = error.kind() + ": " + error.message();
  } catch (const c10::Error& error) {
    reason = error.what_without_backtrace();
  }
  // Nodes that follow are still converted, so that every refusal of the graph is found in one go.
  for (const at::Tensor& tensor : fresh) SetExpr(tensor, relay::Var("refused"));
  if (refusals_.empty() || refusals_.back().node != node) Refuse(node, reason);
}

std::vector<Expr> Lowering::AddOutputs() {
  std::vector<Expr> results;
  for (const Value* output : graph_.outputs()) {
    if (!evaluator_.Knows(output)) continue;
    const c10::IValue& value = evaluator_.Get(output);
    if (value.isTensor() && value.toTensor().defined()) {
      try {
        results.push_back(ExprOf(value.toTensor()));
        outputs_.push_back({true, {}, InfoOf(value.toTensor())});
      } catch (const Refused& refused) {
        Refuse(graph_.return_node(), "output " + output->debugName() + ": " + refused.what());
      }
      continue;
    }
    bool holds_tensor = false;
    ForEachTensor(value, [&](const at::Tensor&) { holds_tensor = true; });
    if (holds_tensor && options_.flatten_outputs) {
      ForEachTensor(value, [&](const at::Tensor& tensor) { results.push_back(ExprOf(tensor)); });
      continue;
    }
    if (holds_tensor) {
      Refuse(graph_.return_node(), "output " + output->debugName() + " is a " + value.tagKind() +
                                       " that holds tensors; only tensors are given back");
    }
    outputs_.push_back({false, value, {}});
  }
  return results;
}

Lowered Lowering::Finish(std::vector<Expr> results) {
  if (refused_values_) results.push_back(*refused_values_);
  std::vector<relay::Var> params = input_vars_;
  params.insert(params.end(), weight_vars_.begin(), weight_vars_.end());
  const Expr body = results.size() == 1
                        ? results[0]
                        : Expr(relay::Tuple(ffi::Array<Expr>(results.begin(), results.end())));
  relay::Function function(ffi::Array<relay::Var>(params.begin(), params.end()), body);
  return {std::move(function),
          std::move(inputs_),
          std::move(input_infos_),
          std::move(weights_),
          std::move(outputs_),
          std::move(sizes_),
          flops_,
          std::move(runtime_refusals_)};
}

}  // namespace

NotConvertible::NotConvertible(std::vector<Refusal> refused)
    : std::runtime_error(Summary(refused)), refusals(std::move(refused)) {}

Lowered Lower(const std::shared_ptr<torch::jit::Graph>& subgraph, c10::ArrayRef<c10::IValue> inputs,
              c10::ArrayRef<InputKind> kinds, const LowerOptions& options) {
  TORCH_CHECK(inputs.size() == subgraph->inputs().size() && kinds.size() == inputs.size(),
              "the subgraph takes ", subgraph->inputs().size(), " inputs, got ", inputs.size());
  return Lowering(*subgraph, options).Run(inputs, kinds);
}

}  // namespace torch_tvm::convert
