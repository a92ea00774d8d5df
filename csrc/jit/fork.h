// Forked children have no worker threads, and a kernel that waits for them would hang: they run the
// interpreter.
#pragma once

namespace torch_tvm::jit {

// Whether this process was forked from one that had loaded the library.
bool InForkedChild();

}  // namespace torch_tvm::jit
