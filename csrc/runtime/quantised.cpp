#include "runtime/quantised.h"

#include <ATen/ATen.h>
#include <ATen/quantized/QTensorImpl.h>
#include <ATen/quantized/Quantizer.h>

namespace torch_tvm::runtime {

at::Tensor Integers(const at::Tensor& quantised) {
  const auto dtype = c10::scalarTypeToTypeMeta(c10::toUnderlying(quantised.scalar_type()));
  at::Tensor integers = at::detail::make_tensor<c10::TensorImpl>(
      c10::Storage(quantised.storage()), c10::DispatchKeySet(c10::DispatchKey::CPU), dtype);
  auto* impl = integers.unsafeGetTensorImpl();
  impl->set_storage_offset(quantised.storage_offset());
  impl->set_sizes_and_strides(quantised.sizes(), quantised.strides());
  return integers;
}

at::Tensor WithQuantiser(const at::Tensor& integers, double scale, int64_t zero_point) {
  const auto dtype = integers.scalar_type() == at::kByte ? at::kQUInt8 : at::kQInt8;
  at::Tensor quantised = at::detail::make_tensor<at::QTensorImpl>(
      c10::Storage(integers.storage()), c10::DispatchKeySet(c10::DispatchKey::QuantizedCPU),
      c10::scalarTypeToTypeMeta(dtype),
      at::make_per_tensor_affine_quantizer(scale, zero_point, dtype));
  auto* impl = quantised.unsafeGetTensorImpl();
  impl->set_storage_offset(integers.storage_offset());
  impl->set_sizes_and_strides(integers.sizes(), integers.strides());
  return quantised;
}

}  // namespace torch_tvm::runtime
