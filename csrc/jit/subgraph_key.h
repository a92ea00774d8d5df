// Whether two groups compute the same: a text that is equal for equal subgraphs.
#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <optional>
#include <string>
#include <vector>

#include "convert/lower.h"

namespace torch_tvm::jit {

// Names of values do not count; constants do, tensors among them by identity, and source positions,
// which appear in messages. nullopt for a subgraph that holds something that cannot be compared.
std::optional<std::string> SubgraphKey(torch::jit::Graph& subgraph,
                                       const std::vector<convert::InputKind>& kinds);

}  // namespace torch_tvm::jit
