#include "jit/lowered.h"

#include <ATen/Parallel.h>

namespace torch_tvm::jit {

namespace ffi = tvm::ffi;
using convert::Lowered;

namespace {

runtime::TensorSpec Spec(const convert::TensorInfo& info) {
  return {info.dtype, info.sizes, info.strides};
}

template <typename Items, typename Function>
std::vector<runtime::TensorSpec> Specs(const Items& items, const Function& spec_of) {
  std::vector<runtime::TensorSpec> specs;
  for (const auto& item : items) specs.push_back(spec_of(item));
  return specs;
}

}  // namespace

const at::Tensor& WeightTensor(const convert::WeightSource& source,
                               c10::ArrayRef<c10::IValue> inputs) {
  return source.input >= 0 ? inputs[source.input].toTensor() : source.constant;
}

std::vector<runtime::TensorSpec> InputSpecs(const Lowered& lowered) {
  return Specs(lowered.input_infos, Spec);
}

std::vector<runtime::TensorSpec> OutputSpecs(const Lowered& lowered) {
  std::vector<runtime::TensorSpec> specs;
  for (const auto& output : lowered.outputs) {
    if (output.is_tensor) specs.push_back(Spec(output.info));
  }
  if (!lowered.runtime_refusals.empty()) specs.push_back({c10::ScalarType::Bool, {}, {}});
  return specs;
}

std::vector<runtime::TensorSpec> WeightSpecs(const Lowered& lowered,
                                             c10::ArrayRef<c10::IValue> inputs) {
  return Specs(lowered.weights, [&](const convert::WeightSource& source) {
    const at::Tensor& weight = WeightTensor(source, inputs);
    return runtime::TensorSpec{weight.scalar_type(), weight.sizes().vec(), weight.strides().vec()};
  });
}

std::vector<std::vector<int64_t>> Orders(const std::vector<runtime::TensorSpec>& specs) {
  std::vector<std::vector<int64_t>> orders;
  for (const auto& spec : specs) {
    orders.push_back(runtime::PhysicalOrder(spec.sizes, spec.strides));
  }
  return orders;
}

ffi::Array<ffi::Array<int64_t>> ToArrays(const std::vector<std::vector<int64_t>>& rows) {
  ffi::Array<ffi::Array<int64_t>> arrays;
  for (const auto& row : rows) arrays.push_back(ffi::Array<int64_t>(row.begin(), row.end()));
  return arrays;
}

ffi::Map<ffi::String, ffi::Any> CompilerOptions(const Options& options, const std::string& name) {
  return {{"name", name},
          {"opt_level", options.opt_level},
          {"target", options.target},
          {"host", options.host},
          {"debug", options.debug},
          {"debug_runtime", options.debug_runtime},
          {"winograd", options.winograd},
          {"threads", static_cast<int64_t>(at::get_num_threads())}};
}

std::vector<convert::InputKind> Kinds(const Source& source) {
  if (!GetOptions().is_training) return source.kinds;
  return std::vector<convert::InputKind>(source.kinds.size(), convert::InputKind::kRuntime);
}

std::string Describe(const convert::Refusal& refusal) {
  std::string text = refusal.op + ": " + refusal.reason;
  if (!refusal.source.empty()) text += ", at " + refusal.source;
  return text;
}

std::string FirstLine(const std::string& message) {
  const auto begin = message.find_first_not_of("\n ");
  if (begin == std::string::npos) return "no message";
  return message.substr(begin, message.find('\n', begin) - begin);
}

}  // namespace torch_tvm::jit
