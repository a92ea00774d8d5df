// Tensors that are quantised per tensor, as the integers that represent them.
#pragma once

#include <ATen/core/Tensor.h>

namespace torch_tvm::runtime {

// The integers of a quantised tensor, in its memory.
at::Tensor Integers(const at::Tensor& quantised);

// The quantised tensor of quint8 or qint8 that stands for (integer - zero_point) * scale; it shares
// the memory of `integers`.
at::Tensor WithQuantiser(const at::Tensor& integers, double scale, int64_t zero_point);

}  // namespace torch_tvm::runtime
