#include "convert/functional.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/remove_mutation.h>

#include <string>
#include <string_view>
#include <unordered_set>

namespace torch_tvm::convert {
namespace {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

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

// Whether a node's result is memory of its own, which nothing else reads but the one user.
bool IsPrivate(const Value* value) {
  const c10::FunctionSchema* schema = value->node()->maybeSchema();
  if (schema == nullptr || value->uses().size() != 1 || schema->is_mutable()) return false;
  return value->offset() < schema->returns().size() &&
         schema->returns()[value->offset()].alias_info() == nullptr;
}

// Whether a value is a part that aten::unsafe_chunk cut off a private tensor, and is used once.
bool IsPrivatePart(const Value* value) {
  static const std::unordered_set<std::string_view> splits = {
      "aten::unsafe_chunk", "aten::unsafe_split", "aten::unsafe_split_with_sizes"};
  if (value->uses().size() != 1 || value->node()->kind() != c10::prim::ListUnpack) return false;
  const Value* list = value->node()->input();
  const Node* split = list->node();
  return list->uses().size() == 1 && splits.count(split->kind().toQualString()) != 0 &&
         IsPrivate(split->input(0));
}

// RemoveTensorMutation does not follow tensors through lists: without this, the gates of traced
// recurrent cells (ingate.sigmoid_()) would stay with PyTorch. Says whether there were any.
bool MakePartsFunctional(Block* block) {
  bool changed = false;
  for (auto it = block->nodes().begin(); it != block->nodes().end(); ++it) {
    for (Block* inner : it->blocks()) changed |= MakePartsFunctional(inner);
    const std::string name = it->kind().toQualString();
    const c10::FunctionSchema* schema = it->maybeSchema();
    if (schema == nullptr || !schema->is_mutable() || !name.ends_with('_') ||
        it->outputs().size() != 1 || !IsPrivatePart(it->input(0))) {
      continue;
    }
    Node* pure = block->owningGraph()->create(
        c10::Symbol::fromQualString(name.substr(0, name.size() - 1)), it->inputs(), 1);
    pure->insertBefore(*it);
    pure->copyMetadata(*it);
    pure->output()->copyMetadata(it->output());
    const c10::FunctionSchema* found = pure->maybeSchema();
    if (found == nullptr || found->is_mutable()) {
      pure->destroy();
      continue;
    }
    it->output()->replaceAllUsesWith(pure->output());
    it.destroyCurrent();
    changed = true;
  }
  return changed;
}

}  // namespace

void MakeFunctional(const std::shared_ptr<torch::jit::Graph>& graph) {
  DropEvaluatedDropout(graph->block());
  torch::jit::RemoveListMutation(graph);
  torch::jit::RemoveTensorMutation(graph);
  if (MakePartsFunctional(graph->block())) torch::jit::RemoveTensorMutation(graph);
}

}  // namespace torch_tvm::convert
