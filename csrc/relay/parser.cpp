// Recursive descent over the tokens. Lines of a scope (lets, graph bindings) and operator chains
// are loops; what recurses is brackets, and their depth is bounded.
#include "relay/parser.h"

#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "relay/builder.h"
#include "relay/lexer.h"
#include "relay/literal.h"
#include "relay/metadata.h"
#include "relay/module.h"
#include "relay/type_parser.h"
#include "relay/visit.h"

namespace torch_tvm::relay {
namespace {

struct Infix {
  std::string_view symbol;
  int precedence;
  const char* op;
};
// Sugar that TVM's parser takes and its printer never writes; all associate to the left.
constexpr Infix kInfix[] = {
    {"*", 12, "multiply"},      {"/", 12, "divide"},   {"+", 10, "add"},    {"-", 10, "subtract"},
    {"<=", 8, "less_equal"},    {"<", 8, "less"},      {">", 8, "greater"}, {"==", 7, "equal"},
    {">=", 8, "greater_equal"}, {"!=", 7, "not_equal"}};

class Parser final : public TypeParser {
 public:
  using TypeParser::TypeParser;

  ffi::ObjectRef Run(const MetaTable& more_metadata) {
    LoadMetadata(more_metadata);
    bool versioned = Peek().kind == TokenKind::kVersion;
    if (versioned && Next().text != "0.0.5") {
      Fail(Previous(), "expected version 0.0.5 of the text format");
    }
    if (!IsDefinition()) {
      Expr expr = Block();
      ExpectEnd("the end of the text");
      return expr;
    }
    if (!versioned) Fail(Peek(), "expected '#[version = \"0.0.5\"]' before the first definition");
    AllowTypeNames();
    ffi::Map<ffi::String, Function> functions;
    while (IsDefinition()) {
      if (!Peek().Is("def")) {
        ParseTypeDefinition();
        continue;
      }
      Next();
      const Token& name = Expect(TokenKind::kGlobal, "the name of a function, like @main");
      if (functions.count(std::string(name.text))) {
        Fail(name, Concat("expected another name: there is a function ", name.source, " already"));
      }
      functions.Set(std::string(name.text), FunctionRest(name));
    }
    ExpectEnd("'def', 'type', 'extern type' or the end of the text");
    CheckTypeUses();
    return IRModule(functions, type_definitions());
  }

 private:
  bool IsDefinition() const { return Peek().Is("def") || Peek().Is("type") || Peek().Is("extern"); }

  void ExpectEnd(const char* what) {
    if (Peek().kind != TokenKind::kEnd) FailExpected(what);
  }

  // Lets, graph bindings and free variables up to the result of a scope.
  Expr Block() {
    Nesting nesting(this);
    struct Binding {
      Var var;
      Expr value;
      ffi::Optional<Span> span;
    };
    std::vector<Binding> lets;
    scopes_.emplace_back();
    std::optional<Expr> result;
    while (!result) {
      const Token& first = Peek();
      if (first.Is("let")) {
        Next();
        Var var = DeclareVar();
        Expect("=");
        Expr value = Infixes();
        Expect(";");
        lets.push_back({var, value, SpanOf(first)});
      } else if (first.Is("free_var")) {
        Next();
        DeclareVar();
        Expect(";");
      } else if (first.kind == TokenKind::kGraph && PeekAfter().Is("=")) {
        Next();
        Next();
        Expr value = Infixes();
        Expect(";");
        graph_.emplace(first.integer, value);  // as in TVM, the first definition of a number stays
      } else {
        Expr value = Statement();
        if (Peek().Is(";")) {
          Next();
          lets.push_back({Var(""), value, SpanOf(first)});
        } else {
          result = value;
        }
      }
    }
    scopes_.pop_back();
    for (auto let = lets.rbegin(); let != lets.rend(); ++let) {
      result = Let(let->var, let->value, *result, let->span);
    }
    return *result;
  }

  // What stands in a scope for itself. Only there can it be a match or a block.
  Expr Statement() {
    if (Peek().Is("match") || Peek().Is("match?")) return MatchRest(Next());
    return Peek().Is("{") ? Braces() : Infixes();
  }

  // "(data) { pattern => expression, ... }", after "match" or "match?".
  Expr MatchRest(const Token& first) {
    Expr data = AtomicExpr();
    Expect("{");
    ffi::Array<Clause> clauses;
    while (!Peek().Is("}")) {
      scopes_.emplace_back();
      Pattern pattern = ParsePattern();
      if (!Peek().Is("=") || !PeekAfter().Is(">")) FailExpected("'=>'");
      Next();
      Next();
      clauses.push_back(Clause(pattern, Block()));
      scopes_.pop_back();
      if (!Peek().Is(",")) break;
      Next();
    }
    Expect("}");
    return Match(data, clauses, first.Is("match"), SpanOf(first));
  }

  // _, %x, %x: type, Constructor, Constructor(pattern, ...) or (pattern, ...).
  Pattern ParsePattern() {
    Nesting nesting(this);
    const Token& token = Peek();
    if (token.kind == TokenKind::kLocal) return PatternVar(DeclareVar(), SpanOf(token));
    if (token.Is("(")) return PatternTuple(PatternList(), SpanOf(token));
    if (token.kind != TokenKind::kIdent) {
      FailExpected("a pattern (_, a variable, a constructor or a tuple of patterns)");
    }
    Next();
    if (token.Is("_")) return PatternWildcard(SpanOf(token));
    const Constructor* constructor = FindConstructor(token.source);
    if (!constructor) {
      Fail(token, Concat("expected the name of a constructor, got '", token.source,
                         "' (a variable is written %", token.source, ")"));
    }
    ffi::Array<Pattern> fields;
    if (Peek().Is("(")) fields = PatternList();
    return PatternConstructor(*constructor, fields, SpanOf(token));
  }

  ffi::Array<Pattern> PatternList() {
    ffi::Array<Pattern> patterns;
    Expect("(");
    while (!Peek().Is(")")) {
      patterns.push_back(ParsePattern());
      if (!Peek().Is(",")) break;
      Next();
    }
    Expect(")");
    return patterns;
  }

  Expr Braces() {
    Expect("{");
    Expr body = Block();
    Expect("}");
    return body;
  }

  Var DeclareVar() {
    const Token& name = Expect(TokenKind::kLocal, "a variable, like %x");
    ffi::Optional<Type> type;
    if (Peek().Is(":")) {
      Next();
      type = ParseType();
    }
    Var var(std::string(name.text), type, SpanOf(name));
    scopes_.back().insert_or_assign(std::string(name.text), var);
    return var;
  }

  static const Infix* FindInfix(const Token& token) {
    if (token.kind != TokenKind::kSymbol) return nullptr;
    for (const Infix& infix : kInfix) {
      if (token.source == infix.symbol) return &infix;
    }
    return nullptr;
  }

  // Operands and infix operators between them, by precedence and without recursion.
  Expr Infixes() {
    std::vector<Expr> operands = {Suffixed()};
    std::vector<std::pair<const Infix*, const Token*>> operators;
    auto reduce = [&] {
      Expr right = operands.back();
      operands.pop_back();
      operands.back() = MakeChecked(*operators.back().second, [&] {
        return MakeCall(operators.back().first->op, {operands.back(), right}, AttrList{},
                        SpanOf(*operators.back().second));
      });
      operators.pop_back();
    };
    while (const Infix* infix = FindInfix(Peek())) {
      while (!operators.empty() && operators.back().first->precedence >= infix->precedence) {
        reduce();
      }
      operators.emplace_back(infix, &Next());
      operands.push_back(Suffixed());
    }
    while (!operators.empty()) reduce();
    return operands.back();
  }

  // An expression with the calls and projections that follow it.
  Expr Suffixed() {
    const Token& first = Peek();
    Expr expr = AtomicExpr();
    while (Peek().Is("(")) expr = Projected(first, CallOf(first, expr));
    const auto* constructor = expr.as<ConstructorObj>();
    // As in TVM: one without fields is called wherever its name stands.
    return constructor && constructor->inputs.empty() ? Call(expr, {}, {}, SpanOf(first)) : expr;
  }

  Expr AtomicExpr() override {
    const Token& first = Peek();
    return Projected(first, Atom());
  }

  Expr Projected(const Token& first, Expr expr) {
    while (Peek().Is(".")) {
      Next();
      const Token& index = Expect(TokenKind::kInteger, "the index of a tuple's field");
      expr = MakeChecked(index, [&] { return TupleGetItem(expr, index.integer, SpanOf(first)); });
    }
    return expr;
  }

  Expr Atom() {
    const Token& token = Peek();
    switch (token.kind) {
      case TokenKind::kLocal:
        return LookUp(Next());
      case TokenKind::kGraph: {
        Next();
        auto found = graph_.find(token.integer);
        if (found != graph_.end()) return found->second;
        Fail(token, Concat("expected a temporary that is defined before, got ", token.source));
      }
      case TokenKind::kGlobal:
        Next();
        return GlobalVar(std::string(token.text), SpanOf(token));
      case TokenKind::kInteger:
      case TokenKind::kFloat:
        Next();
        return Literal(token);
      case TokenKind::kMeta:
        Next();
        return MetaExpr(token);
      case TokenKind::kIdent:
        return Word();
      default:
        if (token.Is("(")) return Parenthesised();
        FailExpected("an expression");
    }
  }

  Expr LookUp(const Token& token) {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      auto found = scope->find(std::string(token.text));
      if (found != scope->end()) return found->second;
    }
    Fail(token, Concat("expected a variable that is in scope, got ", token.source,
                       " (free_var declares one)"));
  }

  Expr Literal(const Token& token) {
    return MakeChecked(token, [&] {
      Constant constant = token.kind == TokenKind::kFloat ? MakeScalar(token.real, token.dtype)
                                                          : MakeScalar(token.integer, token.dtype);
      constant->span = SpanOf(token);
      return constant;
    });
  }

  Expr MetaExpr(const Token& token) {
    if (auto expr = MetaValue(token).as<Expr>()) return *expr;
    Fail(token, Concat("expected an expression, got ", token.source));
  }

  Expr Parenthesised() {
    const Token& open = Next();
    std::vector<Expr> fields;
    bool is_tuple = Peek().Is(")");
    while (!Peek().Is(")")) {
      fields.push_back(Block());
      if (!Peek().Is(",")) break;
      Next();
      is_tuple = true;
    }
    Expect(")");
    if (!is_tuple) return fields[0];
    return Tuple(ffi::Array<Expr>(fields.begin(), fields.end()), SpanOf(open));
  }

  Expr Word() {
    const Token& token = Peek();
    if (token.Is("if")) {
      Next();
      Expect("(");
      Expr cond = Block();
      Expect(")");
      Expr true_branch = Braces();
      if (!Peek().Is("else")) FailExpected("'else'");
      Next();
      return If(cond, true_branch, Braces(), SpanOf(token));
    }
    if (token.Is("fn")) return FunctionRest(Next());
    if (token.Is("True") || token.Is("False")) {
      Next();
      Constant constant = MakeScalar(token.Is("True"), DLDataType{kDLBool, 8, 1});
      constant->span = SpanOf(token);
      return constant;
    }
    if (token.Is("ref") || token.Is("ref_read") || token.Is("ref_write")) return Reference(Next());
    // match and match? stand where a scope may end, and in parentheses.
    if (IsKeyword(token.source) || token.Is("match?")) FailExpected("an expression");
    if (const Constructor* constructor = FindConstructor(token.source)) {
      Next();
      return *constructor;
    }
    std::string name = DottedName();
    if (!FindOp(name)) {
      Fail(token,
           Concat("expected the name of an operator",
                  type_definitions().empty() ? "" : " or a constructor", ", got '", name, "'"));
    }
    return Op::Get(name);
  }

  // "(operands)", after ref, ref_read or ref_write.
  Expr Reference(const Token& word) {
    Expect("(");
    Expr operand = Block();
    if (word.Is("ref_write")) {
      Expect(",");
      Expr value = Block();
      Expect(")");
      return RefWrite(operand, value, SpanOf(word));
    }
    Expect(")");
    if (word.Is("ref")) return RefCreate(operand, SpanOf(word));
    return RefRead(operand, SpanOf(word));
  }

  // "[type params](params, attributes) -> type { body }", after "fn" or "def @name".
  Function FunctionRest(const Token& first) {
    Nesting nesting(this);
    TypeScope scope(this);
    ffi::Array<TypeVar> type_params = ParseTypeParams();
    Expect("(");
    scopes_.emplace_back();
    ffi::Array<Var> params;
    while (Peek().kind == TokenKind::kLocal) {
      params.push_back(DeclareVar());
      if (!Peek().Is(",")) break;
      Next();
    }
    Attributes attrs;
    if (Peek().kind == TokenKind::kIdent) attrs = FunctionAttributes();
    Expect(")");
    ffi::Optional<Type> type;
    if (Peek().Is("->")) {
      Next();
      type = ParseType();
    }
    Expr body = Braces();
    scopes_.pop_back();
    return MakeChecked(
        first, [&] { return Function(params, body, type, attrs, SpanOf(first), type_params); });
  }

  // Nothing that would need a temporary, which has no place ahead of parameters.
  Attributes FunctionAttributes() {
    const Token& first = Peek();
    Attributes attrs = ParseAttributes();
    VisitAttrExprs(attrs, [&](const Expr& expr) {
      if (IsLeaf(expr)) return;
      Fail(first, "expected attributes of a function without expressions that have operands");
    });
    return attrs;
  }

  // Operands, then attributes; a metadata reference to attributes counts as all of them.
  Expr CallOf(const Token& first, const Expr& callee) {
    Expect("(");
    std::vector<Expr> args;
    std::optional<Attributes> attrs;
    while (!Peek().Is(")")) {
      if (IsAttribute()) {
        attrs = ParseAttributes();
        break;
      }
      if (Peek().kind == TokenKind::kMeta && PeekAfter().Is(")")) {
        if (auto found = MetaValue(Peek()).as<Attributes>()) {
          CheckMetaAttrs(callee, Next());
          return FinishCall(first, callee, args, *found, true);
        }
      }
      args.push_back(Block());
      if (!Peek().Is(",")) break;
      Next();
    }
    return FinishCall(first, callee, args, attrs.value_or(Attributes()), false);
  }

  void CheckMetaAttrs(const Expr& callee, const Token& token) {
    const auto* op = callee.as<OpObj>();
    const AttrsClass* expected = op ? GetOpInfo(op->name).attrs : nullptr;
    if (op && (!expected || expected->key != token.text)) {
      Fail(token, Concat("expected ", expected ? expected->key : "no attributes", " for ",
                         std::string(op->name), ", got ", token.source));
    }
  }

  Expr FinishCall(const Token& first, const Expr& callee, const std::vector<Expr>& args,
                  Attributes attrs, bool from_metadata) {
    Expect(")");
    const auto* op = callee.as<OpObj>();
    if (op && !from_metadata) TakeTypeKey(first, GetOpInfo(op->name), attrs);
    return MakeChecked(first, [&] {
      return Call(callee, ffi::Array<Expr>(args.begin(), args.end()), attrs, SpanOf(first));
    });
  }

  // An operator whose attributes TVM's registry does not know names their class in the text; others
  // must not.
  void TakeTypeKey(const Token& first, const OpInfo& op, Attributes& attrs) {
    constexpr const char* kTypeKey = "attrs_type_key";
    auto given = attrs.find(kTypeKey);
    if (op.attrs_registered) {
      if (given != attrs.end() && !(op.attrs && op.attrs->open)) {
        Fail(first, Concat(op.name, " takes no attrs_type_key"));
      }
      return;
    }
    if (attrs.empty()) return;
    auto key = given == attrs.end() ? std::nullopt : (*given).second.as<ffi::String>();
    if (!key || std::string(*key) != op.attrs->key) {
      Fail(first, Concat("expected attrs_type_key=\"", op.attrs->key,
                         "\" beside the attributes of ", op.name));
    }
    attrs.erase(kTypeKey);
  }

  std::vector<std::unordered_map<std::string, Var>> scopes_;
  std::unordered_map<int64_t, Expr> graph_;  // never cleared: numbers are unique in a text
};

}  // namespace

ffi::ObjectRef Parse(const ffi::String& text, const ffi::Optional<ffi::String>& source_name,
                     const MetaTable& more_metadata) {
  std::string source = text;
  LexedText lexed = Lex(source);
  return Parser(source, lexed, source_name).Run(more_metadata);
}

TVM_FFI_STATIC_INIT_BLOCK() {
  tvm::ffi::reflection::GlobalDef().def("torch_tvm.relay.parse", &Parse);
}

}  // namespace torch_tvm::relay
