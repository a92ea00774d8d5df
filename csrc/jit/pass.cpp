#include "jit/pass.h"

#include <torch/csrc/jit/passes/common_subexpression_elimination.h>
#include <torch/csrc/jit/passes/constant_pooling.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/pass_manager.h>
#include <torch/csrc/jit/passes/shape_analysis.h>

#include <functional>
#include <string>

#include "convert/functional.h"
#include "convert/registry.h"
#include "core/log.h"
#include "core/options.h"
#include "jit/merge.h"

namespace torch_tvm::jit {
namespace {

using convert::InputKind;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

const c10::Symbol& KindsAttribute() {
  static const c10::Symbol symbol = c10::Symbol::attr("input_kinds");
  return symbol;
}

// A parameter or a buffer of a module that the graph was given: worth packing once. Other
// attributes are assigned anew by some modules at every call.
bool IsWeight(const Value* value) {
  const Node* node = value->node();
  if (node->kind() != c10::prim::GetAttr) return false;
  const auto owner = node->input()->type()->cast<c10::ClassType>();
  if (!owner || !owner->is_module()) return false;
  const auto slot = owner->findAttributeSlot(node->s(c10::attr::name));
  return slot && (owner->is_parameter(*slot) || owner->is_buffer(*slot));
}

void FinishGroup(Node* group, const std::function<InputKind(const Value*)>& kind_of) {
  const auto subgraph = group->g(c10::attr::Subgraph);
  // Profiled types describe one past call.
  torch::jit::EraseShapeInformation(subgraph);
  torch::jit::ConstantPooling(subgraph);
  torch::jit::EliminateDeadCode(subgraph);
  std::vector<int64_t> kinds;
  for (const Value* input : group->inputs()) {
    kinds.push_back(static_cast<int64_t>(kind_of(input)));
  }
  group->is_(KindsAttribute(), std::move(kinds));
}

void LogGraph(const char* stage, const Graph& graph) {
  if (GetOptions().debug) {
    Log(LogLevel::kDebug, std::string("graph ") + stage + ":\n" + graph.toString(false));
  }
}

void Fuse(const std::shared_ptr<Graph>& graph, const Converts& converts,
          const std::function<InputKind(const Value*)>& kind_of) {
  Merger(graph, converts, GetOptions().min_group_size).Run();
  torch::jit::EliminateCommonSubexpression(graph);
  torch::jit::EliminateDeadCode(graph);
  for (Node* group : FindGroups(graph->block())) FinishGroup(group, kind_of);
}

const auto registered = torch::jit::registerPostPass([](std::shared_ptr<Graph>& graph) {
  if (IsEnabled()) FuseGroups(graph);
});

}  // namespace

void FuseGroups(const std::shared_ptr<Graph>& graph) {
  LogGraph("before fusion", *graph);
  convert::MakeFunctional(graph);
  torch::jit::EliminateDeadCode(graph);
  Fuse(graph, &convert::IsConvertible, [](const Value* value) {
    return IsWeight(value) ? InputKind::kWeight : InputKind::kRuntime;
  });
  LogGraph("after fusion", *graph);
}

void FuseSubgraph(const std::shared_ptr<Graph>& subgraph, const Converts& converts,
                  const std::vector<InputKind>& kinds) {
  Fuse(subgraph, converts, [&](const Value* value) {
    const bool is_input = value->node() == subgraph->param_node();
    return is_input ? kinds.at(value->offset()) : InputKind::kRuntime;
  });
}

std::vector<InputKind> InputKinds(const Node* group) {
  std::vector<InputKind> kinds(group->inputs().size(), InputKind::kRuntime);
  if (!group->hasAttribute(KindsAttribute())) return kinds;
  const auto& stored = group->is(KindsAttribute());
  for (size_t i = 0; i < kinds.size() && i < stored.size(); ++i) {
    kinds[i] = static_cast<InputKind>(stored[i]);
  }
  return kinds;
}

}  // namespace torch_tvm::jit
