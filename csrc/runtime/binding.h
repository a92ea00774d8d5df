// The weights that one call brings, and what was packed from them.
#pragma once

#include <c10/core/TensorImpl.h>
#include <c10/util/ArrayRef.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "runtime/arena.h"
#include "runtime/program.h"
#include "runtime/strides.h"

namespace torch_tvm::runtime {

// Tensors of a caller, borrowed for the time of a call: taken off the interpreter's stack, 100
// weights cost no reference counts.
using BorrowedTensors = c10::ArrayRef<c10::TensorImpl*>;

// What tells a weight from another, and from itself after a change. In-place writes raise the
// version;
// `.data =` changes storage or geometry and leaves the version; the weak references keep both
// addresses from being used again. An inference tensor has no version: it counts as unchanged.
class WeightIdentity {
 public:
  explicit WeightIdentity(c10::TensorImpl* weight);

  bool Matches(const c10::TensorImpl* weight) const;
  bool IsTensor(const c10::TensorImpl* weight) const { return weight == impl_; }
  bool Died() const { return weak_impl_.expired() || weak_storage_.expired(); }

 private:
  const c10::TensorImpl* impl_;
  const c10::StorageImpl* storage_;
  const void* data_;
  int64_t offset_;
  uint32_t version_;
  caffe2::TypeMeta dtype_;
  c10::SmallVector<int64_t, 8> geometry_;  // sizes, then strides
  c10::weak_intrusive_ptr<c10::TensorImpl> weak_impl_;
  c10::weak_intrusive_ptr<c10::StorageImpl> weak_storage_;
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

 private:
  std::vector<char*> Addresses(BorrowedTensors weights);

  std::shared_ptr<const Program> program_;
  std::vector<WeightIdentity> identities_;
  std::vector<at::Tensor> copies_;
  Block packed_;
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

// Forgets every binding in the process whose weights died. Bind does so now and then; stats() asks
// for it.
void SweepBindings();

}  // namespace torch_tvm::runtime
