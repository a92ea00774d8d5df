// Equality and hash of programs: variables up to renaming, tensors by content, sharing of compound
// expressions significant. The library's own comparison recurses and overflows the stack at about
// 3,000 nested calls; these two do not recurse.
#pragma once

#include "relay/expr.h"

namespace torch_tvm::relay {

// Of two expressions or two modules. With map_free_vars unbound variables may differ, one to one,
// in name and identity; without it they must be the same objects.
bool StructuralEqual(const ffi::ObjectRef& lhs, const ffi::ObjectRef& rhs, bool map_free_vars);
int64_t StructuralHash(const ffi::ObjectRef& node, bool map_free_vars);

}  // namespace torch_tvm::relay
