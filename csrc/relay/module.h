// Programs.
#pragma once

#include <utility>

#include "relay/adt.h"
#include "relay/expr.h"

namespace torch_tvm::relay {

// The functions of a program by name, "main" is the entry; and its algebraic data types by name.
class IRModuleObj : public ffi::Object {
 public:
  ffi::Map<ffi::String, Function> functions;
  ffi::Map<ffi::String, TypeData> type_definitions;

  explicit IRModuleObj(ffi::UnsafeInit) {}
  IRModuleObj(ffi::Map<ffi::String, Function> functions,
              ffi::Map<ffi::String, TypeData> type_definitions);
  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindTreeNode;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.IRModule", IRModuleObj, ffi::Object);
};
class TORCH_TVM_API IRModule : public ffi::ObjectRef {
 public:
  explicit IRModule(ffi::Map<ffi::String, Function> functions,
                    ffi::Map<ffi::String, TypeData> type_definitions = {});
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(IRModule, ffi::ObjectRef, IRModuleObj);
};

}  // namespace torch_tvm::relay
