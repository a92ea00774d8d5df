// Numbers and strings of Relay's text format.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "relay/expr.h"

namespace torch_tvm::relay {

// Joins strings. ("literal" + std::string&&) would do, but for gcc 12, which warns of an overflow
// there is not.
template <typename... Parts>
std::string Concat(const Parts&... parts) {
  std::string text;
  (text.append(std::string_view(parts)), ...);
  return text;
}

// The digits of a finite float. Six significant ones as TVM 0.19 prints, when these read back as
// the same value; else the shortest that do, which its parser takes as well.
std::string FloatDigits(double value);
// The same with the suffix "f", and the infinities; what a float attribute is printed as.
std::string FloatText(double value);
bool IsInt32(int64_t value);
// TVM marks an integer outside int32 as int64.
std::string IntText(int64_t value);
// In quotes. The parser knows no escapes: throws ValueError for what would need one.
std::string QuotedText(std::string_view text);
bool IsQuotable(std::string_view text);

// The literal of a rank-0 constant; nullopt if TVM's parser could not read it back as the same
// value: dtypes without a literal, NaN, the infinities of float16 and float64, digits beyond the
// six that TVM prints.
std::optional<std::string> LiteralText(const Constant& constant);

}  // namespace torch_tvm::relay
