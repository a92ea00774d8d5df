#include "convert/numbers.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/runtime/operator.h>

#include <algorithm>
#include <string>
#include <unordered_map>
#include <unordered_set>

namespace torch_tvm::convert {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

bool IsNumeric(const c10::Type& type) {
  switch (type.kind()) {
    case c10::TypeKind::IntType:
    case c10::TypeKind::FloatType:
    case c10::TypeKind::BoolType:
    case c10::TypeKind::NumberType:
      return true;
    default:
      return false;
  }
}

// The dtype in which TorchScript holds a number that it reads from a tensor.
ScalarType ReadType(const c10::Type& type, ScalarType from) {
  switch (type.kind()) {
    case c10::TypeKind::IntType:
      return ScalarType::Long;
    case c10::TypeKind::FloatType:
      return ScalarType::Double;
    case c10::TypeKind::BoolType:
      return ScalarType::Bool;
    default:
      if (from == ScalarType::Bool) return from;
      return IsFloat(from) ? ScalarType::Double : ScalarType::Long;
  }
}

bool Reads(const Node* node) {
  static const std::unordered_set<std::string> names = {
      "aten::Bool", "aten::Int",           "aten::Float",         "aten::IntImplicit",
      "aten::item", "aten::FloatImplicit", "aten::ScalarImplicit"};
  return names.count(node->kind().toQualString()) != 0;
}

// The operator on tensors for one on numbers, where the names differ.
c10::Symbol TensorOperator(c10::Symbol kind) {
  static const std::unordered_map<std::string, std::string> names = {
      {"aten::__not__", "aten::logical_not"},   {"aten::__and__", "aten::logical_and"},
      {"aten::__or__", "aten::logical_or"},     {"aten::__xor__", "aten::logical_xor"},
      {"aten::floordiv", "aten::floor_divide"}, {"prim::min", "aten::minimum"},
      {"prim::max", "aten::maximum"},           {"prim::abs", "aten::abs"},
  };
  const auto found = names.find(kind.toQualString());
  return found == names.end() ? kind : c10::Symbol::fromQualString(found->second);
}

// The dtype in which a number goes with a tensor as an operand: with a tensor of rank 0 in its
// place the result has to be of the dtype that it has with the number.
ScalarType BesideTensor(ScalarType number, const at::Tensor& tensor) {
  const ScalarType dtype = tensor.scalar_type();
  const auto category = [](ScalarType type) {
    return type == ScalarType::Bool ? 0 : IsFloat(type) ? 2 : 1;
  };
  if (category(number) > category(dtype)) {
    return category(number) == 1 ? ScalarType::Long
                                 : c10::typeMetaToScalarType(c10::get_default_dtype());
  }
  // Half and bfloat16 are computed with numbers that are not rounded to them.
  return tensor.dim() > 0 ? MathType(dtype) : dtype;
}

// Whether an operator takes these values as its first arguments, each as it is.
bool Takes(const c10::FunctionSchema& schema, c10::ArrayRef<Value*> values) {
  const auto& arguments = schema.arguments();
  if (schema.is_mutable() || schema.returns().size() != 1 || arguments.size() < values.size()) {
    return false;
  }
  for (size_t i = 0; i < arguments.size(); ++i) {
    const bool fits = i < values.size() ? values[i]->type()->isSubtypeOf(*arguments[i].type())
                                        : arguments[i].default_value().has_value();
    if (!fits) return false;
  }
  return true;
}

// A call of the overload that takes these values. Graph::insert will not do: where no overload
// fits, it tries conversions, in which torch 2.13 crashes. Null if there is none.
Value* InsertCall(Graph& graph, c10::Symbol kind, std::vector<Value*> values) {
  for (const auto& candidate : torch::jit::getAllOperatorsFor(kind)) {
    const c10::FunctionSchema& schema = candidate->schema();
    if (!Takes(schema, values)) continue;
    for (size_t i = values.size(); i < schema.arguments().size(); ++i) {
      const auto value =
          torch::jit::tryInsertConstant(graph, *schema.arguments()[i].default_value());
      if (!value) return nullptr;
      values.push_back(*value);
    }
    Node* call = graph.insertNode(graph.create(kind, values));
    call->output()->setType(schema.returns()[0].type());
    return call->output();
  }
  return nullptr;
}

}  // namespace

at::Tensor NumberOf(ScalarType dtype) {
  at::Tensor number = at::empty({}, at::TensorOptions(dtype).device(c10::kMeta));
  number.unsafeGetTensorImpl()->set_wrapped_number(true);
  return number;
}

bool IsRunTimeNumber(const Value* value, const c10::IValue& held) {
  return IsNumeric(*value->type()) && held.isTensor();
}

std::optional<ScalarType> NumberType(const c10::IValue& number) {
  if (number.isTensor()) return number.toTensor().scalar_type();
  if (number.isBool()) return ScalarType::Bool;
  if (number.isInt()) return ScalarType::Long;
  if (number.isDouble()) return ScalarType::Double;
  return std::nullopt;
}

bool Numbers::Lower(const Node* node) {
  Evaluator& evaluator = builder_.evaluator();
  if (Reads(node)) return Read(node);
  const bool takes =
      std::any_of(node->inputs().begin(), node->inputs().end(),
                  [&](const Value* input) { return IsRunTimeNumber(input, evaluator.Get(input)); });
  if (!takes || !node->blocks().empty()) return false;
  switch (node->kind()) {
    case c10::prim::TupleConstruct:
    case c10::prim::unchecked_cast:
      return false;
    case c10::prim::NumToTensor: {
      const at::Tensor number = evaluator.Get(node->input()).toTensor();
      const at::Tensor tensor = at::empty({}, number.options());
      builder_.SetExpr(tensor, builder_.ExprOf(number));
      evaluator.Set(node->output(), tensor);
      return true;
    }
    case c10::prim::ListConstruct:
      builder_.Refuse(node, "a list of numbers, one of which is known only at run time");
      return true;
    case c10::aten::select:
      Select(node);
      return true;
    default:
      OnTensors(node);
      return true;
  }
}

bool Numbers::Read(const Node* node) {
  Evaluator& evaluator = builder_.evaluator();
  const c10::IValue& held = evaluator.Get(node->input(0));
  if (!held.isTensor() || !held.toTensor().is_meta()) return false;
  const at::Tensor tensor = held.toTensor();
  if (evaluator.Known(tensor).defined()) return false;
  if (tensor.numel() != 1) {
    builder_.Refuse(node, "a tensor of " + std::to_string(tensor.numel()) +
                              " elements where one of one element is expected");
    return true;
  }
  SetNumber(node, tensor);
  return true;
}

// Gives the node's output a number with the value of a tensor of one element.
void Numbers::SetNumber(const Node* node, const at::Tensor& from) {
  const ScalarType dtype = ReadType(*node->output()->type(), from.scalar_type());
  const Context context = builder_.ContextOf(node);
  const Expr element = context.Reshape(builder_.ExprOf(from), from.sizes().vec(), {});
  const at::Tensor number = NumberOf(dtype);
  builder_.SetExpr(number, context.Cast(element, from.scalar_type(), dtype));
  builder_.evaluator().Set(node->output(), number);
}

// x[i] in a loop over i.
void Numbers::Select(const Node* node) {
  Evaluator& evaluator = builder_.evaluator();
  const c10::IValue& dim = evaluator.Get(node->input(1));
  if (!dim.isInt()) return builder_.Refuse(node, "dim is known only at run time");
  const at::Tensor tensor = evaluator.Get(node->input(0)).toTensor();
  const at::Tensor index = evaluator.Get(node->input(2)).toTensor();
  if (tensor.dim() == 0) return builder_.Refuse(node, "select of a tensor of rank 0");
  const int64_t axis = dim.toInt() < 0 ? dim.toInt() + tensor.dim() : dim.toInt();
  const at::Tensor result = at::select(tensor.to(c10::kMeta), axis, 0);
  const Context context = builder_.ContextOf(node);
  builder_.SetExpr(result, context.Call("take", {builder_.ExprOf(tensor), builder_.ExprOf(index)},
                                        {{"axis", axis}, {"mode", "wrap"}}));
  evaluator.Set(node->output(), result);
}

// The tensor that stands for a number among a node's arguments. A node on numbers alone takes them
// as they are, and divides as Python does, in float64.
at::Tensor Numbers::Operand(const Node* node, const c10::IValue& number) {
  const Context context = builder_.ContextOf(node);
  const ScalarType from = *NumberType(number);
  ScalarType to = node->kind() == c10::aten::div ? ScalarType::Double : from;
  for (const Value* input : node->inputs()) {
    if (!input->type()->isSubtypeOf(*c10::TensorType::get())) continue;
    to = BesideTensor(from, builder_.evaluator().Get(input).toTensor());
    break;
  }
  const at::Tensor operand = at::empty({}, at::TensorOptions(to).device(c10::kMeta));
  builder_.SetExpr(operand, number.isTensor()
                                ? context.Cast(builder_.ExprOf(number.toTensor()), from, to)
                                : context.Constant(number.toScalar(), to));
  return operand;
}

// Makes the node anew with tensors in the place of its numbers, and lowers that.
void Numbers::OnTensors(const Node* node) {
  Evaluator& evaluator = builder_.evaluator();
  if (node->outputs().size() != 1 || node->maybeSchema() == nullptr) {
    return builder_.Refuse(node, "takes a number that is known only at run time");
  }
  const bool gives_number = IsNumeric(*node->output()->type());
  auto graph = std::make_shared<Graph>();
  graphs_.push_back(graph);
  std::vector<Value*> arguments;
  for (const Value* input : node->inputs()) {
    c10::IValue held = evaluator.Get(input);
    const bool takes_all = gives_number && NumberType(held).has_value();
    if (IsNumeric(*input->type()) && (held.isTensor() || takes_all)) held = Operand(node, held);
    if (!held.isTensor()) {
      if (const auto constant = torch::jit::tryInsertConstant(*graph, held)) {
        arguments.push_back(*constant);
        continue;
      }
    }
    Value* argument = graph->addInput();
    argument->setType(held.isTensor() ? c10::TensorType::get() : input->type());
    evaluator.Set(argument, held);
    arguments.push_back(argument);
  }
  const Value* result = InsertCall(*graph, TensorOperator(node->kind()), arguments);
  if (result == nullptr) {
    return builder_.Refuse(node, "takes a number that is known only at run time");
  }
  for (Node* made : graph->nodes()) made->copyMetadata(const_cast<Node*>(node));
  builder_.LowerBlock(graph->block());
  if (!evaluator.Knows(result)) return;
  if (!gives_number) return evaluator.Set(node->output(), evaluator.Get(result));
  const c10::IValue given = evaluator.Get(result);
  if (!given.isTensor()) return builder_.Refuse(node, "its result is no number");
  SetNumber(node, given.toTensor());
}

}  // namespace torch_tvm::convert
