#include "jit/partition.h"

#include <string>

#include "convert/registry.h"
#include "jit/merge.h"
#include "jit/pass.h"

namespace torch_tvm::jit {
namespace {

using torch::jit::Code;
using torch::jit::Graph;
using torch::jit::Node;

// Marks refused nodes in a copy of the subgraph: copies keep attributes, not addresses.
const c10::Symbol& RefusedAttribute() {
  static const c10::Symbol symbol = c10::Symbol::attr("tvm_refused");
  return symbol;
}

std::shared_ptr<Graph> CopyMarked(Graph& subgraph, const std::set<size_t>& refused) {
  auto copy = subgraph.copy();
  size_t position = 0;
  for (Node* node : copy->nodes()) {
    if (refused.count(position++) > 0) node->i_(RefusedAttribute(), 1);
  }
  return copy;
}

std::set<size_t> Positions(const Graph& subgraph, const std::vector<convert::Refusal>& refusals) {
  std::set<size_t> positions;
  size_t position = 0;
  for (const Node* node : subgraph.nodes()) {
    for (const auto& refusal : refusals) {
      if (refusal.node == node) positions.insert(position);
    }
    ++position;
  }
  return positions;
}

}  // namespace

std::shared_ptr<const Code> Partitions::Get(const std::shared_ptr<Graph>& subgraph,
                                            const std::vector<convert::InputKind>& kinds,
                                            const std::vector<convert::Refusal>& refusals) {
  const std::set<size_t> refused = Positions(*subgraph, refusals);
  if (refused.empty()) return nullptr;  // nothing to go around: a smaller subgraph is not in sight
  std::string key;
  for (const size_t position : refused) key += std::to_string(position) + " ";
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = by_refused_.find(key);
  if (found != by_refused_.end()) return found->second;

  const auto marked = CopyMarked(*subgraph, refused);
  FuseSubgraph(
      marked,
      [](const Node* node) {
        return !node->hasAttribute(RefusedAttribute()) && convert::IsConvertible(node);
      },
      kinds);
  std::shared_ptr<const Code> code;
  if (!FindGroups(marked->block()).empty()) {
    code = std::make_shared<const Code>(marked, "tvm_partition");
  }
  return by_refused_.emplace(key, std::move(code)).first->second;
}

void Partitions::Clear() {
  std::lock_guard<std::mutex> lock(mutex_);
  by_refused_.clear();
}

}  // namespace torch_tvm::jit
