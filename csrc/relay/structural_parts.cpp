#include "relay/structural_parts.h"

#include <map>
#include <string>
#include <unordered_set>
#include <utility>

#include "relay/visit.h"

namespace torch_tvm::relay {
namespace {

// Attributes with something that no other attribute holds in place of the expressions in them.
ffi::Any WithoutExprs(const ffi::Any& value) {
  if (value.as<Expr>() && !value.as<Constant>()) return GlobalVar("");
  auto items = value.as<ffi::Array<ffi::Any>>();
  if (!items) return value;
  ffi::Array<ffi::Any> plain;
  for (const ffi::Any& item : *items) plain.push_back(WithoutExprs(item));
  return plain;
}

ffi::Any WithoutExprs(const ffi::Map<ffi::String, ffi::Any>& attrs) {
  bool any = false;
  VisitAttrExprs(attrs, [&any](const Expr&) { any = true; });
  if (!any) return attrs;
  ffi::Map<ffi::String, ffi::Any> plain;
  for (const auto& [name, value] : attrs) plain.Set(name, WithoutExprs(value));
  return plain;
}

// The type of a constructor, closed: its own definition binds the variables of its inputs.
FuncType Signature(const ConstructorObj* constructor) {
  ffi::Array<TypeVar> vars;
  std::unordered_set<const ffi::Object*> seen;
  std::vector<Type> stack(constructor->inputs.begin(), constructor->inputs.end());
  while (!stack.empty()) {
    Type type = stack.back();
    stack.pop_back();
    if (auto var = type.as<TypeVar>()) {
      if (seen.insert(var->get()).second) vars.push_back(*var);
    }
    VisitTypes(type, [&stack](const Type& part) { stack.push_back(part); });
  }
  return FuncType(constructor->inputs, TypeCall(constructor->belong_to, {}), vars);
}

// The variables among the sizes of what a constructor takes.
void AddSizes(const ConstructorObj* constructor, Parts& parts) {
  std::vector<Type> stack(constructor->inputs.rbegin(), constructor->inputs.rend());
  while (!stack.empty()) {
    Type type = stack.back();
    stack.pop_back();
    std::vector<SizeVar> sizes = SizeVarsOf(type);
    parts.sizes.insert(parts.sizes.end(), sizes.begin(), sizes.end());
    std::vector<Type> inside = PartsOf(type);
    stack.insert(stack.end(), inside.rbegin(), inside.rend());
  }
}

void AddSizes(const ffi::Any& value, Parts& parts) {
  if (auto var = value.as<SizeVar>()) parts.sizes.push_back(*var);
  if (auto items = value.as<ffi::Array<ffi::Any>>()) {
    for (const ffi::Any& item : *items) AddSizes(item, parts);
  }
}

void AddAttrs(const ffi::Map<ffi::String, ffi::Any>& attrs, Parts& parts) {
  parts.plain.push_back(WithoutExprs(attrs));
  std::map<std::string, ffi::Any> sorted;
  for (const auto& [name, value] : attrs) {
    if (value.as<SizeVar>() || value.as<ffi::Array<ffi::Any>>()) sorted.emplace(name, value);
  }
  for (const auto& [name, value] : sorted) AddSizes(value, parts);
}

void AddConstructor(const ConstructorObj* constructor, Parts& parts) {
  parts.plain.push_back(constructor->name_hint);
  parts.plain.push_back(Signature(constructor));
  AddSizes(constructor, parts);
}

// A pattern as a list of what it is made of, and the variables that it binds.
void AddPattern(const Pattern& root, Parts& parts) {
  for (const Pattern& pattern : PatternsOf(root)) {
    parts.plain.push_back(pattern.GetTypeKey());
    if (const auto* var = pattern.as<PatternVarObj>()) {
      parts.bound.push_back(var->var);
    } else if (const auto* made = pattern.as<PatternConstructorObj>()) {
      AddConstructor(made->constructor.get(), parts);
      parts.plain.push_back(static_cast<int64_t>(made->patterns.size()));
    } else if (const auto* tuple = pattern.as<PatternTupleObj>()) {
      parts.plain.push_back(static_cast<int64_t>(tuple->patterns.size()));
    }
  }
}

ffi::Array<ffi::Any> PlainParts(const TensorTypeObj* type) {
  ffi::Array<ffi::Any> plain = {type->shape, type->dtype, type->size_bits};
  if (!type->size_vars) return plain;
  for (const ffi::Optional<SizeVar>& var : *type->size_vars) {
    if (var) {
      plain.push_back((*var)->dtype);
      plain.push_back((*var)->non_negative);
    } else {
      plain.push_back(nullptr);
    }
  }
  return plain;
}

}  // namespace

Parts PartsOf(const Expr& expr) {
  Parts parts;
  VisitOperands(expr, [&parts](const Expr& operand) { parts.operands.push_back(operand); });
  if (const auto* call = expr.as<CallObj>()) {
    AddAttrs(call->attrs, parts);
  } else if (const auto* item = expr.as<TupleGetItemObj>()) {
    parts.plain = {item->index};
  } else if (const auto* let = expr.as<LetObj>()) {
    parts.bound = {let->var};
  } else if (const auto* function = expr.as<FunctionObj>()) {
    AddAttrs(function->attrs, parts);
    parts.bound = {function->params.begin(), function->params.end()};
    parts.bound_types = {function->type_params.begin(), function->type_params.end()};
    if (function->ret_type) parts.types.push_back(*function->ret_type);
  } else if (const auto* constant = expr.as<ConstantObj>()) {
    parts.plain = {constant->data};
  } else if (const auto* global = expr.as<GlobalVarObj>()) {
    parts.plain = {global->name_hint};
  } else if (const auto* op = expr.as<OpObj>()) {
    parts.plain = {op->name};
  } else if (const auto* constructor = expr.as<ConstructorObj>()) {
    AddConstructor(constructor, parts);
  } else if (const auto* match = expr.as<MatchObj>()) {
    parts.plain = {match->complete};
    for (const Clause& clause : match->clauses) AddPattern(clause->lhs, parts);
  }
  return parts;
}

std::vector<SizeVar> SizeVarsOf(const Type& type) {
  std::vector<SizeVar> vars;
  const auto* tensor = type.as<TensorTypeObj>();
  if (!tensor || !tensor->size_vars) return vars;
  for (const ffi::Optional<SizeVar>& var : *tensor->size_vars) {
    if (var) vars.push_back(*var);
  }
  return vars;
}

ffi::Array<ffi::Any> PlainParts(const Type& type) {
  if (const auto* tensor = type.as<TensorTypeObj>()) return PlainParts(tensor);
  if (const auto* incomplete = type.as<IncompleteTypeObj>()) return {incomplete->kind};
  if (const auto* global = type.as<GlobalTypeVarObj>()) return {global->name_hint, global->kind};
  if (const auto* function = type.as<FuncTypeObj>()) {
    return {static_cast<int64_t>(function->type_params.size())};
  }
  if (const auto* data = type.as<TypeDataObj>()) {
    ffi::Array<ffi::Any> plain = {data->header->name_hint,
                                  static_cast<int64_t>(data->type_vars.size())};
    for (const Constructor& constructor : data->constructors) {
      plain.push_back(constructor->name_hint);
      plain.push_back(static_cast<int64_t>(constructor->inputs.size()));
    }
    return plain;
  }
  return {};
}

std::vector<Type> PartsOf(const Type& type) {
  std::vector<Type> parts;
  VisitTypes(type, [&parts](const Type& part) { parts.push_back(part); });
  return parts;
}

ffi::Array<TypeVar> BoundIn(const Type& type) {
  if (const auto* function = type.as<FuncTypeObj>()) return function->type_params;
  if (const auto* data = type.as<TypeDataObj>()) return data->type_vars;
  return {};
}

}  // namespace torch_tvm::relay
