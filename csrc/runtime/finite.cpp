#include "runtime/finite.h"

#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>

namespace torch_tvm::runtime {
namespace {

// A product with zero is NaN for what is not finite, and so is a sum with that.
template <typename T>
bool AllFinite(const T* data, int64_t count) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) sum += data[i] * T{0};
  return sum == 0;
}

}  // namespace

bool AllFinite(const at::Tensor& tensor) {
  if (!at::isFloatingType(tensor.scalar_type())) return true;
  const at::AutoDispatchBelowADInplaceOrView plain;
  const bool dense = tensor.is_non_overlapping_and_dense();
  if (dense && tensor.scalar_type() == at::kFloat) {
    return AllFinite(tensor.const_data_ptr<float>(), tensor.numel());
  }
  if (dense && tensor.scalar_type() == at::kDouble) {
    return AllFinite(tensor.const_data_ptr<double>(), tensor.numel());
  }
  return at::isfinite(tensor).all().item<bool>();
}

}  // namespace torch_tvm::runtime
