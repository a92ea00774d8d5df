#include "runtime/weight_identity.h"

#include <algorithm>

namespace torch_tvm::runtime {
namespace {

template <typename T>
c10::weak_intrusive_ptr<T> Weak(T* target) {
  return c10::weak_intrusive_ptr<T>(c10::intrusive_ptr<T>::unsafe_reclaim_from_nonowning(target));
}

}  // namespace

WeightIdentity::WeightIdentity(const c10::TensorImpl* weight)
    : impl_(weight),
      storage_(weight->unsafe_storage().unsafeGetStorageImpl()),
      data_(storage_->data()),
      offset_(weight->storage_offset()),
      version_(VersionOf(weight)),
      dtype_(weight->dtype()),
      rank_(static_cast<uint16_t>(weight->sizes().size())),
      few_{} {
  const c10::IntArrayRef sizes = weight->sizes(), strides = weight->strides();
  if (rank_ <= kInlineRank) {
    std::copy(sizes.begin(), sizes.end(), few_);
    std::copy(strides.begin(), strides.end(), few_ + kInlineRank);
  } else {
    many_sizes_ = sizes.vec();
    many_strides_ = strides.vec();
  }
}

WeakWeight::WeakWeight(c10::TensorImpl* weight)
    : tensor(Weak(weight)), storage(Weak(weight->unsafe_storage().unsafeGetStorageImpl())) {}

}  // namespace torch_tvm::runtime
