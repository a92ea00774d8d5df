// Weights of quantised layers. A module holds them as an opaque object (torch.classes.quantized.*)
// in a form for the kernels of one engine; here they are tensors again.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <optional>
#include <vector>

namespace torch_tvm::convert {

// Integers and what they stand for: (value - zero_point) * scale, per output channel or for all.
struct QuantisedWeight {
  at::Tensor values;               // int8, contiguous: [units, inputs] or [filters, channels, ...]
  at::Tensor scales, zero_points;  // float32 and int32; rank 0, or one for each output channel
  std::optional<at::Tensor> bias;  // float32
  bool per_channel() const { return scales.dim() == 1; }
};

// Whether values of a type are objects that hold such weights.
bool HoldsQuantisedWeights(const c10::Type& type);

struct QuantisedConvolution {
  QuantisedWeight weight;
  std::vector<int64_t> stride, padding, dilation;
  std::vector<int64_t> output_padding;  // of a transposed one
  int64_t groups;
};

// Copies the weights out of the object; throws c10::Error where they are not 8-bit integers, or the
// convolution is not of the kind that is asked for.
QuantisedWeight UnpackLinear(const c10::IValue& packed);
QuantisedConvolution UnpackConv2d(const c10::IValue& packed, bool transposed = false);

}  // namespace torch_tvm::convert
