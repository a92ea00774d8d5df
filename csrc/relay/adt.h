// Algebraic data types: their definitions, and the match expression that takes their values apart.
#pragma once

#include <utility>
#include <vector>

#include "relay/expr.h"

namespace torch_tvm::relay {

// One of the forms of a data type; called with its fields it makes a value.
class ConstructorObj : public ExprObj {
 public:
  ffi::String name_hint;
  ffi::Array<Type> inputs;
  GlobalTypeVar belong_to;

  explicit ConstructorObj(ffi::UnsafeInit tag) : belong_to(tag) {}
  ConstructorObj(ffi::String name_hint, ffi::Array<Type> inputs, GlobalTypeVar belong_to,
                 ffi::Optional<Span> span);
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.Constructor", ConstructorObj, ExprObj);
};
class TORCH_TVM_API Constructor : public Expr {
 public:
  Constructor(ffi::String name_hint, ffi::Array<Type> inputs, GlobalTypeVar belong_to,
              ffi::Optional<Span> span = std::nullopt);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(Constructor, Expr, ConstructorObj);
};

// The definition of a data type; one without constructors is defined elsewhere.
class TypeDataObj : public TypeObj {
 public:
  GlobalTypeVar header;
  ffi::Array<TypeVar> type_vars;  // bound in the inputs of the constructors
  ffi::Array<Constructor> constructors;

  explicit TypeDataObj(ffi::UnsafeInit tag) : header(tag) {}
  TypeDataObj(GlobalTypeVar header, ffi::Array<TypeVar> type_vars,
              ffi::Array<Constructor> constructors);
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.TypeData", TypeDataObj, TypeObj);
};
class TORCH_TVM_API TypeData : public Type {
 public:
  TypeData(GlobalTypeVar header, ffi::Array<TypeVar> type_vars,
           ffi::Array<Constructor> constructors);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(TypeData, Type, TypeDataObj);
};

// Base of the four patterns.
class PatternObj : public ffi::Object {
 public:
  ffi::Optional<Span> span;

  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindTreeNode;
  TVM_FFI_DECLARE_OBJECT_INFO("torch_tvm.relay.Pattern", PatternObj, ffi::Object);
};
class TORCH_TVM_API Pattern : public ffi::ObjectRef {
 public:
  explicit Pattern(ffi::ObjectPtr<PatternObj> node) : ffi::ObjectRef(std::move(node)) {}
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(Pattern, ffi::ObjectRef, PatternObj);
};

// Matches everything.
class PatternWildcardObj : public PatternObj {
 public:
  explicit PatternWildcardObj(ffi::UnsafeInit) {}
  explicit PatternWildcardObj(ffi::Optional<Span> where) { span = std::move(where); }
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.PatternWildcard", PatternWildcardObj,
                                    PatternObj);
};
class TORCH_TVM_API PatternWildcard : public Pattern {
 public:
  explicit PatternWildcard(ffi::Optional<Span> span);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(PatternWildcard, Pattern, PatternWildcardObj);
};

// Matches everything and binds it to a variable.
class PatternVarObj : public PatternObj {
 public:
  Var var;

  explicit PatternVarObj(ffi::UnsafeInit tag) : var(tag) {}
  PatternVarObj(Var var, ffi::Optional<Span> where) : var(std::move(var)) {
    span = std::move(where);
  }
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.PatternVar", PatternVarObj, PatternObj);
};
class TORCH_TVM_API PatternVar : public Pattern {
 public:
  explicit PatternVar(Var var, ffi::Optional<Span> span = std::nullopt);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(PatternVar, Pattern, PatternVarObj);
};

// Matches what this constructor made of fields that match.
class PatternConstructorObj : public PatternObj {
 public:
  Constructor constructor;
  ffi::Array<Pattern> patterns;

  explicit PatternConstructorObj(ffi::UnsafeInit tag) : constructor(tag) {}
  PatternConstructorObj(Constructor constructor, ffi::Array<Pattern> patterns,
                        ffi::Optional<Span> span);
  ~PatternConstructorObj() { ExprObj::Release(std::move(patterns)); }
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.PatternConstructor", PatternConstructorObj,
                                    PatternObj);
};
class TORCH_TVM_API PatternConstructor : public Pattern {
 public:
  PatternConstructor(Constructor constructor, ffi::Array<Pattern> patterns,
                     ffi::Optional<Span> span = std::nullopt);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(PatternConstructor, Pattern, PatternConstructorObj);
};

// Matches a tuple of fields that match.
class PatternTupleObj : public PatternObj {
 public:
  ffi::Array<Pattern> patterns;

  explicit PatternTupleObj(ffi::UnsafeInit) {}
  PatternTupleObj(ffi::Array<Pattern> patterns, ffi::Optional<Span> where)
      : patterns(std::move(patterns)) {
    span = std::move(where);
  }
  ~PatternTupleObj() { ExprObj::Release(std::move(patterns)); }
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.PatternTuple", PatternTupleObj, PatternObj);
};
class TORCH_TVM_API PatternTuple : public Pattern {
 public:
  explicit PatternTuple(ffi::Array<Pattern> patterns, ffi::Optional<Span> span = std::nullopt);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(PatternTuple, Pattern, PatternTupleObj);
};

// lhs => rhs
class ClauseObj : public ffi::Object {
 public:
  Pattern lhs;
  Expr rhs;

  explicit ClauseObj(ffi::UnsafeInit tag) : lhs(tag), rhs(tag) {}
  ClauseObj(Pattern lhs, Expr rhs) : lhs(std::move(lhs)), rhs(std::move(rhs)) {}
  ~ClauseObj() { ExprObj::Release(std::move(rhs)); }
  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindTreeNode;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.Clause", ClauseObj, ffi::Object);
};
class TORCH_TVM_API Clause : public ffi::ObjectRef {
 public:
  Clause(Pattern lhs, Expr rhs);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(Clause, ffi::ObjectRef, ClauseObj);
};

// The right side of the first clause whose pattern data matches. If it is complete, some clause
// matches whatever data is.
class MatchObj : public ExprObj {
 public:
  Expr data;
  ffi::Array<Clause> clauses;
  bool complete = true;

  explicit MatchObj(ffi::UnsafeInit tag) : data(tag) {}
  MatchObj(Expr data, ffi::Array<Clause> clauses, bool complete, ffi::Optional<Span> span);
  ~MatchObj() {
    Release(std::move(data));
    Release(std::move(clauses));
  }
  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindDAGNode;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.Match", MatchObj, ExprObj);
};
class TORCH_TVM_API Match : public Expr {
 public:
  Match(Expr data, ffi::Array<Clause> clauses, bool complete = true,
        ffi::Optional<Span> span = std::nullopt);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(Match, Expr, MatchObj);
};

// A pattern and those it is made of, each ahead of its parts, from left to right.
TORCH_TVM_API std::vector<Pattern> PatternsOf(const Pattern& root);

}  // namespace torch_tvm::relay
