#include "jit/roles.h"

#include <torch/csrc/jit/ir/constants.h>

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "convert/packed_weights.h"

namespace torch_tvm::jit {
namespace {

using torch::jit::Block;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;
namespace prim = c10::prim;

using Names = std::unordered_set<std::string_view>;

// Operators that read a tensor's metadata only.
const Names& MetadataOperators() {
  static const auto* names = new Names{"aten::size",  "aten::dim",       "aten::numel",
                                       "aten::len",   "prim::dtype",     "aten::is_floating_point",
                                       "prim::shape", "aten::is_complex"};
  return *names;
}

// Operators on numbers and lists of numbers; the tensor overloads of the same names compute on
// numbers that tracing wrapped into tensors.
const Names& NumberOperators() {
  static const auto* names = new Names{"aten::add",
                                       "aten::sub",
                                       "aten::rsub",
                                       "aten::mul",
                                       "aten::div",
                                       "aten::floordiv",
                                       "aten::floor_divide",
                                       "aten::remainder",
                                       "aten::fmod",
                                       "aten::mod",
                                       "aten::neg",
                                       "aten::pow",
                                       "aten::abs",
                                       "aten::floor",
                                       "aten::ceil",
                                       "aten::round",
                                       "aten::clamp",
                                       "aten::maximum",
                                       "aten::minimum",
                                       "aten::sqrt",
                                       "aten::eq",
                                       "aten::ne",
                                       "aten::lt",
                                       "aten::gt",
                                       "aten::le",
                                       "aten::ge",
                                       "aten::__and__",
                                       "aten::__or__",
                                       "aten::__not__",
                                       "aten::Int",
                                       "aten::Float",
                                       "aten::Bool",
                                       "aten::to",
                                       "aten::len",
                                       "aten::__getitem__",
                                       "aten::slice",
                                       "prim::min",
                                       "prim::max",
                                       "aten::ScalarImplicit",
                                       "aten::IntImplicit",
                                       "aten::FloatImplicit",
                                       "aten::item",
                                       "prim::NumToTensor",
                                       "aten::__is__",
                                       "aten::__isnot__",
                                       "aten::trunc",
                                       "aten::__contains__"};
  return *names;
}

bool IsTensor(const Value* value) { return value->type()->isSubtypeOf(*c10::TensorType::get()); }

bool IsNumber(const c10::TypePtr& type) {
  switch (type->kind()) {
    case c10::TypeKind::IntType:
    case c10::TypeKind::FloatType:
    case c10::TypeKind::BoolType:
    case c10::TypeKind::NumberType:
    case c10::TypeKind::NoneType:
      return true;
    case c10::TypeKind::OptionalType:
      return IsNumber(type->expectRef<c10::OptionalType>().getElementType());
    default:
      return false;
  }
}

bool IsNumbers(const c10::TypePtr& type) {
  if (type->kind() != c10::TypeKind::ListType) return IsNumber(type);
  return IsNumber(type->expectRef<c10::ListType>().getElementType());
}

bool IsTensorOrList(const c10::TypePtr& type) {
  return type->isSubtypeOf(*c10::TensorType::get()) ||
         type->isSubtypeOf(*c10::ListType::ofTensors());
}

bool IsListOperator(const Node* node) {
  if (node->kind() == prim::ConstantChunk) return true;
  if (node->kind() == prim::ListUnpack) {
    return node->input()->type()->isSubtypeOf(*c10::ListType::ofTensors()) ||
           IsNumbers(node->input()->type());
  }
  if (node->kind() != prim::ListConstruct) return false;
  const auto element = node->output()->type()->expectRef<c10::ListType>().getElementType();
  return IsNumber(element) || IsTensorOrList(element) ||
         element->isSubtypeOf(*c10::OptionalType::ofTensor());
}

bool Writes(const Node* node) {
  const auto* schema = node->maybeSchema();
  return schema != nullptr && schema->is_mutable();
}

// Attention and recurrent networks count as random whatever their dropout is.
bool IsRandom(const Node* node) {
  static const std::unordered_map<std::string_view, const char*> dropouts = {
      {"aten::scaled_dot_product_attention", "dropout_p"},
      {"aten::lstm", "dropout"},
      {"aten::gru", "dropout"},
      {"aten::rnn_tanh", "dropout"},
      {"aten::rnn_relu", "dropout"},
  };
  const auto found = dropouts.find(node->kind().toQualString());
  if (found == dropouts.end()) return node->isNondeterministic();
  const auto dropout = torch::jit::toIValue(node->namedInput(found->second));
  if (dropout && dropout->isDouble() && dropout->toDouble() == 0) return false;
  if (!node->schema().argumentIndexWithName("train")) return true;
  const auto train = torch::jit::toIValue(node->namedInput("train"));
  return !train || !train->isBool() || train->toBool();
}

}  // namespace

Roles::Roles(const Graph& graph, const Converts& converts) { Visit(graph.block(), converts); }

void Roles::Visit(const Block* block, const Converts& converts) {
  for (const Node* node : block->nodes()) {
    for (const Block* inner : node->blocks()) Visit(inner, converts);
    const Role role = Find(node, converts);
    roles_.emplace(node, role);
    if (role != Role::kShape) continue;
    for (const Value* output : node->outputs()) {
      if (IsTensor(output)) shape_tensors_.insert(output);
    }
  }
}

Role Roles::Find(const Node* node, const Converts& converts) const {
  if (node->kind() == prim::Constant || !node->blocks().empty() || node->hasSideEffects()) {
    return Role::kOutside;
  }
  if (Writes(node) || TakesForeignValue(node) || !converts(node)) return Role::kOutside;
  if (IsListOperator(node)) return Role::kStructure;
  if (IsShapeArithmetic(node)) return Role::kShape;
  if (IsRandom(node)) return Role::kOutside;
  const bool tensors = std::all_of(node->outputs().begin(), node->outputs().end(),
                                   [](const Value* v) { return IsTensorOrList(v->type()); });
  return tensors ? Role::kOperator : Role::kOutside;
}

bool Roles::TakesForeignValue(const Node* node) const {
  return std::any_of(node->inputs().begin(), node->inputs().end(), [this](const Value* input) {
    const Node* producer = input->node();
    return !CanEnterGroup(input->type()) && producer->kind() != prim::Constant &&
           Of(producer) == Role::kOutside;
  });
}

bool Roles::IsShapeArithmetic(const Node* node) const {
  const std::string_view name = node->kind().toQualString();
  const auto outputs = node->outputs();
  const auto is_numbers = [](const Value* v) { return IsNumbers(v->type()); };
  if (MetadataOperators().count(name) > 0 && IsTensor(node->inputs().at(0)) &&
      std::all_of(outputs.begin(), outputs.end(), is_numbers)) {
    return true;
  }
  if (NumberOperators().count(name) == 0) return false;
  bool any_shape_tensor = node->kind() == prim::NumToTensor;
  for (const Value* input : node->inputs()) {
    if (!IsTensor(input)) {
      if (!IsNumbers(input->type()) && input->node()->kind() != prim::Constant) return false;
      continue;
    }
    const auto constant = torch::jit::toIValue(input);
    const bool known = constant && constant->isTensor() && constant->toTensor().numel() == 1;
    if (!known && !IsShapeTensor(input)) return false;
    any_shape_tensor |= !known;
  }
  return std::all_of(outputs.begin(), outputs.end(), [&](const Value* output) {
    return IsNumbers(output->type()) || (any_shape_tensor && IsTensor(output));
  });
}

Role Roles::Of(const Node* node) const {
  const auto found = roles_.find(node);
  return found == roles_.end() ? Role::kOutside : found->second;
}

bool Roles::IsShapeTensor(const Value* value) const { return shape_tensors_.count(value) > 0; }

bool CanEnterGroup(const c10::TypePtr& type) {
  switch (type->kind()) {
    case c10::TypeKind::TensorType:
    case c10::TypeKind::StringType:
    case c10::TypeKind::DeviceObjType:
      return true;
    case c10::TypeKind::OptionalType:
      return CanEnterGroup(type->expectRef<c10::OptionalType>().getElementType());
    case c10::TypeKind::ClassType:
      return convert::HoldsQuantisedWeights(*type);
    default:
      return IsNumbers(type);
  }
}

bool CanLeaveGroup(const c10::TypePtr& type) {
  switch (type->kind()) {
    case c10::TypeKind::TensorType:
    case c10::TypeKind::IntType:
    case c10::TypeKind::FloatType:
    case c10::TypeKind::BoolType:
      return true;
    default:
      return false;
  }
}

}  // namespace torch_tvm::jit
