#include "convert/lower.h"

#include <ATen/ATen.h>

#include <unordered_map>

#include "convert/builder.h"
#include "convert/context.h"
#include "convert/control_flow.h"
#include "convert/evaluator.h"
#include "convert/numbers.h"
#include "convert/operator_name.h"
#include "convert/quantised.h"
#include "convert/source.h"

namespace torch_tvm::convert {
namespace {

using torch::jit::Node;
using torch::jit::Value;

std::string OperatorName(const Node* node) {
  const c10::FunctionSchema* schema = node->maybeSchema();
  return schema == nullptr ? node->kind().toQualString() : convert::OperatorName(*schema);
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

// Why `convert` refused or failed; nullopt if it did neither.
template <typename Function>
std::optional<std::string> ReasonOf(const Function& convert) {
  try {
    convert();
  } catch (const Refused& refused) {
    return refused.what();
  } catch (const ffi::Error& error) {
    return error.kind() + ": " + error.message();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return std::nullopt;
}

class Lowering : private Builder {
 public:
  Lowering(const torch::jit::Graph& graph, const LowerOptions& options)
      : graph_(graph), options_(options), control_flow_(*this, options.control_flow) {}

  Lowered Run(c10::ArrayRef<c10::IValue> inputs, c10::ArrayRef<InputKind> kinds) {
    for (size_t i = 0; i < graph_.inputs().size(); ++i) AddInput(i, inputs[i], kinds[i]);
    LowerBlock(graph_.block());
    if (!options_.shared_outputs) RefuseSharedOutputs();
    std::vector<Expr> results = AddOutputs();
    if (!refusals_.empty()) throw NotConvertible(std::move(refusals_));
    return Finish(std::move(results));
  }

 private:
  void AddInput(size_t index, const c10::IValue& input, InputKind kind);
  void AddWeight(const Value* value, const at::Tensor& tensor, WeightSource source);
  Expr WeightExpr(const std::string& name, const at::Tensor& tensor, WeightSource source);
  void LowerConstant(const Node* node);
  void LowerNode(const Node* node);
  bool LowerControl(const Node* node);
  void Convert(const Node* node, const std::vector<at::Tensor>& fresh);
  bool TakesQuantised() const;
  Results CallConverter(const Node* node, const std::vector<at::Tensor>& fresh);
  std::vector<Expr> AddOutputs();
  void RefuseSharedOutputs();
  void AddRuntimeRefusals(const Node* node, const Context& context);
  Lowered Finish(std::vector<Expr> results);

  Evaluator& evaluator() override { return evaluator_; }
  Expr ExprOf(const at::Tensor& tensor) override { return ExprOf(tensor, scopes_.size() - 1); }
  void SetExpr(const at::Tensor& tensor, Expr expr) override {
    SetExpr(tensor, std::move(expr), scopes_.size() - 1);
  }
  void EnterFunction() override { scopes_.emplace_back(); }
  std::vector<Capture> LeaveFunction() override;
  void LowerBlock(const torch::jit::Block* block) override {
    for (const Node* node : block->nodes()) LowerNode(node);
  }
  Context ContextOf(const Node* node) override { return MakeContext(node, {}); }
  void Refuse(const Node* node, std::string reason) override {
    refusals_.push_back({OperatorName(node), std::move(reason), SourceOf(node), node});
  }
  size_t CountRefusals() const override { return refusals_.size(); }
  void ForgetRefusals(size_t all_but) override {
    refusals_.erase(refusals_.begin() + static_cast<int64_t>(all_but), refusals_.end());
  }

  // The function that is being built, or one around it: what its tensors are in Relay.
  struct Scope {
    std::unordered_map<c10::TensorImpl*, Expr> exprs;
    std::vector<Capture> captures;
  };
  Expr ExprOf(const at::Tensor& tensor, size_t level);
  void SetExpr(const at::Tensor& tensor, Expr expr, size_t level) {
    kept_.push_back(tensor);
    scopes_[level].exprs.insert_or_assign(tensor.unsafeGetTensorImpl(), std::move(expr));
  }
  Context MakeContext(const Node* node, const std::vector<at::Tensor>& fresh) {
    return {node, evaluator_.inputs(), fresh, *this,
            options_.spans ? SpanOf(node) : ffi::Optional<relay::Span>()};
  }

  relay::TensorType TypeOf(const at::Tensor& tensor) const {
    return {IntArray(tensor.sizes().vec()), ToRelay(tensor.scalar_type())};
  }
  relay::Var MakeParameter(const std::string& name, const at::Tensor& tensor) const {
    return relay::MakeVar(name, TypeOf(tensor));
  }
  bool HasExpr(const at::Tensor& tensor) const {
    for (const Scope& scope : scopes_) {
      if (scope.exprs.count(tensor.unsafeGetTensorImpl()) != 0) return true;
    }
    return false;
  }
  Expr WeightOf(const at::Tensor& data) override { return WeightExpr("weight", data, {-1, data}); }
  TensorInfo InfoOf(const at::Tensor& tensor) const override {
    return {tensor.scalar_type(), tensor.sizes().vec(), tensor.strides().vec(),
            evaluator_.QuantiserOf(tensor)};
  }

  const torch::jit::Graph& graph_;
  const LowerOptions options_;
  Evaluator evaluator_;
  std::vector<Scope> scopes_ = std::vector<Scope>(1);
  std::vector<at::Tensor> kept_;  // the keys of the scopes' expressions must not be reused
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
  ControlFlow control_flow_;
  Numbers numbers_{*this};
};

void Lowering::AddWeight(const Value* value, const at::Tensor& tensor, WeightSource source) {
  const at::Tensor meta = MetaLike(tensor);
  SetExpr(meta, WeightExpr(value->debugName(), tensor, std::move(source)));
  evaluator_.Set(value, meta);
}

Expr Lowering::WeightExpr(const std::string& name, const at::Tensor& tensor, WeightSource source) {
  if (options_.weights_as_constants) return CarriedConstant(tensor);
  weight_vars_.push_back(MakeParameter(name, tensor));
  weights_.push_back(std::move(source));
  return weight_vars_.back();
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
    if (kind == InputKind::kWeight && !tensor.is_quantized()) {
      return AddWeight(value, tensor, {position, {}});
    }
    const at::Tensor meta = MetaLike(tensor);
    if (tensor.is_quantized()) {
      evaluator_.SetQuantiser(meta, {tensor.q_scale(), tensor.q_zero_point()});
    }
    input_vars_.push_back(MakeParameter(value->debugName(), meta));
    inputs_.push_back(position);
    input_infos_.push_back(InfoOf(meta));
    SetExpr(meta, input_vars_.back());
    evaluator_.Set(value, meta);
  } catch (const Refused& refused) {
    Refuse(graph_.param_node(), "input " + value->debugName() + ": " + refused.what());
  }
}

std::vector<Capture> Lowering::LeaveFunction() {
  std::vector<Capture> captures = std::move(scopes_.back().captures);
  scopes_.pop_back();
  return captures;
}

Expr Lowering::ExprOf(const at::Tensor& tensor, size_t level) {
  Scope& scope = scopes_[level];
  const auto found = scope.exprs.find(tensor.unsafeGetTensorImpl());
  if (found != scope.exprs.end()) return found->second;
  if (level > 0 && HasExpr(tensor)) {
    Expr outer = ExprOf(tensor, level - 1);
    if (outer.as<relay::ConstantObj>() == nullptr) {
      const auto* var = outer.as<relay::VarObj>();
      const std::string name = var == nullptr ? "outer" : std::string(var->name_hint);
      scope.captures.push_back({relay::MakeVar(name, TypeOf(tensor)), outer});
      outer = scope.captures.back().var;
    }
    SetExpr(tensor, outer, level);
    return outer;
  }
  const at::Tensor known = tensor.is_meta() ? evaluator_.Known(tensor) : tensor;
  TORCH_INTERNAL_ASSERT(known.defined(), "a value without an expression");
  ToRelay(known.scalar_type());
  Expr expr = known.numel() == 0
                  ? Expr(relay::MakeCall("zeros", {},
                                         {{"shape", IntArray(known.sizes().vec())},
                                          {"dtype", DtypeName(known.scalar_type())}}))
                  : Expr(CarriedConstant(known.clone()));
  SetExpr(tensor, expr, level);
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

bool Lowering::LowerControl(const Node* node) {
  const size_t level = scopes_.size();
  bool lowered = false;
  const auto reason = ReasonOf([&] {
    lowered = control_flow_.Lower(node) || (options_.control_flow && numbers_.Lower(node));
  });
  if (!reason) return lowered;
  scopes_.resize(level);
  Refuse(node, *reason);
  return true;
}

void Lowering::LowerNode(const Node* node) {
  if (node->kind() == c10::prim::Constant) return LowerConstant(node);
  for (const Value* input : node->inputs()) {
    if (!evaluator_.Knows(input)) return;  // a refusal upstream covers it
  }
  if (LowerControl(node)) return;
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
    if (!evaluator_.Knows(output)) {
      if (refusals_.empty() || refusals_.back().node != node) {
        Refuse(node, "PyTorch cannot tell its result");
      }
      return;
    }
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

// Whether an input of the node that was evaluated last is quantised.
bool Lowering::TakesQuantised() const {
  bool found = false;
  for (const c10::IValue& input : evaluator_.inputs()) {
    ForEachTensor(input, [&](const at::Tensor& tensor) {
      found = found || evaluator_.QuantiserOf(tensor).has_value();
    });
  }
  return found;
}

Results Lowering::CallConverter(const Node* node, const std::vector<at::Tensor>& fresh) {
  bool empty = true;
  for (const at::Tensor& tensor : fresh) empty = empty && tensor.numel() == 0;
  Context context = MakeContext(node, fresh);
  if (empty) {
    std::vector<Expr> zeros;
    for (const at::Tensor& tensor : fresh) {
      zeros.push_back(context.Call(
          "zeros", {},
          {{"shape", IntArray(tensor.sizes().vec())}, {"dtype", DtypeName(tensor.scalar_type())}}));
    }
    return zeros;
  }
  const Converter own = TakesQuantised() ? FindQuantisedConverter(OperatorName(node)) : Converter();
  const Converter converter = own ? own : FindConverter(node);
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
  const auto reason = ReasonOf([&] {
    for (const at::Tensor& tensor : fresh) ToRelay(tensor.scalar_type());
    Results results = CallConverter(node, fresh);
    for (size_t i = 0; i < fresh.size(); ++i) SetExpr(fresh[i], results.exprs[i]);
  });
  if (!reason) return;
  // Nodes that follow are still converted, so that every refusal of the graph is found in one go.
  for (const at::Tensor& tensor : fresh) SetExpr(tensor, relay::Var("refused"));
  if (refusals_.empty() || refusals_.back().node != node) Refuse(node, *reason);
}

// What is an argument, or a view of one, in eager PyTorch has to be that here too.
void Lowering::RefuseSharedOutputs() {
  const auto tensor_of = [this](const Value* value) {
    const bool known = evaluator_.Knows(value) && evaluator_.Get(value).isTensor();
    return known ? evaluator_.Get(value).toTensor() : at::Tensor();
  };
  const auto shares = [&](const Value* output, const Value* other) {
    const at::Tensor other_tensor = tensor_of(other);
    return other != output && other_tensor.defined() && other_tensor.is_alias_of(tensor_of(output));
  };
  for (const Value* output : graph_.outputs()) {
    if (!MayTurnOutFresh(output) || !tensor_of(output).defined()) continue;
    const auto is_it = [&](const Value* other) { return shares(output, other); };
    const bool shared = std::any_of(graph_.inputs().begin(), graph_.inputs().end(), is_it) ||
                        std::any_of(graph_.outputs().begin(), graph_.outputs().end(), is_it);
    if (!shared) continue;
    const Node* node = output->node();
    if (node->kind() == c10::prim::ListUnpack) node = node->input()->node();
    Refuse(node, "its result shares memory with what it was given, and leaves the group");
    refusals_.back().shares_memory = true;
  }
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
