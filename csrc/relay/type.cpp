#include "relay/type.h"

#include <utility>

namespace torch_tvm::relay {

namespace refl = tvm::ffi::reflection;

TensorTypeObj::TensorTypeObj(ffi::Array<int64_t> sizes, DLDataType element)
    : shape(std::move(sizes)), dtype(element) {
  for (int64_t size : shape) {
    if (size < kAnySize) {
      TVM_FFI_THROW(ValueError) << "TensorType: a size must be >= 0, or -1 for one that is not "
                                << "known, got " << size;
    }
  }
}

TensorType::TensorType(ffi::Array<int64_t> shape, DLDataType dtype)
    : Type(ffi::make_object<TensorTypeObj>(std::move(shape), dtype)) {}
TupleType::TupleType(ffi::Array<Type> fields)
    : Type(ffi::make_object<TupleTypeObj>(std::move(fields))) {}
FuncType::FuncType(ffi::Array<Type> arg_types, Type ret_type)
    : Type(ffi::make_object<FuncTypeObj>(std::move(arg_types), std::move(ret_type))) {}

TVM_FFI_STATIC_INIT_BLOCK() {
  refl::ObjectDef<TypeObj>(refl::init(false));
  refl::ObjectDef<TensorTypeObj>()
      .def(refl::init<ffi::Array<int64_t>, DLDataType>())
      .def_ro("shape", &TensorTypeObj::shape)
      .def_ro("dtype", &TensorTypeObj::dtype)
      .def_ro("size_boxes", &TensorTypeObj::size_boxes, refl::AttachFieldFlag::SEqHashIgnore(),
              refl::repr(false));
  refl::ObjectDef<TupleTypeObj>()
      .def(refl::init<ffi::Array<Type>>())
      .def_ro("fields", &TupleTypeObj::fields);
  refl::ObjectDef<FuncTypeObj>()
      .def(refl::init<ffi::Array<Type>, Type>())
      .def_ro("arg_types", &FuncTypeObj::arg_types)
      .def_ro("ret_type", &FuncTypeObj::ret_type);
}

}  // namespace torch_tvm::relay
