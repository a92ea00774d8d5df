#include "relay/builder.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "relay/lexer.h"

namespace torch_tvm::relay {
namespace {

// 64 bytes: one cache line, one AVX-512 vector.
constexpr size_t kAlignment = 64;

struct CpuAllocator {
  void AllocData(DLTensor* tensor) {
    size_t bytes = ffi::GetDataSize(*tensor);
    size_t rounded = std::max((bytes + kAlignment - 1) / kAlignment, size_t{1}) * kAlignment;
    tensor->data = std::aligned_alloc(kAlignment, rounded);
    if (!tensor->data) TVM_FFI_THROW(MemoryError) << "cannot allocate " << bytes << " bytes";
    std::memset(tensor->data, 0, rounded);
  }
  void FreeData(DLTensor* tensor) { std::free(tensor->data); }
};

template <typename T>
Constant Scalar(T value, DLDataType dtype) {
  ffi::Tensor tensor = EmptyTensor(ffi::ShapeView(nullptr, 0), dtype);
  std::memcpy(tensor.data_ptr(), &value, sizeof(T));
  return Constant(tensor);
}

template <typename T>
Constant IntScalar(int64_t value, DLDataType dtype) {
  using Limits = std::numeric_limits<T>;
  bool fits = value >= static_cast<int64_t>(Limits::min()) &&
              (sizeof(T) == sizeof(int64_t) || value <= static_cast<int64_t>(Limits::max()));
  if (!fits) {
    TVM_FFI_THROW(ValueError) << value << " does not fit " << ffi::DLDataTypeToString(dtype);
  }
  return Scalar(static_cast<T>(value), dtype);
}

[[noreturn]] void ThrowDtype(DLDataType dtype) {
  TVM_FFI_THROW(TypeError) << "no scalar constants of dtype " << ffi::DLDataTypeToString(dtype);
}

template <typename T>
Constant FloatScalar(T value, DLDataType dtype) {
  if (dtype.lanes != 1) ThrowDtype(dtype);
  if (dtype.code == kDLBfloat && dtype.bits == 16) {
    return Scalar(c10::BFloat16(static_cast<float>(value)), dtype);
  }
  if (dtype.code != kDLFloat) ThrowDtype(dtype);
  switch (dtype.bits) {
    case 16:
      return Scalar(c10::Half(static_cast<float>(value)), dtype);
    case 32:
      return Scalar(static_cast<float>(value), dtype);
    case 64:
      return Scalar(static_cast<double>(value), dtype);
    default:
      ThrowDtype(dtype);
  }
}

}  // namespace

Call MakeCall(const std::string& op, std::vector<Expr> args, AttrList attrs,
              ffi::Optional<Span> span) {
  ffi::Map<ffi::String, ffi::Any> map;
  for (const auto& [key, value] : attrs) map.Set(key, value);
  return MakeCall(op, std::move(args), std::move(map), std::move(span));
}

Call MakeCall(const std::string& op, std::vector<Expr> args, ffi::Map<ffi::String, ffi::Any> attrs,
              ffi::Optional<Span> span) {
  return Call(Op::Get(op), ffi::Array<Expr>(args.begin(), args.end()), std::move(attrs),
              std::move(span));
}

Constant MakeScalar(double value, DLDataType dtype) {
  if (dtype.code == kDLFloat || dtype.code == kDLBfloat) return FloatScalar(value, dtype);
  bool exact = value >= -9223372036854775808.0 && value < 9223372036854775808.0 &&
               static_cast<double>(static_cast<int64_t>(value)) == value;
  if (!exact) {
    TVM_FFI_THROW(ValueError) << value << " does not fit " << ffi::DLDataTypeToString(dtype);
  }
  return MakeScalar(static_cast<int64_t>(value), dtype);
}

Constant MakeScalar(int64_t value, DLDataType dtype) {
  if (dtype.lanes != 1) ThrowDtype(dtype);
  if (dtype.code == kDLFloat || dtype.code == kDLBfloat) return FloatScalar(value, dtype);
  if (dtype.code == kDLBool) return Scalar(static_cast<uint8_t>(value != 0), dtype);
  bool is_signed = dtype.code == kDLInt;
  if (!is_signed && dtype.code != kDLUInt) ThrowDtype(dtype);
  switch (dtype.bits) {
    case 8:
      return is_signed ? IntScalar<int8_t>(value, dtype) : IntScalar<uint8_t>(value, dtype);
    case 16:
      return is_signed ? IntScalar<int16_t>(value, dtype) : IntScalar<uint16_t>(value, dtype);
    case 32:
      return is_signed ? IntScalar<int32_t>(value, dtype) : IntScalar<uint32_t>(value, dtype);
    case 64:
      return is_signed ? IntScalar<int64_t>(value, dtype) : IntScalar<uint64_t>(value, dtype);
    default:
      ThrowDtype(dtype);
  }
}

Constant MakeScalar(bool value, DLDataType dtype) {
  return MakeScalar(static_cast<int64_t>(value), dtype);
}

Constant MakeConstant(ffi::Tensor data) { return Constant(std::move(data)); }

Var MakeVar(std::string_view name, TensorType type, ffi::Optional<Span> span) {
  return Var(FriendlyName(name), std::move(type), std::move(span));
}

std::string FriendlyName(std::string_view name) {
  std::string friendly;
  for (char c : name) {
    bool fine = std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '/';
    friendly += fine ? c : '_';
  }
  bool letter = !friendly.empty() && std::isalpha(static_cast<unsigned char>(friendly[0]));
  if (!letter || IsKeyword(friendly) || friendly.rfind("inff", 0) == 0) friendly = "v" + friendly;
  return friendly;
}

ffi::Tensor EmptyTensor(ffi::ShapeView shape, DLDataType dtype) {
  return ffi::Tensor::FromNDAlloc(CpuAllocator(), shape, dtype, DLDevice{kDLCPU, 0});
}

ffi::Tensor MakeContiguous(ffi::Tensor tensor) {
  const DLTensor* source = tensor.GetDLTensorPtr();
  if (source->device.device_type != kDLCPU) {
    TVM_FFI_THROW(ValueError) << "Constant: expected a tensor on the CPU, got device type "
                              << static_cast<int>(source->device.device_type);
  }
  if (tensor.IsContiguous()) return tensor;
  ffi::Tensor copy = EmptyTensor(tensor.shape(), source->dtype);
  size_t item = ffi::GetDataSize(1, source->dtype);
  auto* to = static_cast<char*>(copy.data_ptr());
  const auto* from = static_cast<const char*>(source->data) + source->byte_offset;
  std::vector<int64_t> index(source->ndim, 0);
  for (int64_t done = 0, count = tensor.numel(); done < count; ++done) {
    int64_t offset = 0;
    for (int dim = 0; dim < source->ndim; ++dim) offset += index[dim] * source->strides[dim];
    std::memcpy(to + done * item, from + offset * static_cast<int64_t>(item), item);
    for (int dim = source->ndim - 1; dim >= 0 && ++index[dim] == source->shape[dim]; --dim) {
      index[dim] = 0;
    }
  }
  return copy;
}

}  // namespace torch_tvm::relay
