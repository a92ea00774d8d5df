// Tensors of indices as converters use them: negative ones counted from the end, those out of range
// refused.
#pragma once

#include "convert/context.h"

namespace torch_tvm::convert {

// PyTorch raises for indices outside of [low, high).
void RequireWithin(Context& ctx, const Operand& index, int64_t low, int64_t high);

// Indices that kernels may use unchecked.
Expr Within(const Context& ctx, const Operand& index, int64_t size);

// Negative indices count from the end.
Operand Wrapped(const Context& ctx, const Operand& index, int64_t size);

// The same indices as int64.
Operand AsLong(const Context& ctx, const Operand& index);

// Tensors of indices for some dimensions of a tensor, as x[i, :, j] has them.
struct Indexing {
  Sizes dims;                    // that an index is given for
  std::vector<Operand> indices;  // int64, non-negative
};

// The argument "indices" of the index family. Masks are refused.
Indexing IndicesOf(Context& ctx, const Operand& self);

// A permutation that puts some dimensions first, in their order, and the others behind them.
Sizes DimsFirst(const Sizes& dims, int64_t rank);

Sizes InversePermutation(const Sizes& axes);

}  // namespace torch_tvm::convert
