// Norms of vectors, for every converter that needs one.
#pragma once

#include "convert/term.h"

namespace torch_tvm::convert {

// The norm of some order over dimensions, of real numbers; no dimensions are those of a scalar.
TORCH_TVM_API Term NormOf(const Term& x, double order, const Sizes& dims, bool keepdim);

}  // namespace torch_tvm::convert
