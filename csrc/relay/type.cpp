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
TypeVar::TypeVar(ffi::String name_hint, int64_t kind)
    : Type(ffi::make_object<TypeVarObj>(std::move(name_hint), kind)) {}
GlobalTypeVar::GlobalTypeVar(ffi::String name_hint, int64_t kind)
    : Type(ffi::make_object<GlobalTypeVarObj>(std::move(name_hint), kind)) {}
TypeCall::TypeCall(Type func, ffi::Array<Type> args)
    : Type(ffi::make_object<TypeCallObj>(std::move(func), std::move(args))) {}
RefType::RefType(Type value) : Type(ffi::make_object<RefTypeObj>(std::move(value))) {}
FuncType::FuncType(ffi::Array<Type> arg_types, Type ret_type, ffi::Array<TypeVar> type_params)
    : Type(ffi::make_object<FuncTypeObj>(std::move(arg_types), std::move(ret_type),
                                         std::move(type_params))) {}

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
  refl::ObjectDef<TypeVarObj>()
      .def(refl::init<ffi::String, int64_t>())
      .def_ro("name_hint", &TypeVarObj::name_hint, refl::AttachFieldFlag::SEqHashIgnore())
      .def_ro("kind", &TypeVarObj::kind);
  refl::ObjectDef<GlobalTypeVarObj>()
      .def(refl::init<ffi::String, int64_t>())
      .def_ro("name_hint", &GlobalTypeVarObj::name_hint)
      .def_ro("kind", &GlobalTypeVarObj::kind);
  refl::ObjectDef<TypeCallObj>()
      .def(refl::init<Type, ffi::Array<Type>>())
      .def_ro("func", &TypeCallObj::func)
      .def_ro("args", &TypeCallObj::args);
  refl::ObjectDef<RefTypeObj>().def(refl::init<Type>()).def_ro("value", &RefTypeObj::value);
  refl::ObjectDef<FuncTypeObj>()
      .def(refl::init<ffi::Array<Type>, Type, ffi::Array<TypeVar>>())
      .def_ro("type_params", &FuncTypeObj::type_params, refl::AttachFieldFlag::SEqHashDefPattern())
      .def_ro("arg_types", &FuncTypeObj::arg_types)
      .def_ro("ret_type", &FuncTypeObj::ret_type);
}

}  // namespace torch_tvm::relay
