// Attributes of calls and functions in Relay text.
#pragma once

#include <string>
#include <vector>

#include "relay/expr.h"
#include "relay/metadata.h"

namespace torch_tvm::relay {

// "axis=1", ... in table order without those that equal their default; one reference into the
// metadata for operators whose attributes TVM's registry does not know (unless metadata is not
// shown).
std::vector<std::string> CallAttrTexts(const CallObj* call, bool show_meta_data,
                                       MetadataWriter& metadata);

// A value of no declared kind: 1, 0.5f, True, "text", [1, 2], None, meta[...][0].
std::string ValueText(const ffi::Any& value, MetadataWriter& metadata);

}  // namespace torch_tvm::relay
