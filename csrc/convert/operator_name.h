// "aten::add.Tensor", by which tables know operators.
#pragma once

#include <ATen/core/function_schema.h>

#include <string>

namespace torch_tvm::convert {

// As c10::toString(schema.operator_name()), whose stream takes 2 us of the 15 us that a node takes.
inline std::string OperatorName(const c10::FunctionSchema& schema) {
  std::string name = schema.name();
  if (!schema.overload_name().empty()) (name += '.') += schema.overload_name();
  return name;
}

}  // namespace torch_tvm::convert
