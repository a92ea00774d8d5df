// Operators that have no converter, and why not.
#pragma once

#include <map>
#include <string>

namespace torch_tvm::convert {

// Reasons by name: "aten::svd" for all overloads, or "aten::narrow.Tensor" for one.
const std::map<std::string, std::string>& ReasonsByOperator();

// Why an operator, named with its overload, has no converter, in words.
std::string WhyNoConverter(const std::string& name);

}  // namespace torch_tvm::convert
