// The bindings of csrc/convert.
#pragma once

#include <torch/csrc/utils/pybind.h>

namespace torch_tvm {

void BindConvert(pybind11::module_& module);

}  // namespace torch_tvm
