#include "relay/parser_base.h"

#include <algorithm>

#include "relay/literal.h"

namespace torch_tvm::relay {

const Token& ParserBase::PeekAfter(size_t ahead) const {
  return lexed_.tokens[std::min(position_ + ahead, lexed_.tokens.size() - 1)];
}

const Token& ParserBase::Next() {
  const Token& token = Peek();
  if (token.kind != TokenKind::kEnd) ++position_;
  return token;
}

const Token& ParserBase::Expect(TokenKind kind, const char* what) {
  if (Peek().kind != kind) FailExpected(what);
  return Next();
}

void ParserBase::Expect(std::string_view symbol) {
  if (!Peek().Is(symbol)) FailExpected(Concat("'", symbol, "'"));
  Next();
}

void ParserBase::Fail(const Token& at, const std::string& message) const {
  ThrowParseError(text_, at.source, message);
}

void ParserBase::FailExpected(const std::string& what) const {
  bool end = Peek().kind == TokenKind::kEnd;
  std::string got = end ? "the end of the text" : Concat("'", Peek().source.substr(0, 40), "'");
  Fail(Peek(), Concat("expected ", what, ", got ", got));
}

ffi::Optional<Span> ParserBase::SpanOf(const Token& token) {
  if (!source_name_) return std::nullopt;
  const char* at = token.source.data();
  if (counted_to_ && at >= counted_to_) {
    for (; counted_to_ != at; ++counted_to_) {
      bool newline = *counted_to_ == '\n';
      counted_ =
          newline ? Location{counted_.line + 1, 1} : Location{counted_.line, counted_.column + 1};
    }
  } else {
    counted_ = Locate(text_, token.source);
    counted_to_ = at;
  }
  int64_t width = static_cast<int64_t>(token.source.size());
  return Span(*source_name_, counted_.line, counted_.column, counted_.line,
              counted_.column + width);
}

std::string ParserBase::DottedName() {
  std::string name(Expect(TokenKind::kIdent, "a name").source);
  while (Peek().Is(".") && PeekAfter().kind == TokenKind::kIdent) {
    Next();
    name.append(".").append(Next().source);
  }
  return name;
}

bool ParserBase::IsAttribute() const {
  size_t ahead = 0;
  auto is_word = [](const Token& token) {
    return token.kind == TokenKind::kIdent && !IsKeyword(token.source) && token.source != "_";
  };
  while (is_word(PeekAfter(ahead))) {
    if (PeekAfter(ahead + 1).Is("=")) return true;
    if (!PeekAfter(ahead + 1).Is(".")) return false;
    ahead += 2;
  }
  return false;
}

ParserBase::Attributes ParserBase::ParseAttributes() {
  Attributes attrs;
  while (!Peek().Is(")")) {
    if (!IsAttribute()) FailExpected("an attribute, like axis=1");
    const Token& first = Peek();
    std::string key = DottedName();
    if (attrs.count(key))
      Fail(first, Concat("expected each attribute once, got '", key, "' again"));
    Expect("=");
    attrs.Set(key, AttributeValue());
    if (!Peek().Is(",")) break;
    Next();
  }
  return attrs;
}

ffi::Any ParserBase::AttributeValue() {
  Nesting nesting(this);
  const Token& token = Peek();
  switch (token.kind) {
    case TokenKind::kInteger:
      Next();
      return token.integer;
    case TokenKind::kFloat:
      Next();
      return token.real;
    case TokenKind::kString:
      Next();
      return ffi::String(std::string(token.text));
    case TokenKind::kMeta:
      return MetaValue(Next());
    default:
      break;
  }
  if (token.Is("True") || token.Is("False")) return Next().Is("True");
  if (token.Is("None") || token.Is("nullptr")) {
    Next();
    return nullptr;
  }
  if (token.Is("(")) {
    Next();
    ffi::Any value = AttributeValue();
    Expect(")");
    return value;
  }
  if (!token.Is("[")) return AtomicExpr();
  Next();
  ffi::Array<ffi::Any> items;
  while (!Peek().Is("]")) {
    items.push_back(AttributeValue());
    if (!Peek().Is(",")) break;
    Next();
  }
  Expect("]");
  return items;
}

void ParserBase::LoadMetadata(const MetaTable& more) {
  if (!lexed_.metadata.empty()) {
    try {
      metadata_ = ReadMetadata(std::string(lexed_.metadata));
    } catch (const ffi::Error& error) {
      ThrowParseError(text_, lexed_.metadata.substr(1), error.message());
    }
  }
  for (const auto& [type_key, objects] : more) {
    std::vector<ffi::Any>& section = metadata_.sections[std::string(type_key)];
    section.insert(section.end(), objects.begin(), objects.end());
  }
}

ffi::Any ParserBase::MetaValue(const Token& token) {
  auto section = metadata_.sections.find(std::string(token.text));
  size_t size = section == metadata_.sections.end() ? 0 : section->second.size();
  if (static_cast<uint64_t>(token.integer) >= size) {
    Fail(token, Concat("expected an entry of the metadata section, which has ",
                       std::to_string(size), " of ", token.text));
  }
  ffi::Any value = section->second[token.integer];
  if (value == nullptr) Fail(token, Concat("objects of class ", token.text, " are not supported"));
  return value;
}

}  // namespace torch_tvm::relay
