// The operator tvm::CompilationGroup: what runs when the interpreter comes to a group. Compiled if
// it can be; otherwise the interpreter runs the subgraph, with a reason that is counted.
#pragma once

#include <ATen/core/ivalue.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/runtime/interpreter.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "core/api.h"
#include "jit/compile.h"
#include "jit/partition.h"
#include "jit/shape_family.h"
#include "jit/signature.h"
#include "runtime/compile_cache.h"

namespace torch_tvm::jit {

using torch::jit::Stack;

// Any number of threads may run one group at once.
class TORCH_TVM_API Group : public std::enable_shared_from_this<Group> {
 public:
  // The group of a node. Nodes with one subgraph (copies that torch.jit.trace makes to check
  // itself, several instances of one class) share a group, hence what it compiled.
  static std::shared_ptr<Group> ForNode(const torch::jit::Node* node);

  // The group of a subgraph that belongs to no node.
  static std::shared_ptr<Group> Share(Source source);

  explicit Group(Source source);
  ~Group();
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  // Replaces the inputs at the end of the stack by the outputs.
  void Run(Stack& stack);

  // The same by the interpreter, recording gradients if grad mode is on.
  void Interpret(Stack& stack) const;

  const Source& source() const { return source_; }
  void Clear();

 private:
  std::shared_ptr<const Compiled> Find(const SignatureReader& reader);
  std::shared_ptr<const Compiled> Make(const SignatureReader& reader,
                                       c10::ArrayRef<c10::IValue> inputs);
  std::shared_ptr<const Compiled> MakeAlone(const SignatureReader& reader,
                                            c10::ArrayRef<c10::IValue> inputs);
  void FallBack(Stack& stack, const std::string& reason, bool may_raise) const;
  void RunCompiled(Stack& stack, const SignatureReader& reader, const Compiled& compiled);
  void RunRefused(Stack& stack, const Compiled& compiled) const;
  bool OnTrial(const Compiled& compiled) const;
  void RunRound(const Stack& stack, const SignatureReader& reader, const Compiled& compiled);
  void Decide(const SignatureReader& reader, const Compiled& compiled);
  bool Churns() const;
  std::string DescribeInput(const SignatureReader& reader) const;

  const Source source_;
  const torch::jit::Code code_;
  const size_t num_inputs_;
  Partitions partitions_;
  runtime::CompileCache<Compiled> cache_;      // signatures that were compiled by themselves
  runtime::CompileCache<Compiled> instances_;  // and those that share a plan, or wait
  ShapeFamilies families_;
  std::atomic<int64_t> hits_{0}, builds_{0};  // since the last Clear()
};

// Forgets plans, bindings and packed weights of all groups that are alive.
TORCH_TVM_API void ClearGroups();

}  // namespace torch_tvm::jit
