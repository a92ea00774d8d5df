// First call with a signature: lowering, compilation, and what becomes of it when one of them
// fails.
#pragma once

#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/runtime/interpreter.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "convert/lower.h"
#include "jit/autograd.h"
#include "jit/partition.h"
#include "jit/trial.h"
#include "runtime/executor.h"

namespace torch_tvm::jit {

// A plan and how its parameters and results lie on the interpreter's stack.
class CompiledPlan {
 public:
  // `inputs`: those of the first call.
  // `bindings`: those of another plan with the same weights and packing steps; nullptr for its own.
  CompiledPlan(const runtime::Plan& plan, const convert::Lowered& lowered,
               c10::ArrayRef<c10::IValue> inputs,
               std::shared_ptr<runtime::BindingCache> bindings = nullptr);

  // `inputs`: all inputs of the subgraph. Returns the tensors among the outputs; nullopt when the
  // inputs have values that PyTorch raises an error for.
  std::optional<std::vector<at::Tensor>> RunTensors(c10::ArrayRef<c10::IValue> inputs) const;
  const std::shared_ptr<runtime::BindingCache>& bindings() const { return executor_.bindings(); }
  // What those values are.
  const std::string& runtime_refusal() const { return runtime_refusal_; }
  // All outputs, given the tensors among them.
  void AppendOutputs(std::vector<at::Tensor> tensors, std::vector<c10::IValue>* stack) const;

 private:
  std::vector<int64_t> inputs_;                 // subgraph input of each runtime parameter
  std::vector<convert::WeightSource> weights_;  // of each weight parameter
  std::vector<convert::OutputSource> outputs_;  // of each subgraph output
  const bool checks_values_;  // the plan's last output says whether it refuses the values
  const bool checks_finite_;
  const std::string runtime_refusal_;
  runtime::Executor executor_;
};

class SymbolicCompiled;

// What one signature became. At most one of `plan` and `partition` is there; with neither, the
// interpreter runs the whole subgraph.
struct Compiled {
  std::unique_ptr<const CompiledPlan> plan;
  std::shared_ptr<const torch::jit::Code> partition;
  std::vector<std::string> refusals;  // why there is no plan: one line each
  std::string error;    // the same, as strict mode raises it; empty where PyTorch computes nothing
  bool slower = false;  // there was a plan, and the interpreter was faster
  std::vector<c10::IValue> objects;  // those of the signature, which counts them by address
  // Whose plan it is, for these sizes, and what it took to make it for them.
  std::shared_ptr<const SymbolicCompiled> symbolic;
  Trial::Nanoseconds preparation = 0;
  // Calls so far of one of many signatures, which is compiled once it proves to come often.
  std::unique_ptr<std::atomic<int>> postponed;
  mutable Differentiability differentiability;
  mutable Trial trial;
};

// What is compiled.
struct Source {
  std::string name;
  std::shared_ptr<torch::jit::Graph> subgraph;
  std::vector<convert::InputKind> kinds;
};

// What is compiled outlives the call, so that it must not inherit the caller's modes. Counts the
// time.
class CompileScope {
 public:
  CompileScope() = default;
  ~CompileScope();

 private:
  const c10::InferenceMode no_inference_mode_{false};
  const at::NoGradGuard no_grad_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Notes why a subgraph is not converted, and what runs instead.
void Refuse(const Source& source, const convert::NotConvertible& refused, Partitions* partitions,
            Compiled* result);

// Never throws for a subgraph that cannot be compiled: that is remembered like a plan. An interrupt
// by the user passes through.
std::shared_ptr<const Compiled> Compile(const Source& source, c10::ArrayRef<c10::IValue> inputs,
                                        Partitions* partitions);

}  // namespace torch_tvm::jit
