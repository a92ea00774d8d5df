#include "relay/literal.h"

#include <c10/util/Half.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>

namespace torch_tvm::relay {
namespace {

std::string SixDigits(double value) {
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), "%g", value);
  return text.data();
}

template <typename T>
T Read(const Constant& constant) {
  T value;
  std::memcpy(&value, constant->data.data_ptr(), sizeof(T));
  return value;
}

template <typename T>
std::optional<std::string> FloatLiteral(T value, const char* suffix) {
  double wide = static_cast<double>(value);
  if (std::isinf(wide) && sizeof(T) == sizeof(float)) return wide < 0 ? "-inff" : "inff";
  if (!std::isfinite(wide)) return std::nullopt;
  std::string digits = SixDigits(wide);
  double back = static_cast<double>(static_cast<T>(std::strtod(digits.c_str(), nullptr)));
  if (back != wide) return std::nullopt;
  return digits + suffix;
}

std::optional<std::string> IntLiteral(const Constant& constant, int bits) {
  switch (bits) {
    case 16:
      return std::to_string(Read<int16_t>(constant)) + "i16";
    case 32:
      return std::to_string(Read<int32_t>(constant));
    case 64: {
      int64_t value = Read<int64_t>(constant);
      // The parser reads the digits before it applies the sign.
      if (value == std::numeric_limits<int64_t>::min()) return std::nullopt;
      return std::to_string(value) + "i64";
    }
    default:
      return std::nullopt;
  }
}

}  // namespace

std::string FloatDigits(double value) {
  std::string six = SixDigits(value);
  if (std::strtod(six.c_str(), nullptr) == value) return six;
  std::array<char, 40> text;
  auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), end};
}

std::string FloatText(double value) {
  if (std::isinf(value)) return value < 0 ? "-inff" : "inff";
  if (std::isnan(value)) TVM_FFI_THROW(ValueError) << "Relay text has no spelling for NaN";
  return FloatDigits(value) + "f";
}

bool IsInt32(int64_t value) {
  return value >= std::numeric_limits<int32_t>::min() &&
         value <= std::numeric_limits<int32_t>::max();
}

std::string IntText(int64_t value) { return std::to_string(value) + (IsInt32(value) ? "" : "i64"); }

bool IsQuotable(std::string_view text) {
  return text.find_first_of("\"\n\r") == std::string_view::npos;
}

std::string QuotedText(std::string_view text) {
  if (!IsQuotable(text)) {
    TVM_FFI_THROW(ValueError) << "Relay text cannot hold this string (with quotes or line breaks): "
                              << text;
  }
  return Concat("\"", text, "\"");
}

std::optional<std::string> LiteralText(const Constant& constant) {
  const DLTensor* tensor = constant->data.GetDLTensorPtr();
  DLDataType dtype = tensor->dtype;
  if (tensor->ndim != 0 || dtype.lanes != 1) return std::nullopt;
  if (dtype.code == kDLBool) return Read<uint8_t>(constant) ? "True" : "False";
  if (dtype.code == kDLInt) return IntLiteral(constant, dtype.bits);
  if (dtype.code != kDLFloat) return std::nullopt;
  switch (dtype.bits) {
    case 16:
      return FloatLiteral(Read<c10::Half>(constant), "f16");
    case 32:
      return FloatLiteral(Read<float>(constant), "f");
    case 64:
      return FloatLiteral(Read<double>(constant), "f64");
    default:
      return std::nullopt;
  }
}

}  // namespace torch_tvm::relay
