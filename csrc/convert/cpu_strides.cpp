#include "convert/cpu_strides.h"

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>

#include <unordered_map>

namespace torch_tvm::convert {
namespace {

using Inputs = std::vector<c10::IValue>;

bool IsTensor(const c10::IValue& value) { return value.isTensor() && value.toTensor().defined(); }

// Convolutions over images give channels_last if their input or their weight has it; others are
// contiguous.
at::Tensor Convolution(const Inputs& inputs, const at::Tensor& output) {
  const at::Tensor& input = inputs[0].toTensor();
  const at::Tensor& weight = inputs[1].toTensor();
  if (weight.dim() != 4) return output;
  const bool single = input.dim() == 3;
  const auto last = at::MemoryFormat::ChannelsLast;
  const bool channels_last = weight.suggest_memory_format() == last ||
                             (single ? input.unsqueeze(0) : input).suggest_memory_format() == last;
  const auto format = channels_last ? last : at::MemoryFormat::Contiguous;
  if (!single) return at::empty(output.sizes(), output.options().memory_format(format));
  return at::empty(output.unsqueeze(0).sizes(), output.options().memory_format(format)).squeeze(0);
}

// Channels last where the input has them, which other permutations of an image count as not.
at::Tensor FormatOfInput(const Inputs& inputs, const at::Tensor& output) {
  const auto format = inputs[0].toTensor().suggest_memory_format();
  return at::empty(output.sizes(), output.options().memory_format(format));
}

at::Tensor Pad(const Inputs& inputs, const at::Tensor& output) {
  const std::string& mode = inputs[2].toStringRef();
  return mode == "reflect" || mode == "replicate" ? FormatOfInput(inputs, output) : output;
}

at::Tensor Contiguous(const Inputs&, const at::Tensor& output) {
  return at::empty(output.sizes(), output.options());
}

// A CPU tensor with the layout of a meta tensor; its memory is never touched.
at::Tensor Shell(const at::Tensor& meta) {
  return at::empty_strided(meta.sizes(), meta.strides(), meta.options().device(c10::kCPU));
}

// The fused kernel, where PyTorch would choose it, gives the layout of the query.
at::Tensor Attention(const Inputs& inputs, const at::Tensor& output) {
  const at::Tensor& query = inputs[0].toTensor();
  if (query.dim() != 4 || query.numel() == 0) return output;
  std::optional<at::Tensor> mask;
  if (IsTensor(inputs[3])) mask = Shell(inputs[3].toTensor());
  std::optional<double> scale;
  if (!inputs[6].isNone()) scale = inputs[6].toDouble();
  const int64_t choice = at::_fused_sdp_choice(
      Shell(query), Shell(inputs[1].toTensor()), Shell(inputs[2].toTensor()), mask,
      inputs[4].toDouble(), inputs[5].toBool(), scale, inputs[7].toBool());
  constexpr int64_t kFlash = 1;  // sdp::SDPBackend::flash_attention
  if (choice != kFlash) return output;
  // As empty_like, whose meta kernel is Python.
  const at::Tensor rows = query.transpose(1, 2);
  const auto strides = rows.is_non_overlapping_and_dense()
                           ? rows.strides().vec()
                           : at::infer_dense_strides(rows.sizes(), rows.strides());
  return at::empty_strided(rows.sizes(), strides, rows.options()).transpose(1, 2);
}

using Correction = at::Tensor (*)(const Inputs&, const at::Tensor&);
const std::unordered_map<std::string, Correction>& Corrections() {
  static const std::unordered_map<std::string, Correction> corrections = {
      {"aten::_convolution", Convolution},
      {"aten::_convolution_mode", Convolution},
      {"aten::convolution", Convolution},
      {"aten::conv2d", Convolution},
      {"aten::conv_transpose2d", Convolution},
      {"aten::batch_norm", FormatOfInput},
      {"aten::pad", Pad},
      {"aten::reflection_pad2d", FormatOfInput},
      {"aten::reflection_pad3d", FormatOfInput},
      {"aten::replication_pad2d", FormatOfInput},
      {"aten::replication_pad3d", FormatOfInput},
      {"aten::max_unpool2d", FormatOfInput},
      {"aten::pixel_shuffle", FormatOfInput},
      {"aten::channel_shuffle", FormatOfInput},
      {"aten::native_channel_shuffle", FormatOfInput},
      {"aten::log_sigmoid", Contiguous},
      {"aten::rrelu", Contiguous},
      {"aten::cross_entropy_loss", Contiguous},
      {"aten::nll_loss", Contiguous},
      {"aten::nonzero_static", Contiguous},
      {"aten::nll_loss2d", Contiguous},
      {"aten::nll_loss_nd", Contiguous},
      {"aten::_weight_norm_interface", Contiguous},
      {"aten::scaled_dot_product_attention", Attention},
  };
  return corrections;
}

}  // namespace

void CorrectStrides(const std::string& op, const Inputs& inputs, Inputs& outputs) {
  const auto correction = Corrections().find(op);
  if (correction == Corrections().end()) return;
  for (c10::IValue& output : outputs) {
    if (IsTensor(output) && output.toTensor().is_meta()) {
      output = correction->second(inputs, output.toTensor());
    }
  }
}

}  // namespace torch_tvm::convert
