// Helpers that converters and the parser build Relay with.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/api.h"
#include "relay/expr.h"
#include "relay/op_table.h"

namespace torch_tvm::relay {

using AttrList = std::initializer_list<std::pair<const char*, ffi::Any>>;

// MakeCall("nn.dense", {x, w}, {{"units", 10}}). Throws ValueError or TypeError for what the
// operator table does not allow.
TORCH_TVM_API Call MakeCall(const std::string& op, std::vector<Expr> args, AttrList attrs = {},
                            ffi::Optional<Span> span = std::nullopt);
TORCH_TVM_API Call MakeCall(const std::string& op, std::vector<Expr> args,
                            ffi::Map<ffi::String, ffi::Any> attrs,
                            ffi::Optional<Span> span = std::nullopt);

// Rank-0 constants, rounded to dtype as PyTorch does; an integer that dtype cannot hold is a
// ValueError.
TORCH_TVM_API Constant MakeScalar(double value, DLDataType dtype);
TORCH_TVM_API Constant MakeScalar(int64_t value, DLDataType dtype);
TORCH_TVM_API Constant MakeScalar(bool value, DLDataType dtype);
TORCH_TVM_API Constant MakeConstant(ffi::Tensor data);

// A variable with a name that the Relay parser reads.
TORCH_TVM_API Var MakeVar(std::string_view name, TensorType type,
                          ffi::Optional<Span> span = std::nullopt);

// The nearest name to this one that TVM 0.19's parser takes: [A-Za-z][A-Za-z0-9_/]*, no keyword,
// nothing that lexes as a number ("inff").
std::string FriendlyName(std::string_view name);

// A zero-filled CPU tensor of these sizes.
ffi::Tensor EmptyTensor(ffi::ShapeView shape, DLDataType dtype);
// The tensor itself if it is contiguous, else a contiguous copy; ValueError if it is not on the
// CPU.
ffi::Tensor MakeContiguous(ffi::Tensor tensor);

}  // namespace torch_tvm::relay
