// Merges the nodes of a graph that convert into groups, without changing what the graph computes,
// writes or aliases.
#pragma once

#include <torch/csrc/jit/ir/alias_analysis.h>
#include <torch/csrc/jit/ir/ir.h>

#include <memory>
#include <vector>

#include "core/api.h"
#include "jit/roles.h"

namespace torch_tvm::jit {

// The kind of a group's node: tvm::CompilationGroup.
TORCH_TVM_API c10::Symbol GroupSymbol();

// Groups in the graph and all its blocks, in execution order.
std::vector<torch::jit::Node*> FindGroups(torch::jit::Block* block);

class Merger {
 public:
  Merger(std::shared_ptr<torch::jit::Graph> graph, const Converts& converts,
         int64_t min_group_size);

  // Makes the groups. What a group may not give out (aliases, lists) and groups that are too small
  // are put back into the graph.
  void Run();

 private:
  void MergeBlock(torch::jit::Block* block);
  // Merges producers of `node` into it until one succeeds; returns the group, or null.
  torch::jit::Node* MergeAProducer(torch::jit::Node* node, torch::jit::Block* block);
  torch::jit::Node* TryMerge(torch::jit::Node* consumer, torch::jit::Node* producer);
  bool MayStart(const torch::jit::Node* node) const;
  bool MayStartWithProducer(const torch::jit::Node* node) const;
  bool MayJoin(const torch::jit::Node* producer, const torch::jit::Node* consumer) const;
  bool CanHaveInputs(const torch::jit::Node* node) const;
  void MakeSingletons(torch::jit::Block* block);
  void Trim(torch::jit::Block* block);
  int64_t CountOperators(const torch::jit::Node* group) const;

  std::shared_ptr<torch::jit::Graph> graph_;
  Converts converts_;
  int64_t min_group_size_;
  Roles roles_;
  std::unique_ptr<torch::jit::AliasDb> aliases_;
};

}  // namespace torch_tvm::jit
