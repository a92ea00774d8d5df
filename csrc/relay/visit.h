// The expressions that an expression is made of, and the types that a type is made of.
#pragma once

#include <map>
#include <string>

#include "relay/adt.h"
#include "relay/expr.h"

namespace torch_tvm::relay {

// Whether an expression has no operands.
inline bool IsLeaf(const Expr& expr) {
  return expr.as<VarObj>() || expr.as<ConstantObj>() || expr.as<OpObj>() ||
         expr.as<GlobalVarObj>() || expr.as<ConstructorObj>();
}

// Calls visit for each expression in the value of an attribute, in order. A constant is a value.
template <typename Visit>
void VisitExprsIn(const ffi::Any& value, Visit visit) {
  if (auto expr = value.as<Expr>()) {
    if (!expr->as<ConstantObj>()) visit(*expr);
  } else if (auto items = value.as<ffi::Array<ffi::Any>>()) {
    for (const ffi::Any& item : *items) VisitExprsIn(item, visit);
  }
}

// Calls visit for each expression in attributes, sorted by their names.
template <typename Visit>
void VisitAttrExprs(const ffi::Map<ffi::String, ffi::Any>& attrs, Visit visit) {
  std::map<std::string, ffi::Any> with_exprs;
  for (const auto& [name, value] : attrs) {
    VisitExprsIn(value, [&, &name = name, &value = value](const Expr&) {
      with_exprs.emplace(std::string(name), value);
    });
  }
  for (const auto& [name, value] : with_exprs) VisitExprsIn(value, visit);
}

// Calls visit for each operand, in order, and for the expressions in attributes; not for variables
// that are bound.
template <typename Visit>
void VisitOperands(const Expr& expr, Visit visit) {
  if (const auto* call = expr.as<CallObj>()) {
    visit(call->op);
    for (const Expr& arg : call->args) visit(arg);
    VisitAttrExprs(call->attrs, visit);
  } else if (const auto* tuple = expr.as<TupleObj>()) {
    for (const Expr& field : tuple->fields) visit(field);
  } else if (const auto* item = expr.as<TupleGetItemObj>()) {
    visit(item->tuple);
  } else if (const auto* let = expr.as<LetObj>()) {
    visit(let->value);
    visit(let->body);
  } else if (const auto* branch = expr.as<IfObj>()) {
    visit(branch->cond);
    visit(branch->true_branch);
    visit(branch->false_branch);
  } else if (const auto* function = expr.as<FunctionObj>()) {
    visit(function->body);
    VisitAttrExprs(function->attrs, visit);
  } else if (const auto* match = expr.as<MatchObj>()) {
    visit(match->data);
    for (const Clause& clause : match->clauses) visit(clause->rhs);
  } else if (const auto* create = expr.as<RefCreateObj>()) {
    visit(create->value);
  } else if (const auto* read = expr.as<RefReadObj>()) {
    visit(read->ref);
  } else if (const auto* write = expr.as<RefWriteObj>()) {
    visit(write->ref);
    visit(write->value);
  }
}

// Calls visit for each part, in order; not for variables that are bound.
template <typename Visit>
void VisitTypes(const Type& type, Visit visit) {
  if (const auto* tuple = type.as<TupleTypeObj>()) {
    for (const Type& field : tuple->fields) visit(field);
  } else if (const auto* function = type.as<FuncTypeObj>()) {
    for (const Type& arg : function->arg_types) visit(arg);
    visit(function->ret_type);
  } else if (const auto* call = type.as<TypeCallObj>()) {
    visit(call->func);
    for (const Type& arg : call->args) visit(arg);
  } else if (const auto* cell = type.as<RefTypeObj>()) {
    visit(cell->value);
  } else if (const auto* data = type.as<TypeDataObj>()) {
    for (const Constructor& constructor : data->constructors) {
      for (const Type& input : constructor->inputs) visit(input);
    }
  }
}

}  // namespace torch_tvm::relay
