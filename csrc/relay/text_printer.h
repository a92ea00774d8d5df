// Relay's text format 0.0.5, as TVM 0.19 prints it.
#pragma once

#include "relay/expr.h"

namespace torch_tvm::relay {

// The text of an IRModule or an expression. Without metadata tensors are left out and the text is
// for people. Throws ValueError for what the format cannot hold (strings with quotes, say).
ffi::String AsText(const ffi::ObjectRef& module_or_expr, bool show_meta_data = true);

}  // namespace torch_tvm::relay
