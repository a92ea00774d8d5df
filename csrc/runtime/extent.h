// Sizes of a symbolic plan as expressions of its dimensions, in the form that Python hands over
// (torch_tvm/symbolic.py, encode): a row of numbers, without any TVM.
#pragma once

#include <c10/util/ArrayRef.h>
#include <tvm/ffi/tvm_ffi.h>

#include <cstdint>
#include <vector>

namespace torch_tvm::runtime {

namespace ffi = tvm::ffi;

// A sum of products: the number of terms, then of each its factor, the number of its atoms and
// these. An atom is the number of a dimension, or -1, a divisor and the expression that it divides
// (rounded down).
class Extent {
 public:
  // Throws ValueError where this is no expression of so many dimensions.
  Extent(const ffi::Array<int64_t>& code, int64_t num_dims);

  // Throws ValueError where a number does not fit into 64 bits.
  int64_t Evaluate(c10::ArrayRef<int64_t> values) const;

 private:
  std::vector<int64_t> code_;
};

}  // namespace torch_tvm::runtime
