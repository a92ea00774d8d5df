// Writes the metadata section byte for byte as TVM 0.19 does: nodes numbered in pre-order over the
// fields as their classes list them, each object once, every attribute a string.
#include <tvm/ffi/extra/base64.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <functional>

#include "relay/literal.h"
#include "relay/metadata.h"
#include "relay/type_text.h"

namespace torch_tvm::relay {
namespace {

// dmlc's JSON writer breaks a list of numbers after this many.
constexpr size_t kNumbersPerLine = 10;

struct JsonNode {
  std::string type_key;
  std::string repr = {};                          // objects that are stored as a string
  std::map<std::string, std::string> attrs = {};  // written sorted
  std::vector<std::string> keys = {};             // of a map
  std::vector<size_t> data = {};                  // elements of a list or map
};

std::string QuoteJson(const std::string& text) {
  std::string quoted = "\"";
  for (char c : text) {
    switch (c) {
      case '"':
        quoted += "\\\"";
        break;
      case '\\':
        quoted += "\\\\";
        break;
      case '\n':
        quoted += "\\n";
        break;
      case '\r':
        quoted += "\\r";
        break;
      case '\t':
        quoted += "\\t";
        break;
      default:
        quoted += c;
    }
  }
  return quoted + "\"";
}

// "[...]" or "{...}" with one item a line, or on one line.
std::string Bracket(const char* brackets, const std::vector<std::string>& items, bool multi_line,
                    size_t indent) {
  std::string text(1, brackets[0]);
  for (size_t i = 0; i < items.size(); ++i) {
    if (i) text += ", ";
    if (multi_line) text.append("\n").append(indent + 2, ' ');
    text += items[i];
  }
  if (multi_line && !items.empty()) text.append("\n").append(indent, ' ');
  return text + brackets[1];
}

std::string ReprText(const std::string& repr) {
  bool printable =
      std::all_of(repr.begin(), repr.end(), [](char c) { return c >= ' ' && c <= '~'; });
  if (printable) return Concat("\"repr_str\": ", QuoteJson(repr));
  std::string bytes = ffi::Base64Encode(TVMFFIByteArray{repr.data(), repr.size()});
  return Concat("\"repr_b64\": ", QuoteJson(bytes));
}

std::string NodeText(const JsonNode& node) {
  constexpr size_t kIndent = 4;
  std::vector<std::string> entries = {Concat("\"type_key\": ", QuoteJson(node.type_key))};
  if (!node.repr.empty()) entries.push_back(ReprText(node.repr));
  std::vector<std::string> items;
  for (const auto& [key, value] : node.attrs) {
    items.push_back(Concat(QuoteJson(key), ": ", QuoteJson(value)));
  }
  if (!items.empty()) {
    entries.push_back(Concat("\"attrs\": ", Bracket("{}", items, items.size() > 1, kIndent + 2)));
  }
  items.clear();
  for (const std::string& key : node.keys) items.push_back(QuoteJson(key));
  if (!items.empty())
    entries.push_back(Concat("\"keys\": ", Bracket("[]", items, true, kIndent + 2)));
  items.clear();
  for (size_t index : node.data) items.push_back(std::to_string(index));
  if (!items.empty()) {
    bool wrap = items.size() > kNumbersPerLine;
    entries.push_back(Concat("\"data\": ", Bracket("[]", items, wrap, kIndent + 2)));
  }
  return Bracket("{}", entries, true, kIndent);
}

void Append(std::string& blob, const void* data, size_t size) {
  blob.append(static_cast<const char*>(data), size);
}
template <typename T>
void Append(std::string& blob, T value) {
  Append(blob, &value, sizeof(T));
}

// TVM 0.19's NDArray file format; host and file are little endian.
std::string TensorBlob(const ffi::Tensor& tensor) {
  constexpr uint64_t kMagic = 0xDD5E40F096B4A13F;
  const DLTensor* view = tensor.GetDLTensorPtr();
  bool is_bool = view->dtype.code == kDLBool;
  std::string blob;
  Append(blob, kMagic);
  Append<uint64_t>(blob, 0);
  Append<int32_t>(blob, kDLCPU);
  Append<int32_t>(blob, 0);
  Append<int32_t>(blob, view->ndim);
  // bool was a one-bit uint then, of one byte each.
  Append<uint8_t>(blob, is_bool ? uint8_t{kDLUInt} : view->dtype.code);
  Append<uint8_t>(blob, is_bool ? 1 : view->dtype.bits);
  Append<uint16_t>(blob, view->dtype.lanes);
  for (int i = 0; i < view->ndim; ++i) Append<int64_t>(blob, view->shape[i]);
  size_t bytes = ffi::GetDataSize(*view);
  Append<int64_t>(blob, static_cast<int64_t>(bytes));
  Append(blob, static_cast<const char*>(view->data) + view->byte_offset, bytes);
  return ffi::Base64Encode(TVMFFIByteArray{blob.data(), blob.size()});
}

std::string SeventeenDigits(double value) {
  std::array<char, 40> text;
  std::snprintf(text.data(), text.size(), "%.17g", value);
  return text.data();
}

// The graph of nodes; index 0 is null.
class Graph {
 public:
  Graph() : nodes_(1) {}

  size_t Add(JsonNode node) {
    nodes_.push_back(std::move(node));
    return nodes_.size() - 1;
  }
  JsonNode& at(size_t index) { return nodes_[index]; }

  size_t AddConstant(const ConstantObj* constant) {
    size_t index = Add({"relay.Constant"});
    std::string tensor = std::to_string(AddTensor(constant->data));
    std::string device = std::to_string(AddDevice());
    std::string span = std::to_string(constant->span ? AddSpan(*constant->span) : 0);
    std::string type =
        std::to_string(constant->checked_type ? AddType(*constant->checked_type) : 0);
    at(index).attrs = {
        {"data", tensor}, {"virtual_device_", device}, {"span", span}, {"_checked_type_", type}};
    return index;
  }

  size_t AddAttrs(const CallObj* call, const AttrsClass& attrs) {
    size_t index = Add({attrs.key});
    for (const AttrField& field : attrs.fields) {
      std::string text = AttrText(field, call->attrs.at(field.name));
      at(index).attrs[field.name] = text;
    }
    return index;
  }

  size_t AddSizeVar(const SizeVarObj* var) {
    size_t index = Add({var->non_negative ? "tir.SizeVar" : "tir.Var"});
    std::string dtype = DtypeText(var->dtype);
    std::string name = std::to_string(Add({"runtime.String", var->name_hint}));
    std::string type = std::to_string(Add({"PrimType", "", {{"dtype", dtype}}}));
    at(index).attrs = {{"dtype", dtype}, {"name", name}, {"type_annotation", type}, {"span", "0"}};
    return index;
  }

  // All that leave everything open are the one object that constants have.
  size_t AddDevice(const VirtualDeviceObj* device = nullptr) {
    if (device == nullptr || device->leaves_all_open()) {
      return Once(&device_, [this] { return AddDeviceNode(-1, -1, ""); });
    }
    return Once(device, [this, device] {
      return AddDeviceNode(device->device_type, device->virtual_device_id, device->memory_scope);
    });
  }

  size_t AddBox(int64_t value) { return Add({"runtime.BoxInt", std::to_string(value)}); }

  std::string Text() const {
    std::vector<std::string> nodes, tensors;
    for (const JsonNode& node : nodes_) nodes.push_back(NodeText(node));
    for (const ffi::Tensor& tensor : tensors_) {
      tensors.push_back(Concat("\"", TensorBlob(tensor), "\""));
    }
    return Bracket("{}",
                   {"\"root\": 1", Concat("\"nodes\": ", Bracket("[]", nodes, true, 2)),
                    Concat("\"b64ndarrays\": ", Bracket("[]", tensors, true, 2)),
                    "\"attrs\": {\"tvm_version\": \"0.19.0\"}"},
                   true, 0);
  }

 private:
  // The index of an object that is written once and referred to afterwards.
  size_t Once(const void* key, const std::function<size_t()>& add) {
    auto found = shared_.find(key);
    if (found != shared_.end()) return found->second;
    size_t index = nodes_.size();
    shared_.emplace(key, index);
    add();
    return index;
  }

  size_t AddTensor(const ffi::Tensor& tensor) {
    auto [place, added] = tensor_indices_.emplace(tensor.GetDLTensorPtr(), tensors_.size());
    if (added) tensors_.push_back(tensor);
    return place->second;
  }

  size_t AddDeviceNode(int64_t type, int64_t id, const std::string& memory_scope) {
    size_t index = Add({"VirtualDevice"});
    size_t scope = Add({"runtime.String", memory_scope});
    at(index).attrs = {{"device_type_int", std::to_string(type)},
                       {"virtual_device_id", std::to_string(id)},
                       {"target", "0"},
                       {"memory_scope", std::to_string(scope)}};
    return index;
  }

  size_t AddSpan(const Span& span) {
    return Once(span.get(), [this, &span] {
      size_t index = Add({"Span"});
      std::string name = span->source_name;
      size_t source = 0;
      auto known = sources_.find(name);
      if (known == sources_.end()) {
        source = Add({"SourceName", name});
        sources_.emplace(name, source);
      } else {
        source = known->second;
      }
      at(index).attrs = {{"source_name", std::to_string(source)},
                         {"line", std::to_string(span->line)},
                         {"column", std::to_string(span->column)},
                         {"end_line", std::to_string(span->end_line)},
                         {"end_column", std::to_string(span->end_column)}};
      return index;
    });
  }

  size_t AddType(const Type& type) {
    const auto* tensor = type.as<TensorTypeObj>();
    if (!tensor) return 0;  // a constant is a tensor; anything else is not its type
    return Once(tensor, [this, tensor] {
      size_t index = Add({"relay.TensorType"});
      size_t shape = AddShape(tensor);
      at(index).attrs = {
          {"shape", std::to_string(shape)}, {"dtype", DtypeText(tensor->dtype)}, {"span", "0"}};
      return index;
    });
  }

  size_t AddShape(const TensorTypeObj* type) {
    size_t index = Add({"Array"});
    for (size_t i = 0; i < type->shape.size(); ++i) {
      auto add = [this, type, i] {
        if (!type->size_bits) return AddIntImm(type->shape[i]);
        return AddIntImm(type->shape[i], Concat("int", std::to_string((*type->size_bits)[i])));
      };
      size_t size = type->size_boxes ? Once((*type->size_boxes)[i].get(), add) : add();
      at(index).data.push_back(size);
    }
    return index;
  }

  size_t AddIntImm(int64_t value) { return AddIntImm(value, IsInt32(value) ? "int32" : "int64"); }
  size_t AddIntImm(int64_t value, const std::string& dtype) {
    return Add({"IntImm", "", {{"dtype", dtype}, {"span", "0"}, {"value", std::to_string(value)}}});
  }

  size_t AddFloatImm(double value) {
    return Add(
        {"FloatImm", "", {{"dtype", "float32"}, {"span", "0"}, {"value", SeventeenDigits(value)}}});
  }

  size_t AddArray(const ffi::Any& items, const std::function<size_t(const ffi::Any&)>& add) {
    size_t index = Add({"Array"});
    for (const ffi::Any& item : items.cast<ffi::Array<ffi::Any>>()) {
      size_t element = add(item);
      at(index).data.push_back(element);
    }
    return index;
  }

  size_t AddInts(const ffi::Any& items) {
    return AddArray(items, [this](const ffi::Any& item) {
      if (auto box = item.as<BoxInt>()) return AddBox((*box)->value);
      return AddIntImm(item.cast<int64_t>());
    });
  }

  size_t AddAttrObject(const AttrField& field, const ffi::Any& value) {
    if (value == nullptr) return 0;
    switch (field.kind) {
      case kIntImm:
        return AddIntImm(value.cast<int64_t>());
      case kBoolImm:
        return AddIntImm(value.cast<bool>(), "bool");
      case kFloatImm:
        return AddFloatImm(value.cast<double>());
      case kString:
        return Add({"runtime.String", value.cast<ffi::String>()});
      case kIntArray:
        return AddInts(value);
      case kFloatArray:
        return AddArray(value,
                        [this](const ffi::Any& item) { return AddFloatImm(item.cast<double>()); });
      case kIntArrays:
        return AddArray(value, [this](const ffi::Any& item) { return AddInts(item); });
      case kIntOrIntArray:
        if (auto box = value.as<BoxInt>()) return AddBox((*box)->value);
        return value.as<int64_t>() ? AddIntImm(value.cast<int64_t>()) : AddInts(value);
      default:
        TVM_FFI_THROW(ValueError) << "attribute '" << field.name << "' holds a "
                                  << value.GetTypeKey() << ", which metadata cannot hold";
    }
  }

  std::string AttrText(const AttrField& field, const ffi::Any& value) {
    switch (field.kind) {
      case kInt:
        return std::to_string(value.cast<int64_t>());
      case kBool:
        return value.cast<bool>() ? "1" : "0";
      case kDouble:
        return SeventeenDigits(value.cast<double>());
      case kStdString:
      case kDataType:
        return value.cast<ffi::String>();
      default:
        return std::to_string(AddAttrObject(field, value));
    }
  }

  std::vector<JsonNode> nodes_;
  std::vector<ffi::Tensor> tensors_;
  std::unordered_map<const void*, size_t> tensor_indices_;
  std::unordered_map<const void*, size_t> shared_;
  std::map<std::string, size_t> sources_;
  char device_ = 0;  // its address is the key of the shared device node
};

}  // namespace

std::string MetadataWriter::ReferenceTo(const std::string& type_key, const ffi::Object* object,
                                        const AttrsClass* attrs) {
  auto found = references_.find(object);
  if (found != references_.end()) return found->second;
  std::vector<Entry>& section = sections_[type_key];
  std::string reference = "meta[" + type_key + "][" + std::to_string(section.size()) + "]";
  section.emplace_back(object, attrs);
  references_.emplace(object, reference);
  return reference;
}

std::string MetadataWriter::Reference(const Constant& constant) {
  return ReferenceTo("relay.Constant", constant.get(), nullptr);
}

std::string MetadataWriter::Reference(const BoxInt& box) {
  return ReferenceTo("runtime.BoxInt", box.get(), nullptr);
}

std::string MetadataWriter::Reference(const SizeVar& var) {
  return ReferenceTo(var->non_negative ? "tir.SizeVar" : "tir.Var", var.get(), nullptr);
}

std::string MetadataWriter::Reference(const VirtualDevice& device) {
  return ReferenceTo("VirtualDevice", device.get(), nullptr);
}

std::string MetadataWriter::Reference(const CallObj* call, const AttrsClass& attrs) {
  return ReferenceTo(attrs.key, call, &attrs);
}

std::string MetadataWriter::Write() const {
  Graph graph;
  size_t root = graph.Add({"Map"});
  for (const auto& [type_key, entries] : sections_) {
    size_t list = graph.Add({"Array"});
    graph.at(root).keys.push_back(type_key);
    graph.at(root).data.push_back(list);
    for (const auto& [object, attrs] : entries) {
      size_t index = 0;
      if (attrs) {
        index = graph.AddAttrs(static_cast<const CallObj*>(object), *attrs);
      } else if (type_key == "relay.Constant") {
        index = graph.AddConstant(static_cast<const ConstantObj*>(object));
      } else if (type_key == "tir.Var" || type_key == "tir.SizeVar") {
        index = graph.AddSizeVar(static_cast<const SizeVarObj*>(object));
      } else if (type_key == "VirtualDevice") {
        index = graph.AddDevice(static_cast<const VirtualDeviceObj*>(object));
      } else {
        index = graph.AddBox(static_cast<const BoxIntObj*>(object)->value);
      }
      graph.at(list).data.push_back(index);
    }
  }
  return graph.Text();
}

}  // namespace torch_tvm::relay
