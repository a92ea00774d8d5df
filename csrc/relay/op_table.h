// The operators of Relay in TVM 0.19: operands, attributes in print order with their defaults,
// fusion pattern.
#pragma once

#include <tvm/ffi/tvm_ffi.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace torch_tvm::relay {

namespace ffi = tvm::ffi;

// What an attribute holds. The kinds that end in Imm, and kString beside kStdString, differ only in
// how TVM stores the value: as an object (a metadata node of its own, None allowed) instead of a
// plain field.
enum AttrKind : uint8_t {
  kInt,
  kIntImm,
  kBool,
  kBoolImm,
  kDouble,
  kFloatImm,
  kStdString,
  kString,
  kDataType,  // held as the dtype's name; "" is "that of the operand"
  kIntArray,
  kFloatArray,
  kIntArrays,  // [[1, 2], [3, 4]]
  kIntOrIntArray,
  kExpr,
  kObject,  // compiler-internal objects, passed through
};

// How an operator may be fused; the numbers are TVM's.
enum OpPattern : int8_t {
  kNoPattern = -1,
  kElemWise = 0,
  kBroadcast = 1,
  kInjective = 2,
  kCommReduce = 3,
  kOutEWiseFusable = 4,
  kOpaque = 8,
};

struct AttrField {
  std::string name;
  AttrKind kind;
  bool required;  // no default is declared: always given, always printed
  ffi::Any default_value;
};

struct AttrsClass {
  std::string key;  // "relay.attrs.Conv2DAttrs"
  std::vector<AttrField> fields;
  bool open = false;  // takes any keys (DictAttrs)
};

struct OpInfo {
  std::string name;
  int num_inputs;  // -1: any number
  std::vector<std::string> args;
  const AttrsClass* attrs;  // nullptr: no attributes
  // False for the operators of which TVM's registry does not know the attributes' class: in text
  // these are a reference into the metadata, or come with attrs_type_key="...".
  bool attrs_registered;
  OpPattern pattern;
};

const std::vector<OpInfo>& AllOps();
const OpInfo* FindOp(const std::string& name);     // nullptr if there is none
const OpInfo& GetOpInfo(const std::string& name);  // throws ValueError
const AttrsClass* FindAttrsClass(const std::string& key);

// The attributes of a call, complete (defaults filled in), in table order, converted to the table's
// kinds. Throws ValueError for an unknown or missing attribute and TypeError for a value of the
// wrong kind.
ffi::Map<ffi::String, ffi::Any> CompleteAttrs(const OpInfo& op,
                                              const ffi::Map<ffi::String, ffi::Any>& attrs);

}  // namespace torch_tvm::relay
