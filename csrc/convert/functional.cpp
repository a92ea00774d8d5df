#include "convert/functional.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/remove_mutation.h>

#include <algorithm>
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

// Whether a value is memory of its own as far as the node that makes it goes.
bool IsFresh(const Value* value) {
  const c10::FunctionSchema* schema = value->node()->maybeSchema();
  return schema != nullptr && !schema->is_mutable() && value->offset() < schema->returns().size() &&
         schema->returns()[value->offset()].alias_info() == nullptr;
}

bool IsPrivate(const Value* value) { return value->uses().size() == 1 && IsFresh(value); }

// Whether the use reads the value before `writer` writes to it, and keeps no view of it.
bool ReadsBefore(const torch::jit::Use& use, const Node* writer) {
  const c10::FunctionSchema* schema = use.user->maybeSchema();
  return schema != nullptr && use.offset < schema->arguments().size() &&
         schema->arguments()[use.offset].alias_info() == nullptr &&
         use.user->owningBlock() == writer->owningBlock() && use.user->isBefore(writer);
}

// Whether nobody can see that `writer` writes to the value: it is fresh, and what else uses it has
// read it before.
bool OnlyWrittenBy(const Value* value, const Node* writer) {
  return IsFresh(value) && value->node()->owningBlock() == writer->owningBlock() &&
         std::all_of(value->uses().begin(), value->uses().end(), [&](const torch::jit::Use& use) {
           return (use.user == writer && use.offset == 0) || ReadsBefore(use, writer);
         });
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

// Operators whose result has the dtype and the sizes of their first argument, or that raise.
bool KeepsDtypeAndSizes(const Node* node) {
  static const std::unordered_set<std::string_view> names = {
      "aten::relu",        "aten::relu6",       "aten::hardtanh",   "aten::hardswish",
      "aten::hardsigmoid", "aten::silu",        "aten::mish",       "aten::elu",
      "aten::selu",        "aten::celu",        "aten::leaky_relu", "aten::gelu",
      "aten::threshold",   "aten::neg",         "aten::ceil",       "aten::floor",
      "aten::round",       "aten::trunc",       "aten::frac",       "aten::sign",
      "aten::bitwise_not", "aten::zeros_like",  "aten::full_like",  "aten::normal",
      "aten::index_put",   "aten::index_fill",  "aten::index_copy", "aten::index_add",
      "aten::scatter",     "aten::scatter_add", "aten::dropout",    "aten::feature_dropout",
  };
  return names.count(node->kind().toQualString()) != 0;
}

// x.resize_(...) and views in place (x.unsqueeze_(0)) give their argument other sizes.
bool ChangesSizes(const Node* pure) {
  static const std::unordered_set<std::string_view> names = {"aten::resize", "aten::resize_as",
                                                             "aten::set"};
  return names.count(pure->kind().toQualString()) != 0 ||
         pure->schema().returns().at(0).alias_info() != nullptr;
}

// x.add_(y) has x's dtype and sizes, or raises; x.add(y) may have others. The result of a
// functional form is brought back to what the write would have left.
void KeepWritten(Node* pure) {
  if (pure->outputs().size() != 1 || pure->maybeSchema() == nullptr || KeepsDtypeAndSizes(pure) ||
      ChangesSizes(pure)) {
    return;
  }
  Node* written = pure->owningGraph()->create(c10::Symbol::fromQualString("torch_tvm::written"),
                                              {pure->input(0), pure->output()}, 1);
  written->insertAfter(pure);
  written->copyMetadata(pure);
  pure->output()->replaceAllUsesAfterNodeWith(written, written->output());
}

const c10::Symbol& KnownAttribute() {
  static const c10::Symbol symbol = c10::Symbol::attr("tvm_known");
  return symbol;
}

template <typename Visit>
void ForEachNode(Block* block, const Visit& visit) {
  for (auto it = block->nodes().begin(); it != block->nodes().end();) {
    Node* node = *it;
    ++it;
    for (Block* inner : node->blocks()) ForEachNode(inner, visit);
    visit(node);
  }
}

// PyTorch's pass; what it puts in the place of writes is found by what was not there before.
void RemoveVisibleWrites(const std::shared_ptr<torch::jit::Graph>& graph) {
  ForEachNode(graph->block(), [](Node* node) { node->i_(KnownAttribute(), 1); });
  torch::jit::RemoveTensorMutation(graph);
  ForEachNode(graph->block(), [](Node* node) {
    if (node->hasAttribute(KnownAttribute())) {
      node->removeAttribute(KnownAttribute());
    } else if (node->kind().is_aten()) {
      KeepWritten(node);
    }
  });
}

// RemoveTensorMutation does not follow tensors through lists, knows no operator of several results,
// and takes what stands in a list of optional tensors (indices) for anything: without this, the
// gates of traced recurrent cells (ingate.sigmoid_()), weights of experts (topk(...)[0].div_())
// and inverse permutations (empty_like(p).index_put_()) would stay with PyTorch.
void MakeHiddenWritesFunctional(Block* block) {
  ForEachNode(block, [](Node* node) {
    const std::string name = node->kind().toQualString();
    const c10::FunctionSchema* schema = node->maybeSchema();
    if (schema == nullptr || !schema->is_mutable() || !name.ends_with('_') ||
        node->outputs().size() != 1 ||
        !(IsPrivatePart(node->input(0)) || OnlyWrittenBy(node->input(0), node))) {
      return;
    }
    Node* pure = node->owningGraph()->create(
        c10::Symbol::fromQualString(name.substr(0, name.size() - 1)), node->inputs(), 1);
    pure->insertBefore(node);
    pure->copyMetadata(node);
    pure->output()->copyMetadata(node->output());
    const c10::FunctionSchema* found = pure->maybeSchema();
    if (found == nullptr || found->is_mutable() || ChangesSizes(pure)) {
      pure->destroy();
      return;
    }
    node->output()->replaceAllUsesWith(pure->output());
    node->destroy();
    KeepWritten(pure);
  });
}

}  // namespace

void MakeFunctional(const std::shared_ptr<torch::jit::Graph>& graph) {
  DropEvaluatedDropout(graph->block());
  torch::jit::RemoveListMutation(graph);
  MakeHiddenWritesFunctional(graph->block());
  RemoveVisibleWrites(graph);
}

}  // namespace torch_tvm::convert
