// The metadata section at the end of Relay text: tensors and other objects in the layout of TVM
// 0.19's SaveJSON.
#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "relay/expr.h"
#include "relay/op_table.h"
#include "relay/virtual_device.h"

namespace torch_tvm::relay {

// Collects the objects that a program refers to, and writes them.
class MetadataWriter {
 public:
  // The reference "meta[relay.Constant][0]"; the same object gets the same one.
  std::string Reference(const Constant& constant);
  std::string Reference(const BoxInt& box);
  std::string Reference(const SizeVar& var);
  std::string Reference(const VirtualDevice& device);
  // A reference to the attributes of this call.
  std::string Reference(const CallObj* call, const AttrsClass& attrs);

  bool empty() const { return sections_.empty(); }
  // The JSON text.
  std::string Write() const;

 private:
  using Entry = std::pair<const ffi::Object*, const AttrsClass*>;
  std::string ReferenceTo(const std::string& type_key, const ffi::Object* object,
                          const AttrsClass* attrs);

  std::map<std::string, std::vector<Entry>>
      sections_;  // sorted by type key, as the Map they become
  std::unordered_map<const ffi::Object*, std::string> references_;
};

// Objects for a metadata section that come from elsewhere.
using MetaTable = ffi::Map<ffi::String, ffi::Array<ffi::Any>>;

// The objects of a metadata section, by type key and index.
struct Metadata {
  std::map<std::string, std::vector<ffi::Any>> sections;
};

// Reads a section; throws ffi::Error (ValueError) that says what is wrong. Attributes come as a Map
// from name to value, other objects as Constant, BoxInt, SizeVar, VirtualDevice or Type.
Metadata ReadMetadata(const std::string& json);

}  // namespace torch_tvm::relay
