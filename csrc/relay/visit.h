// The expressions that an expression is made of.
#pragma once

#include "relay/expr.h"

namespace torch_tvm::relay {

// Calls visit for each operand, in order; not for variables that are bound.
template <typename Visit>
void VisitOperands(const Expr& expr, Visit visit) {
  if (const auto* call = expr.as<CallObj>()) {
    visit(call->op);
    for (const Expr& arg : call->args) visit(arg);
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
  }
}

}  // namespace torch_tvm::relay
