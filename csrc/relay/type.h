// Types of Relay expressions, as tvm-ffi objects.
#pragma once

#include <tvm/ffi/tvm_ffi.h>

#include <utility>

#include "core/api.h"

namespace torch_tvm::relay {

namespace ffi = tvm::ffi;

// Base of the three types.
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

// A dense tensor; rank 0 is a scalar. A size of kAnySize ("?") is not known before run time.
constexpr int64_t kAnySize = -1;
class TensorTypeObj : public TypeObj {
 public:
  ffi::Array<int64_t> shape;
  DLDataType dtype;
  // The boxes that held the sizes in the metadata section this type was read from. Metadata writes
  // an object once and refers to it afterwards, so that without them TVM's own text would not print
  // back byte for byte.
  ffi::Optional<ffi::Array<ffi::ObjectRef>> size_boxes;

  explicit TensorTypeObj(ffi::UnsafeInit) {}
  TensorTypeObj(ffi::Array<int64_t> shape, DLDataType dtype);
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.TensorType", TensorTypeObj, TypeObj);
};
class TORCH_TVM_API TensorType : public Type {
 public:
  TensorType(ffi::Array<int64_t> shape, DLDataType dtype);
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

class FuncTypeObj : public TypeObj {
 public:
  ffi::Array<Type> arg_types;
  Type ret_type;

  explicit FuncTypeObj(ffi::UnsafeInit tag) : ret_type(tag) {}
  FuncTypeObj(ffi::Array<Type> arg_types, Type ret_type)
      : arg_types(std::move(arg_types)), ret_type(std::move(ret_type)) {}
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.FuncType", FuncTypeObj, TypeObj);
};
class TORCH_TVM_API FuncType : public Type {
 public:
  FuncType(ffi::Array<Type> arg_types, Type ret_type);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(FuncType, Type, FuncTypeObj);
};

}  // namespace torch_tvm::relay
