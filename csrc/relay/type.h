// Types of Relay expressions, as tvm-ffi objects.
#pragma once

#include <tvm/ffi/tvm_ffi.h>

#include <utility>

#include "core/api.h"

namespace torch_tvm::relay {

namespace ffi = tvm::ffi;

// Base of all types.
class TypeObj : public ffi::Object {
 public:
  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindTreeNode;
  TVM_FFI_DECLARE_OBJECT_INFO("torch_tvm.relay.Type", TypeObj, ffi::Object);
};
class Type : public ffi::ObjectRef {
 public:
  explicit Type(ffi::ObjectPtr<TypeObj> node) : ffi::ObjectRef(std::move(node)) {}
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(Type, ffi::ObjectRef, TypeObj);
};

// A variable that stands for a size; identity, not the name, tells variables apart.
class SizeVarObj : public ffi::Object {
 public:
  ffi::String name_hint;
  DLDataType dtype = {kDLInt, 32, 1};
  bool non_negative = false;  // TVM's tir.SizeVar, which differs from a tir.Var of the same name

  explicit SizeVarObj(ffi::UnsafeInit) {}
  SizeVarObj(ffi::String name_hint, DLDataType dtype, bool non_negative);
  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindFreeVar;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.SizeVar", SizeVarObj, ffi::Object);
};
class TORCH_TVM_API SizeVar : public ffi::ObjectRef {
 public:
  SizeVar(ffi::String name_hint, DLDataType dtype, bool non_negative);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(SizeVar, ffi::ObjectRef, SizeVarObj);
};

// A dense tensor; rank 0 is a scalar. A size of kAnySize ("?") is not known before run time.
constexpr int64_t kAnySize = -1;
using SizeVars = ffi::Optional<ffi::Array<ffi::Optional<SizeVar>>>;
using SizeBits = ffi::Optional<ffi::Array<int64_t>>;
class TensorTypeObj : public TypeObj {
 public:
  ffi::Array<int64_t> shape;
  DLDataType dtype;
  // For each size the variable that stands for it, which is kAnySize in shape, so that nobody takes
  // it for a number. nullopt if there are none.
  SizeVars size_vars;
  // For each size how wide its integer type is. nullopt if all are as their values ask for: int32,
  // beyond that int64.
  SizeBits size_bits;
  // The boxes that held the sizes in the metadata section this type was read from. Metadata writes
  // an object once and refers to it afterwards, so that without them TVM's own text would not print
  // back byte for byte.
  ffi::Optional<ffi::Array<ffi::ObjectRef>> size_boxes;

  explicit TensorTypeObj(ffi::UnsafeInit) {}
  TensorTypeObj(ffi::Array<int64_t> shape, DLDataType dtype, SizeVars size_vars,
                SizeBits size_bits);
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.TensorType", TensorTypeObj, TypeObj);
};
class TORCH_TVM_API TensorType : public Type {
 public:
  TensorType(ffi::Array<int64_t> shape, DLDataType dtype, SizeVars size_vars = std::nullopt,
             SizeBits size_bits = std::nullopt);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(TensorType, Type, TensorTypeObj);
};

class TupleTypeObj : public TypeObj {
 public:
  ffi::Array<Type> fields;

  explicit TupleTypeObj(ffi::UnsafeInit) {}
  explicit TupleTypeObj(ffi::Array<Type> fields) : fields(std::move(fields)) {}
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.TupleType", TupleTypeObj, TypeObj);
};
class TORCH_TVM_API TupleType : public Type {
 public:
  explicit TupleType(ffi::Array<Type> fields);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(TupleType, Type, TupleTypeObj);
};

// What a type variable stands for, with the numbers of TVM 0.19.
enum TypeKind : int64_t {
  kType = 0,  // a type that values have
  kShapeVar = 1,
  kBaseType = 2,
  kConstraint = 4,
  kAdtHandle = 5,  // the name of an algebraic data type, which is a type once it has its arguments
  kTypeData = 6,
};

// A type that is left open, "_" in text; inference finds it. Each one may be another type.
class IncompleteTypeObj : public TypeObj {
 public:
  int64_t kind = kType;

  explicit IncompleteTypeObj(ffi::UnsafeInit) {}
  explicit IncompleteTypeObj(int64_t kind) : kind(kind) {}
  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindFreeVar;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.IncompleteType", IncompleteTypeObj, TypeObj);
};
class TORCH_TVM_API IncompleteType : public Type {
 public:
  explicit IncompleteType(int64_t kind = kType);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(IncompleteType, Type, IncompleteTypeObj);
};

// A type parameter of a function or of an algebraic data type; identity, not the name, tells them
// apart.
class TypeVarObj : public TypeObj {
 public:
  ffi::String name_hint;
  int64_t kind = kType;

  explicit TypeVarObj(ffi::UnsafeInit) {}
  TypeVarObj(ffi::String name_hint, int64_t kind) : name_hint(std::move(name_hint)), kind(kind) {}
  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindFreeVar;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.TypeVar", TypeVarObj, TypeObj);
};
class TORCH_TVM_API TypeVar : public Type {
 public:
  explicit TypeVar(ffi::String name_hint, int64_t kind = kType);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(TypeVar, Type, TypeVarObj);
};

// An algebraic data type of the module, by name.
class GlobalTypeVarObj : public TypeObj {
 public:
  ffi::String name_hint;
  int64_t kind = kAdtHandle;

  explicit GlobalTypeVarObj(ffi::UnsafeInit) {}
  GlobalTypeVarObj(ffi::String name_hint, int64_t kind)
      : name_hint(std::move(name_hint)), kind(kind) {}
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.GlobalTypeVar", GlobalTypeVarObj, TypeObj);
};
class TORCH_TVM_API GlobalTypeVar : public Type {
 public:
  explicit GlobalTypeVar(ffi::String name_hint, int64_t kind = kAdtHandle);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(GlobalTypeVar, Type, GlobalTypeVarObj);
};

// An algebraic data type with its arguments, List[int32].
class TypeCallObj : public TypeObj {
 public:
  Type func;
  ffi::Array<Type> args;

  explicit TypeCallObj(ffi::UnsafeInit tag) : func(tag) {}
  TypeCallObj(Type func, ffi::Array<Type> args) : func(std::move(func)), args(std::move(args)) {}
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.TypeCall", TypeCallObj, TypeObj);
};
class TORCH_TVM_API TypeCall : public Type {
 public:
  TypeCall(Type func, ffi::Array<Type> args);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(TypeCall, Type, TypeCallObj);
};

// A cell that is read and written.
class RefTypeObj : public TypeObj {
 public:
  Type value;

  explicit RefTypeObj(ffi::UnsafeInit tag) : value(tag) {}
  explicit RefTypeObj(Type value) : value(std::move(value)) {}
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.RefType", RefTypeObj, TypeObj);
};
class TORCH_TVM_API RefType : public Type {
 public:
  explicit RefType(Type value);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(RefType, Type, RefTypeObj);
};

// A function; type_params are bound in it.
class FuncTypeObj : public TypeObj {
 public:
  ffi::Array<Type> arg_types;
  Type ret_type;
  ffi::Array<TypeVar> type_params;

  explicit FuncTypeObj(ffi::UnsafeInit tag) : ret_type(tag) {}
  FuncTypeObj(ffi::Array<Type> arg_types, Type ret_type, ffi::Array<TypeVar> type_params)
      : arg_types(std::move(arg_types)),
        ret_type(std::move(ret_type)),
        type_params(std::move(type_params)) {}
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.FuncType", FuncTypeObj, TypeObj);
};
class TORCH_TVM_API FuncType : public Type {
 public:
  FuncType(ffi::Array<Type> arg_types, Type ret_type, ffi::Array<TypeVar> type_params = {});
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(FuncType, Type, FuncTypeObj);
};

}  // namespace torch_tvm::relay
