// Converters of operators that mean something else for quantised tensors than for others.
#pragma once

#include <string>

#include "convert/registry.h"

namespace torch_tvm::convert {

// `name` is "aten::relu"; empty where the operator's own converter does for the integers too.
Converter FindQuantisedConverter(const std::string& name);

}  // namespace torch_tvm::convert
