// Runs a plan on torch tensors.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/ArrayRef.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "core/api.h"
#include "runtime/binding.h"
#include "runtime/plan.h"
#include "runtime/program.h"
#include "runtime/strides.h"

namespace torch_tvm::runtime {

// A plan with the torch side of its signature. Immutable but for its bindings: any number of
// threads may call it at once, and no lock is held while kernels run.
class Executor {
 public:
  // `plan` was compiled for inputs and outputs in the physical orders of these specs
  // (PhysicalOrder), and for contiguous weights of these sizes; throws c10::ValueError where a
  // buffer of the plan has another size.
  Executor(Plan plan, std::vector<TensorSpec> inputs, std::vector<TensorSpec> weights,
           std::vector<TensorSpec> outputs);
  // The same with the bindings of an executor whose plan has the same weights and packing steps.
  Executor(Plan plan, std::vector<TensorSpec> inputs, std::vector<TensorSpec> weights,
           std::vector<TensorSpec> outputs, std::shared_ptr<BindingCache> bindings);

  // The packed form of these weights, made at the first call with them and whenever they changed.
  // nullptr: they have other sizes or dtypes than the plan was compiled for.
  std::shared_ptr<const Binding> Bind(BorrowedTensors weights) const {
    return bindings_->Bind(weights);
  }
  const std::shared_ptr<BindingCache>& bindings() const { return bindings_; }

  // Inputs have the sizes and dtypes of the specs. Those whose strides agree too are read in place,
  // others are copied. The weights of `binding` must be alive. Returns tensors with the strides of
  // the specs. `timed`: torch.profiler and the statistics show every kernel.
  std::vector<at::Tensor> Run(BorrowedTensors inputs, const Binding& binding, bool timed) const;

  const PlanObj& plan() const { return program_->plan(); }

 private:
  // How a kernel's view of a tensor relates to torch's.
  struct Port {
    TensorSpec spec;
    std::vector<int64_t> order;
    std::vector<int64_t> dense;  // strides that the kernel walks
    bool in_place;               // eager's strides are those
    bool contiguous;             // and torch's default
  };

  static Port MakePort(TensorSpec spec);
  void CheckBuffers() const;
  char* InputAddress(size_t i, c10::TensorImpl* input, std::vector<at::Tensor>* copies) const;
  at::Tensor MakeOutput(const Port& port) const;
  at::Tensor PlaceOutput(const Port& port, const at::Tensor& dense) const;

  std::shared_ptr<const Program> program_;
  std::vector<Port> inputs_, outputs_;
  std::vector<TensorSpec> weights_;
  const std::shared_ptr<BindingCache> bindings_;
};

// Gives back what no call needs: idle arenas, and what was packed from weights that died.
TORCH_TVM_API void ReleaseMemory();

}  // namespace torch_tvm::runtime
