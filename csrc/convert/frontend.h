// to_relay without Python: a TorchScript graph and the module that it reads its weights from, to
// one Relay function.
#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/api.h"

namespace torch_tvm::convert {

struct Export {
  struct Problem {
    std::string op;
    std::string reason;
    std::string source;
  };
  // The function, to be claimed once with the global function "torch_tvm.convert.take"; 0 if there
  // are problems.
  int64_t function = 0;
  std::vector<Problem> problems;
};

// `graph` is read, not changed. `self` is the module of the graph's first input, None if there is
// none; `inputs` are the values of the others.
TORCH_TVM_API Export ToRelay(const std::shared_ptr<torch::jit::Graph>& graph,
                             const c10::IValue& self, const std::vector<c10::IValue>& inputs);

}  // namespace torch_tvm::convert
