// Attributes of calls and functions in Relay text.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "relay/expr.h"
#include "relay/metadata.h"

namespace torch_tvm::relay {

// How an expression is written that is the value of an attribute and no constant.
using ExprText = std::function<std::string(const Expr&)>;

// "axis=1", ... in table order without those that equal their default; one reference into the
// metadata for operators whose attributes TVM's registry does not know (unless metadata is not
// shown).
std::vector<std::string> CallAttrTexts(const CallObj* call, bool show_meta_data,
                                       MetadataWriter& metadata, const ExprText& expr_text);

// A value of no declared kind: 1, 0.5f, True, "text", [1, 2], None, meta[...][0], %x.
std::string ValueText(const ffi::Any& value, MetadataWriter& metadata, const ExprText& expr_text);

}  // namespace torch_tvm::relay
