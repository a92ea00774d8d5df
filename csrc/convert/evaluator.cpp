#include "convert/evaluator.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/jit/ir/constants.h>

#include "convert/cpu_strides.h"
#include "convert/quantised_rules.h"
#include "convert/shape_rules.h"

namespace torch_tvm::convert {
namespace {

using torch::jit::Node;

bool HoldsMeta(const std::vector<c10::IValue>& values) {
  bool meta = false;
  for (const c10::IValue& value : values) {
    ForEachTensor(value, [&](const at::Tensor& tensor) { meta = meta || tensor.is_meta(); });
  }
  return meta;
}

bool HoldsTensor(const std::vector<c10::IValue>& values) {
  bool found = false;
  for (const c10::IValue& value : values) {
    ForEachTensor(value, [&](const at::Tensor&) { found = true; });
  }
  return found;
}

bool AllOfOneElement(const std::vector<c10::IValue>& values) {
  bool small = true;
  for (const c10::IValue& value : values) {
    ForEachTensor(value, [&](const at::Tensor& tensor) { small = small && tensor.numel() <= 1; });
  }
  return small;
}

bool IsDeviceArgument(const c10::Argument& argument) {
  c10::TypePtr type = argument.type();
  if (const auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
  return type->kind() == c10::TypeKind::DeviceObjType;
}

// Sends results to the meta device. `fill` also sets the devices that were left out, which a
// creation operator needs.
void MoveDevices(const c10::FunctionSchema& schema, bool fill, std::vector<c10::IValue>& inputs) {
  for (size_t i = 0; i < inputs.size() && i < schema.arguments().size(); ++i) {
    if (!IsDeviceArgument(schema.arguments()[i])) continue;
    if (inputs[i].isDevice()) {
      TORCH_CHECK(inputs[i].toDevice().is_cpu() || inputs[i].toDevice().is_meta(), "its device is ",
                  inputs[i].toDevice(), "; only CPU tensors are compiled");
    }
    if (inputs[i].isDevice() || fill) inputs[i] = c10::Device(c10::kMeta);
  }
}

std::string FirstLine(const std::string& message) { return message.substr(0, message.find('\n')); }

}  // namespace

at::Tensor MetaLike(const at::Tensor& tensor) {
  return at::empty_strided(
      tensor.sizes(), tensor.strides(),
      at::TensorOptions(c10::kMeta).dtype(c10::toUnderlying(tensor.scalar_type())));
}

at::Tensor Evaluator::Known(const at::Tensor& twin) const {
  const auto found = known_.find(twin.unsafeGetTensorImpl());
  return found == known_.end() ? at::Tensor() : found->second;
}

at::Tensor Evaluator::Twin(const at::Tensor& known) {
  at::Tensor& twin = twins_[known.unsafeGetTensorImpl()];
  if (!twin.defined()) {
    twin = MetaLike(known);
    known_[twin.unsafeGetTensorImpl()] = known;
  }
  return twin;
}

c10::IValue Evaluator::WithTwins(const c10::IValue& value) {
  if (value.isTensor()) {
    const at::Tensor& tensor = value.toTensor();
    // A number in the guise of a tensor: meta kernels take it, and ask for it, on the CPU.
    if (!tensor.defined() || tensor.unsafeGetTensorImpl()->is_wrapped_number()) return value;
    return tensor.is_meta() ? value : c10::IValue(Twin(tensor));
  }
  if (!value.isList()) return value;
  const auto& elements = value.toListRef();
  if (elements.empty() || !HoldsTensor({value})) return value;
  c10::impl::GenericList list(value.toList().elementType());
  for (const c10::IValue& element : elements) list.push_back(WithTwins(element));
  return list;
}

void Evaluator::SetQuantiser(const at::Tensor& tensor, const Quantiser& quantiser) {
  quantisers_.insert_or_assign(tensor.unsafeGetTensorImpl(), std::pair(tensor, quantiser));
}

std::optional<Quantiser> Evaluator::QuantiserOf(const at::Tensor& tensor) const {
  const auto found = quantisers_.find(tensor.unsafeGetTensorImpl());
  if (found == quantisers_.end()) return std::nullopt;
  return found->second.second;
}

// Runs an operator that takes or makes a quantised tensor; false if it is none.
bool Evaluator::RunQuantised(const Node* node) {
  const c10::FunctionSchema* schema = node->maybeSchema();
  if (schema == nullptr) return false;
  const auto quantiser_of = [this](const at::Tensor& tensor) { return QuantiserOf(tensor); };
  auto result = RunQuantisedByRule(*schema, inputs_, quantiser_of, [&](auto inputs) {
    auto outputs = Call(node, inputs);
    CorrectStrides(schema->name(), inputs, outputs);
    return outputs;
  });
  if (!result) return false;
  if (result->quantiser) {
    for (const c10::IValue& output : result->outputs) {
      ForEachTensor(output,
                    [&](const at::Tensor& tensor) { SetQuantiser(tensor, *result->quantiser); });
    }
  }
  SetOutputs(node, std::move(result->outputs));
  return true;
}

void Evaluator::SetOutputs(const Node* node, std::vector<c10::IValue> outputs) {
  TORCH_CHECK(outputs.size() == node->outputs().size(), "it gave ", outputs.size(), " results for ",
              node->outputs().size(), " outputs");
  for (size_t i = 0; i < outputs.size(); ++i) values_[node->output(i)] = std::move(outputs[i]);
}

std::vector<c10::IValue> Evaluator::Call(const Node* node, std::vector<c10::IValue> inputs) {
  torch::jit::Stack stack = std::move(inputs);
  node->getOperation()(stack);
  return stack;
}

bool Evaluator::RunStructural(const Node* node) {
  const auto kind = node->kind();
  if (kind == c10::prim::Constant) {
    c10::IValue value = *torch::jit::toIValue(node->output());
    SetOutputs(node, {std::move(value)});
  } else if (kind == c10::prim::ListConstruct) {
    const auto type = node->output()->type()->expectRef<c10::ListType>().getElementType();
    c10::impl::GenericList list(type);
    for (const c10::IValue& element : inputs_) list.push_back(element);
    SetOutputs(node, {std::move(list)});
  } else if (kind == c10::prim::TupleConstruct) {
    SetOutputs(node, {c10::ivalue::Tuple::create(inputs_)});
  } else if (kind == c10::prim::TupleUnpack) {
    SetOutputs(node, inputs_[0].toTupleRef().elements().vec());
  } else if (kind == c10::prim::ListUnpack) {
    SetOutputs(node, inputs_[0].toListRef().vec());
  } else if (kind == c10::prim::unchecked_cast) {
    SetOutputs(node, {inputs_[0]});
  } else {
    return false;
  }
  return true;
}

void Evaluator::RunOperator(const Node* node) {
  const c10::FunctionSchema* schema = node->maybeSchema();
  const bool from_tensors = HoldsTensor(inputs_);
  if (from_tensors && !HoldsMeta(inputs_)) {
    std::vector<c10::IValue> outputs = Call(node, inputs_);
    if (AllOfOneElement(outputs)) return SetOutputs(node, std::move(outputs));
  }
  const std::vector<c10::IValue> originals = inputs_;
  for (c10::IValue& input : inputs_) input = WithTwins(input);
  if (schema != nullptr) MoveDevices(*schema, !from_tensors, inputs_);
  auto ruled = schema != nullptr ? OutputsByRule(*schema, inputs_) : std::nullopt;
  std::vector<c10::IValue> outputs = ruled ? std::move(*ruled) : Call(node, inputs_);
  if (schema != nullptr) CorrectStrides(schema->name(), inputs_, outputs);
  if (!from_tensors && HoldsTensor(outputs) && AllOfOneElement(outputs)) {
    outputs = Call(node, originals);
  }
  SetOutputs(node, std::move(outputs));
}

std::string Evaluator::Attempt(const Node* node, const std::function<void()>& run) {
  at::NoGradGuard no_grad;
  inputs_.clear();
  for (const auto* input : node->inputs()) inputs_.push_back(values_.at(input));
  try {
    run();
  } catch (const c10::Error& error) {
    return FirstLine(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return FirstLine(error.what());
  }
  return "";
}

std::string Evaluator::Run(const Node* node) {
  return Attempt(node, [&] {
    if (!RunStructural(node) && !RunQuantised(node)) RunOperator(node);
  });
}

std::string Evaluator::RunAsItIs(const Node* node) {
  return Attempt(node, [&] { SetOutputs(node, Call(node, inputs_)); });
}

}  // namespace torch_tvm::convert
