// What the fusion pass thinks of each node of a graph: whether it may stand in a group, and whether
// it is worth one.
#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <functional>
#include <unordered_map>
#include <unordered_set>

namespace torch_tvm::jit {

enum class Role : uint8_t {
  kOutside,    // stays with the interpreter
  kOperator,   // a tensor operator that has a converter; min_group_size counts these
  kStructure,  // builds or takes apart a list
  kShape,      // integer arithmetic on sizes: concrete once the signature is
};

// Whether a node converts; the pass asks convert::IsConvertible, and re-partitioning leaves out
// what was refused.
using Converts = std::function<bool(const torch::jit::Node*)>;

// The roles of all nodes of `graph` (its blocks included) as it stands now. Nodes that appear
// later, such as groups, have no role.
class Roles {
 public:
  Roles(const torch::jit::Graph& graph, const Converts& converts);

  Role Of(const torch::jit::Node* node) const;

  // Whether the tensor value is a number in disguise (prim::NumToTensor and arithmetic on it).
  bool IsShapeTensor(const torch::jit::Value* value) const;

 private:
  void Visit(const torch::jit::Block* block, const Converts& converts);
  Role Find(const torch::jit::Node* node, const Converts& converts) const;
  // Whether an input is a list of tensors or the like that is made outside of any group.
  bool TakesForeignValue(const torch::jit::Node* node) const;
  bool IsShapeArithmetic(const torch::jit::Node* node) const;

  std::unordered_map<const torch::jit::Node*, Role> roles_;
  std::unordered_set<const torch::jit::Value*> shape_tensors_;
};

// Whether a signature can hold values of the type.
bool CanEnterGroup(const c10::TypePtr& type);

// Whether the type can cross a group's boundary as an output: tensors and immutable numbers. A list
// would be one object shared by all calls of a signature.
bool CanLeaveGroup(const c10::TypePtr& type);

}  // namespace torch_tvm::jit
