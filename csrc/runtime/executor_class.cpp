// The executor as the TorchScript class torch.classes.torch_tvm.Executor, through which
// torch_tvm/runtime.py runs plans: it hands over torch's own tensors, so that weights keep their
// identity.
#include <torch/custom_class.h>
#include <tvm/ffi/reflection/registry.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/executor.h"

namespace torch_tvm::runtime {
namespace {

std::vector<TensorSpec> SpecsOf(const std::vector<at::Tensor>& examples) {
  std::vector<TensorSpec> specs;
  for (const at::Tensor& example : examples) {
    specs.push_back({example.scalar_type(), example.sizes().vec(), example.strides().vec()});
  }
  return specs;
}

std::vector<c10::TensorImpl*> Impls(const std::vector<at::Tensor>& tensors) {
  std::vector<c10::TensorImpl*> impls;
  for (const at::Tensor& tensor : tensors) impls.push_back(tensor.unsafeGetTensorImpl());
  return impls;
}

// The tvm-ffi object behind a Python object, by the address that its __chandle__() gives.
Plan PlanOf(int64_t handle) {
  auto* object = reinterpret_cast<TVMFFIObject*>(handle);
  TORCH_CHECK_VALUE(object != nullptr, "expected the handle of a torch_tvm.runtime.Plan, got 0");
  TVMFFIAny any{};
  any.type_index = object->type_index;
  any.v_obj = object;
  return ffi::AnyView::CopyFromTVMFFIAny(any).cast<Plan>();
}

class ExecutorClass : public torch::CustomClassHolder {
 public:
  using Tensors = std::vector<at::Tensor>;

  ExecutorClass(int64_t plan, const Tensors& inputs, const Tensors& weights, const Tensors& outputs)
      : executor_(PlanOf(plan), SpecsOf(inputs), SpecsOf(weights), SpecsOf(outputs)) {}

  Tensors Run(const Tensors& inputs, const Tensors& weights, bool timed) {
    const auto binding = executor_.Bind(Impls(weights));
    TORCH_CHECK_VALUE(binding != nullptr, "plan ", std::string(executor_.plan().name),
                      " was compiled for weights of other sizes or dtypes");
    return executor_.Run(Impls(inputs), *binding, timed);
  }

 private:
  Executor executor_;
};

TORCH_LIBRARY_FRAGMENT(torch_tvm, library) {
  using Self = c10::intrusive_ptr<ExecutorClass>;
  library.class_<ExecutorClass>("Executor")
      .def(torch::init<int64_t, std::vector<at::Tensor>, std::vector<at::Tensor>,
                       std::vector<at::Tensor>>())
      .def("run", [](const Self& self, const std::vector<at::Tensor>& inputs,
                     const std::vector<at::Tensor>& weights,
                     bool timed) { return self->Run(inputs, weights, timed); });
}

TVM_FFI_STATIC_INIT_BLOCK() {
  tvm::ffi::reflection::GlobalDef()
      .def("torch_tvm.runtime.arena_bytes", [] { return ArenaPool::Get().idle_bytes(); })
      .def("torch_tvm.runtime.release_memory", [] { ReleaseMemory(); });
}

}  // namespace
}  // namespace torch_tvm::runtime
