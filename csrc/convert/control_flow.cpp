#include "convert/control_flow.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>

#include <functional>
#include <limits>
#include <optional>

#include "convert/leaves.h"

namespace torch_tvm::convert {
namespace {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

// Trips of a loop over known numbers that are written out, where a recursive function can be too.
constexpr int64_t kMaxUnrolledTrips = 64;
// What TorchScript gives a `while` as its number of trips.
constexpr int64_t kForever = std::numeric_limits<int64_t>::max();

relay::TensorType TypeOf(const at::Tensor& tensor) {
  return {IntArray(tensor.sizes().vec()), ToRelay(tensor.scalar_type())};
}

Expr Zeros(const Context& context, const at::Tensor& like) {
  if (like.dim() == 0) return context.Constant(0, like.scalar_type());
  return context.Call(
      "zeros", {},
      {{"shape", IntArray(like.sizes().vec())}, {"dtype", DtypeName(like.scalar_type())}});
}

Expr Packed(const std::vector<Expr>& fields) {
  return fields.size() == 1 ? fields[0]
                            : Expr(relay::Tuple(ffi::Array<Expr>(fields.begin(), fields.end())));
}

bool ChangesLists(const Block* block) {
  for (const Node* node : block->nodes()) {
    const c10::FunctionSchema* schema = node->maybeSchema();
    if (schema != nullptr && schema->is_mutable()) return true;
    for (const Block* inner : node->blocks()) {
      if (ChangesLists(inner)) return true;
    }
  }
  return false;
}

// A function cannot change a list that stands outside of it, and what has been followed cannot be
// taken back.
int64_t MostTrips(const Block* body) { return ChangesLists(body) ? kForever : kMaxUnrolledTrips; }

// Counts a level for as long as it lives.
class Level {
 public:
  explicit Level(int& depth) : depth_(depth) { ++depth_; }
  ~Level() { --depth_; }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  int& depth_;
};

}  // namespace

bool ControlFlow::Lower(const Node* node) {
  if (node->kind() == c10::prim::If) {
    If(node);
  } else if (node->kind() == c10::prim::Loop) {
    LowerLoop(node);
  } else if (run_time_ && node->kind() == c10::prim::Uninitialized) {
    builder_.evaluator().Set(node->output(), c10::IValue::uninitialized());
  } else if (run_time_depth_ > 0 && node->kind() == c10::prim::RaiseException) {
    // Relay has no errors: as where an index is out of range, it gives some value.
  } else {
    return run_time_ && List(node);
  }
  return true;
}

// Gives values what the sources hold, all at once; false if one is unknown.
bool ControlFlow::SetFrom(Values values, Values sources) {
  Evaluator& evaluator = builder_.evaluator();
  std::vector<c10::IValue> held;
  for (const Value* source : sources) {
    if (!evaluator.Knows(source)) return false;
    held.push_back(evaluator.Get(source));
  }
  for (size_t i = 0; i < values.size(); ++i) evaluator.Set(values[i], held[i]);
  return true;
}

Expr ControlFlow::LeafExpr(const Node* node, const c10::IValue& leaf, const at::Tensor& like) {
  if (leaf.isTensor()) return builder_.ExprOf(leaf.toTensor());
  const Context context = builder_.ContextOf(node);
  if (IsUninitialised(leaf)) return Zeros(context, like);
  return context.Constant(leaf.toScalar(), like.scalar_type());
}

void ControlFlow::If(const Node* node) {
  const c10::IValue condition = builder_.evaluator().Get(node->input(0));
  if (condition.isTensor()) return RunTimeIf(node, condition.toTensor());
  if (!condition.isBool()) return builder_.Refuse(node, "its condition is known only at run time");
  const Block* branch = node->blocks()[condition.toBool() ? 0 : 1];
  builder_.LowerBlock(branch);
  SetFrom(node->outputs(), branch->outputs());
}

// What a branch or the other gives: the same value, or a tensor that stands for the choice.
c10::IValue ControlFlow::Join(const Node* node, const c10::IValue& a, const c10::IValue& b,
                              std::vector<Choice>& choices) {
  if (Same(a, b)) return a;
  if (const auto pairs = Pairs(a, b)) {
    std::vector<c10::IValue> joined;
    for (const auto& [left, right] : *pairs) joined.push_back(Join(node, left, right, choices));
    return Rebuilt(a, std::move(joined));
  }
  at::Tensor result;
  if (IsUninitialised(a) || IsUninitialised(b)) {
    const c10::IValue& other = IsUninitialised(a) ? b : a;
    if (!IsTensor(other)) return other;
    result = LikeOne(other);
  } else {
    result = Common(a, b);
  }
  if (!result.defined()) {
    throw Refused("its branches give " + Describe(a) + " and " + Describe(b) +
                  "; only tensors of one dtype and shape, and numbers of one sort, are converted");
  }
  choices.push_back({result, a, b});
  return result;
}

void ControlFlow::RunTimeIf(const Node* node, const at::Tensor& condition) {
  Evaluator& evaluator = builder_.evaluator();
  const size_t refused = builder_.CountRefusals();
  {
    const Level level(run_time_depth_);
    for (const Block* branch : node->blocks()) builder_.LowerBlock(branch);
  }
  if (builder_.CountRefusals() != refused) return;
  std::vector<Choice> choices;
  std::vector<c10::IValue> results;
  for (size_t i = 0; i < node->outputs().size(); ++i) {
    const Value* a = node->blocks()[0]->outputs()[i];
    const Value* b = node->blocks()[1]->outputs()[i];
    if (!evaluator.Knows(a) || !evaluator.Knows(b)) return;
    results.push_back(Join(node, evaluator.Get(a), evaluator.Get(b), choices));
  }
  if (!choices.empty()) {
    std::vector<Expr> first, second;
    for (const Choice& choice : choices) {
      first.push_back(LeafExpr(node, choice.first, choice.result));
      second.push_back(LeafExpr(node, choice.second, choice.result));
    }
    const Context context = builder_.ContextOf(node);
    const relay::If chosen(builder_.ExprOf(condition), Packed(first), Packed(second),
                           context.span());
    for (size_t i = 0; i < choices.size(); ++i) {
      builder_.SetExpr(choices[i].result,
                       choices.size() == 1
                           ? Expr(chosen)
                           : Expr(relay::TupleGetItem(chosen, static_cast<int64_t>(i))));
    }
  }
  for (size_t i = 0; i < results.size(); ++i) evaluator.Set(node->outputs()[i], results[i]);
}

void ControlFlow::LowerLoop(const Node* node) {
  const size_t refused = builder_.CountRefusals();
  const Followed followed = Unroll(node, run_time_ ? MostTrips(node->blocks()[0]) : kForever);
  if (followed == Followed::kToTheEnd || !run_time_) return;
  builder_.ForgetRefusals(refused);
  if (followed == Followed::kToRunTime) return RunTimeLoop(node);
  try {
    RunTimeLoop(node);
    if (builder_.CountRefusals() == refused) return;
  } catch (const Refused&) {
  }
  // No function: its sizes change from trip to trip, for example.
  builder_.ForgetRefusals(refused);
  Unroll(node, kForever);
}

// Follows a loop as long as its condition is known, for `most` trips.
ControlFlow::Followed ControlFlow::Unroll(const Node* node, int64_t most) {
  Evaluator& evaluator = builder_.evaluator();
  const Block* body = node->blocks()[0];
  const Values inputs = body->inputs();
  const Values outputs = body->outputs();
  const c10::IValue limit = evaluator.Get(node->input(0));
  if (!limit.isInt()) return Followed::kToRunTime;
  const Value* condition = node->input(1);
  if (!SetFrom(inputs.slice(1), Values(node->inputs()).slice(2))) return Followed::kToTheEnd;
  for (int64_t trip = 0; trip < limit.toInt(); ++trip) {
    if (!evaluator.Knows(condition)) return Followed::kToTheEnd;
    const c10::IValue held = evaluator.Get(condition);
    if (!held.isBool()) {
      if (!run_time_) builder_.Refuse(node, "its condition is known only at run time");
      return Followed::kToRunTime;
    }
    if (!held.toBool()) break;
    if (trip == most) return Followed::kTooFar;
    evaluator.Set(inputs[0], trip);
    const size_t refused = builder_.CountRefusals();
    builder_.LowerBlock(body);
    if (builder_.CountRefusals() != refused) return Followed::kToTheEnd;
    condition = outputs[0];
    if (!SetFrom(inputs.slice(1), outputs.slice(1))) return Followed::kToTheEnd;
  }
  SetFrom(node->outputs(), inputs.slice(1));
  return Followed::kToTheEnd;
}

// A loop as a recursive function of what its trips change.
struct ControlFlow::Loop {
  std::vector<c10::IValue> initial;     // what the body's inputs hold ahead of the first trip
  std::vector<c10::IValue> parameters;  // ... and in the function: tensors are variables of it
  struct Leaf {
    relay::Var var;
    at::Tensor inside;
    c10::IValue initial;
    std::optional<Expr> next;
  };
  std::vector<Leaf> leaves;
  std::optional<relay::Var> counter, condition;
  std::optional<Expr> limit, next_condition;
  std::vector<Capture> captures;
};

void ControlFlow::RunTimeLoop(const Node* node) {
  Evaluator& evaluator = builder_.evaluator();
  Loop loop;
  for (const Value* input : Values(node->inputs()).slice(2)) {
    loop.initial.push_back(evaluator.Get(input));
  }
  // A number is taken for one that no trip changes, until a trip is seen to change it.
  const size_t refused = builder_.CountRefusals();
  do {
    builder_.ForgetRefusals(refused);
    loop.leaves.clear();
    loop.parameters.clear();
    if (!LowerBody(node, loop)) return;
  } while (Generalise(node, loop));
  EmitLoop(node, loop);
}

c10::IValue ControlFlow::Parameter(const c10::IValue& initial, const std::string& name,
                                   Loop& loop) {
  return Map(initial, [&](const c10::IValue& leaf) -> c10::IValue {
    if (!IsTensor(leaf)) return leaf;
    const at::Tensor inside = LikeOne(leaf);
    const relay::Var var = relay::MakeVar(name, TypeOf(inside));
    builder_.SetExpr(inside, var);
    loop.leaves.push_back({var, inside, leaf, std::nullopt});
    return inside;
  });
}

// Lowers the body as that of a function; false if it does not convert.
bool ControlFlow::LowerBody(const Node* node, Loop& loop) {
  Evaluator& evaluator = builder_.evaluator();
  const Block* body = node->blocks()[0];
  const size_t refused = builder_.CountRefusals();
  const Level level(run_time_depth_);
  builder_.EnterFunction();
  const at::Tensor trip = NumberOf(ScalarType::Long);
  loop.counter = relay::MakeVar("i", TypeOf(trip));
  builder_.SetExpr(trip, *loop.counter);
  evaluator.Set(body->inputs()[0], trip);
  for (size_t i = 0; i < loop.initial.size(); ++i) {
    const Value* input = body->inputs()[i + 1];
    loop.parameters.push_back(Parameter(loop.initial[i], input->debugName(), loop));
    evaluator.Set(input, loop.parameters[i]);
  }
  builder_.LowerBlock(body);
  bool lowered = builder_.CountRefusals() == refused;
  for (const Value* output : body->outputs()) lowered = lowered && evaluator.Knows(output);
  if (lowered) {
    SetCondition(node, loop);
    SetNext(node, loop);
  }
  loop.captures = builder_.LeaveFunction();
  return lowered;
}

// Finds what ends the loop: a number of trips, a condition, or both.
void ControlFlow::SetCondition(const Node* node, Loop& loop) {
  const Evaluator& evaluator = builder_.evaluator();
  const c10::IValue limit = evaluator.Get(node->input(0));
  loop.limit.reset();
  if (limit.isTensor()) {
    loop.limit = builder_.ExprOf(limit.toTensor());
  } else if (limit.toInt() != kForever) {
    loop.limit = builder_.ContextOf(node).Constant(limit.toInt(), ScalarType::Long);
  }
  // The condition is a parameter unless it always holds.
  const c10::IValue enter = evaluator.Get(node->input(1));
  const c10::IValue again = evaluator.Get(node->blocks()[0]->outputs()[0]);
  const auto holds = [](const c10::IValue& value) { return value.isBool() && value.toBool(); };
  loop.condition.reset();
  if (holds(enter) && holds(again)) return;
  const at::Tensor flag = NumberOf(ScalarType::Bool);
  loop.condition = relay::MakeVar("continue", TypeOf(flag));
  loop.next_condition = LeafExpr(node, again, flag);
}

// Finds what the next trip is given for the variables.
void ControlFlow::SetNext(const Node* node, Loop& loop) {
  size_t leaf = 0;
  const std::function<void(const c10::IValue&, const c10::IValue&)> next =
      [&](const c10::IValue& inside, const c10::IValue& given) {
        if (const auto pairs = Pairs(inside, given)) {
          for (const auto& [one, other] : *pairs) next(one, other);
        } else if (IsTensor(inside)) {
          Loop::Leaf& entry = loop.leaves[leaf++];
          const bool fits = IsUninitialised(given) || Common(inside, given).defined();
          if (fits) entry.next = LeafExpr(node, given, entry.inside);
        }
      };
  const Block* body = node->blocks()[0];
  for (size_t i = 0; i < loop.parameters.size(); ++i) {
    next(loop.parameters[i], builder_.evaluator().Get(body->outputs()[i + 1]));
  }
}

// Makes variables of the values that the body changes. Says whether there were any, so that the
// body has to be lowered again.
bool ControlFlow::Generalise(const Node* node, Loop& loop) {
  const Evaluator& evaluator = builder_.evaluator();
  const Block* body = node->blocks()[0];
  const Context context = builder_.ContextOf(node);
  bool changed = false;
  std::string name;
  const auto refuse = [&](const c10::IValue& from, const c10::IValue& to) {
    throw Refused(name + " is " + Describe(from) + " ahead of a trip and " + Describe(to) +
                  " behind it; a loop whose length is known only at run time has to keep dtypes, "
                  "shapes and lengths");
  };
  const std::function<c10::IValue(const c10::IValue&, const c10::IValue&, const c10::IValue&, bool)>
      general = [&](const c10::IValue& initial, const c10::IValue& inside, const c10::IValue& given,
                    bool in_list) -> c10::IValue {
    if (IsTensor(inside)) {
      if (!IsUninitialised(given) && !Common(inside, given).defined()) refuse(inside, given);
      return initial;
    }
    if (Same(inside, given) || IsUninitialised(given)) return initial;
    if (const auto pairs = Pairs(inside, given)) {
      const auto initials = *Pairs(initial, initial);
      std::vector<c10::IValue> elements;
      for (size_t i = 0; i < pairs->size(); ++i) {
        const auto& [one, other] = (*pairs)[i];
        elements.push_back(general(initials[i].first, one, other, inside.isList()));
      }
      return Rebuilt(initial, std::move(elements));
    }
    const bool open = IsUninitialised(inside);
    if (open && !IsTensor(given)) {
      changed = true;
      return given;
    }
    const at::Tensor variable = open ? LikeOne(given) : Common(inside, given);
    if (!variable.defined() || (in_list && IsNumber(variable))) refuse(inside, given);
    changed = true;
    builder_.SetExpr(variable, LeafExpr(node, inside, variable));
    return variable;
  };
  for (size_t i = 0; i < loop.initial.size(); ++i) {
    name = body->inputs()[i + 1]->debugName();
    loop.initial[i] =
        general(loop.initial[i], loop.parameters[i], evaluator.Get(body->outputs()[i + 1]), false);
  }
  return changed;
}

void ControlFlow::EmitLoop(const Node* node, Loop& loop) {
  Evaluator& evaluator = builder_.evaluator();
  const Context context = builder_.ContextOf(node);
  if (loop.leaves.empty()) {
    for (size_t i = 0; i < loop.parameters.size(); ++i) {
      evaluator.Set(node->outputs()[i], loop.parameters[i]);
    }
    return;
  }
  const bool counts = loop.limit || !node->blocks()[0]->inputs()[0]->uses().empty();
  if (!loop.limit && !loop.condition) throw Refused("it never ends");
  std::vector<relay::Var> params;
  std::vector<Expr> first, next;
  std::vector<relay::Type> types;
  if (counts) {
    params.push_back(*loop.counter);
    first.push_back(context.Constant(0, ScalarType::Long));
    next.push_back(context.Call("add", {*loop.counter, context.Constant(1, ScalarType::Long)}));
  }
  if (loop.condition) {
    params.push_back(*loop.condition);
    const at::Tensor bare = NumberOf(ScalarType::Bool);
    first.push_back(LeafExpr(node, evaluator.Get(node->input(1)), bare));
    next.push_back(*loop.next_condition);
  }
  std::vector<Expr> results;
  for (const Loop::Leaf& leaf : loop.leaves) {
    params.push_back(leaf.var);
    first.push_back(builder_.ExprOf(leaf.initial.toTensor()));
    next.push_back(*leaf.next);
    results.push_back(leaf.var);
    types.push_back(TypeOf(leaf.inside));
  }
  for (const Capture& capture : loop.captures) {
    params.push_back(capture.var);
    first.push_back(capture.outer);
    next.push_back(capture.var);
  }
  std::optional<Expr> check;
  if (loop.limit) check = context.Call("less", {*loop.counter, *loop.limit});
  if (loop.condition) {
    check = check ? context.Call("logical_and", {*check, *loop.condition}) : Expr(*loop.condition);
  }
  const auto array = [](const std::vector<Expr>& exprs) {
    return ffi::Array<Expr>(exprs.begin(), exprs.end());
  };
  const relay::Var self("while_loop");
  const relay::Function function(
      ffi::Array<relay::Var>(params.begin(), params.end()),
      relay::If(*check, relay::Call(self, array(next), {}, context.span()),
                relay::Tuple(array(results)), context.span()),
      relay::TupleType(ffi::Array<relay::Type>(types.begin(), types.end())));
  const relay::Call all(relay::Let(self, function, self), array(first), {}, context.span());
  size_t leaf = 0;
  for (size_t i = 0; i < loop.parameters.size(); ++i) {
    evaluator.Set(node->outputs()[i], Map(loop.parameters[i], [&](const c10::IValue& inside) {
                    if (!IsTensor(inside)) return inside;
                    const at::Tensor outside = LikeOne(inside);
                    builder_.SetExpr(outside,
                                     relay::TupleGetItem(all, static_cast<int64_t>(leaf++)));
                    return c10::IValue(outside);
                  }));
  }
}

// Operators on lists that hold tensors move these around, whatever they are.
bool ControlFlow::List(const Node* node) {
  const c10::FunctionSchema* schema = node->maybeSchema();
  if (schema == nullptr || schema->arguments().empty() || !node->kind().is_aten()) return false;
  const auto type = schema->arguments()[0].type()->cast<c10::ListType>();
  if (!type || node->hasSideEffects()) return false;
  const auto element = type->getElementType();
  const bool any_element = element->kind() == c10::TypeKind::VarType;
  const bool grows = schema->is_mutable();
  if (!any_element && !(grows && element->kind() == c10::TypeKind::TensorType)) return false;
  if (grows && run_time_depth_ > 0) {
    const Node* made = node->input(0)->node();
    if (made->kind() != c10::prim::ListConstruct || made->owningBlock() != node->owningBlock()) {
      builder_.Refuse(node, "it changes a list in a branch or loop that depends on data");
      return true;
    }
  }
  for (const Value* input : node->inputs()) {
    if (IsRunTimeNumber(input, builder_.evaluator().Get(input))) {
      builder_.Refuse(node, "an index or a number of elements that is known only at run time");
      return true;
    }
  }
  const std::string error = builder_.evaluator().RunAsItIs(node);
  if (!error.empty()) builder_.Refuse(node, "PyTorch cannot tell its result: " + error);
  return true;
}

}  // namespace torch_tvm::convert
