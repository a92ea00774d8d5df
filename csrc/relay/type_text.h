// Types in Relay's text format.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "relay/adt.h"

namespace torch_tvm::relay {

// What variables are called where a type stands; others are called as they say themselves.
struct TypeVarNames {
  std::unordered_map<const ffi::Object*, std::string> types = {};
  // The parser reads a variable that stands for a size as a reference into the metadata only.
  std::function<std::string(const SizeVar&)> size = {};
};

std::string DtypeText(DLDataType dtype);
// nullopt for what is no dtype.
std::optional<DLDataType> ReadDtype(std::string_view text);
// In scalar position the parser takes a word for a dtype if it begins as these do.
bool IsScalarDtype(std::string_view word);
// What the parser can read as the name of a constructor, and of a type or a type variable.
bool IsConstructorName(std::string_view word);
bool IsTypeName(std::string_view word);
// "Tensor[(2, 3), float32]", "(float32, int64)", "fn (float32) -> bool", "List[int32]". The
// parser takes neither "ref(int32)" nor "fn [A](A) -> A", as in TVM 0.19.
std::string TypeText(const Type& type, const TypeVarNames& names = {});
// "[A, B]", or nothing if there are none.
std::string TypeParamsText(const ffi::Array<TypeVar>& params, const TypeVarNames& names);
// "type List[A] {", a line for each constructor, "}". Throws ValueError for names that the parser
// cannot read.
std::string TypeDataText(const TypeData& data, const TypeVarNames& names);

}  // namespace torch_tvm::relay
