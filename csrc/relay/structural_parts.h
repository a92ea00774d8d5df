// What structural equality and hashes see of a node: what it holds besides expressions, types and
// variables, and these apart.
#pragma once

#include <vector>

#include "relay/adt.h"
#include "relay/expr.h"

namespace torch_tvm::relay {

struct Parts {
  ffi::Array<ffi::Any> plain;
  std::vector<Expr> operands;
  std::vector<Var> bound;
  std::vector<TypeVar> bound_types;
  std::vector<Type> types;     // with variables that something around may bind
  std::vector<SizeVar> sizes;  // those in plain
};

// The expressions are in a fixed order.
Parts PartsOf(const Expr& expr);

std::vector<Type> PartsOf(const Type& type);
// What a type holds besides types and variables.
ffi::Array<ffi::Any> PlainParts(const Type& type);
// The variables among the sizes of a tensor's type, from left to right.
std::vector<SizeVar> SizeVarsOf(const Type& type);
ffi::Array<TypeVar> BoundIn(const Type& type);

}  // namespace torch_tvm::relay
