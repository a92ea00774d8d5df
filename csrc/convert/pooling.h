// The windows that poolings run over.
#pragma once

#include "convert/context.h"

namespace torch_tvm::convert {

struct Window {
  Sizes in;   // spatial sizes of the input
  Sizes out;  // and of the result
  Sizes kernel;
  Sizes strides;
  Sizes dilation;
  Sizes padding;  // as given: the same at both ends
  Sizes extra;    // what Relay's padding at the end must be for `out` windows
};

// The windows over the last `dims` dimensions that the arguments of a pooling name.
Window WindowOf(const Context& ctx, const Operand& self, size_t dims);

// Values and indices of max pooling, where the indices are used.
Results MaxPoolWithIndices(Context& ctx, size_t dims);
Results AdaptiveMaxPoolWithIndices(Context& ctx, size_t dims);

}  // namespace torch_tvm::convert
