// Reads the metadata section. What it refers to is checked piece by piece: a malformed section
// gives an error, whatever it holds.
#include <tvm/ffi/extra/base64.h>
#include <tvm/ffi/extra/json.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>

#include "relay/builder.h"
#include "relay/literal.h"
#include "relay/metadata.h"
#include "relay/type_text.h"

namespace torch_tvm::relay {
namespace {

// TVM's files nest lists four deep; the JSON reader recurses.
constexpr int kMaxDepth = 32;

[[noreturn]] void Fail(const std::string& message) { TVM_FFI_THROW(ValueError) << message; }

void CheckDepth(const std::string& json) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    char c = json[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth) Fail("the metadata nests deeper than any that TVM writes");
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
}

template <typename T>
T ParseNumber(const std::string& text, const char* what) {
  T value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    Fail(Concat("metadata: expected ", what, ", got \"", text, "\""));
  }
  return value;
}

// Takes fields off the front of an NDArray blob.
class BlobReader {
 public:
  explicit BlobReader(const ffi::Bytes& bytes) : data_(bytes.data()), left_(bytes.size()) {}
  template <typename T>
  T Take() {
    T value;
    std::memcpy(&value, TakeBytes(sizeof(T)), sizeof(T));
    return value;
  }
  const char* TakeBytes(size_t size) {
    if (size > left_) Fail("metadata: a tensor is cut short");
    const char* begin = data_;
    data_ += size;
    left_ -= size;
    return begin;
  }
  size_t left() const { return left_; }

 private:
  const char* data_;
  size_t left_;
};

ffi::Bytes DecodeBase64(const std::string& text, const char* what) {
  auto valid = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/';
  };
  size_t end = text.find_last_not_of('=') + 1;
  if (text.size() % 4 != 0 || text.size() - end > 2 ||
      !std::all_of(text.begin(), text.begin() + static_cast<int64_t>(end), valid)) {
    Fail(Concat("metadata: ", what, " is not base64"));
  }
  return ffi::Base64Decode(ffi::String(text));
}

DLDataType TakeDtype(BlobReader& blob) {
  auto code = blob.Take<uint8_t>();
  auto bits = blob.Take<uint8_t>();
  auto lanes = blob.Take<uint16_t>();
  if (code == kDLUInt && bits == 1) return {kDLBool, 8, lanes};
  bool number = code == kDLInt || code == kDLUInt || code == kDLFloat || code == kDLBfloat;
  if (!number || bits < 8 || bits > 64 || bits % 8 != 0 || lanes != 1) {
    Fail(Concat("metadata: a tensor has the unknown dtype code ", std::to_string(code), " of ",
                std::to_string(bits), " bits"));
  }
  return {code, bits, lanes};
}

ffi::Tensor ReadTensor(const std::string& base64) {
  constexpr uint64_t kMagic = 0xDD5E40F096B4A13F;
  constexpr int kMaxRank = 32;
  ffi::Bytes bytes = DecodeBase64(base64, "a tensor");
  BlobReader blob(bytes);
  if (blob.Take<uint64_t>() != kMagic) Fail("metadata: a tensor does not begin as TVM's do");
  blob.Take<uint64_t>();  // reserved
  blob.Take<uint64_t>();  // the device it was saved from
  auto rank = blob.Take<int32_t>();
  if (rank < 0 || rank > kMaxRank) Fail("metadata: a tensor's rank is " + std::to_string(rank));
  DLDataType dtype = TakeDtype(blob);
  std::vector<int64_t> shape;
  // Sizes whose product overflows cannot match the bytes that are there.
  size_t expected = ffi::GetDataSize(1, dtype);
  for (int32_t i = 0; i < rank; ++i) {
    shape.push_back(blob.Take<int64_t>());
    if (shape.back() < 0) Fail("metadata: a tensor has a negative size");
    if (__builtin_mul_overflow(expected, static_cast<size_t>(shape.back()), &expected)) {
      Fail("metadata: a tensor is larger than memory");
    }
  }
  auto size = blob.Take<int64_t>();
  if (static_cast<size_t>(size) != expected || blob.left() != expected) {
    Fail(Concat("metadata: a tensor of its shape has ", std::to_string(expected), " bytes, got ",
                std::to_string(blob.left())));
  }
  ffi::Tensor tensor = EmptyTensor(ffi::ShapeView(shape.data(), shape.size()), dtype);
  if (expected) std::memcpy(tensor.data_ptr(), blob.TakeBytes(expected), expected);
  return tensor;
}

class Reader {
 public:
  explicit Reader(const std::string& json) {
    CheckDepth(json);
    ffi::String error;
    ffi::Any parsed = ffi::json::Parse(json, &error);
    if (!error.empty()) Fail(Concat("the metadata is not JSON: ", std::string(error)));
    auto root = AsObject(parsed, "the metadata");
    nodes_ = AsArray(Member(root, "nodes"), "nodes");
    tensors_ = AsArray(Member(root, "b64ndarrays"), "b64ndarrays");
    root_ = AsIndex(Member(root, "root"));
  }

  Metadata Read() {
    Metadata metadata;
    Node root = NodeAt(root_);
    if (root.type_key == "Map") {
      auto keys = AsArray(Member(root.json, "keys"), "keys");
      auto data = AsArray(Member(root.json, "data"), "data");
      if (keys.size() != data.size()) Fail("metadata: a map has more keys than values");
      for (size_t i = 0; i < keys.size(); ++i) {
        ReadSection(metadata.sections[AsString(keys[i])], AsIndex(data[i]));
      }
    }
    return metadata;
  }

 private:
  struct Node {
    std::string type_key;
    ffi::json::Object json;
  };

  static ffi::json::Object AsObject(const ffi::Any& value, const char* what) {
    if (auto object = value.as<ffi::json::Object>()) return *object;
    Fail(Concat("metadata: expected ", what, " to be a JSON object"));
  }
  static ffi::json::Array AsArray(const ffi::Any& value, const char* what) {
    if (auto array = value.as<ffi::json::Array>()) return *array;
    Fail(Concat("metadata: expected ", what, " to be a list"));
  }
  static std::string AsString(const ffi::Any& value) {
    if (auto text = value.as<ffi::String>()) return *text;
    Fail("metadata: expected a string");
  }
  static size_t AsIndex(const ffi::Any& value) {
    if (auto index = value.as<int64_t>(); index && *index >= 0) return *index;
    Fail("metadata: expected the index of a node");
  }
  static ffi::Any Member(const ffi::json::Object& object, const char* key) {
    auto found = object.find(ffi::String(key));
    if (found == object.end()) Fail(Concat("metadata: expected a member \"", key, "\""));
    return (*found).second;
  }
  static bool Has(const ffi::json::Object& object, const char* key) {
    return object.find(ffi::String(key)) != object.end();
  }

  Node NodeAt(size_t index) const {
    if (index >= nodes_.size()) {
      Fail(Concat("metadata: there is no node ", std::to_string(index)));
    }
    auto json = AsObject(nodes_[index], "a node");
    return {AsString(Member(json, "type_key")), json};
  }
  static std::string Attr(const Node& node, const char* key) {
    return AsString(Member(AsObject(Member(node.json, "attrs"), "attrs"), key));
  }
  static size_t AttrIndex(const Node& node, const char* key) {
    return ParseNumber<size_t>(Attr(node, key), "the index of a node");
  }
  static int64_t AttrInteger(const Node& node, const char* key) {
    return ParseNumber<int64_t>(Attr(node, key), "an integer");
  }
  // What a member that refers to a string says.
  std::string AttrString(const Node& node, const char* key, const char* what) const {
    Node text = NodeAt(AttrIndex(node, key));
    if (text.type_key != "runtime.String") Fail(Concat("metadata: expected the name of ", what));
    return Repr(text);
  }
  static std::string Repr(const Node& node) {
    if (!Has(node.json, "repr_b64")) {
      return Has(node.json, "repr_str") ? AsString(Member(node.json, "repr_str")) : "";
    }
    ffi::Bytes bytes = DecodeBase64(AsString(Member(node.json, "repr_b64")), "a string");
    return {bytes.data(), bytes.size()};
  }
  std::vector<size_t> Elements(const Node& node) const {
    std::vector<size_t> elements;
    if (!Has(node.json, "data")) return elements;
    for (const ffi::Any& item : AsArray(Member(node.json, "data"), "data")) {
      elements.push_back(AsIndex(item));
    }
    return elements;
  }

  void ReadSection(std::vector<ffi::Any>& section, size_t list) {
    Node node = NodeAt(list);
    if (node.type_key != "Array") Fail("metadata: expected a list for each type");
    for (size_t index : Elements(node)) section.push_back(Value(index, 0));
  }

  // None for classes that only TVM's compiler knows; a reference to one is an error when it is
  // used.
  ffi::Any Value(size_t index, int depth) {
    if (depth > kMaxDepth) Fail("metadata: nodes refer to themselves");
    Node node = NodeAt(index);
    const std::string& key = node.type_key;
    if (key == "relay.Constant") return ConstantAt(index, node);
    if (key == "runtime.BoxInt") return BoxInt(ParseNumber<int64_t>(Repr(node), "an integer"));
    if (key == "tir.Var" || key == "tir.SizeVar") return SizeVarAt(index, node);
    if (key == "VirtualDevice") return VirtualDeviceAt(index, node);
    if (key == "runtime.String") return ffi::String(Repr(node));
    if (key == "IntImm") {
      int64_t value = AttrInteger(node, "value");
      return Attr(node, "dtype") == "bool" ? ffi::Any(value != 0) : ffi::Any(value);
    }
    if (key == "FloatImm") return ParseNumber<double>(Attr(node, "value"), "a float");
    if (key == "Array") {
      ffi::Array<ffi::Any> items;
      for (size_t element : Elements(node)) items.push_back(Value(element, depth + 1));
      return items;
    }
    if (const AttrsClass* attrs = FindAttrsClass(key)) return AttrsAt(node, *attrs, depth);
    return nullptr;
  }

  ffi::Any ConstantAt(size_t index, const Node& node) {
    auto known = constants_.find(index);
    if (known != constants_.end()) return known->second;
    auto place = ParseNumber<size_t>(Attr(node, "data"), "the index of a tensor");
    if (place >= tensors_.size()) Fail("metadata: a constant has no tensor");
    auto [tensor, added] = read_tensors_.try_emplace(place, std::nullopt);
    if (added) tensor->second = ReadTensor(AsString(tensors_[place]));
    Constant constant(*tensor->second);
    constant->checked_type = TypeAt(AttrIndex(node, "_checked_type_"));
    constant->span = SpanAt(AttrIndex(node, "span"));
    constants_.emplace(index, constant);
    return constant;
  }

  SizeVar SizeVarAt(size_t index, const Node& node) {
    auto known = size_vars_.find(index);
    if (known != size_vars_.end()) return known->second;
    SizeVar var(AttrString(node, "name", "a variable"), DtypeOf(node),
                node.type_key == "tir.SizeVar");
    return size_vars_.emplace(index, var).first->second;
  }

  // None for one with a target.
  ffi::Any VirtualDeviceAt(size_t index, const Node& node) {
    auto known = devices_.find(index);
    if (known != devices_.end()) return known->second;
    if (NodeAt(AttrIndex(node, "target")).type_key != "") return nullptr;
    VirtualDevice device(AttrInteger(node, "device_type_int"),
                         AttrInteger(node, "virtual_device_id"),
                         AttrString(node, "memory_scope", "a memory scope"));
    return devices_.emplace(index, device).first->second;
  }

  static DLDataType DtypeOf(const Node& node) {
    std::string name = Attr(node, "dtype");
    if (auto dtype = ReadDtype(name)) return *dtype;
    Fail(Concat("metadata: expected a dtype, got \"", name, "\""));
  }

  ffi::Optional<Type> TypeAt(size_t index) {
    Node node = NodeAt(index);
    if (node.type_key != "relay.TensorType") return std::nullopt;
    auto known = types_.find(index);
    if (known != types_.end()) return known->second;
    ffi::Array<int64_t> shape, bits;
    ffi::Array<ffi::ObjectRef> boxes;
    for (size_t element : Elements(NodeAt(AttrIndex(node, "shape")))) {
      auto value = Value(element, 0).try_cast<int64_t>();
      if (!value) Fail("metadata: expected a size to be an integer");
      shape.push_back(*value);
      bits.push_back(DtypeOf(NodeAt(element)).bits);
      boxes.push_back(boxes_.try_emplace(element, *value).first->second);
    }
    auto type = ffi::make_object<TensorTypeObj>(shape, DtypeOf(node), std::nullopt, bits);
    type->size_boxes = boxes;
    return types_.emplace(index, Type(ffi::ObjectPtr<TypeObj>(type))).first->second;
  }

  ffi::Optional<Span> SpanAt(size_t index) const {
    Node node = NodeAt(index);
    if (node.type_key != "Span") return std::nullopt;
    std::string source = Repr(NodeAt(AttrIndex(node, "source_name")));
    return Span(source, AttrInteger(node, "line"), AttrInteger(node, "column"),
                AttrInteger(node, "end_line"), AttrInteger(node, "end_column"));
  }

  ffi::Any AttrsAt(const Node& node, const AttrsClass& attrs, int depth) {
    ffi::Map<ffi::String, ffi::Any> values;
    for (const AttrField& field : attrs.fields) {
      std::string text = Attr(node, field.name.c_str());
      switch (field.kind) {
        case kInt:
          values.Set(field.name, ParseNumber<int64_t>(text, "an integer"));
          break;
        case kBool:
          values.Set(field.name, ParseNumber<int>(text, "0 or 1") != 0);
          break;
        case kDouble:
          values.Set(field.name, ParseNumber<double>(text, "a float"));
          break;
        case kStdString:
        case kDataType:
          values.Set(field.name, ffi::String(text));
          break;
        default:
          values.Set(field.name,
                     Value(ParseNumber<size_t>(text, "the index of a node"), depth + 1));
      }
    }
    return values;
  }

  ffi::json::Array nodes_, tensors_;
  size_t root_ = 0;
  std::map<size_t, std::optional<ffi::Tensor>> read_tensors_;
  std::map<size_t, Constant> constants_;
  std::map<size_t, Type> types_;
  std::map<size_t, BoxInt> boxes_;
  std::map<size_t, SizeVar> size_vars_;
  std::map<size_t, VirtualDevice> devices_;
};

}  // namespace

Metadata ReadMetadata(const std::string& json) { return Reader(json).Read(); }

}  // namespace torch_tvm::relay
