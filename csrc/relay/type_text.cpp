#include "relay/type_text.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "relay/builder.h"
#include "relay/literal.h"

namespace torch_tvm::relay {
namespace {

template <typename Items, typename Text>
std::string Join(const Items& items, Text text) {
  std::string joined;
  for (const auto& item : items) joined += (joined.empty() ? "" : ", ") + text(item);
  return joined;
}

std::string SizeText(const TensorTypeObj* type, size_t dim, const TypeVarNames& names) {
  if (type->size_vars && (*type->size_vars)[dim]) {
    SizeVar var = *(*type->size_vars)[dim];
    return names.size ? names.size(var) : std::string(var->name_hint);
  }
  int64_t size = type->shape[dim];
  if (size == kAnySize) return "?";
  if (!type->size_bits) return IntText(size);
  // As TVM prints: integers of 8 bits have no suffix.
  int64_t bits = (*type->size_bits)[dim];
  return std::to_string(size) + (bits == 64 ? "i64" : bits == 16 ? "i16" : "");
}

std::string TensorTypeText(const TensorTypeObj* type, const TypeVarNames& names) {
  std::string dtype = DtypeText(type->dtype);
  if (type->shape.empty()) return IsScalarDtype(dtype) ? dtype : Concat("Tensor[(), ", dtype, "]");
  std::string sizes;
  for (size_t dim = 0; dim < type->shape.size(); ++dim) {
    sizes += (dim ? ", " : "") + SizeText(type, dim, names);
  }
  return Concat("Tensor[(", sizes, "), ", dtype, "]");
}

// Names of TVM 0.19 that the library spells otherwise; lanes follow ("e4m3_float8x4").
struct DtypeName {
  std::string_view relay;
  std::string_view library;
};
constexpr std::array<DtypeName, 2> kDtypeNames = {
    {{"e4m3_float8", "float8_e4m3fn"}, {"e5m2_float8", "float8_e5m2"}}};

std::string CheckedName(const ffi::String& name, bool readable, const char* what) {
  if (!readable) {
    TVM_FFI_THROW(ValueError) << "Relay text has no spelling for the " << what << " '" << name
                              << "'";
  }
  return name;
}

}  // namespace

std::string DtypeText(DLDataType dtype) {
  std::string text = ffi::DLDataTypeToString(dtype);
  if (text.empty()) return "void";
  for (const auto& [relay, library] : kDtypeNames) {
    if (text.starts_with(library)) return Concat(relay, text.substr(library.size()));
  }
  return text;
}

std::optional<DLDataType> ReadDtype(std::string_view text) {
  try {
    for (const auto& [relay, library] : kDtypeNames) {
      if (!text.starts_with(relay)) continue;
      return ffi::StringToDLDataType(Concat(library, text.substr(relay.size())));
    }
    return ffi::StringToDLDataType(std::string(text));
  } catch (const ffi::Error&) {
    return std::nullopt;
  }
}

bool IsScalarDtype(std::string_view word) {
  constexpr std::array<std::string_view, 4> kScalars = {"int", "uint", "float", "bool"};
  return std::any_of(kScalars.begin(), kScalars.end(),
                     [word](std::string_view prefix) { return word.starts_with(prefix); });
}

bool IsConstructorName(std::string_view word) {
  // It may begin with '_', as names of variables that are printed may not.
  std::string name = word.size() > 1 && word[0] == '_' ? Concat("v", word) : std::string(word);
  return FriendlyName(name) == name;
}

bool IsTypeName(std::string_view word) {
  return IsConstructorName(word) && !IsScalarDtype(word) && word != "Tensor" && word != "meta";
}

std::string TypeText(const Type& type, const TypeVarNames& names) {
  auto text = [&names](const Type& part) { return TypeText(part, names); };
  if (const auto* tensor = type.as<TensorTypeObj>()) return TensorTypeText(tensor, names);
  if (const auto* tuple = type.as<TupleTypeObj>()) {
    return Concat("(", Join(tuple->fields, text), tuple->fields.size() == 1 ? ",)" : ")");
  }
  if (const auto* function = type.as<FuncTypeObj>()) {
    return Concat("fn ", TypeParamsText(function->type_params, names), "(",
                  Join(function->arg_types, text), ") -> ", text(function->ret_type));
  }
  if (const auto* var = type.as<TypeVarObj>()) {
    auto known = names.types.find(var);
    return known == names.types.end() ? std::string(var->name_hint) : known->second;
  }
  if (const auto* global = type.as<GlobalTypeVarObj>()) return global->name_hint;
  if (const auto* call = type.as<TypeCallObj>()) {
    return Concat(text(call->func), "[", Join(call->args, text), "]");
  }
  if (const auto* cell = type.as<RefTypeObj>()) return Concat("ref(", text(cell->value), ")");
  // TVM's printer has no case for it; this is what its parser reads.
  if (type.as<IncompleteTypeObj>()) return "_";
  if (auto data = type.as<TypeData>()) return TypeDataText(*data, names);
  TVM_FFI_THROW(TypeError) << "no text for a type of class " << type.GetTypeKey();
}

std::string TypeParamsText(const ffi::Array<TypeVar>& params, const TypeVarNames& names) {
  if (params.empty()) return "";
  return Concat("[", Join(params, [&names](const Type& var) { return TypeText(var, names); }), "]");
}

std::string TypeDataText(const TypeData& data, const TypeVarNames& names) {
  const ffi::String& header = data->header->name_hint;
  std::string text = Concat("type ", CheckedName(header, IsTypeName(std::string(header)), "type"),
                            TypeParamsText(data->type_vars, names), " {\n  ");
  bool first = true;
  for (const Constructor& constructor : data->constructors) {
    if (!first) text += "\n  ";
    first = false;
    const ffi::String& name = constructor->name_hint;
    text += CheckedName(name, IsConstructorName(std::string(name)), "constructor");
    if (!constructor->inputs.empty()) {
      auto input = [&names](const Type& type) { return TypeText(type, names); };
      text += Concat("(", Join(constructor->inputs, input), ")");
    }
    text += ",";
  }
  return text + "\n}";
}

}  // namespace torch_tvm::relay
