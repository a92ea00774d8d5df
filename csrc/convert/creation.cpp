// Converters that make tensors out of numbers.
#include "convert/creation.h"

#include <ATen/ATen.h>
#include <ATen/DLConvertor.h>

namespace torch_tvm::convert {
namespace {

// The result filled with one number. `fill` names the argument that holds it.
Results FullOfArgument(Context& ctx, const char* fill) {
  const TensorInfo& result = ctx.Result();
  return ctx.Full(ctx.Scalar(fill), result.sizes, result.dtype);
}

Converter Filled(double number) {
  return [number](Context& ctx) -> Results {
    const TensorInfo& result = ctx.Result();
    return ctx.Full(number, result.sizes, result.dtype);
  };
}

Results FullOfValue(Context& ctx) { return FullOfArgument(ctx, "fill_value"); }

// aten::fill: self's shape, a number or a rank-0 tensor.
Results Fill(Context& ctx) {
  if (!ctx.Value("value").isTensor()) return FullOfArgument(ctx, "value");
  const TensorInfo& result = ctx.Result();
  return ctx.BroadcastTo(ctx.Cast(ctx.Tensor("value"), result.dtype), {}, result.sizes);
}

Results Arange(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  const at::Scalar start = ctx.Has("start") ? ctx.Scalar("start") : at::Scalar(0);
  const at::Scalar step = ctx.Has("step") ? ctx.Scalar("step") : at::Scalar(1);
  return ctx.Arange(result.sizes.at(0), start, step, result.dtype);
}

void Flatten(const Context& ctx, const c10::IValue& data, std::vector<double>& numbers) {
  if (data.isList()) {
    for (const c10::IValue& element : data.toListRef()) Flatten(ctx, element, numbers);
  } else if (data.isScalar() && !data.isComplexDouble()) {
    numbers.push_back(data.toScalar().toDouble());
  } else {
    ctx.Refuse("data holds a " + data.tagKind());
  }
}

// torch.tensor of a list of numbers.
Results FromNumbers(Context& ctx) {
  std::vector<double> numbers;
  Flatten(ctx, ctx.Value("data"), numbers);
  return ctx.ConstantTensor(numbers, ctx.Result().sizes, ctx.Result().dtype);
}

// Tensors of one number are known data: only a node that asks for more elements comes here.
Results FromNumber(Context& ctx) {
  ctx.Refuse("its number is known only when the kernels have run");
}

// The largest tensor of numbers that PyTorch computes while converting: 8 MB of doubles.
constexpr int64_t kMostComputed = 1 << 20;

// The argument on the CPU, if it is known.
c10::IValue KnownArgument(const Context& ctx, const c10::Argument& argument) {
  const c10::IValue& value = ctx.Value(argument.name().c_str());
  if (value.isDevice()) return c10::Device(c10::kCPU);
  if (!value.isTensor() || !value.toTensor().defined()) return value;
  const Operand operand = ctx.Tensor(argument.name().c_str());
  const auto* constant = operand.expr.as<relay::ConstantObj>();
  if (constant == nullptr) {
    ctx.Refuse(argument.name() + " is a number that is known only when the kernels have run");
  }
  return at::fromDLPack(constant->data.ToDLPack());
}

}  // namespace

bool IsComputable(const Context& ctx) {
  for (const c10::Argument& argument : ctx.node()->schema().arguments()) {
    const c10::IValue& value = ctx.Value(argument.name().c_str());
    if (!value.isTensor() || !value.toTensor().defined()) continue;
    if (ctx.Tensor(argument.name().c_str()).expr.as<relay::ConstantObj>() == nullptr) return false;
  }
  return true;
}

Results Computed(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  if (result.numel() > kMostComputed) {
    ctx.Refuse("its result has " + std::to_string(result.numel()) +
               " elements; tables of at most 2^20 are carried as constants");
  }
  torch::jit::Stack stack;
  for (const c10::Argument& argument : ctx.node()->schema().arguments()) {
    stack.push_back(KnownArgument(ctx, argument));
  }
  ctx.node()->getOperation()(stack);
  return CarriedConstant(stack.back().toTensor());
}

namespace {

// Ones where the row's number is the column's.
Results Identity(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  const int64_t rows = result.sizes.at(0), columns = result.sizes.at(1);
  const Expr row = ctx.Reshape(ctx.Arange(rows), {rows}, {rows, 1});
  const Expr equal = ctx.Call("equal", {row, ctx.Arange(columns)});
  return ctx.Cast(equal, ScalarType::Bool, result.dtype);
}

Results ShapeAsTensor(Context& ctx) {
  const Sizes sizes = ctx.Tensor("self").sizes();
  return ctx.ConstantTensor({sizes.begin(), sizes.end()}, ctx.Result().sizes, ScalarType::Long);
}

const Converter kZeros = Filled(0);
const Converter kOnes = Filled(1);

const Registrar kCreation({
    {"aten::arange", Arange},
    {"aten::arange.start", Arange},
    {"aten::arange.start_step", Arange},
    {"aten::full", FullOfValue},
    {"aten::full_like", FullOfValue},
    {"aten::new_full", FullOfValue},
    {"aten::fill.Scalar", Fill},
    {"aten::fill.Tensor", Fill},
    {"aten::tensor", FromNumbers},
    {"aten::tensor.float", FromNumber},
    {"aten::tensor.int", FromNumber},
    {"aten::tensor.bool", FromNumber},
    {"aten::scalar_tensor", FromNumber},
    {"aten::zeros", kZeros},
    {"aten::zeros_like", kZeros},
    {"aten::new_zeros", kZeros},
    {"aten::zero", kZeros},
    // Their elements are any; zeros are what uninitialised memory often holds.
    {"aten::empty.memory_format", kZeros},
    {"aten::empty_like", kZeros},
    {"aten::empty_permuted", kZeros},
    {"aten::empty_strided", kZeros},
    {"aten::new_empty", kZeros},
    {"aten::new_empty_strided", kZeros},
    {"aten::eye", Identity},
    {"aten::eye.m", Identity},
    {"aten::linspace", Computed},
    {"aten::logspace", Computed},
    {"aten::range", Computed},
    {"aten::range.step", Computed},
    {"aten::_shape_as_tensor", ShapeAsTensor},
    {"aten::tril_indices", Computed},
    {"aten::triu_indices", Computed},
    {"aten::bartlett_window", Computed},
    {"aten::bartlett_window.periodic", Computed},
    {"aten::blackman_window", Computed},
    {"aten::blackman_window.periodic", Computed},
    {"aten::hamming_window", Computed},
    {"aten::hamming_window.periodic", Computed},
    {"aten::hamming_window.periodic_alpha", Computed},
    {"aten::hamming_window.periodic_alpha_beta", Computed},
    {"aten::hann_window", Computed},
    {"aten::hann_window.periodic", Computed},
    {"aten::kaiser_window", Computed},
    {"aten::kaiser_window.periodic", Computed},
    {"aten::kaiser_window.beta", Computed},
    {"aten::ones", kOnes},
    {"aten::ones_like", kOnes},
    {"aten::new_ones", kOnes},
});

}  // namespace
}  // namespace torch_tvm::convert
