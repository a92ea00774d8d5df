// The fusion pass: first stage of the data's way. Registered as a post pass of TorchScript's
// executor when the library is loaded; does something while torch_tvm is enabled.
#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <memory>
#include <vector>

#include "convert/lower.h"
#include "core/api.h"
#include "jit/roles.h"

namespace torch_tvm::jit {

// Replaces what converts by groups: removes mutation first, merges, annotates each group's inputs.
TORCH_TVM_API void FuseGroups(const std::shared_ptr<torch::jit::Graph>& graph);

// As FuseGroups for a group's own subgraph, in which `converts` decides and `kinds` says what the
// subgraph's inputs are.
void FuseSubgraph(const std::shared_ptr<torch::jit::Graph>& subgraph, const Converts& converts,
                  const std::vector<convert::InputKind>& kinds);

// What the pass found each input of a group's node to be.
std::vector<convert::InputKind> InputKinds(const torch::jit::Node* group);

}  // namespace torch_tvm::jit
