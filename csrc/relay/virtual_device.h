// Where TVM's compiler wants a value: an attribute of `on_device` and of functions, which nothing
// here reads.
#pragma once

#include <tvm/ffi/tvm_ffi.h>

#include <utility>

#include "core/api.h"

namespace torch_tvm::relay {

namespace ffi = tvm::ffi;

// -1 and "" leave open what they say. The target, which is a whole object of TVM's, is none.
class VirtualDeviceObj : public ffi::Object {
 public:
  int64_t device_type = -1;  // as in DLDeviceType
  int64_t virtual_device_id = -1;
  ffi::String memory_scope;

  explicit VirtualDeviceObj(ffi::UnsafeInit) {}
  VirtualDeviceObj(int64_t device_type, int64_t virtual_device_id, ffi::String memory_scope)
      : device_type(device_type),
        virtual_device_id(virtual_device_id),
        memory_scope(std::move(memory_scope)) {}

  bool leaves_all_open() const {
    return device_type == -1 && virtual_device_id == -1 && memory_scope.empty();
  }

  static constexpr TVMFFISEqHashKind _type_s_eq_hash_kind = kTVMFFISEqHashKindTreeNode;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.relay.VirtualDevice", VirtualDeviceObj, ffi::Object);
};
class TORCH_TVM_API VirtualDevice : public ffi::ObjectRef {
 public:
  VirtualDevice(int64_t device_type, int64_t virtual_device_id, ffi::String memory_scope);
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(VirtualDevice, ffi::ObjectRef, VirtualDeviceObj);
};

}  // namespace torch_tvm::relay
