// The Python face of the core; the only file that knows Python.
#include <torch/csrc/utils/pybind.h>

PYBIND11_MODULE(_C, module) { module.doc() = "C++ core of torch_tvm"; }
