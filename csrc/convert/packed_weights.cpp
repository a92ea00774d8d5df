#include "convert/packed_weights.h"

#include <ATen/ATen.h>
#include <ATen/native/quantized/PackedParams.h>

#include <string_view>

namespace torch_tvm::convert {
namespace {

QuantisedWeight Describe(const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  TORCH_CHECK(weight.is_quantized() && weight.scalar_type() == c10::kQInt8, "its weights are of ",
              weight.scalar_type(), "; only those of qint8 are converted");
  const auto plain = [](const at::Tensor& tensor, c10::ScalarType dtype) {
    return tensor.to(dtype).contiguous();
  };
  const bool per_channel = weight.qscheme() == c10::kPerChannelAffine;
  TORCH_CHECK(per_channel || weight.qscheme() == c10::kPerTensorAffine,
              "its weights are quantised by ", c10::toString(weight.qscheme()),
              "; only affine ones per tensor or per channel are converted");
  TORCH_CHECK(!per_channel || weight.q_per_channel_axis() == 0,
              "its weights are quantised along axis ", weight.q_per_channel_axis(),
              "; only along output channels is converted");
  QuantisedWeight result;
  result.values = weight.int_repr().contiguous();
  result.scales = plain(per_channel ? weight.q_per_channel_scales()
                                    : at::scalar_tensor(weight.q_scale(), at::kDouble),
                        at::kFloat);
  result.zero_points = plain(per_channel ? weight.q_per_channel_zero_points()
                                         : at::scalar_tensor(weight.q_zero_point(), at::kLong),
                             at::kInt);
  if (bias) result.bias = plain(bias->detach(), at::kFloat);
  return result;
}

}  // namespace

bool HoldsQuantisedWeights(const c10::Type& type) {
  const auto* object = type.castRaw<c10::ClassType>();
  if (object == nullptr || !object->name()) return false;
  const std::string name = object->name()->qualifiedName();
  constexpr std::string_view kPrefix = "__torch__.torch.classes.quantized.";
  return name.compare(0, kPrefix.size(), kPrefix) == 0;
}

QuantisedWeight UnpackLinear(const c10::IValue& packed) {
  const auto [weight, bias] = packed.toCustomClass<LinearPackedParamsBase>()->unpack();
  return Describe(weight, bias);
}

QuantisedConvolution UnpackConv2d(const c10::IValue& packed, bool transposed) {
  const auto params = packed.toCustomClass<ConvPackedParamsBase<2>>();
  TORCH_CHECK(params->transpose() == transposed, "its weights are those of a ",
              transposed ? "forward" : "transposed", " convolution");
  const auto [weight, bias] = params->unpack();
  return {Describe(weight, bias),   params->stride().vec(),         params->padding().vec(),
          params->dilation().vec(), params->output_padding().vec(), params->groups()};
}

}  // namespace torch_tvm::convert
