#include "jit/eligibility.h"

#include <ATen/ATen.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include <array>
#include <utility>

#include "core/dtype.h"

namespace torch_tvm::jit {
namespace {

using c10::DispatchKey;
using c10::DispatchKeySet;

// Keys that a thread only carries while something watches or transforms operators.
constexpr std::array<std::pair<DispatchKey, const char*>, 8> kThreadKeys = {{
    {DispatchKey::FuncTorchDynamicLayerFrontMode, "inside torch.func (vmap, grad, jvp ...)"},
    {DispatchKey::FuncTorchDynamicLayerBackMode, "inside torch.func (vmap, grad, jvp ...)"},
    {DispatchKey::FuncTorchBatched, "inside torch.func (vmap, grad, jvp ...)"},
    {DispatchKey::Python, "inside a TorchDispatchMode"},
    {DispatchKey::PythonTLSSnapshot, "inside a TorchDispatchMode"},
    {DispatchKey::Functionalize, "inside functionalization"},
    {DispatchKey::Tracer, "inside torch.jit.trace"},
    {DispatchKey::AutocastCPU, "inside torch.autocast"},
}};

DispatchKeySet AllThreadKeys() {
  DispatchKeySet keys;
  for (const auto& [key, reason] : kThreadKeys) keys = keys.add(key);
  return keys.remove(DispatchKey::AutocastCPU);  // that one is looked for among the excluded
}

// All that a plain CPU tensor carries.
constexpr DispatchKeySet kPlainKeys({DispatchKey::CPU, DispatchKey::ADInplaceOrView,
                                     DispatchKey::AutogradCPU, DispatchKey::AutocastCPU});

constexpr DispatchKeySet kQuantisedKeys({DispatchKey::QuantizedCPU, DispatchKey::ADInplaceOrView,
                                         DispatchKey::AutogradCPU, DispatchKey::AutocastCPU});

// In the order in which they are named: a sparse quantised tensor is called sparse.
constexpr std::array<std::pair<DispatchKey, const char*>, 15> kTensorKeys = {{
    {DispatchKey::FuncTorchBatched, "is batched by vmap"},
    {DispatchKey::FuncTorchGradWrapper, "is wrapped by torch.func.grad"},
    {DispatchKey::Functionalize, "is wrapped by functionalization"},
    {DispatchKey::Python, "is of a tensor subclass (or fake)"},
    {DispatchKey::SparseCPU, "is sparse"},
    {DispatchKey::SparseCsrCPU, "is sparse"},
    {DispatchKey::QuantizedCPU, "is quantised"},
    {DispatchKey::NestedTensorCPU, "is nested"},
    {DispatchKey::MkldnnCPU, "has an opaque oneDNN layout"},
    {DispatchKey::Conjugate, "is a lazy conjugate"},
    {DispatchKey::Negative, "is a lazy negative"},
    {DispatchKey::ZeroTensor, "is a zero tensor without memory"},
    {DispatchKey::Meta, "is on device meta, not cpu"},
    {DispatchKey::CUDA, "is on a cuda device, not cpu"},
    {DispatchKey::Lazy, "is lazy"},
}};

const char* KeyRefusal(DispatchKeySet keys) {
  for (const auto& [key, reason] : kTensorKeys) {
    if (keys.has(key)) return reason;
  }
  return "is not a plain CPU tensor";
}

// One scale for all elements, which have 8 bits.
bool IsSimplyQuantised(const at::Tensor& tensor) {
  const auto dtype = tensor.scalar_type();
  return tensor.qscheme() == c10::kPerTensorAffine &&
         (dtype == c10::ScalarType::QUInt8 || dtype == c10::ScalarType::QInt8);
}

}  // namespace

bool IsTracing() { return torch::jit::tracer::isTracing(); }

const char* ThreadRefusal() {
  static const DispatchKeySet watched = AllThreadKeys();
  const auto thread = c10::impl::tls_local_dispatch_key_set();
  const bool autocast = !thread.excluded_.has(DispatchKey::AutocastCPU);
  if (!autocast && (thread.included_ & watched).empty() && !IsTracing()) return nullptr;
  for (const auto& [key, reason] : kThreadKeys) {
    const bool on = key == DispatchKey::AutocastCPU ? autocast : thread.included_.has(key);
    if (on) return reason;
  }
  return "inside torch.jit.trace";
}

const char* TensorRefusal(const at::Tensor& tensor) {
  if (!tensor.defined()) return "is undefined";
  const DispatchKeySet keys = tensor.key_set();
  // Not (keys - plain).empty(): backend bits are not taken away by `-`.
  const bool quantised = keys.has(DispatchKey::QuantizedCPU);
  const DispatchKeySet allowed = quantised ? kQuantisedKeys : kPlainKeys;
  if ((keys | allowed) != allowed) return KeyRefusal(keys);
  if (quantised && !IsSimplyQuantised(tensor)) {
    return "is quantised per channel, or not to 8 bits";
  }
  const auto* impl = tensor.unsafeGetTensorImpl();
  if (impl->is_wrapped_number()) return "is a wrapped Python number";
  if (!ToDLDataType(c10::toUnderlying(tensor.scalar_type())))
    return "has a dtype without kernels (complex, bits)";
  if (impl->autograd_meta() != nullptr && tensor._fw_grad(0).defined()) {
    return "carries a forward-mode gradient";
  }
  return nullptr;
}

}  // namespace torch_tvm::jit
