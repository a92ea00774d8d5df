// The weights that one call brings, and what was packed from them.
#pragma once

#include <c10/core/TensorImpl.h>
#include <c10/util/ArrayRef.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/api.h"
#include "runtime/arena.h"
#include "runtime/program.h"
#include "runtime/strides.h"

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

// Immutable; any number of calls use one at once.
class Binding {
 public:
  // Runs the packing steps. Weights that are not contiguous or not aligned are copied.
  Binding(std::shared_ptr<const Program> program, BorrowedTensors weights);
  ~Binding();
  Binding(const Binding&) = delete;
  Binding& operator=(const Binding&) = delete;

  bool Matches(BorrowedTensors weights) const;
  // Made for these tensors, whatever is in them now.
  bool IsFor(BorrowedTensors weights) const;
  // A source is gone, so that no call can match again.
  bool Died() const;

  // The program's tensors with the addresses of weights and packed buffers.
  const std::vector<DLTensor>& tensors() const { return tensors_; }
  // Those addresses for another program with the same weights and packing steps: see
  // Program::binding_sources.
  const Program* program() const { return program_.get(); }
  const std::vector<char*>& addresses() const { return addresses_; }

 private:
  std::vector<char*> Addresses(BorrowedTensors weights);

  std::shared_ptr<const Program> program_;
  std::vector<WeightIdentity> identities_;
  std::vector<WeakWeight> weak_;
  std::vector<at::Tensor> copies_;
  Block packed_;
  std::vector<char*> addresses_;
  std::vector<DLTensor> tensors_;
  int64_t bytes_ = 0;
};

// The bindings of one plan: one for each set of weights alive that calls it (deep copies and
// instances of one scripted class share their code, hence plans).
class BindingCache {
 public:
  BindingCache(std::shared_ptr<const Program> program, std::vector<TensorSpec> weights);
  ~BindingCache();
  BindingCache(const BindingCache&) = delete;
  BindingCache& operator=(const BindingCache&) = delete;

  // nullptr: the plan was compiled for weights of other sizes or dtypes.
  std::shared_ptr<const Binding> Bind(BorrowedTensors weights);

  // Forgets bindings whose weights died.
  void Sweep();

 private:
  using List = std::vector<std::shared_ptr<const Binding>>;

  static constexpr size_t kMaxBindings = 64;

  std::shared_ptr<const List> Snapshot() const;
  bool Fits(BorrowedTensors weights) const;
  std::shared_ptr<const Binding> Pack(BorrowedTensors weights);
  void Insert(std::shared_ptr<const Binding> binding, BorrowedTensors weights);

  const std::shared_ptr<const Program> program_;
  const std::vector<TensorSpec> weights_;
  mutable std::mutex mutex_;  // guards list_; held for nanoseconds
  std::shared_ptr<const List> list_;
  std::mutex packing_;  // one thread packs, the others wait for what it makes
};

// Forgets every binding in the process whose weights died. Bind does so now and then; stats() asks.
TORCH_TVM_API void SweepBindings();

}  // namespace torch_tvm::runtime
