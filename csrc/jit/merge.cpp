#include "jit/merge.h"

#include <torch/csrc/jit/passes/utils/subgraph_utils.h>

#include <algorithm>

#include "convert/registry.h"
#include "jit/trim.h"

namespace torch_tvm::jit {
namespace {

using torch::jit::AliasDb;
using torch::jit::Block;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;
namespace SubgraphUtils = torch::jit::SubgraphUtils;

bool IsGroup(const Node* node) { return node->kind() == GroupSymbol(); }

// `with torch.no_grad()` and the like begin and end at nodes: what stands on one side must stay
// there.
bool ScopeChangesBetween(const Node* first, const Node* last) {
  for (const Node* node = first; node != last; node = node->next()) {
    if (node->kind() == c10::prim::Enter || node->kind() == c10::prim::Exit) return true;
  }
  return false;
}

bool OnlyUsedBy(const Value* value, const Node* consumer) {
  return std::all_of(value->uses().begin(), value->uses().end(),
                     [consumer](const auto& use) { return use.user == consumer; });
}

bool AllCanLeave(const Node* node) {
  return std::all_of(node->outputs().begin(), node->outputs().end(),
                     [](const Value* v) { return CanLeaveGroup(v->type()); });
}

}  // namespace

c10::Symbol GroupSymbol() {
  static const c10::Symbol symbol = c10::Symbol::fromQualString("tvm::CompilationGroup");
  return symbol;
}

std::vector<Node*> FindGroups(Block* block) {
  std::vector<Node*> groups;
  for (Node* node : block->nodes()) {
    if (IsGroup(node)) groups.push_back(node);
    for (Block* inner : node->blocks()) {
      const auto found = FindGroups(inner);
      groups.insert(groups.end(), found.begin(), found.end());
    }
  }
  return groups;
}

Merger::Merger(std::shared_ptr<Graph> graph, const Converts& converts, int64_t min_group_size)
    : graph_(std::move(graph)),
      converts_(converts),
      min_group_size_(min_group_size),
      roles_(*graph_, converts) {}

void Merger::Run() {
  MergeBlock(graph_->block());
  Trim(graph_->block());
}

void Merger::MergeBlock(Block* block) {
  for (Node* node : block->nodes()) {
    for (Block* inner : node->blocks()) MergeBlock(inner);
  }
  bool changed = true;
  while (changed) {
    changed = false;
    aliases_ = std::make_unique<AliasDb>(graph_);
    for (auto it = block->nodes().rbegin(); it != block->nodes().rend();) {
      if (Node* group = MergeAProducer(*it, block)) {
        it = group->reverseIterator();  // look at its new producers
        changed = true;
      } else {
        ++it;
      }
    }
  }
  if (min_group_size_ <= 1) MakeSingletons(block);
}

Node* Merger::MergeAProducer(Node* node, Block* block) {
  if (!IsGroup(node) && !MayStart(node) && !MayStartWithProducer(node)) return nullptr;
  std::vector<Node*> producers;
  for (Value* input : node->inputs()) {
    if (input->node()->owningBlock() == block) producers.push_back(input->node());
  }
  // The latest first: it is the least likely to have something in between.
  std::sort(producers.begin(), producers.end(),
            [](const Node* a, const Node* b) { return a->isAfter(b); });
  producers.erase(std::unique(producers.begin(), producers.end()), producers.end());
  for (Node* producer : producers) {
    if (Node* group = TryMerge(node, producer)) return group;
  }
  return nullptr;
}

Node* Merger::TryMerge(Node* consumer, Node* producer) {
  if (!MayJoin(producer, consumer)) return nullptr;
  if (aliases_->hasWriters(producer) || aliases_->hasWriters(consumer)) return nullptr;
  if (ScopeChangesBetween(producer, consumer)) return nullptr;
  if (!aliases_->moveBeforeTopologicallyValid(producer, consumer)) return nullptr;
  if (!IsGroup(consumer)) {
    consumer =
        SubgraphUtils::createSingletonSubgraphAndUpdateAliasing(consumer, GroupSymbol(), *aliases_);
  }
  SubgraphUtils::mergeNodeIntoSubgraphAndUpdateAliasing(producer, consumer, *aliases_);
  return consumer;
}

bool Merger::MayStart(const Node* node) const {
  return roles_.Of(node) == Role::kOperator && AllCanLeave(node) && CanHaveInputs(node);
}

// The elements of a list that an operator makes stand for its results.
bool Merger::MayStartWithProducer(const Node* node) const {
  return node->kind() == c10::prim::ListUnpack && roles_.Of(node) == Role::kStructure &&
         AllCanLeave(node) && roles_.Of(node->input()->node()) == Role::kOperator &&
         !node->outputs().empty() && convert::MayTurnOutFresh(node->outputs()[0]);
}

// What a signature cannot hold, such as a list of tensors, has to be made in the group; it cannot
// be where an element of the list is written to.
bool Merger::CanHaveInputs(const Node* node) const {
  return std::all_of(node->inputs().begin(), node->inputs().end(), [this](const Value* input) {
    return CanEnterGroup(input->type()) || input->node()->kind() == c10::prim::Constant ||
           !aliases_->hasWriters(input->node());
  });
}

bool Merger::MayJoin(const Node* producer, const Node* consumer) const {
  if (IsGroup(producer)) return true;
  const Role role = roles_.Of(producer);
  if (role == Role::kOutside || !CanHaveInputs(producer)) return false;
  // A list, or a number in a tensor, may only be seen inside.
  return std::all_of(
      producer->outputs().begin(), producer->outputs().end(), [&](const Value* output) {
        const bool leaves = CanLeaveGroup(output->type()) && !roles_.IsShapeTensor(output);
        return leaves || OnlyUsedBy(output, consumer);
      });
}

void Merger::MakeSingletons(Block* block) {
  for (auto it = block->nodes().begin(); it != block->nodes().end();) {
    Node* node = *it;
    ++it;
    if (MayStart(node) && !aliases_->hasWriters(node)) {
      SubgraphUtils::createSingletonSubgraphAndUpdateAliasing(node, GroupSymbol(), *aliases_);
    }
  }
}

void Merger::Trim(Block* block) {
  for (Node* group : FindGroups(block)) {
    TrimOutputs(group);
    if (CountOperators(group) < min_group_size_) SubgraphUtils::unmergeSubgraph(group);
  }
}

int64_t Merger::CountOperators(const Node* group) const {
  const Roles roles(*group->g(c10::attr::Subgraph), converts_);
  int64_t count = 0;
  for (const Node* node : group->g(c10::attr::Subgraph)->nodes()) {
    count += roles.Of(node) == Role::kOperator;
  }
  return count;
}

}  // namespace torch_tvm::jit
