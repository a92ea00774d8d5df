// TORCH_TVM_API marks what the Python module and converters in other libraries use of the core: all
// other symbols stay inside the library.
#pragma once

#define TORCH_TVM_API __attribute__((visibility("default")))
