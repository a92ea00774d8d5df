// Gradients of groups: the forward runs compiled, the backward recomputes the subgraph in the
// interpreter and differentiates that, so that first and higher orders are exactly eager's.
#pragma once

#include <ATen/core/ivalue.h>

#include <map>
#include <mutex>
#include <optional>
#include <vector>

namespace torch_tvm::jit {

class Group;
struct Compiled;

// Which tensor outputs of a subgraph carry gradients, by which of its inputs require them. Found
// once for each such pattern by running the subgraph in the interpreter.
class Differentiability {
 public:
  using Flags = std::vector<bool>;

  std::optional<Flags> Find(const Flags& inputs) const;
  void Add(const Flags& inputs, const Flags& outputs);

 private:
  mutable std::mutex mutex_;
  std::map<Flags, Flags> outputs_;
};

// Runs a compiled group in grad mode with inputs that require gradients; replaces the inputs at the
// end of the stack by the outputs. Returns false, and leaves the stack, when the inputs have values
// that PyTorch raises an error for.
bool RunWithGrad(Group& group, const Compiled& compiled, std::vector<c10::IValue>& stack);

}  // namespace torch_tvm::jit
