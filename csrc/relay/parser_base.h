// What the parser stands on: the token stream, attributes, errors.
#pragma once

#include <string>
#include <utility>

#include "relay/builder.h"
#include "relay/lexer.h"
#include "relay/metadata.h"

namespace torch_tvm::relay {

class ParserBase {
 public:
  using Attributes = ffi::Map<ffi::String, ffi::Any>;

  ParserBase(std::string_view text, const LexedText& lexed,
             const ffi::Optional<ffi::String>& source_name)
      : text_(text), lexed_(lexed), source_name_(source_name) {}

 protected:
  ~ParserBase() = default;

  // An expression of one piece, as it may stand as the value of an attribute.
  virtual Expr AtomicExpr() = 0;

  // Counts how deep brackets nest. 256 levels of the parser's frames take less than 1 MiB of stack.
  static constexpr int kMaxDepth = 256;
  class Nesting {
   public:
    explicit Nesting(ParserBase* parser) : parser_(parser) {
      if (++parser->depth_ > kMaxDepth) {
        parser->Fail(parser->Peek(),
                     "expected brackets to nest at most " + std::to_string(kMaxDepth) + " deep");
      }
    }
    ~Nesting() { --parser_->depth_; }

   private:
    ParserBase* parser_;
  };

  const Token& Peek() const { return lexed_.tokens[position_]; }
  const Token& PeekAfter(size_t ahead = 1) const;
  const Token& Previous() const { return lexed_.tokens[position_ - 1]; }
  const Token& Next();
  const Token& Expect(TokenKind kind, const char* what);
  void Expect(std::string_view symbol);
  [[noreturn]] void Fail(const Token& at, const std::string& message) const;
  [[noreturn]] void FailExpected(const std::string& what) const;

  // The position of a token, if spans are wanted.
  ffi::Optional<Span> SpanOf(const Token& token);

  // Turns the ValueError or TypeError of a constructor into a ParseError at this token.
  template <typename Make>
  auto MakeChecked(const Token& at, Make make) -> decltype(make()) {
    try {
      return make();
    } catch (const ffi::Error& error) {
      Fail(at, error.message());
    }
  }

  std::string DottedName();
  // "key=" comes next.
  bool IsAttribute() const;
  // "key=value, key=value", up to the closing parenthesis.
  Attributes ParseAttributes();
  // Reads the metadata section, if there is one, and adds to it.
  void LoadMetadata(const MetaTable& more);
  // What a metadata reference stands for.
  ffi::Any MetaValue(const Token& token);

 private:
  ffi::Any AttributeValue();

  std::string_view text_;
  const LexedText& lexed_;
  ffi::Optional<ffi::String> source_name_;
  size_t position_ = 0;
  int depth_ = 0;
  Metadata metadata_;
  // Where the last span was, so that the lines before it are counted once.
  const char* counted_to_ = nullptr;
  Location counted_ = {1, 1};
};

}  // namespace torch_tvm::relay
