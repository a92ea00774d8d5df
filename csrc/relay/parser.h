// Reads Relay's text format 0.0.5.
#pragma once

#include "relay/expr.h"

namespace torch_tvm::relay {

// The module, or the expression if the text holds no "def". Expressions get spans in source_name if
// one is given. Throws ParseError (see lexer.h) with line, column and what was expected.
ffi::ObjectRef Parse(const ffi::String& text, const ffi::Optional<ffi::String>& source_name);

}  // namespace torch_tvm::relay
