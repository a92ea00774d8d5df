// What converters of losses share.
#pragma once

#include "convert/term.h"

namespace torch_tvm::convert {

// The loss of each element, `sizes` of them, as the argument `reduction` says: all, mean or sum.
TORCH_TVM_API Expr Reduced(const Context& ctx, const Term& loss, const Sizes& sizes);

}  // namespace torch_tvm::convert
