// What tells the weights of a call from others, and from themselves after a change.
#pragma once

#include <c10/core/TensorImpl.h>
#include <c10/util/ArrayRef.h>

#include <cstdint>
#include <vector>

namespace torch_tvm::runtime {

// Tensors of a caller, borrowed for the time of a call: taken off the interpreter's stack, 100
// weights cost no reference counts.
using BorrowedTensors = c10::ArrayRef<c10::TensorImpl*>;

// What tells a weight from another, and from itself after a change. In-place writes raise the
// version; `.data =` leaves it and changes storage or geometry. An inference tensor has no version:
// it counts as unchanged. Laid out for the check of every call: 2 cache lines, read in order.
class WeightIdentity {
 public:
  explicit WeightIdentity(const c10::TensorImpl* weight);

  bool Matches(const c10::TensorImpl* weight) const {
    return weight == impl_ && weight->unsafe_storage().unsafeGetStorageImpl() == storage_ &&
           storage_->data() == data_ && VersionOf(weight) == version_ &&
           weight->storage_offset() == offset_ && weight->dtype() == dtype_ &&
           HasGeometryOf(weight);
  }
  bool IsTensor(const c10::TensorImpl* weight) const { return weight == impl_; }

 private:
  static constexpr size_t kInlineRank = 5;

  static uint32_t VersionOf(const c10::TensorImpl* weight) {
    const c10::VariableVersion& version = weight->version_counter();
    return version.enabled() ? version.current_version() : 0;
  }

  // Loops of known length: 4 ns a weight less than one of unknown length.
  template <size_t rank>
  bool HasGeometry(const int64_t* sizes, const int64_t* strides) const {
    int64_t different = 0;
    for (size_t i = 0; i < rank; ++i) {
      different |= (sizes[i] ^ few_[i]) | (strides[i] ^ few_[kInlineRank + i]);
    }
    return different == 0;
  }

  bool HasGeometryOf(const c10::TensorImpl* weight) const {
    const c10::IntArrayRef sizes = weight->sizes(), strides = weight->strides();
    if (sizes.size() != rank_) return false;
    switch (rank_) {
      case 0:
        return true;
      case 1:
        return HasGeometry<1>(sizes.data(), strides.data());
      case 2:
        return HasGeometry<2>(sizes.data(), strides.data());
      case 3:
        return HasGeometry<3>(sizes.data(), strides.data());
      case 4:
        return HasGeometry<4>(sizes.data(), strides.data());
      case 5:
        return HasGeometry<5>(sizes.data(), strides.data());
      default:
        return sizes == many_sizes_ && strides == many_strides_;
    }
  }

  const c10::TensorImpl* impl_;
  const c10::StorageImpl* storage_;
  const void* data_;
  int64_t offset_;
  uint32_t version_;
  caffe2::TypeMeta dtype_;
  uint16_t rank_;
  int64_t few_[2 * kInlineRank];  // sizes, then strides
  std::vector<int64_t> many_sizes_, many_strides_;
};

// Keeps the addresses of a weight from being used again, and its memory not.
struct WeakWeight {
  c10::weak_intrusive_ptr<c10::TensorImpl> tensor;
  c10::weak_intrusive_ptr<c10::StorageImpl> storage;

  explicit WeakWeight(c10::TensorImpl* weight);
  bool Died() const { return tensor.expired() || storage.expired(); }
};

}  // namespace torch_tvm::runtime
