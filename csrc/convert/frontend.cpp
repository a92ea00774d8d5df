#include "convert/frontend.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/constant_propagation.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/passes/peephole.h>
#include <torch/csrc/jit/passes/shape_analysis.h>

#include "convert/functional.h"
#include "convert/lower.h"
#include "convert/packed_weights.h"

namespace torch_tvm::convert {
namespace {

namespace ffi = tvm::ffi;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

// Turns every attribute that the graph reads from the module into a graph input (tensors, weights
// of quantised layers) or a constant.
class AttributeLifter {
 public:
  AttributeLifter(Graph& graph, const c10::IValue& self) : graph_(graph) {
    objects_[graph.inputs()[0]] = {"", self};
  }

  std::vector<c10::IValue> Run() {
    Visit(graph_.block());
    for (auto node = removed_.rbegin(); node != removed_.rend(); ++node) {
      if (!(*node)->hasUses()) (*node)->destroy();
    }
    return std::move(values_);
  }

 private:
  struct Attribute {
    std::string path;
    c10::IValue value;
  };

  void Visit(torch::jit::Block* block) {
    for (Node* node : block->nodes()) {
      for (torch::jit::Block* inner : node->blocks()) Visit(inner);
      if (node->kind() == c10::prim::GetAttr) Lift(node);
    }
  }

  void Lift(Node* node) {
    const auto owner = objects_.find(node->input());
    if (owner == objects_.end()) return;
    const std::string& name = node->s(c10::attr::name);
    const std::string& prefix = owner->second.path;
    const std::string path = prefix.empty() ? name : prefix + "." + name;
    const c10::IValue value = owner->second.value.toObject()->getAttr(name);
    if (value.isObject() && !HoldsQuantisedWeights(*value.type())) {
      objects_[node->output()] = {path, value};
    } else if (value.isObject() || (value.isTensor() && value.toTensor().defined())) {
      node->output()->replaceAllUsesWith(InputFor(path, value));
    } else {
      torch::jit::WithInsertPoint before(node);
      const auto constant = torch::jit::tryInsertConstant(graph_, value);
      if (!constant) return;
      node->output()->replaceAllUsesWith(*constant);
    }
    removed_.push_back(node);
  }

  Value* InputFor(const std::string& path, const c10::IValue& value) {
    Value*& input = inputs_[path];
    if (input == nullptr) {
      input = graph_.addInput(path);
      if (value.isObject()) input->setType(value.type());
      values_.push_back(value);
    }
    return input;
  }

  Graph& graph_;
  std::unordered_map<Value*, Attribute> objects_;
  std::unordered_map<std::string, Value*> inputs_;
  std::vector<c10::IValue> values_;
  std::vector<Node*> removed_;
};

Export Failed(const NotConvertible& error) {
  Export result;
  for (const Refusal& refusal : error.refusals) {
    result.problems.push_back({refusal.op, refusal.reason, refusal.source});
  }
  return result;
}

}  // namespace

Export ToRelay(const std::shared_ptr<Graph>& original, const c10::IValue& self,
               const std::vector<c10::IValue>& given) {
  auto graph = original->copy();
  torch::jit::Inline(*graph);
  torch::jit::EraseShapeInformation(graph);  // of the tracing; these inputs may have others
  std::vector<c10::IValue> inputs = given;
  std::vector<InputKind> kinds(inputs.size(), InputKind::kRuntime);
  if (!self.isNone()) {
    for (c10::IValue& weight : AttributeLifter(*graph, self).Run()) inputs.push_back(weight);
    kinds.resize(inputs.size(), InputKind::kWeight);
    inputs.insert(inputs.begin(), self);
    kinds.insert(kinds.begin(), InputKind::kRuntime);
  }
  torch::jit::ConstantPropagation(graph);
  MakeFunctional(graph);
  torch::jit::PeepholeOptimize(graph);
  torch::jit::EliminateDeadCode(graph);
  try {
    Lowered lowered = Lower(graph, inputs, kinds,
                            {.weights_as_constants = true,
                             .flatten_outputs = true,
                             .runtime_refusals = false,
                             .control_flow = true,
                             .shared_outputs = true});
    Export result;
    result.function = reinterpret_cast<int64_t>(
        ffi::details::ObjectUnsafe::MoveObjectRefToTVMFFIObjectPtr(std::move(lowered.function)));
    return result;
  } catch (const NotConvertible& error) {
    return Failed(error);
  }
}

TVM_FFI_STATIC_INIT_BLOCK() {
  ffi::reflection::GlobalDef().def("torch_tvm.convert.take", [](int64_t function) {
    return ffi::details::ObjectUnsafe::ObjectRefFromObjectPtr<relay::Function>(
        ffi::details::ObjectUnsafe::ObjectPtrFromOwned<ffi::Object>(
            reinterpret_cast<TVMFFIObject*>(function)));
  });
}

}  // namespace torch_tvm::convert
