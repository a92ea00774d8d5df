// Tokens of Relay text.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "relay/type.h"

namespace torch_tvm::relay {

enum class TokenKind : uint8_t {
  kEnd,
  kIdent,    // nn, conv2d, Tensor; keywords too, and match?
  kLocal,    // %x      text: x
  kGraph,    // %12     integer: 12
  kGlobal,   // @main   text: main
  kInteger,  // 42, 42i64
  kFloat,    // 1.5f, inff
  kString,   // "text"  text: what is between the quotes
  kMeta,     // meta[relay.Constant][3]  text: relay.Constant, integer: 3
  kVersion,  // #[version = "0.0.5"]     text: 0.0.5
  kSymbol,   // one of ( ) [ ] { } , . ; : = ? -> == != < <= > >= + - * /
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::string_view source;  // as written
  std::string_view text = {};
  int64_t integer = 0;
  double real = 0;
  DLDataType dtype = {kDLInt, 32, 1};

  bool Is(std::string_view symbol) const {
    return (kind == TokenKind::kSymbol || kind == TokenKind::kIdent) && source == symbol;
  }
};

struct LexedText {
  std::vector<Token> tokens;  // the last one is kEnd
  std::string_view metadata;  // what follows "#[metadata]"; empty if there is none
};

// A 1-based place in the text.
struct Location {
  int64_t line;
  int64_t column;
};
Location Locate(std::string_view text, std::string_view at);

// Throws an ffi::Error of kind "torch_tvm.relay.ParseError", which Python shows as ParseError. The
// message begins "line 3, column 7: " and quotes the line.
[[noreturn]] void ThrowParseError(std::string_view text, std::string_view at,
                                  const std::string& message);

// The tokens view text, which must outlive them.
LexedText Lex(std::string_view text);

// Words that cannot be names of variables.
bool IsKeyword(std::string_view word);

}  // namespace torch_tvm::relay
