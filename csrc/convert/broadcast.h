// Operands that may be tensors or Python numbers, as element-wise operators take them.
#pragma once

#include "convert/context.h"

namespace torch_tvm::convert {

// The argument, a tensor or a number, as arithmetic in `common` takes it: converted to `common`,
// then held in MathType(common). Numbers, and tensors of rank 0, go to the math dtype directly:
// eager PyTorch does not round them to half or bfloat16 first.
TORCH_TVM_API Expr OperandAs(const Context& ctx, const char* name, ScalarType common);

TORCH_TVM_API Expr OperandAs(const Context& ctx, const Operand& operand, ScalarType common);

// The same with numbers rounded to `common` too, as comparisons do.
TORCH_TVM_API Expr Rounded(const Context& ctx, const char* name, ScalarType common);

// The argument's number if it is known: a Python number, or a tensor of one element that no input
// changes.
TORCH_TVM_API std::optional<at::Scalar> KnownNumber(const Context& ctx, const char* name);

// The dtype that PyTorch promotes two arguments to; Python numbers and rank-0 tensors weigh less
// than tensors.
TORCH_TVM_API ScalarType PromotedType(const Context& ctx, const char* left, const char* right);

}  // namespace torch_tvm::convert
