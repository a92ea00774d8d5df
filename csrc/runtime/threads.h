// TVM's parallel loops on torch's threads: one pool, torch.set_num_threads obeyed, no worker of
// TVM's own.
#pragma once

namespace torch_tvm::runtime {

// Puts torch's OpenMP pool in the place of TVM's for every kernel that is loaded from now on. Runs
// when the core is loaded; libtvm must have been loaded before.
void UseTorchThreads();

}  // namespace torch_tvm::runtime
