#include "jit/trim.h"

#include <torch/csrc/jit/ir/alias_analysis.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include <algorithm>
#include <memory>

#include "convert/registry.h"
#include "jit/roles.h"

namespace torch_tvm::jit {
namespace {

using torch::jit::AliasDb;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

class OutputTrimmer {
 public:
  explicit OutputTrimmer(Node* group)
      : group_(group), subgraph_(group->g(c10::attr::Subgraph)), insert_after_(group) {}

  void Run() {
    DropUnused();
    while (Value* output = FindForbidden()) {
      Expel(output->node(), output);
      DropUnused();
      torch::jit::EliminateDeadCode(subgraph_);
    }
  }

 private:
  // The last output that may not leave, in the order of the nodes: bases stay, views of them go.
  Value* FindForbidden() const {
    const Roles roles(*subgraph_, [](const Node*) { return true; });
    for (Value* output : subgraph_->outputs()) {
      const bool leaves = CanLeaveGroup(output->type()) && !roles.IsShapeTensor(output);
      if (!leaves || output->node() == subgraph_->param_node()) return output;
    }
    const AliasDb aliases(subgraph_);
    Value* last = nullptr;
    for (Value* output : subgraph_->outputs()) {
      const bool later = last == nullptr || output->node()->isAfter(last->node());
      if (later && Aliases(aliases, output)) last = output;
    }
    return last;
  }

  bool Aliases(const AliasDb& aliases, Value* output) const {
    if (!output->type()->isSubtypeOf(*c10::TensorType::get())) return false;
    if (convert::MayTurnOutFresh(output)) return false;  // lowering refuses it if it does not
    if (aliases.mayContainAlias(output, subgraph_->inputs())) return true;
    for (Value* other : subgraph_->outputs()) {
      const bool follows =
          convert::MayTurnOutFresh(other) && other->node()->isAfter(output->node());
      if (other != output && !follows && aliases.mayContainAlias(output, other)) return true;
    }
    return false;
  }

  // Makes what `node` computes outside, and has it used there instead of `output`.
  void Expel(Node* node, const Value* output) {
    // What was expelled before stands further down: it may need this one, never the reverse.
    insert_after_ = group_;
    const size_t position = PositionOf(output);
    Value* outside = node == subgraph_->param_node()
                         ? group_->inputs()[output->offset()]
                         : CloneOutside(node)->outputs()[output->offset()];
    group_->outputs()[position]->replaceAllUsesWith(outside);
  }

  size_t PositionOf(const Value* output) const {
    const auto outputs = subgraph_->outputs();
    return std::find(outputs.begin(), outputs.end(), output) - outputs.begin();
  }

  // Clones stand behind the group in the order of what they need.
  Node* CloneOutside(Node* node) {
    Node* clone = group_->owningGraph()->createClone(
        node, [this](Value* inner) { return OutsideValue(inner); }, /*copy_blocks=*/false);
    clone->insertAfter(insert_after_);
    insert_after_ = clone;
    return clone;
  }

  Value* OutsideValue(Value* inner) {
    Node* node = inner->node();
    if (node == subgraph_->param_node()) return group_->inputs()[inner->offset()];
    const bool is_number = node->kind() == c10::prim::Constant || !CanLeaveGroup(inner->type());
    if (is_number) return CloneOutside(node)->outputs()[inner->offset()];
    const size_t position = PositionOf(inner);
    if (position < subgraph_->outputs().size()) return group_->outputs()[position];
    subgraph_->registerOutput(inner);
    return group_->addOutput()->setType(inner->type());
  }

  void DropUnused() {
    for (size_t i = group_->outputs().size(); i-- > 0;) {
      if (group_->outputs()[i]->hasUses()) continue;
      group_->eraseOutput(i);
      subgraph_->eraseOutput(i);
    }
  }

  Node* group_;
  std::shared_ptr<Graph> subgraph_;
  Node* insert_after_;
};

// Inputs that only expelled nodes needed.
void DropUnusedInputs(Node* group) {
  const auto subgraph = group->g(c10::attr::Subgraph);
  for (size_t i = subgraph->inputs().size(); i-- > 0;) {
    if (subgraph->inputs()[i]->hasUses()) continue;
    subgraph->eraseInput(i);
    group->removeInput(i);
  }
}

}  // namespace

void TrimOutputs(Node* group) {
  OutputTrimmer(group).Run();
  torch::jit::EliminateDeadCode(group->g(c10::attr::Subgraph));
  DropUnusedInputs(group);
}

}  // namespace torch_tvm::jit
