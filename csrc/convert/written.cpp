// What a write in place leaves, for the functional forms of operators (functional.h).
#include <ATen/ops/empty_strided.h>
#include <c10/core/ScalarType.h>
#include <torch/library.h>

#include "convert/context.h"

namespace torch_tvm::convert {
namespace {

// `value` as `self` would hold it after the write of an operator that computes it: in self's dtype
// and memory order. Raises what PyTorch raises where it cannot.
at::Tensor Written(const at::Tensor& self, const at::Tensor& value) {
  TORCH_CHECK(c10::canCast(value.scalar_type(), self.scalar_type()), "result type ",
              value.scalar_type(), " can't be cast to the desired output type ",
              self.scalar_type());
  TORCH_CHECK(value.sizes() == self.sizes(), "output with shape ", self.sizes(),
              " doesn't match the broadcast shape ", value.sizes());
  const bool same_order = value.strides() == self.strides() || !self.is_non_overlapping_and_dense();
  if (value.scalar_type() == self.scalar_type() && same_order) return value;
  at::Tensor held = same_order ? at::empty_like(value, value.options().dtype(self.scalar_type()))
                               : at::empty_strided(self.sizes(), self.strides(), self.options());
  return held.copy_(value);
}

Results Convert(Context& ctx) { return ctx.Cast(ctx.Tensor("value"), ctx.Result().dtype); }

const Registrar kWritten({{"torch_tvm::written", Convert}});

}  // namespace
}  // namespace torch_tvm::convert

TORCH_LIBRARY_FRAGMENT(torch_tvm, library) {
  library.def("written(Tensor self, Tensor value) -> Tensor", torch_tvm::convert::Written);
}
