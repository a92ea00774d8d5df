// How torch's strides relate to the order in which a kernel walks memory.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <vector>

namespace torch_tvm::runtime {

// A tensor of a signature: what a runtime input brings, what a weight is, what eager would return.
struct TensorSpec {
  c10::ScalarType dtype;
  std::vector<int64_t> sizes, strides;
};

// Dimensions from outermost to innermost in memory: {0, 1, 2, 3} for contiguous, {0, 2, 3, 1} for
// channels_last. Contiguous where strides leave a choice (extents of 1, no elements) or say nothing
// (two elements share memory).
std::vector<int64_t> PhysicalOrder(c10::IntArrayRef sizes, c10::IntArrayRef strides);

// Strides of a tensor without gaps whose dimensions lie in `order`.
std::vector<int64_t> DenseStrides(c10::IntArrayRef sizes, c10::IntArrayRef order);

// Whether both strides address the same memory: they may differ where an extent is 1, or altogether
// when there are no elements.
bool SameMemory(c10::IntArrayRef sizes, c10::IntArrayRef a, c10::IntArrayRef b);

// A tensor that a caller keeps alive, as a reference of its own.
inline at::Tensor Borrow(c10::TensorImpl* tensor) {
  return at::Tensor(
      c10::intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>::unsafe_reclaim_from_nonowning(
          tensor));
}

// Writes `source` into `target`, whose elements may share memory (an expanded or unfolded result:
// elements that share memory are equal).
void Place(at::Tensor target, at::Tensor source);

}  // namespace torch_tvm::runtime
