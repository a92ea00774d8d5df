#include "relay/type.h"

#include <limits>
#include <utility>

namespace torch_tvm::relay {

namespace refl = tvm::ffi::reflection;

namespace {

int64_t BitsOf(int64_t size) { return size > std::numeric_limits<int32_t>::max() ? 64 : 32; }

bool SameBits(const ffi::Array<int64_t>& shape, const ffi::Array<int64_t>& bits) {
  for (size_t i = 0; i < shape.size(); ++i) {
    if (bits[i] != BitsOf(shape[i])) return false;
  }
  return true;
}

void CheckBits(int64_t size, int64_t bits) {
  bool known = bits == 8 || bits == 16 || bits == 32 || bits == 64;
  if (!known || (bits < 64 && size >> (bits - 1) > 0)) {
    TVM_FFI_THROW(ValueError) << "TensorType: a size of " << size << " is no integer of " << bits
                              << " bits";
  }
}

}  // namespace

SizeVarObj::SizeVarObj(ffi::String name, DLDataType type, bool at_least_zero)
    : name_hint(std::move(name)), dtype(type), non_negative(at_least_zero) {
  bool integer = dtype.code == kDLInt || dtype.code == kDLUInt;
  if (!integer || dtype.lanes != 1) {
    TVM_FFI_THROW(ValueError) << "SizeVar: expected an integer type for '" << name_hint << "', got "
                              << ffi::DLDataTypeToString(dtype);
  }
}

TensorTypeObj::TensorTypeObj(ffi::Array<int64_t> sizes, DLDataType element, SizeVars vars,
                             SizeBits bits)
    : shape(std::move(sizes)), dtype(element) {
  if ((vars && vars->size() != shape.size()) || (bits && bits->size() != shape.size())) {
    TVM_FFI_THROW(ValueError) << "TensorType: expected as many variables and widths as sizes";
  }
  bool symbolic = false;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] < kAnySize) {
      TVM_FFI_THROW(ValueError) << "TensorType: a size must be >= 0, or -1 for one that is not "
                                << "known, got " << shape[i];
    }
    if (bits) CheckBits(shape[i], (*bits)[i]);
    if (!vars || !(*vars)[i]) continue;
    symbolic = true;
    if (shape[i] != kAnySize) {
      TVM_FFI_THROW(ValueError) << "TensorType: a variable stands for a size that is -1, got "
                                << shape[i];
    }
  }
  if (symbolic) size_vars = std::move(vars);
  if (bits && !SameBits(shape, *bits)) size_bits = std::move(bits);
}

SizeVar::SizeVar(ffi::String name_hint, DLDataType dtype, bool non_negative)
    : ffi::ObjectRef(ffi::make_object<SizeVarObj>(std::move(name_hint), dtype, non_negative)) {}
TensorType::TensorType(ffi::Array<int64_t> shape, DLDataType dtype, SizeVars size_vars,
                       SizeBits size_bits)
    : Type(ffi::make_object<TensorTypeObj>(std::move(shape), dtype, std::move(size_vars),
                                           std::move(size_bits))) {}
TupleType::TupleType(ffi::Array<Type> fields)
    : Type(ffi::make_object<TupleTypeObj>(std::move(fields))) {}
IncompleteType::IncompleteType(int64_t kind) : Type(ffi::make_object<IncompleteTypeObj>(kind)) {}
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
  refl::ObjectDef<SizeVarObj>()
      .def(refl::init<ffi::String, DLDataType, bool>())
      .def_ro("name_hint", &SizeVarObj::name_hint, refl::AttachFieldFlag::SEqHashIgnore())
      .def_ro("dtype", &SizeVarObj::dtype)
      .def_ro("non_negative", &SizeVarObj::non_negative);
  refl::ObjectDef<TensorTypeObj>()
      .def(refl::init<ffi::Array<int64_t>, DLDataType, SizeVars, SizeBits>())
      .def_ro("shape", &TensorTypeObj::shape)
      .def_ro("dtype", &TensorTypeObj::dtype)
      .def_ro("size_vars", &TensorTypeObj::size_vars)
      .def_ro("size_bits", &TensorTypeObj::size_bits)
      .def_ro("size_boxes", &TensorTypeObj::size_boxes, refl::AttachFieldFlag::SEqHashIgnore(),
              refl::repr(false));
  refl::ObjectDef<TupleTypeObj>()
      .def(refl::init<ffi::Array<Type>>())
      .def_ro("fields", &TupleTypeObj::fields);
  refl::ObjectDef<IncompleteTypeObj>()
      .def(refl::init<int64_t>())
      .def_ro("kind", &IncompleteTypeObj::kind);
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
