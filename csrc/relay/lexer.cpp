#include "relay/lexer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "relay/literal.h"

namespace torch_tvm::relay {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool IsName(char c) { return IsNameStart(c) || IsDigit(c) || c == '/'; }

// Longest first, so that "->" is not read as "-".
constexpr std::array<std::string_view, 23> kSymbols = {"->", "==", "!=", "<=", ">=", "(", ")", "[",
                                                       "]",  "{",  "}",  ",",  ".",  ";", ":", "=",
                                                       "?",  "<",  ">",  "+",  "-",  "*", "/"};

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  LexedText Run() {
    LexedText result;
    while (true) {
      SkipBlank();
      if (position_ == text_.size()) break;
      if (Match("#[metadata]")) {
        result.metadata = text_.substr(position_);
        break;
      }
      bool projects = !result.tokens.empty() && result.tokens.back().Is(".");
      result.tokens.push_back(projects && IsDigit(text_[position_]) ? Digits() : Next());
    }
    result.tokens.push_back({TokenKind::kEnd, text_.substr(position_, 0)});
    return result;
  }

 private:
  [[noreturn]] void Fail(size_t at, const std::string& message) const {
    ThrowParseError(text_, text_.substr(at), message);
  }

  bool StartsWith(std::string_view prefix) const {
    return text_.substr(position_, prefix.size()) == prefix;
  }
  bool Match(std::string_view prefix) {
    if (!StartsWith(prefix)) return false;
    position_ += prefix.size();
    return true;
  }
  char Peek(size_t ahead = 0) const {
    return position_ + ahead < text_.size() ? text_[position_ + ahead] : '\0';
  }
  template <typename Test>
  std::string_view TakeWhile(Test test) {
    size_t begin = position_;
    while (position_ < text_.size() && test(text_[position_])) ++position_;
    return text_.substr(begin, position_ - begin);
  }

  void SkipBlank() {
    while (position_ < text_.size()) {
      char c = text_[position_];
      if (c == '\r' && Peek(1) != '\n')
        Fail(position_, "expected a line feed after this carriage return");
      if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        ++position_;
      } else if (StartsWith("//")) {
        TakeWhile([](char next) { return next != '\n'; });
      } else if (StartsWith("/*")) {
        SkipComment();
      } else {
        return;
      }
    }
  }

  void SkipComment() {
    size_t begin = position_;
    int depth = 0;
    do {
      if (Match("/*")) {
        ++depth;
      } else if (Match("*/")) {
        --depth;
      } else if (++position_ >= text_.size()) {
        Fail(begin, "this comment has no end, expected '*/'");
      }
    } while (depth > 0);
  }

  Token Make(TokenKind kind, size_t begin) const {
    return {kind, text_.substr(begin, position_ - begin)};
  }

  Token Next() {
    char c = Peek();
    if (IsDigit(c)) return Number(position_, false);
    if (c == '"') return String();
    if (c == '%' || c == '@') return Name();
    if (c == '#') return Version();
    if (c == '-') {
      if (auto token = Negative()) return *token;
    }
    if (IsNameStart(c)) return Ident();
    size_t begin = position_;
    for (std::string_view symbol : kSymbols) {
      if (Match(symbol)) return Make(TokenKind::kSymbol, begin);
    }
    bool visible = c > ' ' && c <= '~';
    Fail(position_, Concat("expected a token, got ", visible ? "'" : "the byte ",
                           visible ? std::string(1, c) : std::to_string(static_cast<uint8_t>(c)),
                           visible ? "'" : ""));
  }

  // The index after a '.': nothing but digits, so that "%0.1" is a projection and "%0.1f" an error.
  Token Digits() {
    size_t begin = position_;
    TakeWhile(IsDigit);
    Token token = Make(TokenKind::kInteger, begin);
    token.integer = ParseInteger(token.source, begin);
    return token;
  }

  // Any number of '-' and then digits or infinity.
  std::optional<Token> Negative() {
    size_t begin = position_;
    size_t end = text_.find_first_not_of('-', position_);
    if (end == std::string_view::npos) return std::nullopt;
    bool negative = (end - begin) % 2 == 1;
    if (IsDigit(text_[end])) {
      position_ = end;
      return Number(begin, negative);
    }
    if (text_.substr(end, 4) == "inff") {
      position_ = end;
      Token token = Ident();
      token.source = text_.substr(begin, position_ - begin);
      if (negative) token.real = -token.real;
      return token;
    }
    return std::nullopt;
  }

  Token Number(size_t begin, bool negative) {
    size_t digits = position_;
    TakeWhile(IsDigit);
    if (Peek() == '.') {
      ++position_;
      TakeWhile(IsDigit);
    }
    bool sign = Peek(1) == '+' || Peek(1) == '-';
    if ((Peek() == 'e' || Peek() == 'E') && IsDigit(Peek(sign ? 2 : 1))) {
      position_ += sign ? 2 : 1;
      TakeWhile(IsDigit);
    }
    std::string_view number = text_.substr(digits, position_ - digits);
    std::string_view suffix = TakeWhile([](char c) { return IsName(c) && c != '/'; });
    // TVM's lexer takes them for a part of the number, and then cannot read it.
    if (Peek() == '+' || Peek() == '-' || Peek() == '.') {
      Fail(position_,
           Concat("expected a blank between a number and '", text_.substr(position_, 1), "'"));
    }
    Token token = Make(TokenKind::kInteger, begin);
    if (!suffix.empty() && suffix[0] == 'f') {
      token.kind = TokenKind::kFloat;
      token.dtype = {kDLFloat, SuffixBits(suffix, begin), 1};
      token.real = ParseReal(number, begin) * (negative ? -1 : 1);
      return token;
    }
    if (number.find_first_of(".eE") != std::string_view::npos) {
      Fail(begin, "expected the suffix 'f', 'f16' or 'f64' after a number with a fraction");
    }
    token.integer = ParseInteger(number, begin) * (negative ? -1 : 1);
    uint8_t bits = IsInt32(token.integer) ? 32 : 64;
    if (!suffix.empty()) bits = SuffixBits(suffix, begin);
    token.dtype = {kDLInt, bits, 1};
    return token;
  }

  uint8_t SuffixBits(std::string_view suffix, size_t at) const {
    std::string_view bits = suffix.substr(1);
    bool known = suffix[0] == 'f' || suffix[0] == 'i';
    if (known && (bits.empty() || bits == "32")) return 32;
    if (known && bits == "64") return 64;
    if (known && bits == "16") return 16;
    Fail(at, Concat("expected a number with the suffix f, f16, f64, i16, i32 or i64, got '", suffix,
                    "'"));
  }

  int64_t ParseInteger(std::string_view digits, size_t at) const {
    int64_t value = 0;
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc()) Fail(at, "expected an integer below 2**63");
    return value;
  }

  double ParseReal(std::string_view digits, size_t at) const {
    double value = 0;
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size()) {
      Fail(at, "expected a float that fits float64");
    }
    return value;
  }

  Token String() {
    size_t begin = position_++;
    size_t end = text_.find('"', position_);
    if (end == std::string_view::npos) Fail(begin, "this string has no end, expected '\"'");
    position_ = end + 1;
    Token token = Make(TokenKind::kString, begin);
    token.text = text_.substr(begin + 1, end - begin - 1);
    // Printed again, its lines would be indented.
    if (!IsQuotable(token.text)) Fail(begin, "expected a string without line breaks");
    return token;
  }

  Token Name() {
    size_t begin = position_++;
    bool global = text_[begin] == '@';
    if (!global && IsDigit(Peek())) {
      TakeWhile(IsDigit);
      Token token = Make(TokenKind::kGraph, begin);
      token.integer = ParseInteger(token.source.substr(1), begin);
      return token;
    }
    if (!IsNameStart(Peek())) {
      Fail(begin, Concat("expected a name after '", text_.substr(begin, 1), "'"));
    }
    TakeWhile(IsName);
    Token token = Make(global ? TokenKind::kGlobal : TokenKind::kLocal, begin);
    token.text = token.source.substr(1);
    bool boolean = token.text == "True" || token.text == "False";
    if (IsKeyword(token.text) && !boolean) {
      Fail(begin, Concat("expected a name, got the keyword '", token.text, "'"));
    }
    if (token.text.starts_with("inff")) FailInfinite(begin);
    return token;
  }

  Token Ident() {
    size_t begin = position_;
    if (Match("meta[")) return Meta(begin);
    TakeWhile(IsName);
    if (text_.substr(begin, position_ - begin) == "match" && Peek() == '?') ++position_;
    Token token = Make(TokenKind::kIdent, begin);
    token.text = token.source;
    if (token.source == "inff") {
      token.kind = TokenKind::kFloat;
      token.real = std::numeric_limits<double>::infinity();
      token.dtype = {kDLFloat, 32, 1};
    } else if (token.source.starts_with("inff")) {
      FailInfinite(begin);
    }
    return token;
  }

  [[noreturn]] void FailInfinite(size_t at) const {
    Fail(at, "expected a name that does not begin with 'inff', which is the number");
  }

  Token Meta(size_t begin) {
    std::string_view key = TakeWhile([](char c) { return IsName(c) || c == '.'; });
    bool closed = Match("][");
    size_t digits = position_;
    std::string_view index = TakeWhile(IsDigit);
    if (key.empty() || !closed || index.empty() || !Match("]")) {
      Fail(begin, "expected a metadata reference like meta[relay.Constant][0]");
    }
    Token token = Make(TokenKind::kMeta, begin);
    token.text = key;
    token.integer = ParseInteger(index, digits);
    return token;
  }

  Token Version() {
    size_t begin = position_;
    auto blanks = [this] { TakeWhile([](char c) { return c == ' ' || c == '\t'; }); };
    bool good = Match("#[version");
    blanks();
    good = good && Match("=");
    blanks();
    if (!good || Peek() != '"') Fail(begin, "expected '#[version = \"0.0.5\"]' or '#[metadata]'");
    std::string_view version = String().text;
    if (!Match("]")) Fail(position_, "expected ']' at the end of the version");
    Token token = Make(TokenKind::kVersion, begin);
    token.text = version;
    return token;
  }

  std::string_view text_;
  size_t position_ = 0;
};

}  // namespace

Location Locate(std::string_view text, std::string_view at) {
  std::string_view before = text.substr(0, at.data() - text.data());
  size_t newline = before.rfind('\n');
  size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
  return {std::count(before.begin(), before.end(), '\n') + 1,
          static_cast<int64_t>(before.size() - begin) + 1};
}

void ThrowParseError(std::string_view text, std::string_view at, const std::string& message) {
  constexpr int64_t kContext = 60;  // characters of the line shown on each side
  Location where = Locate(text, at);
  size_t offset = at.data() - text.data();
  size_t begin = offset - std::min<int64_t>(where.column - 1, kContext);
  size_t end = std::min(text.find('\n', offset), std::min(text.size(), offset + kContext));
  std::string excerpt(text.substr(begin, end - begin));
  std::string caret = std::string(offset - begin, ' ') + "^";
  std::string full =
      Concat("line ", std::to_string(where.line), ", column ", std::to_string(where.column), ": ",
             message, "\n  ", excerpt, "\n  ", caret);
  // Python takes messages as UTF-8, which a text cut anywhere need not be.
  std::replace_if(
      full.begin(), full.end(), [](char c) { return c != '\n' && (c < ' ' || c > '~'); }, '?');
  throw ffi::Error("torch_tvm.relay.ParseError", full,
                   TVMFFIBacktrace(__FILE__, __LINE__, TVM_FFI_FUNC_SIG, 0));
}

bool IsKeyword(std::string_view word) {
  constexpr std::array<std::string_view, 14> kKeywords = {
      "let",    "fn",       "def", "if",       "else",      "type", "match",
      "extern", "free_var", "ref", "ref_read", "ref_write", "True", "False"};
  return std::find(kKeywords.begin(), kKeywords.end(), word) != kKeywords.end();
}

LexedText Lex(std::string_view text) { return Lexer(text).Run(); }

}  // namespace torch_tvm::relay
