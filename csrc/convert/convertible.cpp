// The static side of conversion: what the fusion pass may take into a group before any shape is
// known.
#include <torch/csrc/jit/ir/constants.h>

#include <array>
#include <unordered_set>

#include "convert/operator_name.h"
#include "convert/refused.h"
#include "convert/registry.h"

namespace torch_tvm::convert {
namespace {

using torch::jit::Node;
using torch::jit::Value;

// Nodes that only move values around; the evaluator runs them, no converter is needed.
const std::unordered_set<c10::Symbol>& StructuralKinds() {
  static const std::unordered_set<c10::Symbol> kinds = {
      c10::prim::ListConstruct,  c10::prim::ListUnpack,    c10::prim::TupleConstruct,
      c10::prim::TupleUnpack,    c10::prim::ConstantChunk, c10::prim::TupleIndex,
      c10::prim::unchecked_cast,
  };
  return kinds;
}

// Operators on tensors that look at the type only, never at the data.
const std::unordered_set<std::string>& MetadataOperators() {
  static const std::unordered_set<std::string> names = {
      "aten::size",   "aten::dim",     "aten::len",       "aten::numel",  "aten::is_floating_point",
      "aten::stride", "prim::dtype",   "prim::device",    "prim::layout", "aten::is_complex",
      "aten::__is__", "prim::is_cuda", "aten::__isnot__",
  };
  return names;
}

// Operators that read the data of a tensor of one element; their tensor must be known at compile
// time.
const std::unordered_set<std::string>& ReadingOperators() {
  static const std::unordered_set<std::string> names = {
      "aten::Int",           "aten::Float",          "aten::Bool", "aten::IntImplicit",
      "aten::FloatImplicit", "aten::ScalarImplicit", "aten::item",
  };
  return names;
}

// Operators the size of whose result depends on values.
const std::unordered_set<std::string>& DataDependentOperators() {
  static const std::unordered_set<std::string> names = {
      "aten::nonzero",
      "aten::nonzero_numpy",
      "aten::argwhere",
      "aten::masked_select",
      "aten::_unique",
      "aten::_unique2",
      "aten::unique_dim",
      "aten::unique_consecutive",
      "aten::unique_dim_consecutive",
      "aten::bincount",
      "aten::lstm.data",
      "aten::gru.data",
      "aten::rnn_tanh.data",
      "aten::rnn_relu.data",
  };
  return names;
}

// Contains no tensor whose data is unknown at compile time.
bool HoldsNoTensor(const c10::Type& type) {
  switch (type.kind()) {
    case c10::TypeKind::TensorType:
    case c10::TypeKind::AnyType:
    case c10::TypeKind::VarType:
    case c10::TypeKind::ClassType:
    case c10::TypeKind::FunctionType:
    case c10::TypeKind::FutureType:
    case c10::TypeKind::GeneratorType:
    case c10::TypeKind::InterfaceType:
      return false;
    default:
      break;
  }
  for (const auto& contained : type.containedTypes()) {
    if (!HoldsNoTensor(*contained)) return false;
  }
  return true;
}

template <typename Values, typename Predicate>
bool All(const Values& values, Predicate predicate) {
  return std::all_of(values.begin(), values.end(), predicate);
}

// Whether the value is computed from sizes and constants alone: a number, or a tensor made of
// numbers (prim::NumToTensor, as tracing writes shape arithmetic).
bool IsStatic(const Value* value) {
  if (HoldsNoTensor(*value->type())) return true;
  const Node* node = value->node();
  if (node->kind() == c10::prim::NumToTensor) return true;
  if (node->kind() == c10::prim::Constant) {
    if (!value->type()->isSubtypeOf(*c10::TensorType::get())) return true;
    const auto constant = torch::jit::toIValue(value);
    return constant && constant->isTensor() && constant->toTensor().numel() <= 1;
  }
  const c10::FunctionSchema* schema = node->maybeSchema();
  if (schema == nullptr || !Registry::Global().Find(*schema)) return false;
  return !node->inputs().empty() && All(node->inputs(), IsStatic);
}

// Arithmetic on numbers, or a question about a tensor's type.
bool IsShapeArithmetic(const Node* node, const c10::FunctionSchema& schema) {
  if (!All(node->outputs(), [](const Value* v) { return HoldsNoTensor(*v->type()); })) return false;
  if (MetadataOperators().count(schema.name())) return true;
  if (ReadingOperators().count(schema.name())) return All(node->inputs(), IsStatic);
  return (node->kind().is_aten() || node->kind().is_prim()) &&
         All(node->inputs(), [](const Value* v) { return HoldsNoTensor(*v->type()); });
}

}  // namespace

std::string WhyNotConvertible(const Node* node) {
  const auto kind = node->kind();
  if (kind == c10::prim::NumToTensor || StructuralKinds().count(kind) != 0) return "";
  if (!node->blocks().empty()) return "control flow stays with the interpreter";
  const c10::FunctionSchema* schema = node->maybeSchema();
  if (schema == nullptr) return "no converter is registered for it";
  if (schema->is_mutable()) {
    return "it writes to its argument in place, where code outside of the graph may see the write";
  }
  if (const auto entry = Registry::Global().Find(*schema)) {
    return entry->check ? entry->check(*node) : "";
  }
  if (DataDependentOperators().count(OperatorName(*schema)) != 0) {
    return "its sizes depend on values, which are known only when the kernels have run";
  }
  if (node->hasSideEffects() || node->isNondeterministic()) {
    return "it has side effects or is random";
  }
  if (IsShapeArithmetic(node, *schema)) return "";
  if (ReadingOperators().count(schema->name()) != 0) {
    return "it reads a tensor's data, which is known only when the kernels have run";
  }
  return WhyNoConverter(c10::toString(schema->operator_name()));
}

bool IsConvertible(const Node* node) { return WhyNotConvertible(node).empty(); }

bool CanCrossBoundary(const Value* value) {
  return value->type()->isSubtypeOf(*c10::TensorType::get()) || HoldsNoTensor(*value->type());
}

bool MayTurnOutFresh(const Value* value) {
  const Node* node = value->node();
  if (node->kind() == c10::aten::to) return true;
  if (node->kind() != c10::prim::ListUnpack) return false;
  const Value* list = node->input();
  const c10::FunctionSchema* schema = list->node()->maybeSchema();
  return schema != nullptr && list->node()->kind().is_aten() &&
         schema->returns().at(list->offset()).alias_info() == nullptr;
}

StaticCheck RequireFalse(std::string argument) {
  return [argument](const Node& node) -> std::string {
    const auto index = node.schema().argumentIndexWithName(argument);
    const auto value = index ? torch::jit::toIValue(node.input(*index)) : std::nullopt;
    if (!value || !value->isBool() || !value->toBool()) return "";
    return argument + "=True is not converted: it is training, which changes state or is random";
  };
}

}  // namespace torch_tvm::convert
