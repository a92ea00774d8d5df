#include "convert/shape_rules.h"

#include <ATen/ATen.h>
#include <ATen/native/ConvUtils.h>

#include <algorithm>
#include <string>
#include <unordered_map>

namespace torch_tvm::convert {
namespace {

using Outputs = std::optional<std::vector<c10::IValue>>;

class Arguments {
 public:
  Arguments(const c10::FunctionSchema& schema, const std::vector<c10::IValue>& inputs)
      : schema_(schema), inputs_(inputs) {}

  const c10::IValue& operator[](const char* name) const {
    return inputs_.at(static_cast<size_t>(*schema_.argumentIndexWithName(name)));
  }
  bool Has(const char* name) const { return schema_.argumentIndexWithName(name).has_value(); }
  at::Tensor Tensor(const char* name) const {
    const c10::IValue& value = (*this)[name];
    return value.isTensor() ? value.toTensor() : at::Tensor();
  }

 private:
  const c10::FunctionSchema& schema_;
  const std::vector<c10::IValue>& inputs_;
};

// Absent, or one number for each channel, of the dtype of the data.
bool IsPerChannel(const at::Tensor& vector, const at::Tensor& data, int64_t channels) {
  return !vector.defined() || (vector.dim() == 1 && vector.size(0) == channels &&
                               vector.scalar_type() == data.scalar_type());
}

bool AllAtLeast(const std::vector<int64_t>& values, size_t count, int64_t least) {
  return values.size() == count &&
         std::all_of(values.begin(), values.end(), [&](int64_t value) { return value >= least; });
}

// Batched, not transposed, over images. Strides: cpu_strides.h.
Outputs Convolution(const Arguments& arguments) {
  const at::Tensor input = arguments.Tensor("input");
  const at::Tensor weight = arguments.Tensor("weight");
  if (arguments.Has("transposed") && arguments["transposed"].toBool()) return std::nullopt;
  if (!arguments["padding"].isIntList() || !weight.defined() || weight.dim() != 4) {
    return std::nullopt;
  }
  const auto stride = arguments["stride"].toIntVector();
  const auto padding = arguments["padding"].toIntVector();
  const auto dilation = arguments["dilation"].toIntVector();
  const int64_t groups = arguments["groups"].toInt();
  const bool valid = input.dim() == 4 && input.scalar_type() == weight.scalar_type() &&
                     groups > 0 && weight.size(0) % groups == 0 &&
                     input.size(1) == weight.size(1) * groups && AllAtLeast(stride, 2, 1) &&
                     AllAtLeast(padding, 2, 0) && AllAtLeast(dilation, 2, 1) &&
                     IsPerChannel(arguments.Tensor("bias"), input, weight.size(0)) &&
                     input.numel() > 0 && weight.numel() > 0;
  if (!valid) return std::nullopt;
  for (int64_t d = 0; d < 2; ++d) {
    const int64_t window = dilation[d] * (weight.size(d + 2) - 1) + 1;
    if (input.size(d + 2) + 2 * padding[d] < window) return std::nullopt;
  }
  const auto sizes =
      at::native::conv_output_size(input.sizes(), weight.sizes(), padding, stride, dilation);
  return std::vector<c10::IValue>{at::empty(sizes, input.options())};
}

// In evaluation, with the statistics of training.
Outputs BatchNorm(const Arguments& arguments) {
  const at::Tensor input = arguments.Tensor("input");
  if (arguments["training"].toBool() || input.dim() < 2 || input.numel() == 0) return std::nullopt;
  for (const char* name : {"weight", "bias", "running_mean", "running_var"}) {
    if (!IsPerChannel(arguments.Tensor(name), input, input.size(1))) return std::nullopt;
  }
  for (const char* name : {"running_mean", "running_var"}) {
    if (!arguments.Tensor(name).defined()) return std::nullopt;
  }
  return std::vector<c10::IValue>{at::empty_like(input)};
}

using Rule = Outputs (*)(const Arguments&);
const std::unordered_map<std::string, Rule>& Rules() {
  static const std::unordered_map<std::string, Rule> rules = {
      {"aten::_convolution", Convolution},
      {"aten::conv2d", Convolution},
      {"aten::convolution", Convolution},
      {"aten::batch_norm", BatchNorm},
  };
  return rules;
}

}  // namespace

Outputs OutputsByRule(const c10::FunctionSchema& schema, const std::vector<c10::IValue>& inputs) {
  const auto rule = Rules().find(schema.name());
  return rule == Rules().end() ? std::nullopt : rule->second({schema, inputs});
}

}  // namespace torch_tvm::convert
