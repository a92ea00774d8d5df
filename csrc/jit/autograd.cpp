#include "jit/autograd.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/jit/runtime/interpreter.h>

#include <algorithm>
#include <utility>

#include "core/stats.h"
#include "jit/compile.h"
#include "jit/group.h"

namespace torch_tvm::jit {
namespace {

using c10::IValue;
using Flags = Differentiability::Flags;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// One call, from the forward's beginning to its end.
struct Call {
  Group& group;
  const CompiledPlan& plan;
  c10::ArrayRef<IValue> inputs;
  Flags output_flags;
};

// What the backward needs beside the saved tensors.
struct Recomputation : torch::CustomClassHolder {
  std::shared_ptr<Group> group;
  std::vector<IValue> inputs;  // None where a tensor was
  std::vector<size_t> slots;  // input of each saved tensor; those that require gradients come first
  size_t num_differentiable = 0;
  Flags output_flags;
};

Flags RequiringGrad(c10::ArrayRef<IValue> inputs) {
  Flags flags;
  for (const IValue& input : inputs) {
    flags.push_back(input.isTensor() && input.toTensor().requires_grad());
  }
  return flags;
}

// Runs the subgraph on detached inputs and looks at what it gives.
Flags Learn(const Group& group, c10::ArrayRef<IValue> inputs, const Flags& input_flags) {
  std::vector<IValue> stack = inputs.vec();
  for (size_t i = 0; i < stack.size(); ++i) {
    if (input_flags[i]) stack[i] = stack[i].toTensor().detach().requires_grad_();
  }
  group.Interpret(stack);
  Flags outputs;
  for (const IValue& output : stack) {
    if (output.isTensor()) outputs.push_back(output.toTensor().requires_grad());
  }
  return outputs;
}

Flags OutputFlags(const Group& group, const Compiled& compiled, c10::ArrayRef<IValue> inputs) {
  const Flags input_flags = RequiringGrad(inputs);
  if (const auto known = compiled.differentiability.Find(input_flags)) return *known;
  Flags outputs = Learn(group, inputs, input_flags);
  compiled.differentiability.Add(input_flags, outputs);
  return outputs;
}

variable_list SaveInputs(const Call& call, Recomputation* recomputation) {
  variable_list differentiable, others;
  std::vector<size_t> other_slots;
  for (size_t i = 0; i < call.inputs.size(); ++i) {
    const IValue& input = call.inputs[i];
    recomputation->inputs.push_back(input.isTensor() ? IValue() : input);
    if (!input.isTensor()) continue;
    const bool requires_grad = input.toTensor().requires_grad();
    (requires_grad ? differentiable : others).push_back(input.toTensor());
    (requires_grad ? recomputation->slots : other_slots).push_back(i);
  }
  recomputation->num_differentiable = differentiable.size();
  recomputation->slots.insert(recomputation->slots.end(), other_slots.begin(), other_slots.end());
  differentiable.insert(differentiable.end(), others.begin(), others.end());
  return differentiable;
}

// The saved tensors as the recomputation's own: what they were computed from outside of the group
// must not count as a way to them. Aliases keep the link for gradients of gradients.
variable_list OwnInputs(const AutogradContext& ctx, const Recomputation& recomputation,
                        const variable_list& saved, bool create_graph) {
  variable_list own;
  for (size_t i = 0; i < saved.size(); ++i) {
    const bool wanted = i < recomputation.num_differentiable && ctx.needs_input_grad(i);
    if (create_graph) {
      own.push_back(i < recomputation.num_differentiable ? saved[i].view_as(saved[i]) : saved[i]);
    } else {
      own.push_back(saved[i].detach().requires_grad_(wanted));
    }
  }
  return own;
}

// Leaves an autograd function's forward when the plan refuses the values of a call.
struct ValuesRefused : std::exception {};

class RecomputeFunction : public torch::autograd::Function<RecomputeFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, at::TensorList differentiable,
                               const Call* call) {
    auto recomputation = c10::make_intrusive<Recomputation>();
    recomputation->group = call->group.shared_from_this();
    recomputation->output_flags = call->output_flags;
    ctx->save_for_backward(SaveInputs(*call, recomputation.get()));
    ctx->saved_data["recomputation"] = IValue::make_capsule(std::move(recomputation));
    ctx->set_materialize_grads(false);

    auto computed = call->plan.RunTensors(call->inputs);
    if (!computed) throw ValuesRefused();
    variable_list& outputs = *computed;
    variable_list constant;
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (!call->output_flags[i]) constant.push_back(outputs[i]);
    }
    ctx->mark_non_differentiable(constant);
    return std::move(outputs);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto capsule = ctx->saved_data["recomputation"].toCapsule();
    const auto& recomputation = *static_cast<const Recomputation*>(capsule.get());
    const bool create_graph = c10::GradMode::is_enabled();
    const variable_list own =
        OwnInputs(*ctx, recomputation, ctx->get_saved_variables(), create_graph);
    variable_list results(recomputation.num_differentiable + 1);  // the call itself has none
    variable_list outputs, grads;
    Recompute(recomputation, own, output_grads, &outputs, &grads);
    if (outputs.empty()) return results;

    variable_list leaves;
    std::vector<size_t> wanted;
    for (size_t i = 0; i < recomputation.num_differentiable; ++i) {
      if (!ctx->needs_input_grad(i)) continue;
      leaves.push_back(own[i]);
      wanted.push_back(i);
    }
    if (leaves.empty()) return results;
    auto input_grads = torch::autograd::grad(outputs, leaves, grads, std::nullopt, create_graph,
                                             /*allow_unused=*/true);
    for (size_t i = 0; i < wanted.size(); ++i) results[wanted[i]] = std::move(input_grads[i]);
    return results;
  }

 private:
  // The outputs that gradients came for, computed anew, and these gradients.
  static void Recompute(const Recomputation& recomputation, const variable_list& own,
                        const variable_list& output_grads, variable_list* outputs,
                        variable_list* grads) {
    const at::AutoGradMode with_grad(true);
    // The forward ran without autocast, whatever surrounds the backward.
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
    std::vector<IValue> stack = recomputation.inputs;
    for (size_t i = 0; i < own.size(); ++i) stack[recomputation.slots[i]] = own[i];
    recomputation.group->Interpret(stack);
    size_t tensor = 0;
    for (const IValue& output : stack) {
      if (!output.isTensor()) continue;
      const at::Tensor& grad = output_grads[tensor++];
      if (!grad.defined() || !output.toTensor().requires_grad()) continue;
      outputs->push_back(output.toTensor());
      grads->push_back(grad);
    }
  }
};

bool HoldsInferenceTensor(c10::ArrayRef<IValue> inputs) {
  return std::any_of(inputs.begin(), inputs.end(), [](const IValue& input) {
    return input.isTensor() && input.toTensor().is_inference();
  });
}

}  // namespace

std::optional<Flags> Differentiability::Find(const Flags& inputs) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = outputs_.find(inputs);
  return found == outputs_.end() ? std::nullopt : std::optional(found->second);
}

void Differentiability::Add(const Flags& inputs, const Flags& outputs) {
  std::lock_guard<std::mutex> lock(mutex_);
  outputs_.emplace(inputs, outputs);
}

bool RunWithGrad(Group& group, const Compiled& compiled, std::vector<IValue>& stack) {
  const size_t num_inputs = group.source().subgraph->inputs().size();
  const auto inputs = torch::jit::last(stack, num_inputs);
  if (HoldsInferenceTensor(inputs)) {
    // Autograd cannot save it; eager operators that need not save it still work.
    Stats::Get().CountFallback(
        "an inference tensor among the inputs of a call that records gradients");
    group.Interpret(stack);
    return true;
  }
  const Call call{group, *compiled.plan, inputs, OutputFlags(group, compiled, inputs)};
  variable_list differentiable;
  for (const IValue& input : inputs) {
    if (input.isTensor() && input.toTensor().requires_grad()) {
      differentiable.push_back(input.toTensor());
    }
  }
  try {
    auto outputs = RecomputeFunction::apply(at::TensorList(differentiable), &call);
    torch::jit::drop(stack, num_inputs);
    compiled.plan->AppendOutputs(std::move(outputs), &stack);
    return true;
  } catch (const ValuesRefused&) {
    return false;
  }
}

}  // namespace torch_tvm::jit
