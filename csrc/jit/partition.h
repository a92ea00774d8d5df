// Re-partition of a group around the operators that were refused for some inputs: the pieces become
// groups of their own inside the group's subgraph, and the interpreter runs what is in between.
#pragma once

#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/runtime/interpreter.h>

#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>
#include <vector>

#include "convert/lower.h"

namespace torch_tvm::jit {

// The partitions of one group, by what was refused: signatures that are refused the same operators
// share the pieces and what they compiled.
class Partitions {
 public:
  // Null if nothing would be left to compile.
  std::shared_ptr<const torch::jit::Code> Get(const std::shared_ptr<torch::jit::Graph>& subgraph,
                                              const std::vector<convert::InputKind>& kinds,
                                              const std::vector<convert::Refusal>& refusals);
  void Clear();

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<const torch::jit::Code>> by_refused_;
};

}  // namespace torch_tvm::jit
