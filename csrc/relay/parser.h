// Reads Relay's text format 0.0.5.
#pragma once

#include "relay/expr.h"
#include "relay/metadata.h"

namespace torch_tvm::relay {

// The module, or the expression if the text holds no "def". Expressions get spans in source_name if
// one is given. References into the metadata find the objects of the text's own section and then
// those of more_metadata. Throws ParseError (see lexer.h) with line, column and what was expected.
ffi::ObjectRef Parse(const ffi::String& text, const ffi::Optional<ffi::String>& source_name,
                     const MetaTable& more_metadata);

}  // namespace torch_tvm::relay
