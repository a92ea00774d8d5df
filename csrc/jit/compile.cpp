#include "jit/compile.h"

#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/StringUtil.h>

#include <chrono>
#include <set>
#include <utility>

#include "core/log.h"
#include "core/options.h"
#include "core/stats.h"
#include "jit/lowered.h"
#include "relay/text_printer.h"
#include "runtime/arena.h"
#include "runtime/finite.h"
#include "runtime/quantised.h"

namespace torch_tvm::jit {
namespace {

namespace ffi = tvm::ffi;
using convert::Lowered;

runtime::Plan CallCompiler(const Lowered& lowered, const std::string& name) {
  const auto compile = ffi::Function::GetGlobal("torch_tvm.compiler.compile");
  TORCH_CHECK(compile, "the compiler (torch_tvm.compiler) is not loaded in this process");
  const ffi::Any plan =
      (*compile)(lowered.function, static_cast<int64_t>(lowered.inputs.size()),
                 ToArrays(Orders(InputSpecs(lowered))), ToArrays(Orders(OutputSpecs(lowered))),
                 CompilerOptions(GetOptions(), name));
  return plan.cast<runtime::Plan>();
}

// Whether a kernel of the plan carries a NaN or an infinity further than its operator does.
bool SpreadsNonfinite(const runtime::Plan& plan) {
  const auto found = plan->info.find("spreads_nonfinite");
  return found != plan->info.end() && (*found).second.cast<bool>();
}

// Why a call may have to be repeated by PyTorch; empty if it never has to.
std::string RuntimeRefusal(const Lowered& lowered, bool checks_finite) {
  std::set<std::string> reasons;
  for (const auto& refusal : lowered.runtime_refusals) reasons.insert(Describe(refusal));
  if (checks_finite) {
    reasons.insert(
        "a NaN or an infinity among the inputs, which Winograd's convolution would spread further "
        "than PyTorch does; winograd=\"off\" can run it");
  }
  return c10::Join("; or ", reasons);
}

void Fail(const Source& source, const std::string& kind, const std::string& message,
          const Lowered* lowered, Compiled* result) {
  result->refusals = {"compilation of " + source.name + " failed: " + kind + ": " +
                      FirstLine(message)};
  result->error = "CompileError: " + kind + ": " + message;
  if (lowered != nullptr) result->error += "\nwhile compiling\n" + relay::AsText(lowered->function);
}

void LogRelay(const Source& source, const Lowered& lowered) {
  if (!GetOptions().debug) return;
  Log(LogLevel::kDebug, "Relay of " + source.name + ":\n" + relay::AsText(lowered.function));
}

void Build(const Source& source, c10::ArrayRef<c10::IValue> inputs, Partitions* partitions,
           Compiled* result) {
  std::optional<Lowered> lowered;
  try {
    lowered = convert::Lower(source.subgraph, inputs, Kinds(source));
    LogRelay(source, *lowered);
    const runtime::Plan plan = CallCompiler(*lowered, source.name);
    result->plan = std::make_unique<const CompiledPlan>(plan, *lowered, inputs);
    ++Stats::Get().compiled;
  } catch (const convert::NotConvertible& refused) {
    Refuse(source, refused, partitions, result);
  } catch (const ffi::Error& error) {
    TORCH_CHECK(error.kind() != "KeyboardInterrupt", "interrupted while torch_tvm compiled ",
                source.name);
    Fail(source, error.kind(), error.message(), lowered ? &*lowered : nullptr, result);
  } catch (const c10::Error& error) {
    Fail(source, "Error", error.what_without_backtrace(), lowered ? &*lowered : nullptr, result);
  } catch (const std::exception& error) {
    Fail(source, "Error", error.what(), lowered ? &*lowered : nullptr, result);
  }
}

}  // namespace

CompileScope::~CompileScope() {
  const auto spent = std::chrono::steady_clock::now() - start_;
  Stats::Get().compile_nanoseconds +=
      std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count();
}

void Refuse(const Source& source, const convert::NotConvertible& refused, Partitions* partitions,
            Compiled* result) {
  for (const auto& refusal : refused.refusals) {
    if (refusal.shares_memory) continue;
    result->refusals.push_back(Describe(refusal));
    result->error += "\n  " + result->refusals.back();
  }
  if (!result->error.empty()) {
    result->error = "NotConvertibleError: torch_tvm cannot compile all of " + source.name +
                    " for these inputs:" + result->error;
  }
  result->partition = partitions->Get(source.subgraph, source.kinds, refused.refusals);
}

CompiledPlan::CompiledPlan(const runtime::Plan& plan, const Lowered& lowered,
                           c10::ArrayRef<c10::IValue> inputs,
                           std::shared_ptr<runtime::BindingCache> bindings)
    : inputs_(lowered.inputs),
      weights_(lowered.weights),
      outputs_(lowered.outputs),
      checks_values_(!lowered.runtime_refusals.empty()),
      checks_finite_(SpreadsNonfinite(plan)),
      runtime_refusal_(RuntimeRefusal(lowered, checks_finite_)),
      executor_(plan, InputSpecs(lowered), WeightSpecs(lowered, inputs), OutputSpecs(lowered),
                std::move(bindings)) {}

std::optional<std::vector<at::Tensor>> CompiledPlan::RunTensors(
    c10::ArrayRef<c10::IValue> inputs) const {
  c10::SmallVector<c10::TensorImpl*, 8> runtime_inputs;
  std::vector<at::Tensor> integers;
  for (const int64_t input : inputs_) {
    const at::Tensor& tensor = inputs[input].toTensor();
    if (tensor.is_quantized()) integers.push_back(runtime::Integers(tensor));
    const at::Tensor& read = tensor.is_quantized() ? integers.back() : tensor;
    runtime_inputs.push_back(read.unsafeGetTensorImpl());
  }
  c10::SmallVector<c10::TensorImpl*, 128> weights;
  for (const auto& weight : weights_) {
    weights.push_back(WeightTensor(weight, inputs).unsafeGetTensorImpl());
  }
  const auto binding = executor_.Bind(weights);
  TORCH_CHECK(binding, "torch_tvm: a constant of the model changed its size or dtype");
  if (checks_finite_) {
    for (const int64_t input : inputs_) {
      const at::Tensor& tensor = inputs[input].toTensor();
      if (!tensor.is_quantized() && !runtime::AllFinite(tensor)) return std::nullopt;
    }
  }
  auto outputs = executor_.Run(runtime_inputs, *binding, GetOptions().debug_runtime);
  if (checks_values_) {
    if (*outputs.back().const_data_ptr<bool>()) return std::nullopt;
    outputs.pop_back();
  }
  size_t next = 0;
  for (const auto& output : outputs_) {
    if (!output.is_tensor) continue;
    at::Tensor& tensor = outputs[next++];
    if (const auto& quantiser = output.info.quantiser) {
      tensor = runtime::WithQuantiser(tensor, quantiser->scale, quantiser->zero_point);
    }
  }
  return outputs;
}

void CompiledPlan::AppendOutputs(std::vector<at::Tensor> tensors,
                                 std::vector<c10::IValue>* stack) const {
  size_t next = 0;
  for (const auto& output : outputs_) {
    if (output.is_tensor) {
      stack->emplace_back(std::move(tensors[next++]));
    } else {
      stack->push_back(output.value);
    }
  }
}

std::shared_ptr<const Compiled> Compile(const Source& source, c10::ArrayRef<c10::IValue> inputs,
                                        Partitions* partitions) {
  RECORD_FUNCTION("tvm::compile", {});
  const CompileScope scope;
  auto result = std::make_shared<Compiled>();
  for (const c10::IValue& input : inputs) {
    if (input.isObject()) result->objects.push_back(input);
  }
  Build(source, inputs, partitions, result.get());
  runtime::TrimHeap();
  return result;
}

}  // namespace torch_tvm::jit
