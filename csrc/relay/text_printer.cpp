// Prints a program in graph normal form: operands that are no variable, constant or name become
// temporaries
// "%3 = ...;" on lines of their own, written when their first consumer is printed. Consumers are
// taken in depth-first post-order. Chains of any length are walked with an explicit stack; only
// nested scopes (function bodies, branches, let bodies in parentheses) recurse.
#include "relay/text_printer.h"

#include <algorithm>
#include <map>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "relay/attr_text.h"
#include "relay/builder.h"
#include "relay/literal.h"
#include "relay/metadata.h"
#include "relay/module.h"
#include "relay/type_text.h"
#include "relay/visit.h"

namespace torch_tvm::relay {
namespace {

std::string Indent(const std::string& text) {
  std::string indented;
  for (char c : text) {
    indented += c;
    if (c == '\n') indented += "  ";
  }
  return indented;
}

// What the parser reads as the rest of a scope, but as an operand or the value of a let only in
// parentheses. (TVM 0.19's printer leaves them out around a match, and its parser rejects that.)
bool NeedsParentheses(const Expr& expr) { return expr.as<LetObj>() || expr.as<MatchObj>(); }

// How often each expression of a function is an operand, a scope's result or a let's value.
class UseCounter {
 public:
  explicit UseCounter(const Expr& root) {
    std::vector<Expr> stack = {root};
    while (!stack.empty()) {
      Expr expr = stack.back();
      stack.pop_back();
      VisitOperands(expr, [this, &stack](const Expr& operand) {
        if (uses_[operand.get()]++ == 0) stack.push_back(operand);
      });
    }
  }
  int Count(const Expr& expr) const {
    auto found = uses_.find(expr.get());
    return found == uses_.end() ? 1 : found->second;
  }

 private:
  std::unordered_map<const ffi::Object*, int> uses_;
};

class TextPrinter {
 public:
  explicit TextPrinter(bool show_meta_data) : show_meta_data_(show_meta_data) {
    type_var_names_.size = [this](const SizeVar& var) { return metadata_.Reference(var); };
  }

  std::string Print(const ffi::ObjectRef& root) {
    std::string text = "#[version = \"0.0.5\"]\n";
    if (const auto* module = root.as<IRModuleObj>()) {
      text += ModuleText(module);
    } else if (auto expr = root.as<Expr>()) {
      UseCounter uses(*expr);
      uses_ = &uses;
      text += ScopeText(*expr);
    } else {
      TVM_FFI_THROW(TypeError) << "AsText: expected an IRModule or an expression, got "
                               << root.GetTypeKey();
    }
    if (!metadata_.empty() && text.back() != '\n') text += "\n";
    return text + MetadataText();
  }

 private:
  std::string MetadataText() const {
    if (metadata_.empty()) return "";
    if (show_meta_data_) return Concat("\n#[metadata]\n", metadata_.Write());
    return "\n/* For debugging purposes the metadata section has been omitted.\n"
           " * astext(show_meta_data=True) appends it.\n */";
  }

  std::string ModuleText(const IRModuleObj* module) {
    std::map<std::string, TypeData> types;
    for (const auto& [name, data] : module->type_definitions) types.emplace(name, data);
    std::map<std::string, Function> sorted;
    for (const auto& [name, function] : module->functions) sorted.emplace(name, function);
    std::string text;
    for (const auto& [name, data] : types) {
      type_names_.insert(name);
      for (const Constructor& made : data->constructors) constructors_.insert(made->name_hint);
    }
    for (const auto& [name, data] : types) {
      TypeParams params(this, data->type_vars);
      text += (text.empty() ? "" : "\n") + TypeDataText(data, type_var_names_) + "\n";
    }
    for (const auto& [name, function] : sorted) {
      UseCounter uses(function);
      uses_ = &uses;
      if (!text.empty()) text += "\n";
      text += FunctionText("def @" + name, function.get()) + "\n";
    }
    return text;
  }

  // Names type variables as long as the text is in their scope. One that has no name of its own
  // there gets another.
  class TypeParams {
   public:
    TypeParams(TextPrinter* printer, const ffi::Array<TypeVar>& vars)
        : printer_(printer), outer_(printer->type_names_) {
      for (const TypeVar& var : vars) {
        std::string friendly = FriendlyName(std::string(var->name_hint));
        if (!IsTypeName(friendly)) friendly = Concat("t", friendly);
        std::string name = friendly;
        for (int i = 1; !printer->type_names_.insert(name).second; ++i) {
          name = friendly + std::to_string(i);
        }
        printer->type_var_names_.types[var.get()] = name;
      }
    }
    ~TypeParams() { printer_->type_names_ = std::move(outer_); }

   private:
    TextPrinter* printer_;
    std::unordered_set<std::string> outer_;
  };

  std::string FunctionText(const std::string& head, const FunctionObj* function) {
    TypeParams params(this, function->type_params);
    std::string inside;
    for (const Var& param : function->params) {
      inside += (inside.empty() ? "" : ", ") + DeclareVar(param);
    }
    for (const auto& [key, value] : function->attrs) {
      inside +=
          (inside.empty() ? "" : ", ") + Concat(std::string(key), "=", FunctionAttrText(value));
    }
    std::string type = function->ret_type
                           ? Concat("-> ", TypeText(*function->ret_type, type_var_names_), " ")
                           : "";
    std::string names = TypeParamsText(function->type_params, type_var_names_);
    return Concat(head, names, "(", inside, ") ", type, BodyText(function->body));
  }

  // Nothing can be hoisted in front of a parameter list.
  std::string FunctionAttrText(const ffi::Any& attr) {
    return ValueText(attr, metadata_, [this](const Expr& expr) {
      bool leaf = IsLeaf(expr) && !(expr.as<VarObj>() && scopes_.empty());
      if (!leaf && !names_.count(expr.get())) {
        TVM_FFI_THROW(ValueError) << "Relay text has no spelling for a " << expr.GetTypeKey()
                                  << " as an attribute of a function";
      }
      return OperandText(expr);
    });
  }

  std::string BodyText(const Expr& body) {
    return Concat("{", Indent(Concat("\n", ScopeText(body))), "\n}");
  }

  // The lines of a scope: temporaries, then its result.
  std::string ScopeText(const Expr& result) {
    scopes_.emplace_back();
    std::string last = InlineText(result);
    std::string text = scopes_.back() + last;
    scopes_.pop_back();
    return text;
  }

  // At the end of a scope and as a let's value, what is used once needs no temporary.
  std::string InlineText(const Expr& expr) {
    if (IsLeaf(expr) || uses_->Count(expr) > 1) return OperandText(expr);
    return TakeText(expr) + Info(expr);
  }

  std::string OperandText(const Expr& expr) {
    auto known = names_.find(expr.get());
    if (known != names_.end()) {
      ++references_[expr.get()];
      // A constant repeats its literal; its comment stands where it is printed first.
      return known->second + (expr.as<ConstantObj>() ? Info(expr) : "");
    }
    if (const auto* op = expr.as<OpObj>()) return OpText(op->name);
    if (const auto* global = expr.as<GlobalVarObj>())
      return Concat("@", std::string(global->name_hint));
    if (const auto* constructor = expr.as<ConstructorObj>()) return constructor->name_hint;
    if (auto constant = expr.as<Constant>()) {
      std::optional<std::string> literal = LiteralText(*constant);
      std::string text = literal ? *literal : metadata_.Reference(*constant);
      names_.emplace(expr.get(), text);
      return text + Info(expr);
    }
    if (auto var = expr.as<Var>()) {  // not bound by anything around it
      // Outermost, so that it is in scope wherever else the variable is used.
      std::string declaration = Concat("free_var ", DeclareVar(*var), ";\n");
      scopes_.front() += declaration;
      return names_.at(expr.get());
    }
    std::string text = TakeText(expr);
    if (NeedsParentheses(expr)) text = Concat("(", Indent("\n" + text), "\n)");
    text += Info(expr);
    std::string name = Concat("%", std::to_string(num_temporaries_++));
    names_.emplace(expr.get(), name);
    references_[expr.get()] = 1;
    placed_.emplace_back(expr, scopes_.size());
    scopes_.back() += name + " = " + text + ";\n";
    return name;
  }

  // A word that names a constructor is read as one.
  std::string OpText(const std::string& name) const {
    if (constructors_.count(name.substr(0, name.find('.')))) {
      TVM_FFI_THROW(ValueError) << "Relay text has no spelling for the operator '" << name
                                << "' beside a constructor of its name";
    }
    return name;
  }

  // The text of an expression that is no leaf, after that of everything it needs.
  std::string TakeText(const Expr& root) {
    struct Pending {
      Expr expr;
      int visits;
    };
    std::vector<Pending> stack = {{root, 0}};
    while (!stack.empty()) {
      Expr expr = stack.back().expr;
      if (names_.count(expr.get()) || texts_.count(expr.get())) {
        stack.pop_back();
      } else if (++stack.back().visits > NumVisits(expr)) {
        size_t before = placed_.size();
        std::string text = NodeText(expr);
        texts_.emplace(expr.get(), std::move(text));
        stack.pop_back();
        if (!stack.empty() && DefinesForOthers(before)) PlaceNow(expr);
      } else {
        auto push = [&stack](const Expr& child) {
          if (!IsLeaf(child)) stack.push_back({child, 0});
        };
        if (const auto* write = expr.as<RefWriteObj>()) {
          if (stack.back().visits == 1) {
            push(write->ref);
          } else {
            if (!IsLeaf(write->ref) && !names_.count(write->ref.get())) PlaceNow(write->ref);
            push(write->value);
          }
        } else {
          PushChildren(expr, push);
        }
      }
    }
    auto found = texts_.find(root.get());
    std::string text = std::move(found->second);
    texts_.erase(found);
    return text;
  }

  // How often what an expression needs is asked for. A ref_write's cell gets its temporary before
  // those of the value.
  static int NumVisits(const Expr& expr) { return expr.as<RefWriteObj>() ? 2 : 1; }

  // Whether a temporary defined since then inside of a nested scope is used outside of it, too.
  bool DefinesForOthers(size_t since) const {
    return std::any_of(
        placed_.begin() + static_cast<int64_t>(since), placed_.end(), [this](const auto& entry) {
          const auto& [expr, depth] = entry;
          return depth > scopes_.size() && references_.at(expr.get()) < uses_->Count(expr);
        });
  }

  // Gives an expression its temporary before its consumer is printed. TVM's printer waits for the
  // consumer even if another temporary then stands before the definition it needs, and its parser
  // rejects that text.
  void PlaceNow(const Expr& expr) {
    OperandText(expr);
    references_[expr.get()] = 0;
  }

  // Last child first, so that the first is on top of the stack.
  template <typename Push>
  static void PushChildren(const Expr& expr, Push push) {
    if (const auto* call = expr.as<CallObj>()) {
      std::vector<Expr> in_attrs;
      VisitAttrExprs(call->attrs, [&](const Expr& attr) { in_attrs.push_back(attr); });
      std::for_each(in_attrs.rbegin(), in_attrs.rend(), push);
      std::for_each(call->args.rbegin(), call->args.rend(), push);
      push(call->op);
    } else if (const auto* tuple = expr.as<TupleObj>()) {
      std::for_each(tuple->fields.rbegin(), tuple->fields.rend(), push);
    } else if (const auto* item = expr.as<TupleGetItemObj>()) {
      push(item->tuple);
    } else if (const auto* branch = expr.as<IfObj>()) {
      push(branch->cond);
    } else if (const auto* match = expr.as<MatchObj>()) {
      push(match->data);
    } else if (const auto* create = expr.as<RefCreateObj>()) {
      push(create->value);
    } else if (const auto* read = expr.as<RefReadObj>()) {
      push(read->ref);
    }
  }

  std::string NodeText(const Expr& expr) {
    if (const auto* call = expr.as<CallObj>()) return CallText(call);
    if (const auto* tuple = expr.as<TupleObj>()) {
      std::string fields;
      for (const Expr& field : tuple->fields) {
        fields += (fields.empty() ? "" : ", ") + OperandText(field);
      }
      return "(" + fields + (tuple->fields.size() == 1 ? ",)" : ")");
    }
    if (const auto* item = expr.as<TupleGetItemObj>()) {
      auto constant = item->tuple.as<Constant>();
      bool number = constant && LiteralText(*constant);  // "1.0" would be one, too
      std::string tuple = OperandText(item->tuple);
      return Concat(number ? Concat("(", tuple, ")") : tuple, ".", std::to_string(item->index));
    }
    if (const auto* branch = expr.as<IfObj>()) {
      std::string text = "if (" + OperandText(branch->cond) + ") ";
      text += BodyText(branch->true_branch);
      return text + " else " + BodyText(branch->false_branch);
    }
    if (const auto* function = expr.as<FunctionObj>()) return FunctionText("fn ", function);
    if (const auto* match = expr.as<MatchObj>()) return MatchText(match);
    if (const auto* create = expr.as<RefCreateObj>()) {
      return Concat("ref(", OperandText(create->value), ")");
    }
    if (const auto* read = expr.as<RefReadObj>()) {
      return Concat("ref_read(", OperandText(read->ref), ")");
    }
    if (const auto* write = expr.as<RefWriteObj>()) {
      std::string ref = OperandText(write->ref);
      return Concat("ref_write(", ref, ", ", OperandText(write->value), ")");
    }
    return LetText(expr);
  }

  std::string MatchText(const MatchObj* match) {
    std::string text = match->complete ? "match (" : "match? (";
    text += OperandText(match->data) + ") {";
    std::string clauses;
    for (const Clause& clause : match->clauses) {
      std::string pattern = PatternText(clause->lhs, 0);
      clauses += Concat("\n", pattern, " => ", BodyText(clause->rhs), ",");
    }
    return text + Indent(match->clauses.empty() ? "\n" : clauses) + "\n}";
  }

  std::string PatternText(const Pattern& pattern, int depth) {
    constexpr int kMaxDepth = 256;  // as the parser's
    if (depth > kMaxDepth) TVM_FFI_THROW(ValueError) << "a pattern nests too deep for Relay text";
    if (const auto* var = pattern.as<PatternVarObj>()) return DeclareVar(var->var);
    std::string fields;
    auto add = [&](const Pattern& field) {
      fields += (fields.empty() ? "" : ", ") + PatternText(field, depth + 1);
    };
    if (const auto* tuple = pattern.as<PatternTupleObj>()) {
      std::for_each(tuple->patterns.begin(), tuple->patterns.end(), add);
      return Concat("(", fields, ")");
    }
    const auto* made = pattern.as<PatternConstructorObj>();
    if (!made) return "_";
    std::for_each(made->patterns.begin(), made->patterns.end(), add);
    std::string name = made->constructor->name_hint;
    return made->patterns.empty() ? name : Concat(name, "(", fields, ")");
  }

  std::string CallText(const CallObj* call) {
    std::string inside;
    for (const Expr& arg : call->args) inside += (inside.empty() ? "" : ", ") + OperandText(arg);
    auto attr_expr = [this](const Expr& expr) { return OperandText(expr); };
    for (const std::string& attr : CallAttrTexts(call, show_meta_data_, metadata_, attr_expr)) {
      inside += (inside.empty() ? "" : ", ") + attr;
    }
    const auto* constructor = call->op.as<ConstructorObj>();
    // The parser calls a constructor without fields wherever its name stands.
    if (constructor && constructor->inputs.empty() && inside.empty()) return constructor->name_hint;
    return OperandText(call->op) + "(" + inside + ")";
  }

  // A let and the lets that follow it; the temporaries of the first value stand before it, in the
  // scope around.
  std::string LetText(const Expr& first) {
    std::string text = LetLine(first.as<LetObj>());
    scopes_.emplace_back();
    Expr rest = first.as<LetObj>()->body;
    while (const auto* let = rest.as<LetObj>()) {
      if (uses_->Count(rest) > 1) break;
      std::string line = LetLine(let) + "\n";
      scopes_.back() += line;
      rest = let->body;
    }
    std::string last = InlineText(rest);
    text += "\n" + scopes_.back() + last;
    scopes_.pop_back();
    return text;
  }

  std::string LetLine(const LetObj* let) {
    std::string declaration = DeclareVar(let->var);
    bool nested = NeedsParentheses(let->value);
    std::string value = nested ? OperandText(let->value) : InlineText(let->value);
    return "let " + declaration + " = " + value + ";";
  }

  // "%x: Tensor[...]"; from here on the variable has this name.
  std::string DeclareVar(const Var& var) {
    std::string name = Concat("%", UniqueName(FriendlyName(std::string(var->name_hint))));
    names_[var.get()] = name;
    std::string type =
        var->type_annotation ? Concat(": ", TypeText(*var->type_annotation, type_var_names_)) : "";
    return name + type + Info(var);
  }

  std::string UniqueName(const std::string& name) {
    std::string unique = name;
    auto taken = counters_.find(name);
    if (taken != counters_.end()) {
      int& counter = taken->second;
      do {
        unique = name + std::to_string(++counter);
      } while (counters_.count(unique));
    }
    counters_[unique] = 0;
    return unique;
  }

  // The comment with type and span, the first time that the expression is printed.
  std::string Info(const Expr& expr) {
    bool commented = expr.as<ConstantObj>() || expr.as<CallObj>() || expr.as<VarObj>() ||
                     expr.as<FunctionObj>() || expr.as<TupleObj>() || expr.as<TupleGetItemObj>();
    if (!commented) return "";
    if (!expr->checked_type && !expr->span) return "";
    if (!commented_.insert(expr.get()).second) return "";
    std::string text = " /*";
    if (expr->checked_type) text += " ty=" + TypeText(*expr->checked_type, type_var_names_);
    if (expr->span) text += " span=" + SpanText(*expr->span);
    return text + " */";
  }

  static std::string SpanText(const Span& span) {
    std::string source = span->source_name;
    // Neither end nor begin of a comment may stand inside of one.
    for (size_t i = 0; i + 1 < source.size(); ++i) {
      if (source[i] == '*' && source[i + 1] == '/') source.insert(i + 1, 1, ' ');
      if (source[i] == '/' && source[i + 1] == '*') source.insert(i + 1, 1, ' ');
    }
    std::replace(source.begin(), source.end(), '\r', ' ');
    return source + ":" + std::to_string(span->line) + ":" + std::to_string(span->column);
  }

  bool show_meta_data_;
  const UseCounter* uses_ = nullptr;
  MetadataWriter metadata_;
  std::vector<std::string> scopes_;  // the lines so far of each open scope, innermost last
  // What an expression is referred to by; for the whole module, as in TVM: numbers and names never
  // repeat.
  std::unordered_map<const ffi::Object*, std::string> names_;
  std::unordered_map<const ffi::Object*, std::string> texts_;  // printed, not yet placed
  std::unordered_map<const ffi::Object*, int> references_;     // how often a name was used
  std::vector<std::pair<Expr, size_t>> placed_;  // temporaries, and how deep they stand
  std::unordered_map<std::string, int> counters_;
  TypeVarNames type_var_names_;
  std::unordered_set<std::string> type_names_;    // that stand for something here
  std::unordered_set<std::string> constructors_;  // of the module
  std::unordered_set<const ffi::Object*> commented_;
  int64_t num_temporaries_ = 0;
};

}  // namespace

ffi::String AsText(const ffi::ObjectRef& module_or_expr, bool show_meta_data) {
  return TextPrinter(show_meta_data).Print(module_or_expr);
}

TVM_FFI_STATIC_INIT_BLOCK() {
  tvm::ffi::reflection::GlobalDef()
      .def("torch_tvm.relay.as_text", &AsText)
      .def("torch_tvm.relay.type_text",
           [](const Type& type) { return ffi::String(TypeText(type)); });
}

}  // namespace torch_tvm::relay
