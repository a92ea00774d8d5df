#include "relay/virtual_device.h"

#include <tvm/ffi/reflection/registry.h>

namespace torch_tvm::relay {

VirtualDevice::VirtualDevice(int64_t device_type, int64_t virtual_device_id,
                             ffi::String memory_scope)
    : ffi::ObjectRef(ffi::make_object<VirtualDeviceObj>(device_type, virtual_device_id,
                                                        std::move(memory_scope))) {}

TVM_FFI_STATIC_INIT_BLOCK() {
  namespace refl = tvm::ffi::reflection;
  refl::ObjectDef<VirtualDeviceObj>()
      .def(refl::init<int64_t, int64_t, ffi::String>())
      .def_ro("device_type", &VirtualDeviceObj::device_type)
      .def_ro("virtual_device_id", &VirtualDeviceObj::virtual_device_id)
      .def_ro("memory_scope", &VirtualDeviceObj::memory_scope);
}

}  // namespace torch_tvm::relay
