#include "relay/adt.h"

#include <set>
#include <string>
#include <utility>

#include "relay/module.h"

namespace torch_tvm::relay {

ConstructorObj::ConstructorObj(ffi::String name, ffi::Array<Type> fields, GlobalTypeVar type,
                               ffi::Optional<Span> where)
    : name_hint(std::move(name)), inputs(std::move(fields)), belong_to(std::move(type)) {
  span = std::move(where);
}

TypeDataObj::TypeDataObj(GlobalTypeVar name, ffi::Array<TypeVar> parameters,
                         ffi::Array<Constructor> forms)
    : header(std::move(name)), type_vars(std::move(parameters)), constructors(std::move(forms)) {
  std::set<const TypeVarObj*> seen;
  for (const TypeVar& var : type_vars) {
    if (!seen.insert(var.get()).second) {
      TVM_FFI_THROW(ValueError) << "TypeData: type variable '" << var->name_hint
                                << "' is a parameter twice";
    }
  }
  std::set<std::string> names;
  for (const Constructor& constructor : constructors) {
    if (constructor->belong_to->name_hint != header->name_hint) {
      TVM_FFI_THROW(ValueError) << "TypeData: constructor '" << constructor->name_hint
                                << "' belongs to '" << constructor->belong_to->name_hint
                                << "', not to '" << header->name_hint << "'";
    }
    if (!names.insert(constructor->name_hint).second) {
      TVM_FFI_THROW(ValueError) << "TypeData: '" << header->name_hint << "' has two constructors '"
                                << constructor->name_hint << "'";
    }
  }
}

PatternConstructorObj::PatternConstructorObj(Constructor made_by, ffi::Array<Pattern> fields,
                                             ffi::Optional<Span> where)
    : constructor(std::move(made_by)), patterns(std::move(fields)) {
  span = std::move(where);
}

MatchObj::MatchObj(Expr value, ffi::Array<Clause> cases, bool all, ffi::Optional<Span> where)
    : data(std::move(value)), clauses(std::move(cases)), complete(all) {
  span = std::move(where);
}

IRModuleObj::IRModuleObj(ffi::Map<ffi::String, Function> by_name,
                         ffi::Map<ffi::String, TypeData> types)
    : functions(std::move(by_name)), type_definitions(std::move(types)) {
  for (const auto& [name, data] : type_definitions) {
    if (name != data->header->name_hint) {
      TVM_FFI_THROW(ValueError) << "IRModule: the type '" << data->header->name_hint
                                << "' is defined under the name '" << name << "'";
    }
  }
}

Constructor::Constructor(ffi::String name_hint, ffi::Array<Type> inputs, GlobalTypeVar belong_to,
                         ffi::Optional<Span> span)
    : Expr(ffi::make_object<ConstructorObj>(std::move(name_hint), std::move(inputs),
                                            std::move(belong_to), std::move(span))) {}
TypeData::TypeData(GlobalTypeVar header, ffi::Array<TypeVar> type_vars,
                   ffi::Array<Constructor> constructors)
    : Type(ffi::make_object<TypeDataObj>(std::move(header), std::move(type_vars),
                                         std::move(constructors))) {}
PatternWildcard::PatternWildcard(ffi::Optional<Span> span)
    : Pattern(ffi::make_object<PatternWildcardObj>(std::move(span))) {}
PatternVar::PatternVar(Var var, ffi::Optional<Span> span)
    : Pattern(ffi::make_object<PatternVarObj>(std::move(var), std::move(span))) {}
PatternConstructor::PatternConstructor(Constructor constructor, ffi::Array<Pattern> patterns,
                                       ffi::Optional<Span> span)
    : Pattern(ffi::make_object<PatternConstructorObj>(std::move(constructor), std::move(patterns),
                                                      std::move(span))) {}
PatternTuple::PatternTuple(ffi::Array<Pattern> patterns, ffi::Optional<Span> span)
    : Pattern(ffi::make_object<PatternTupleObj>(std::move(patterns), std::move(span))) {}
Clause::Clause(Pattern lhs, Expr rhs)
    : ffi::ObjectRef(ffi::make_object<ClauseObj>(std::move(lhs), std::move(rhs))) {}
Match::Match(Expr data, ffi::Array<Clause> clauses, bool complete, ffi::Optional<Span> span)
    : Expr(ffi::make_object<MatchObj>(std::move(data), std::move(clauses), complete,
                                      std::move(span))) {}
IRModule::IRModule(ffi::Map<ffi::String, Function> functions,
                   ffi::Map<ffi::String, TypeData> type_definitions)
    : ffi::ObjectRef(
          ffi::make_object<IRModuleObj>(std::move(functions), std::move(type_definitions))) {}

std::vector<Pattern> PatternsOf(const Pattern& root) {
  std::vector<Pattern> found;
  std::vector<Pattern> stack = {root};
  while (!stack.empty()) {
    Pattern pattern = stack.back();
    stack.pop_back();
    found.push_back(pattern);
    ffi::Array<Pattern> parts;
    if (const auto* constructor = pattern.as<PatternConstructorObj>()) {
      parts = constructor->patterns;
    } else if (const auto* tuple = pattern.as<PatternTupleObj>()) {
      parts = tuple->patterns;
    }
    for (size_t i = parts.size(); i > 0; --i) stack.push_back(parts[i - 1]);
  }
  return found;
}

}  // namespace torch_tvm::relay
