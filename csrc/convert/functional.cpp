#include "convert/functional.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/remove_mutation.h>

#include <string_view>
#include <unordered_set>

namespace torch_tvm::convert {
namespace {

using torch::jit::Block;
using torch::jit::Node;

// dropout_(x, p, False) gives x back, untouched; PyTorch checks p all the same.
bool IsEvaluatedDropout(const Node* node) {
  static const std::unordered_set<std::string_view> names = {
      "aten::dropout_", "aten::feature_dropout_", "aten::alpha_dropout_",
      "aten::feature_alpha_dropout_"};
  if (names.count(node->kind().toQualString()) == 0) return false;
  const auto p = torch::jit::toIValue(node->input(1));
  const auto train = torch::jit::toIValue(node->input(2));
  return p && p->isDouble() && p->toDouble() >= 0 && p->toDouble() <= 1 && train &&
         train->isBool() && !train->toBool();
}

// RemoveTensorMutation leaves writes to views alone: without this, x.flatten(1) stays with PyTorch
// wherever nn.Dropout(inplace=True) follows.
void DropEvaluatedDropout(Block* block) {
  for (auto it = block->nodes().begin(); it != block->nodes().end(); ++it) {
    for (Block* inner : it->blocks()) DropEvaluatedDropout(inner);
    if (!IsEvaluatedDropout(*it)) continue;
    it->output()->replaceAllUsesWith(it->input(0));
    it.destroyCurrent();
  }
}

}  // namespace

void MakeFunctional(const std::shared_ptr<torch::jit::Graph>& graph) {
  DropEvaluatedDropout(graph->block());
  torch::jit::RemoveListMutation(graph);
  torch::jit::RemoveTensorMutation(graph);
}

}  // namespace torch_tvm::convert
