// torch.ops.tvm.<name>: every operator with a converter, callable in eager mode. A call is a call
// of a group that holds the one operator.
#pragma once

#include <string>

#include "core/api.h"

namespace torch_tvm::jit {

// Defines the operators of the registry that are not defined yet. An operator that writes to its
// arguments has no counterpart.
TORCH_TVM_API void DefineEagerOperators();

}  // namespace torch_tvm::jit
