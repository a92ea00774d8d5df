#include "core/dtype.h"

#include <c10/util/Exception.h>

#include <array>
#include <string>
#include <utility>

namespace torch_tvm {
namespace {

constexpr std::array<std::pair<c10::ScalarType, DLDataType>, 9> kDtypes = {{
    {c10::ScalarType::Float, {kDLFloat, 32, 1}},
    {c10::ScalarType::Double, {kDLFloat, 64, 1}},
    {c10::ScalarType::Half, {kDLFloat, 16, 1}},
    {c10::ScalarType::BFloat16, {kDLBfloat, 16, 1}},
    {c10::ScalarType::Long, {kDLInt, 64, 1}},
    {c10::ScalarType::Int, {kDLInt, 32, 1}},
    {c10::ScalarType::Short, {kDLInt, 16, 1}},
    {c10::ScalarType::Char, {kDLInt, 8, 1}},
    {c10::ScalarType::Byte, {kDLUInt, 8, 1}},
}};
constexpr DLDataType kBool = {kDLBool, 8, 1};

bool Same(DLDataType a, DLDataType b) {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

}  // namespace

std::optional<DLDataType> ToDLDataType(c10::ScalarType dtype) {
  if (dtype == c10::ScalarType::Bool) return kBool;
  for (const auto& [torch_dtype, dl_dtype] : kDtypes) {
    if (torch_dtype == dtype) return dl_dtype;
  }
  return std::nullopt;
}

c10::ScalarType ToScalarType(DLDataType dtype) {
  if (Same(dtype, kBool)) return c10::ScalarType::Bool;
  for (const auto& [torch_dtype, dl_dtype] : kDtypes) {
    if (Same(dl_dtype, dtype)) return torch_dtype;
  }
  TORCH_CHECK_TYPE(false, "torch has no tensors of dtype ",
                   std::string(tvm::ffi::DLDataTypeToString(dtype)));
}

}  // namespace torch_tvm
