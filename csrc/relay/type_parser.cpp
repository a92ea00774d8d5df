#include "relay/type_parser.h"

#include "relay/literal.h"
#include "relay/type_text.h"

namespace torch_tvm::relay {

ffi::Optional<Type> TypeParser::ParseType() {
  if (Peek().Is("_")) {
    Next();
    return std::nullopt;
  }
  return RequiredType();
}

Type TypeParser::TypeInside() {
  if (!Peek().Is("_")) return RequiredType();
  Next();
  return IncompleteType();
}

Type TypeParser::RequiredType() {
  Nesting nesting(this);
  const Token& token = Peek();
  if (token.Is("Tensor")) return TensorTypeRest();
  if (token.Is("(")) return TupleType(TypeList("(", ")"));
  if (token.Is("fn")) {
    Next();
    if (Peek().Is("[")) {
      Fail(Peek(), "expected '(': the type of a function has no type parameters in Relay text");
    }
    ffi::Array<Type> args = TypeList("(", ")");
    Expect("->");
    return FuncType(args, TypeInside());
  }
  if (token.Is("ref")) FailExpected("a type; that of a reference has no spelling in Relay text");
  if (token.kind != TokenKind::kIdent || IsKeyword(token.source)) FailExpected("a type");
  if (IsScalarDtype(token.source)) return TensorType({}, Dtype());
  return NamedType();
}

Type TypeParser::NamedType() {
  const Token& name = Peek();
  for (auto scope = type_scopes_.rbegin(); scope != type_scopes_.rend(); ++scope) {
    auto found = scope->find(std::string(name.source));
    if (found == scope->end()) continue;
    Next();
    if (Peek().Is("[")) {
      Fail(Peek(), Concat("expected no arguments: '", name.source, "' is a type variable"));
    }
    return found->second;
  }
  if (!names_allowed_) {
    FailExpected("a type (Tensor[...], a dtype, a tuple, a function type or a type variable)");
  }
  Next();
  ffi::Array<Type> args;
  if (Peek().Is("[")) args = TypeList("[", "]");
  uses_.push_back({&name, args.size()});
  return TypeCall(GlobalType(name), args);
}

GlobalTypeVar TypeParser::GlobalType(const Token& name) {
  std::string text(name.source);
  return global_types_.try_emplace(text, text).first->second;
}

ffi::Array<Type> TypeParser::TypeList(std::string_view open, std::string_view close) {
  ffi::Array<Type> types;
  Expect(open);
  while (!Peek().Is(close)) {
    types.push_back(TypeInside());
    if (!Peek().Is(",")) break;
    Next();
  }
  Expect(close);
  return types;
}

Type TypeParser::TensorTypeRest() {
  Next();
  Expect("[");
  Expect("(");
  ffi::Array<int64_t> shape, bits;
  ffi::Array<ffi::Optional<SizeVar>> vars;
  const Token& first = Peek();
  while (!Peek().Is(")")) {
    Size size = ParseSize();
    shape.push_back(size.number);
    bits.push_back(size.bits);
    vars.push_back(size.var);
    if (!Peek().Is(",")) break;
    Next();
  }
  Expect(")");
  Expect(",");
  DLDataType dtype = Dtype();
  Expect("]");
  return MakeChecked(first, [&] { return TensorType(shape, dtype, vars, bits); });
}

TypeParser::Size TypeParser::ParseSize() {
  const Token& token = Peek();
  if (token.Is("?")) {
    Next();
    return {};
  }
  if (token.kind == TokenKind::kMeta) {
    ffi::Any value = MetaValue(Next());
    if (auto var = value.as<SizeVar>()) return {kAnySize, 32, *var};
    auto number = value.as<int64_t>();
    if (!number || *number < 0) {
      Fail(token, Concat("expected a size, got ", token.source, ", which is none"));
    }
    return {*number, IsInt32(*number) ? 32 : 64};
  }
  Expect(TokenKind::kInteger, "a size (an integer, '?' or a variable in the metadata)");
  if (token.integer < 0) Fail(token, "expected a size that is not negative");
  return {token.integer, token.dtype.bits};
}

DLDataType TypeParser::Dtype() {
  const Token& token = Expect(TokenKind::kIdent, "a dtype");
  if (auto dtype = ReadDtype(token.source)) return *dtype;
  Fail(token, Concat("expected a dtype, got '", token.source, "'"));
}

ffi::Array<TypeVar> TypeParser::ParseTypeParams() {
  ffi::Array<TypeVar> params;
  if (!Peek().Is("[")) return params;
  Next();
  while (!Peek().Is("]")) {
    const Token& name = Expect(TokenKind::kIdent, "the name of a type parameter");
    std::string text(name.source);
    if (!IsTypeName(text)) {
      Fail(name, Concat("expected the name of a type parameter, got '", text, "'"));
    }
    TypeVar param(text);
    if (!type_scopes_.back().emplace(text, param).second) {
      Fail(name, Concat("expected each type parameter once, got '", text, "' again"));
    }
    params.push_back(param);
    if (!Peek().Is(",")) break;
    Next();
  }
  Expect("]");
  return params;
}

void TypeParser::ParseTypeDefinition() {
  const Token& first = Next();
  bool external = first.Is("extern");
  if (external) Expect("type");
  const Token& name = Expect(TokenKind::kIdent, "the name of a type, like List");
  std::string text(name.source);
  if (!IsTypeName(text)) Fail(name, Concat("expected the name of a type, got '", text, "'"));
  if (type_definitions_.count(text)) {
    Fail(name, Concat("expected another name: there is a type '", text, "' already"));
  }
  TypeScope scope(this);
  GlobalTypeVar header = GlobalType(name);
  ffi::Array<TypeVar> params = ParseTypeParams();
  ffi::Array<Constructor> constructors;
  if (Peek().Is("{")) {
    if (external) Fail(Peek(), "expected no constructors: the type is external");
    Next();
    while (!Peek().Is("}")) {
      constructors.push_back(ParseConstructor(header));
      if (!Peek().Is(",")) break;
      Next();
    }
    Expect("}");
  }
  type_definitions_.Set(text, TypeData(header, params, constructors));
}

Constructor TypeParser::ParseConstructor(const GlobalTypeVar& header) {
  const Token& name = Expect(TokenKind::kIdent, "the name of a constructor, like Nil");
  std::string text(name.source);
  if (!IsConstructorName(text)) {
    Fail(name, Concat("expected the name of a constructor, got '", text, "'"));
  }
  ffi::Array<Type> inputs;
  if (Peek().Is("(")) inputs = TypeList("(", ")");
  Constructor constructor(text, inputs, header, SpanOf(name));
  if (!constructors_.emplace(text, constructor).second) {
    Fail(name, Concat("expected another name: there is a constructor '", text, "' already"));
  }
  return constructor;
}

void TypeParser::CheckTypeUses() const {
  for (const auto& [name, num_args] : uses_) {
    auto found = type_definitions_.find(std::string(name->source));
    if (found == type_definitions_.end()) {
      Fail(*name, Concat("expected a type: no type '", name->source, "' is defined"));
    }
    size_t expected = (*found).second->type_vars.size();
    if (num_args != expected) {
      Fail(*name, Concat("expected ", std::to_string(expected), " arguments of the type '",
                         name->source, "', got ", std::to_string(num_args)));
    }
  }
}

const Constructor* TypeParser::FindConstructor(std::string_view name) const {
  auto found = constructors_.find(std::string(name));
  return found == constructors_.end() ? nullptr : &found->second;
}

}  // namespace torch_tvm::relay
