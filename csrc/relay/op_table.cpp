#include "relay/op_table.h"

#include <tvm/ffi/extra/json.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <sstream>
#include <utility>

#include "relay/expr.h"
#include "relay/literal.h"

namespace torch_tvm::relay {
namespace {

struct FieldRow {
  const char* name;
  AttrKind kind;
  const char* default_json;  // nullptr: required
};
struct AttrsRow {
  const char* key;
  std::vector<FieldRow> fields;
};
struct OpRow {
  const char* name;
  int num_inputs;
  const char* args;
  const char* attrs_key;
  bool attrs_registered;
  OpPattern pattern;
};

const std::vector<AttrsRow>& AttrsRows() {
#define ATTRS(key, ...) AttrsRow{key, __VA_ARGS__},
  static const std::vector<AttrsRow> rows = {
#include "relay/attrs_table.inc"
  };
#undef ATTRS
  return rows;
}

const std::vector<OpRow>& OpRows() {
#define OP(...) OpRow{__VA_ARGS__},
  static const std::vector<OpRow> rows = {
#include "relay/op_table.inc"
  };
#undef OP
  return rows;
}

const char* KindName(AttrKind kind) {
  switch (kind) {
    case kInt:
      return "an int";
    case kIntImm:
      return "an int or None";
    case kBool:
    case kBoolImm:
      return "a bool";
    case kDouble:
      return "a float other than NaN";
    case kFloatImm:
      return "a float or None";
    case kStdString:
    case kString:
      return "a string without quotes and line breaks";
    case kDataType:
      return "the name of a dtype";
    case kIntArray:
      return "a list of ints or None";
    case kFloatArray:
      return "a list of floats or None";
    case kIntArrays:
      return "a list of lists of ints or None";
    case kIntOrIntArray:
      return "an int or a list of ints";
    case kExpr:
      return "an expression";
    case kObject:
      return "an object";
  }
  return "";
}

// Strict where a silent conversion would hide a mistake: no float for an int, no number for a
// string.
ffi::Optional<int64_t> AsInt(const ffi::Any& value) {
  if (auto box = value.as<BoxInt>()) return (*box)->value;
  return value.try_cast<int64_t>();
}

ffi::Optional<ffi::Any> NormaliseArray(AttrKind kind, const ffi::Any& value);

ffi::Optional<ffi::Any> NormaliseDtype(const ffi::Any& value) {
  if (auto dtype = value.as<DLDataType>()) return ffi::Any(ffi::DLDataTypeToString(*dtype));
  auto name = value.try_cast<ffi::String>();
  if (!name) return std::nullopt;
  if (name->empty()) return ffi::Any(*name);
  try {
    return ffi::Any(ffi::DLDataTypeToString(ffi::StringToDLDataType(*name)));
  } catch (const ffi::Error&) {
    return std::nullopt;
  }
}

// Nothing when the value does not fit the kind.
ffi::Optional<ffi::Any> Normalise(AttrKind kind, const ffi::Any& value) {
  bool none = value == nullptr;
  switch (kind) {
    case kIntImm:
      if (none) return value;
      [[fallthrough]];
    case kInt:
      if (auto number = AsInt(value)) return ffi::Any(*number);
      return std::nullopt;
    case kBool:
    case kBoolImm:
      if (auto flag = value.as<bool>()) return ffi::Any(*flag);
      if (auto number = AsInt(value); number && (*number == 0 || *number == 1)) {
        return ffi::Any(*number == 1);
      }
      return std::nullopt;
    case kFloatImm:
      if (none) return value;
      [[fallthrough]];
    case kDouble:
      // Neither NaN nor strings that need escapes have a spelling in the text format.
      if (auto number = value.try_cast<double>(); number && !std::isnan(*number)) {
        return ffi::Any(*number);
      }
      return std::nullopt;
    case kStdString:
    case kString:
      if (auto text = value.try_cast<ffi::String>(); text && IsQuotable(std::string(*text))) {
        return ffi::Any(*text);
      }
      return std::nullopt;
    case kDataType:
      return NormaliseDtype(value);
    case kIntArray:
    case kFloatArray:
    case kIntArrays:
      if (none) return value;
      return NormaliseArray(kind, value);
    case kIntOrIntArray:  // keeps boxes: TVM 0.19 prints a boxed count as a metadata reference
      if (value.as<BoxInt>()) return value;
      if (auto number = value.try_cast<int64_t>()) return ffi::Any(*number);
      return none ? std::nullopt : NormaliseArray(kind, value);
    case kExpr:
      if (auto expr = value.as<Expr>()) return ffi::Any(*expr);
      return std::nullopt;
    case kObject:
      return value;
  }
  return std::nullopt;
}

ffi::Optional<ffi::Any> NormaliseArray(AttrKind kind, const ffi::Any& value) {
  AttrKind element = kind == kFloatArray ? kDouble : kind == kIntArrays ? kIntArray : kInt;
  ffi::Array<ffi::Any> result;
  if (auto shape = value.as<ffi::Shape>()) {
    for (int64_t size : *shape) result.push_back(size);
    return kind == kIntArray || kind == kIntOrIntArray ? ffi::Optional<ffi::Any>(ffi::Any(result))
                                                       : std::nullopt;
  }
  auto items = value.try_cast<ffi::Array<ffi::Any>>();
  if (!items) return std::nullopt;
  for (const ffi::Any& item : *items) {
    if (kind == kIntOrIntArray && item.as<BoxInt>()) {
      result.push_back(item);
      continue;
    }
    auto normal = item == nullptr ? std::nullopt : Normalise(element, item);
    if (!normal) return std::nullopt;
    result.push_back(*normal);
  }
  return ffi::Any(result);
}

std::string Describe(const ffi::Any& value) {
  std::ostringstream text;
  if (value == nullptr) {
    text << "None";
  } else if (auto flag = value.as<bool>()) {
    text << (*flag ? "True" : "False");
  } else if (auto number = value.as<int64_t>()) {
    text << *number;
  } else if (auto real = value.as<double>()) {
    text << *real;
  } else if (auto string = value.as<ffi::String>()) {
    text << '"' << *string << '"';
  } else {
    text << "a value of type " << value.GetTypeKey();
  }
  return text.str();
}

std::vector<AttrsClass> MakeAttrsClasses() {
  std::vector<AttrsClass> classes;
  for (const AttrsRow& row : AttrsRows()) {
    AttrsClass attrs{row.key, {}, row.key == std::string_view("DictAttrs")};
    for (const FieldRow& field : row.fields) {
      ffi::Any value;
      if (field.default_json && field.default_json != std::string_view("null")) {
        auto normal = Normalise(field.kind, ffi::json::Parse(field.default_json));
        TVM_FFI_ICHECK(normal) << row.key << "." << field.name;
        value = *normal;
      }
      attrs.fields.push_back({field.name, field.kind, field.default_json == nullptr, value});
    }
    classes.push_back(std::move(attrs));
  }
  return classes;
}

std::vector<OpInfo> MakeOps() {
  std::vector<OpInfo> ops;
  for (const OpRow& row : OpRows()) {
    std::istringstream words(row.args);
    std::vector<std::string> args;
    for (std::string word; words >> word;) args.push_back(word);
    const AttrsClass* attrs = *row.attrs_key ? FindAttrsClass(row.attrs_key) : nullptr;
    TVM_FFI_ICHECK(attrs || !*row.attrs_key) << row.name;
    ops.push_back({row.name, row.num_inputs, args, attrs, row.attrs_registered, row.pattern});
  }
  return ops;
}

// What the operator takes, for messages.
std::string AttrNames(const OpInfo& op) {
  if (!op.attrs || op.attrs->fields.empty()) return "it takes none";
  std::string text = "it takes ";
  for (const AttrField& field : op.attrs->fields) {
    if (text.back() != ' ') text += ", ";
    text += field.name;
  }
  return text;
}

void CheckKeys(const OpInfo& op, const ffi::Map<ffi::String, ffi::Any>& attrs) {
  for (const auto& [key, value] : attrs) {
    bool known =
        op.attrs && std::any_of(op.attrs->fields.begin(), op.attrs->fields.end(),
                                [&key = key](const AttrField& field) { return key == field.name; });
    if (!known) {
      TVM_FFI_THROW(ValueError) << op.name << ": there is no attribute '" << key << "'; "
                                << AttrNames(op);
    }
  }
}

}  // namespace

const AttrsClass* FindAttrsClass(const std::string& key) {
  // Leaked on purpose: objects held by the table must not be freed after libtvm_ffi is gone.
  static const auto& classes = *new std::vector<AttrsClass>(MakeAttrsClasses());
  static const auto& index = *[] {
    auto* made = new std::map<std::string_view, const AttrsClass*>();
    for (const AttrsClass& attrs : classes) made->emplace(attrs.key, &attrs);
    return made;
  }();
  auto found = index.find(key);
  return found == index.end() ? nullptr : found->second;
}

const std::vector<OpInfo>& AllOps() {
  static const auto& ops = *new std::vector<OpInfo>(MakeOps());
  return ops;
}

const OpInfo* FindOp(const std::string& name) {
  static const auto& index = *[] {
    auto* made = new std::map<std::string_view, const OpInfo*>();
    for (const OpInfo& op : AllOps()) made->emplace(op.name, &op);
    return made;
  }();
  auto found = index.find(name);
  return found == index.end() ? nullptr : found->second;
}

const OpInfo& GetOpInfo(const std::string& name) {
  if (const OpInfo* op = FindOp(name)) return *op;
  TVM_FFI_THROW(ValueError) << "Relay has no operator '" << name << "' (TVM 0.19's "
                            << AllOps().size() << " operators are known)";
}

ffi::Map<ffi::String, ffi::Any> CompleteAttrs(const OpInfo& op,
                                              const ffi::Map<ffi::String, ffi::Any>& attrs) {
  if (op.attrs && op.attrs->open) return attrs;
  CheckKeys(op, attrs);
  ffi::Map<ffi::String, ffi::Any> complete;
  if (!op.attrs) return complete;
  for (const AttrField& field : op.attrs->fields) {
    auto given = attrs.find(field.name);
    if (given == attrs.end()) {
      if (field.required) {
        TVM_FFI_THROW(ValueError) << op.name << ": attribute '" << field.name
                                  << "' has no default and was not given (expected "
                                  << KindName(field.kind) << ")";
      }
      complete.Set(field.name, field.default_value);
      continue;
    }
    auto normal = Normalise(field.kind, (*given).second);
    if (!normal) {
      TVM_FFI_THROW(TypeError) << op.name << ": attribute '" << field.name << "' must be "
                               << KindName(field.kind) << ", got " << Describe((*given).second);
    }
    complete.Set(field.name, *normal);
  }
  return complete;
}

}  // namespace torch_tvm::relay
