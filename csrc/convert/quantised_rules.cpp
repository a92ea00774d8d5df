#include "convert/quantised_rules.h"

#include <ATen/ATen.h>
#include <ATen/native/ConvUtils.h>

#include <cmath>
#include <limits>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "convert/evaluator.h"
#include "convert/operator_name.h"
#include "convert/packed_weights.h"

namespace torch_tvm::convert {
namespace {

class Arguments {
 public:
  Arguments(const c10::FunctionSchema& schema, const std::vector<c10::IValue>& inputs,
            const QuantiserOf& quantiser_of)
      : schema_(schema), inputs_(inputs), quantiser_of_(quantiser_of) {}

  const c10::IValue& operator[](const char* name) const {
    return inputs_.at(static_cast<size_t>(*schema_.argumentIndexWithName(name)));
  }
  bool Has(const char* name) const { return schema_.argumentIndexWithName(name).has_value(); }
  at::Tensor Tensor(const char* name) const { return (*this)[name].toTensor(); }
  bool IsQuantised(const at::Tensor& tensor) const { return quantiser_of_(tensor).has_value(); }
  // A tensor that has to be quantised: its integers.
  at::Tensor Integers(const char* name) const {
    TORCH_CHECK(quantiser_of_(Tensor(name)), name, " is not quantised");
    return Tensor(name);
  }
  Quantiser Given(const char* scale, const char* zero_point) const {
    return {(*this)[scale].toDouble(), (*this)[zero_point].toInt()};
  }
  Quantiser Of(const at::Tensor& tensor) const { return *quantiser_of_(tensor); }

 private:
  const c10::FunctionSchema& schema_;
  const std::vector<c10::IValue>& inputs_;
  const QuantiserOf& quantiser_of_;
};

using Outputs = QuantisedOutputs;
using Rule = Outputs (*)(const Arguments&);

at::Tensor Empty(at::IntArrayRef sizes, c10::ScalarType dtype, at::MemoryFormat format) {
  return at::empty(sizes, at::TensorOptions(c10::kMeta).dtype(dtype).memory_format(format));
}

Outputs QuantiseBy(const Arguments& arguments, const Quantiser& quantiser) {
  const at::Tensor self = arguments.Tensor("self");
  const auto dtype = arguments["dtype"].toScalarType();
  TORCH_CHECK(dtype == at::kQUInt8 || dtype == at::kQInt8, "dtype=", dtype,
              "; quint8 and qint8 are converted");
  TORCH_CHECK(self.scalar_type() == at::kFloat, "self is a ", self.scalar_type(),
              " tensor; float ones are quantised");
  return {{Empty(self.sizes(), c10::toUnderlying(dtype), self.suggest_memory_format())}, quantiser};
}

Outputs Quantise(const Arguments& arguments) {
  return QuantiseBy(arguments, arguments.Given("scale", "zero_point"));
}

// A quantiser in tensors of one element, as a frozen module holds it.
Outputs QuantiseByTensors(const Arguments& arguments) {
  const at::Tensor scale = arguments.Tensor("scale"), zero_point = arguments.Tensor("zero_point");
  TORCH_CHECK(!scale.is_meta() && !zero_point.is_meta() && scale.numel() == 1,
              "scale and zero_point are known only at run time; those of a frozen module are "
              "constants");
  return QuantiseBy(arguments, {scale.item<double>(), zero_point.item<int64_t>()});
}

Outputs Dequantise(const Arguments& arguments) {
  const at::Tensor self = arguments.Integers("self");
  return {{Empty(self.sizes(), at::kFloat, self.suggest_memory_format())}, std::nullopt};
}

at::Tensor LinearResult(const at::Tensor& input, const c10::IValue& packed, c10::ScalarType dtype) {
  const at::Tensor weight = UnpackLinear(packed).values;
  TORCH_CHECK(input.dim() >= 2 && input.size(-1) == weight.size(1), "X has the sizes ",
              input.sizes(), "; rank 2 or more and ", weight.size(1), " columns are expected");
  std::vector<int64_t> sizes = input.sizes().vec();
  sizes.back() = weight.size(0);
  return Empty(sizes, dtype, at::MemoryFormat::Contiguous);
}

Outputs LinearDynamic(const Arguments& arguments) {
  const at::Tensor input = arguments.Tensor("X");
  TORCH_CHECK(input.scalar_type() == at::kFloat, "X is a ", input.scalar_type(),
              " tensor; float ones are quantised");
  return {{LinearResult(input, arguments["W_prepack"], at::kFloat)}, std::nullopt};
}

void CheckUnsigned(const at::Tensor& integers, const char* name) {
  TORCH_CHECK(integers.scalar_type() == at::kByte, name, " is qint8; quint8 is converted");
}

Outputs Linear(const Arguments& arguments) {
  const at::Tensor input = arguments.Integers("X");
  CheckUnsigned(input, "X");
  return {{LinearResult(input, arguments["W_prepack"], at::kByte)},
          arguments.Given("Y_scale_i", "Y_zero_point_i")};
}

Outputs Convolution(const Arguments& arguments) {
  const at::Tensor input = arguments.Integers("qx");
  CheckUnsigned(input, "qx");
  const QuantisedConvolution conv = UnpackConv2d(arguments["packed_weight"]);
  const at::Tensor& weight = conv.weight.values;
  TORCH_CHECK(input.dim() == 4 && input.size(1) == weight.size(1) * conv.groups,
              "qx has the sizes ", input.sizes(), "; images of ", weight.size(1) * conv.groups,
              " channels are expected");
  const auto sizes = at::native::conv_output_size(input.sizes(), weight.sizes(), conv.padding,
                                                  conv.stride, conv.dilation);
  return {{Empty(sizes, at::kByte, at::MemoryFormat::ChannelsLast)},
          arguments.Given("output_scale", "output_zero_point")};
}

Outputs TransposedConvolution(const Arguments& arguments) {
  const at::Tensor input = arguments.Integers("qx");
  CheckUnsigned(input, "qx");
  const QuantisedConvolution conv = UnpackConv2d(arguments["packed_weight"], /*transposed=*/true);
  const at::Tensor& weight = conv.weight.values;
  TORCH_CHECK(input.dim() == 4 && input.size(1) == weight.size(0), "qx has the sizes ",
              input.sizes(), "; images of ", weight.size(0), " channels are expected");
  const auto sizes =
      at::native::conv_input_size(input.sizes(), weight.sizes(), conv.padding, conv.output_padding,
                                  conv.stride, conv.dilation, conv.groups);
  return {{Empty(sizes, at::kByte, at::MemoryFormat::ChannelsLast)},
          arguments.Given("output_scale", "output_zero_point")};
}

Outputs Binary(const Arguments& arguments) {
  const at::Tensor a = arguments.Integers("qa"), b = arguments.Integers("qb");
  TORCH_CHECK(a.scalar_type() == b.scalar_type(), "qa and qb have different dtypes");
  return {{Empty(at::infer_size(a.sizes(), b.sizes()), a.scalar_type(), a.suggest_memory_format())},
          arguments.Given("scale", "zero_point")};
}

Outputs LikeInput(const at::Tensor& input, const Quantiser& quantiser) {
  return {{Empty(input.sizes(), input.scalar_type(), input.suggest_memory_format())}, quantiser};
}

// One tensor in, one of its sizes out; another quantiser if the schema has one.
Outputs Unary(const Arguments& arguments) {
  const char* name = arguments.Has("qx") ? "qx" : "input";
  const at::Tensor input = arguments.Integers(name);
  const Quantiser quantiser = arguments.Has("output_scale")
                                  ? arguments.Given("output_scale", "output_zero_point")
                                  : arguments.Of(input);
  return LikeInput(input, quantiser);
}

// The number that an operator takes, as such or in a tensor.
double NumberOf(const c10::IValue& value) {
  double number = 0;
  if (value.isTensor()) {
    const at::Tensor& tensor = value.toTensor();
    TORCH_CHECK(!tensor.is_meta() && tensor.numel() == 1, "b is known only at run time");
    number = tensor.item<double>();
  } else {
    number = value.toScalar().toDouble();
  }
  TORCH_CHECK(std::isfinite(number), "b=", number, "; finite numbers are converted");
  return number;
}

struct Range {
  int64_t least, most;
  double levels() const { return static_cast<double>(most - least); }
};

Range RangeOf(c10::ScalarType dtype) {
  return dtype == at::kByte ? Range{0, 255} : Range{-128, 127};
}

// The zero point moves; where that leaves what 8 bits hold, it stays at their end, and the scale
// grows so that the other end stands for the same as before.
Outputs AddNumber(const Arguments& arguments) {
  const at::Tensor input = arguments.Integers("qa");
  const Quantiser own = arguments.Of(input);
  const Range range = RangeOf(input.scalar_type());
  const int64_t moved = MovedZeroPoint(own, NumberOf(arguments["b"]));
  if (moved < range.least) {
    return LikeInput(
        input, {static_cast<double>(range.most - moved) / range.levels() * own.scale, range.least});
  }
  if (moved > range.most) {
    return LikeInput(
        input, {static_cast<double>(moved - range.least) / range.levels() * own.scale, range.most});
  }
  return LikeInput(input, {own.scale, moved});
}

// The scale is multiplied; a negative number mirrors the integers.
Outputs MultiplyByNumber(const Arguments& arguments) {
  const at::Tensor input = arguments.Integers("qa");
  const Quantiser own = arguments.Of(input);
  const double number = NumberOf(arguments["b"]);
  if (number == 0) return LikeInput(input, {1.0, 0});
  const Range range = RangeOf(input.scalar_type());
  const int64_t mirrored = range.most + range.least - own.zero_point;
  return LikeInput(input, {std::abs(number) * own.scale, number > 0 ? own.zero_point : mirrored});
}

// Quantised as the first part, unless the schema has a quantiser.
Outputs Concatenate(const Arguments& arguments) {
  const char* name = arguments.Has("qx") ? "qx" : "tensors";
  const std::vector<at::Tensor> parts = arguments[name].toTensorVector();
  TORCH_CHECK(!parts.empty(), name, " is empty");
  for (const at::Tensor& part : parts) {
    TORCH_CHECK(arguments.IsQuantised(part) && part.scalar_type() == parts[0].scalar_type(), name,
                " has tensors that are not quantised, or are of different dtypes");
  }
  Quantiser quantiser = arguments.Of(parts[0]);
  if (arguments.Has("scale") && !arguments["scale"].isNone()) {
    quantiser.scale = arguments["scale"].toDouble();
  }
  if (arguments.Has("zero_point") && !arguments["zero_point"].isNone()) {
    quantiser.zero_point = arguments["zero_point"].toInt();
  }
  return {{at::cat(parts, arguments["dim"].toInt())}, quantiser};
}

// Whether an operator with a rule is one of plain tensors too.
bool TakesEither(const std::string& name) {
  return name == "aten::cat" || name == "aten::dequantize.self";
}

// Operators whose results are quantised as their argument is; what they do with sizes and strides
// does not depend on the dtype.
const std::unordered_set<std::string>& KeepQuantiser() {
  static const std::unordered_set<std::string> names = {
      "aten::adaptive_avg_pool2d",
      "aten::chunk",
      "aten::contiguous",
      "aten::expand",
      "aten::flatten.using_ints",
      "aten::max_pool2d",
      "aten::mean.dim",
      "aten::permute",
      "aten::relu",
      "aten::reshape",
      "aten::select.int",
      "aten::slice.Tensor",
      "aten::split.Tensor",
      "aten::squeeze",
      "aten::squeeze.dim",
      "aten::t",
      "aten::transpose.int",
      "aten::unsqueeze",
      "aten::view",
  };
  return names;
}

const std::unordered_map<std::string, Rule>& Rules() {
  static const std::unordered_map<std::string, Rule> rules = {
      {"aten::cat", Concatenate},
      {"aten::dequantize.self", Dequantise},
      {"aten::quantize_per_tensor", Quantise},
      {"aten::quantize_per_tensor.tensor_qparams", QuantiseByTensors},
      {"quantized::add", Binary},
      {"quantized::add_relu", Binary},
      {"quantized::add_scalar", AddNumber},
      {"quantized::add_scalar.Tensor", AddNumber},
      {"quantized::add_scalar_relu", AddNumber},
      {"quantized::add_scalar_relu.Tensor", AddNumber},
      {"quantized::cat", Concatenate},
      {"quantized::conv2d.new", Convolution},
      {"quantized::conv2d_relu.new", Convolution},
      {"quantized::conv_transpose2d", TransposedConvolution},
      {"quantized::hardswish", Unary},
      {"quantized::leaky_relu", Unary},
      {"quantized::linear", Linear},
      {"quantized::linear_dynamic", LinearDynamic},
      {"quantized::linear_relu", Linear},
      {"quantized::linear_relu_dynamic", LinearDynamic},
      {"quantized::mul", Binary},
      {"quantized::mul_relu", Binary},
      {"quantized::mul_scalar", MultiplyByNumber},
      {"quantized::mul_scalar.Tensor", MultiplyByNumber},
      {"quantized::mul_scalar_relu", MultiplyByNumber},
      {"quantized::mul_scalar_relu.Tensor", MultiplyByNumber},
      {"quantized::relu6", Unary},
  };
  return rules;
}

// Runs an operator on float tensors in place of the integers.
Outputs RunOnFloats(const std::vector<c10::IValue>& inputs, const Quantiser& quantiser,
                    const CallOperator& call) {
  const auto as = [](const at::Tensor& tensor, c10::ScalarType dtype) {
    return at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().dtype(dtype));
  };
  c10::ScalarType dtype = at::kByte;
  std::vector<c10::IValue> floats = inputs;
  for (c10::IValue& input : floats) {
    if (!input.isTensor() || !input.toTensor().defined()) continue;
    dtype = input.toTensor().scalar_type();
    input = as(input.toTensor(), at::kFloat);
  }
  std::vector<c10::IValue> outputs = call(std::move(floats));
  for (c10::IValue& output : outputs) {
    if (output.isTensor()) {
      output = as(output.toTensor(), dtype);
    } else if (output.isTensorList()) {
      c10::List<at::Tensor> parts;
      for (const at::Tensor& part : output.toTensorVector()) parts.push_back(as(part, dtype));
      output = parts;
    }
  }
  return {std::move(outputs), quantiser};
}

}  // namespace

int64_t MovedZeroPoint(const Quantiser& quantiser, double number) {
  const double quanta = std::nearbyint(number / quantiser.scale);
  TORCH_CHECK(std::abs(quanta) < std::numeric_limits<int32_t>::max() / 2, "b=", number,
              "; fewer than 2^30 quanta are converted");
  return quantiser.zero_point - static_cast<int64_t>(quanta);
}

std::optional<QuantisedOutputs> RunQuantisedByRule(const c10::FunctionSchema& schema,
                                                   const std::vector<c10::IValue>& inputs,
                                                   const QuantiserOf& quantiser_of,
                                                   const CallOperator& call) {
  std::optional<Quantiser> quantiser;
  for (const c10::IValue& input : inputs) {
    ForEachTensor(input, [&](const at::Tensor& tensor) {
      if (const auto own = quantiser_of(tensor)) quantiser = own;
    });
  }
  const std::string name = OperatorName(schema);
  const auto rule = Rules().find(name);
  if (rule != Rules().end() && (quantiser || !TakesEither(name))) {
    return rule->second({schema, inputs, quantiser_of});
  }
  if (!quantiser) return std::nullopt;
  if (KeepQuantiser().count(name) > 0) return RunOnFloats(inputs, *quantiser, call);
  const bool tells_sizes = !schema.returns().empty() &&
                           schema.returns()[0].type()->kind() != c10::TypeKind::TensorType &&
                           name.rfind("aten::", 0) == 0;
  if (tells_sizes) return std::nullopt;
  TORCH_CHECK(false, "its argument is a quantised tensor, on which it is not converted");
}

}  // namespace torch_tvm::convert
