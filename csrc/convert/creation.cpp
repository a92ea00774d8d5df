// Converters that make tensors out of numbers.
#include "convert/context.h"

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
    {"aten::ones", kOnes},
    {"aten::ones_like", kOnes},
    {"aten::new_ones", kOnes},
});

}  // namespace
}  // namespace torch_tvm::convert
