// Relay expressions as tvm-ffi objects: fields and constructors in Python, structural equality
// (alpha equivalence, tensor contents compared, sharing of calls significant), JSON and pickle come
// from reflection.
#pragma once

#include <tvm/ffi/tvm_ffi.h>

#include <string>
#include <utility>

#include "core/api.h"
#include "relay/type.h"

namespace torch_tvm::relay {

// Where in the user's source an expression comes from; lines and columns as the source counts them.
class SpanObj : public ffi::Object {
 public:
  ffi::String source_name;
  int64_t line = 0, column = 0, end_line = 0, end_column = 0;

  explicit SpanObj(ffi::UnsafeInit) {}
  SpanObj(ffi::String source_name, int64_t line, int64_t column, int64_t end_line,
          int64_t end_column)
      : source_name(std::move(source_name)),
        line(line),
        column(column),
        end_line(end_line),
        end_column(end_column) {}
  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindTreeNode;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.Span", SpanObj, ffi::Object);
};
class TORCH_TVM_API Span : public ffi::ObjectRef {
 public:
  Span(ffi::String source_name, int64_t line, int64_t column, int64_t end_line, int64_t end_column);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(Span, ffi::ObjectRef, SpanObj);
};

// Base of all expressions. span and checked_type (filled by infer_type) are annotations: they may
// change, and structural equality does not see them.
class TORCH_TVM_API ExprObj : public ffi::Object {
 public:
  ffi::Optional<Span> span;
  ffi::Optional<Type> checked_type;

  // Frees operands without recursion: a chain of a million calls is not a million nested
  // destructors.
  static void Release(ffi::ObjectRef operand);

  static constexpr bool _type_mutable = true;
  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindTreeNode;
  TVM_FFI_DECLARE_OBJECT_INFO("torch_tvm.relay.Expr", ExprObj, ffi::Object);
};
class TORCH_TVM_API Expr : public ffi::ObjectRef {
 public:
  explicit Expr(ffi::ObjectPtr<ExprObj> node) : ffi::ObjectRef(std::move(node)) {}
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(Expr, ffi::ObjectRef, ExprObj);
};

// A parameter or a let-bound variable; identity, not the name, tells variables apart.
class VarObj : public ExprObj {
 public:
  ffi::String name_hint;
  ffi::Optional<Type> type_annotation;

  explicit VarObj(ffi::UnsafeInit) {}
  VarObj(ffi::String name_hint, ffi::Optional<Type> type_annotation, ffi::Optional<Span> span);
  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindFreeVar;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.Var", VarObj, ExprObj);
};
class TORCH_TVM_API Var : public Expr {
 public:
  Var(ffi::String name_hint, ffi::Optional<Type> type_annotation = std::nullopt,
      ffi::Optional<Span> span = std::nullopt);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(Var, Expr, VarObj);
};

// A tensor known at compile time: on the CPU and contiguous (other strides are copied).
class ConstantObj : public ExprObj {
 public:
  ffi::Tensor data;

  explicit ConstantObj(ffi::UnsafeInit tag) : data(tag) {}
  ConstantObj(ffi::Tensor data, ffi::Optional<Span> span);
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.Constant", ConstantObj, ExprObj);
};
class TORCH_TVM_API Constant : public Expr {
 public:
  explicit Constant(ffi::Tensor data, ffi::Optional<Span> span = std::nullopt);
  // The type that the data has, whether or not checked_type is filled.
  TensorType tensor_type() const;
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(Constant, Expr, ConstantObj);
};

// A function of the module, by name.
class GlobalVarObj : public ExprObj {
 public:
  ffi::String name_hint;

  explicit GlobalVarObj(ffi::UnsafeInit) {}
  GlobalVarObj(ffi::String name_hint, ffi::Optional<Span> span);
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.GlobalVar", GlobalVarObj, ExprObj);
};
class TORCH_TVM_API GlobalVar : public Expr {
 public:
  explicit GlobalVar(ffi::String name_hint, ffi::Optional<Span> span = std::nullopt);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(GlobalVar, Expr, GlobalVarObj);
};

// An operator of the table (op_table.h); Op::Get gives the same object for the same name.
class OpObj : public ExprObj {
 public:
  ffi::String name;

  explicit OpObj(ffi::UnsafeInit) {}
  explicit OpObj(ffi::String name) : name(std::move(name)) {}
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.Op", OpObj, ExprObj);
};
class TORCH_TVM_API Op : public Expr {
 public:
  static Op Get(const ffi::String& name);  // throws ValueError for a name that the table lacks
  explicit Op(ffi::ObjectPtr<OpObj> node) : Expr(std::move(node)) {}
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(Op, Expr, OpObj);
};

// A call of an operator, or of a function value. For an operator the number of arguments is checked
// and attrs are completed and converted by the operator table; other calls take any attributes.
class CallObj : public ExprObj {
 public:
  Expr op;
  ffi::Array<Expr> args;
  ffi::Map<ffi::String, ffi::Any> attrs;

  explicit CallObj(ffi::UnsafeInit tag) : op(tag) {}
  CallObj(Expr op, ffi::Array<Expr> args, ffi::Map<ffi::String, ffi::Any> attrs,
          ffi::Optional<Span> span);
  ~CallObj() {
    Release(std::move(op));
    Release(std::move(args));
    Release(std::move(attrs));
  }
  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindDAGNode;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.Call", CallObj, ExprObj);
};
class TORCH_TVM_API Call : public Expr {
 public:
  Call(Expr op, ffi::Array<Expr> args, ffi::Map<ffi::String, ffi::Any> attrs = {},
       ffi::Optional<Span> span = std::nullopt);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(Call, Expr, CallObj);
};

class TupleObj : public ExprObj {
 public:
  ffi::Array<Expr> fields;

  explicit TupleObj(ffi::UnsafeInit) {}
  TupleObj(ffi::Array<Expr> fields, ffi::Optional<Span> span);
  ~TupleObj() { Release(std::move(fields)); }
  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindDAGNode;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.Tuple", TupleObj, ExprObj);
};
class TORCH_TVM_API Tuple : public Expr {
 public:
  explicit Tuple(ffi::Array<Expr> fields, ffi::Optional<Span> span = std::nullopt);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(Tuple, Expr, TupleObj);
};

class TupleGetItemObj : public ExprObj {
 public:
  Expr tuple;
  int64_t index = 0;

  explicit TupleGetItemObj(ffi::UnsafeInit tag) : tuple(tag) {}
  TupleGetItemObj(Expr tuple, int64_t index, ffi::Optional<Span> span);
  ~TupleGetItemObj() { Release(std::move(tuple)); }
  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindDAGNode;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.TupleGetItem", TupleGetItemObj, ExprObj);
};
class TORCH_TVM_API TupleGetItem : public Expr {
 public:
  TupleGetItem(Expr tuple, int64_t index, ffi::Optional<Span> span = std::nullopt);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(TupleGetItem, Expr, TupleGetItemObj);
};

// let var = value; body. The variable may be used in its own value (a recursive function).
class LetObj : public ExprObj {
 public:
  Var var;
  Expr value;
  Expr body;

  explicit LetObj(ffi::UnsafeInit tag) : var(tag), value(tag), body(tag) {}
  LetObj(Var var, Expr value, Expr body, ffi::Optional<Span> span);
  ~LetObj() {
    Release(std::move(value));
    Release(std::move(body));
  }
  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindDAGNode;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.Let", LetObj, ExprObj);
};
class TORCH_TVM_API Let : public Expr {
 public:
  Let(Var var, Expr value, Expr body, ffi::Optional<Span> span = std::nullopt);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(Let, Expr, LetObj);
};

class IfObj : public ExprObj {
 public:
  Expr cond;
  Expr true_branch;
  Expr false_branch;

  explicit IfObj(ffi::UnsafeInit tag) : cond(tag), true_branch(tag), false_branch(tag) {}
  IfObj(Expr cond, Expr true_branch, Expr false_branch, ffi::Optional<Span> span);
  ~IfObj() {
    Release(std::move(cond));
    Release(std::move(true_branch));
    Release(std::move(false_branch));
  }
  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindDAGNode;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.If", IfObj, ExprObj);
};
class TORCH_TVM_API If : public Expr {
 public:
  If(Expr cond, Expr true_branch, Expr false_branch, ffi::Optional<Span> span = std::nullopt);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(If, Expr, IfObj);
};

class FunctionObj : public ExprObj {
 public:
  ffi::Array<Var> params;
  Expr body;
  ffi::Optional<Type> ret_type;
  ffi::Map<ffi::String, ffi::Any> attrs;
  ffi::Array<TypeVar> type_params;  // bound in params, ret_type and body

  explicit FunctionObj(ffi::UnsafeInit tag) : body(tag) {}
  FunctionObj(ffi::Array<Var> params, Expr body, ffi::Optional<Type> ret_type,
              ffi::Map<ffi::String, ffi::Any> attrs, ffi::Optional<Span> span,
              ffi::Array<TypeVar> type_params);
  ~FunctionObj() {
    Release(std::move(body));
    Release(std::move(attrs));
  }
  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindDAGNode;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.Function", FunctionObj, ExprObj);
};
class TORCH_TVM_API Function : public Expr {
 public:
  Function(ffi::Array<Var> params, Expr body, ffi::Optional<Type> ret_type = std::nullopt,
           ffi::Map<ffi::String, ffi::Any> attrs = {}, ffi::Optional<Span> span = std::nullopt,
           ffi::Array<TypeVar> type_params = {});
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(Function, Expr, FunctionObj);
};

// A new cell that holds a value.
class RefCreateObj : public ExprObj {
 public:
  Expr value;

  explicit RefCreateObj(ffi::UnsafeInit tag) : value(tag) {}
  RefCreateObj(Expr value, ffi::Optional<Span> span);
  ~RefCreateObj() { Release(std::move(value)); }
  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindDAGNode;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.RefCreate", RefCreateObj, ExprObj);
};
class TORCH_TVM_API RefCreate : public Expr {
 public:
  explicit RefCreate(Expr value, ffi::Optional<Span> span = std::nullopt);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(RefCreate, Expr, RefCreateObj);
};

// What a cell holds.
class RefReadObj : public ExprObj {
 public:
  Expr ref;

  explicit RefReadObj(ffi::UnsafeInit tag) : ref(tag) {}
  RefReadObj(Expr ref, ffi::Optional<Span> span);
  ~RefReadObj() { Release(std::move(ref)); }
  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindDAGNode;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.RefRead", RefReadObj, ExprObj);
};
class TORCH_TVM_API RefRead : public Expr {
 public:
  explicit RefRead(Expr ref, ffi::Optional<Span> span = std::nullopt);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(RefRead, Expr, RefReadObj);
};

// Puts a value into a cell; gives the empty tuple.
class RefWriteObj : public ExprObj {
 public:
  Expr ref;
  Expr value;

  explicit RefWriteObj(ffi::UnsafeInit tag) : ref(tag), value(tag) {}
  RefWriteObj(Expr ref, Expr value, ffi::Optional<Span> span);
  ~RefWriteObj() {
    Release(std::move(ref));
    Release(std::move(value));
  }
  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindDAGNode;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.RefWrite", RefWriteObj, ExprObj);
};
class TORCH_TVM_API RefWrite : public Expr {
 public:
  RefWrite(Expr ref, Expr value, ffi::Optional<Span> span = std::nullopt);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(RefWrite, Expr, RefWriteObj);
};

// An integer that TVM 0.19 holds as an object (runtime.BoxInt, in split's indices_or_sections): its
// text is a metadata reference, and stays one when read and printed again.
class BoxIntObj : public ffi::Object {
 public:
  int64_t value = 0;

  explicit BoxIntObj(ffi::UnsafeInit) {}
  explicit BoxIntObj(int64_t value) : value(value) {}
  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindTreeNode;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.BoxInt", BoxIntObj, ffi::Object);
};
class BoxInt : public ffi::ObjectRef {
 public:
  explicit BoxInt(int64_t value);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(BoxInt, ffi::ObjectRef, BoxIntObj);
};

}  // namespace torch_tvm::relay
