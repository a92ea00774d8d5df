// The weights that one call brings, and what was packed from them.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/api.h"
#include "runtime/packed_store.h"
#include "runtime/program.h"
#include "runtime/strides.h"
#include "runtime/weight_identity.h"

namespace torch_tvm::runtime {

// Immutable; any number of calls use one at once.
class Binding {
 public:
  // Packs what no other binding has packed of these weights. Weights that are not contiguous or not
  // aligned are copied.
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
  void AddAddresses(BorrowedTensors weights);
  void Pack(const std::vector<size_t>& missing);

  std::shared_ptr<const Program> program_;
  std::vector<WeightIdentity> identities_;
  std::vector<WeakWeight> weak_;
  std::vector<at::Tensor> copies_;
  std::vector<PackedStore::Pointer> parts_;  // of the plan's packed block
  std::vector<char*> addresses_;
  std::vector<DLTensor> tensors_;
  int64_t copied_bytes_ = 0;
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
