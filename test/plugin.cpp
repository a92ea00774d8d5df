// A library of a user's own: an operator, and the converter that tells torch_tvm what it computes.
// Built and loaded by test_convert_plugin.py.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "convert/context.h"

namespace {

namespace convert = torch_tvm::convert;

// x * x * x + offset
at::Tensor Cube(const at::Tensor& x, double offset) { return x * x * x + offset; }
at::Tensor CubeMeta(const at::Tensor& x, double offset) { return at::empty_like(x); }

convert::Results ConvertCube(convert::Context& ctx) {
  const convert::Operand x = ctx.Tensor("x");
  if (!convert::IsFloat(x.dtype())) ctx.Refuse("x has no floating point dtype");
  const auto square = ctx.Call("multiply", {x.expr, x.expr});
  const auto cube = ctx.Call("multiply", {square, x.expr});
  return ctx.Call("add", {cube, ctx.Constant(ctx.Double("offset"), x.dtype())});
}

TORCH_LIBRARY(torch_tvm_test_plugin, library) {
  library.def("cube(Tensor x, float offset) -> Tensor");
}
TORCH_LIBRARY_IMPL(torch_tvm_test_plugin, CPU, library) { library.impl("cube", Cube); }
TORCH_LIBRARY_IMPL(torch_tvm_test_plugin, Meta, library) { library.impl("cube", CubeMeta); }

[[maybe_unused]] const bool registered = [] {
  convert::Registry::Global().Add("torch_tvm_test_plugin::cube", {ConvertCube, {}});
  return true;
}();

}  // namespace
