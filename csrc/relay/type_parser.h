// The part of the parser that reads types and their definitions.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "relay/adt.h"
#include "relay/parser_base.h"

namespace torch_tvm::relay {

class TypeParser : public ParserBase {
 public:
  using ParserBase::ParserBase;

 protected:
  ~TypeParser() = default;

  // The names of type variables as long as the text is in their scope.
  class TypeScope {
   public:
    explicit TypeScope(TypeParser* parser) : parser_(parser) {
      parser->type_scopes_.emplace_back();
    }
    ~TypeScope() { parser_->type_scopes_.pop_back(); }

   private:
    TypeParser* parser_;
  };

  // nullopt for "_", the type that is left open; inside of another type that is an IncompleteType.
  ffi::Optional<Type> ParseType();
  // "[A, B]" if it comes next; the names are in the innermost scope.
  ffi::Array<TypeVar> ParseTypeParams();
  // "type ..." or "extern type ...".
  void ParseTypeDefinition();
  // Whether types of the module may be named here, which need not be defined before.
  void AllowTypeNames() { names_allowed_ = true; }
  // Every type that was named has to be defined and to get as many arguments as it takes.
  void CheckTypeUses() const;
  const Constructor* FindConstructor(std::string_view name) const;
  const ffi::Map<ffi::String, TypeData>& type_definitions() const { return type_definitions_; }

 private:
  struct TypeUse {
    const Token* name;
    size_t num_args;
  };

  Type TypeInside();
  Type RequiredType();
  ffi::Array<Type> TypeList(std::string_view open, std::string_view close);
  Type TensorTypeRest();
  // A size's number, the width of its type and the variable that stands for it.
  struct Size {
    int64_t number = kAnySize;
    int64_t bits = 32;
    ffi::Optional<SizeVar> var = std::nullopt;
  };
  Size ParseSize();
  Type NamedType();
  GlobalTypeVar GlobalType(const Token& name);
  Constructor ParseConstructor(const GlobalTypeVar& header);
  DLDataType Dtype();

  std::vector<std::unordered_map<std::string, TypeVar>> type_scopes_;
  std::unordered_map<std::string, GlobalTypeVar> global_types_;
  std::unordered_map<std::string, Constructor> constructors_;
  ffi::Map<ffi::String, TypeData> type_definitions_;
  std::vector<TypeUse> uses_;
  bool names_allowed_ = false;
};

}  // namespace torch_tvm::relay
