// Tables of numbers.
#pragma once

#include "convert/term.h"

namespace torch_tvm::convert {

// What a node gives that depends on constants alone: PyTorch computes it now, and Relay carries it.
Results Computed(Context& ctx);

// Whether all arguments that are tensors are constants.
bool IsComputable(const Context& ctx);

// `count` numbers at even distances from `start` to `end`, of rank 0, as torch.linspace(...,
// dtype=dtype) computes them: in float64 for integers, which are truncated, else in the dtype.
Term Linspace(const Term& start, const Term& end, int64_t count, ScalarType dtype);

}  // namespace torch_tvm::convert
