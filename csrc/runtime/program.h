// A plan made ready to run: every DLTensor prebuilt, so that a call fills in addresses and nothing
// else.
#pragma once

#include <c10/util/ArrayRef.h>
#include <tvm/ffi/tvm_ffi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/arena.h"
#include "runtime/plan.h"

namespace torch_tvm::runtime {

// Where one DLTensor gets its address from: base address number `slot`, plus `offset` bytes.
struct AddressSource {
  int64_t tensor;
  int64_t slot;
  int64_t offset;
};

class Program {
 public:
  explicit Program(Plan plan);

  const PlanObj& plan() const { return *plan_.get(); }

  // One DLTensor per plan buffer; only those of kind constant have an address.
  const std::vector<DLTensor>& tensors() const { return tensors_; }

  // Slots of a binding: the packed parts, then the weights.
  const std::vector<AddressSource>& binding_sources() const { return binding_sources_; }
  // Slots of a call: its arena, then inputs, then outputs. Packing steps know the arena only.
  const std::vector<AddressSource>& call_sources() const { return call_sources_; }

  static void Fill(const std::vector<AddressSource>& sources, c10::ArrayRef<char*> slots,
                   DLTensor* tensors);

  // Calls kernels in order; a kernel that throws becomes a c10::Error with its name. `timed` shows
  // each to the profiler and adds its time to the statistics.
  void RunPackingStep(int64_t number, DLTensor* tensors) const;
  void RunSteps(DLTensor* tensors, bool timed) const;

 private:
  struct Call {
    ffi::Function function;
    std::vector<int64_t> args, scalars;
    std::string name;
  };

  std::vector<Call> Prepare(const ffi::Array<Step>& steps) const;
  void AddTensor(const Buffer& buffer);
  void AlignConstants();
  void AddSource(int64_t tensor, const Buffer& buffer);
  void Invoke(const Call& call, DLTensor* tensors) const;
  void InvokeTimed(const Call& call, DLTensor* tensors) const;

  Plan plan_;
  std::vector<char*> constants_;
  std::vector<Block> aligned_constants_;  // copies of those that the compiler left unaligned
  std::vector<Call> packing_steps_, steps_;
  std::vector<std::vector<int64_t>> extents_;  // shape, then strides, of each tensor
  std::vector<DLTensor> tensors_;
  std::vector<AddressSource> binding_sources_, call_sources_;
};

}  // namespace torch_tvm::runtime
