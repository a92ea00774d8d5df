// Per-call test whether compiled code may read the memory of a call's tensors. Anything unusual
// goes to the interpreter, which dispatches it as PyTorch does.
#pragma once

#include <ATen/core/Tensor.h>

namespace torch_tvm::jit {

// Why no group may run compiled in the calling thread's state (vmap, autocast, a dispatch mode,
// ...); null if it may. The texts live for ever.
const char* ThreadRefusal();

// Whether the thread records operators (torch.jit.trace): then the interpreter is not a fallback
// but what the tracer needs.
bool IsTracing();

// Why the tensor cannot be handed to compiled code; null if it can.
const char* TensorRefusal(const at::Tensor& tensor);

}  // namespace torch_tvm::jit
