#include "jit/subgraph_key.h"

#include <bit>
#include <sstream>
#include <unordered_map>

namespace torch_tvm::jit {
namespace {

using torch::jit::AttributeKind;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

class KeyWriter {
 public:
  void AddValue(const Value* value) {
    const auto number = numbers_.emplace(value, numbers_.size()).first->second;
    text_ << '%' << number << ' ';
  }

  void AddDefinition(const Value* value) {
    AddValue(value);
    text_ << value->type()->annotation_str() << ' ';
  }

  // False for an attribute that cannot be compared.
  bool AddNode(const Node& node) {
    for (const Value* output : node.outputs()) AddDefinition(output);
    text_ << node.kind().toQualString() << ' ';
    if (const auto* schema = node.maybeSchema()) text_ << schema->overload_name() << ' ';
    for (const Value* input : node.inputs()) AddValue(input);
    for (const auto name : node.attributeNames()) {
      text_ << name.toUnqualString() << '=';
      if (!AddAttribute(node, name)) return false;
    }
    if (const auto place = node.sourceRange().file_line_col()) {
      const auto& [file, line, column] = *place;
      text_ << file << ':' << line << ':' << column;
    }
    text_ << '\n';
    return true;
  }

  void AddKinds(const std::vector<convert::InputKind>& kinds) {
    for (const auto kind : kinds) text_ << static_cast<int>(kind);
  }

  std::string Text() const { return text_.str(); }

 private:
  void Add(int64_t value) { text_ << value << ' '; }
  void Add(double value) { text_ << std::bit_cast<int64_t>(value) << ' '; }
  void Add(const std::string& value) { text_ << value.size() << ':' << value << ' '; }
  void Add(const at::Tensor& value) { text_ << value.unsafeGetTensorImpl() << ' '; }

  template <typename Items>
  void AddAll(const Items& items) {
    for (const auto& item : items) Add(item);
  }

  bool AddAttribute(const Node& node, c10::Symbol name) {
    switch (node.kindOf(name)) {
      case AttributeKind::f:
        Add(node.f(name));
        return true;
      case AttributeKind::i:
        Add(node.i(name));
        return true;
      case AttributeKind::s:
        Add(node.s(name));
        return true;
      case AttributeKind::t:
        Add(node.t(name));
        return true;
      case AttributeKind::fs:
        AddAll(node.fs(name));
        return true;
      case AttributeKind::is:
        AddAll(node.is(name));
        return true;
      case AttributeKind::ss:
        AddAll(node.ss(name));
        return true;
      case AttributeKind::ts:
        AddAll(node.ts(name));
        return true;
      case AttributeKind::ival:
        return AddConstant(node.ival(name));
      default:
        return false;
    }
  }

  bool AddConstant(const c10::IValue& value) {
    if (value.isObject()) {
      text_ << &value.toObjectRef() << ' ';
    } else if (value.isIntList()) {
      AddAll(value.toIntVector());
    } else if (value.isDoubleList()) {
      AddAll(value.toDoubleVector());
    } else if (value.isBoolList()) {
      for (const bool item : value.toBoolList()) Add(int64_t{item});
    } else if (value.isTensorList()) {
      AddAll(value.toTensorVector());
    } else {
      return false;
    }
    return true;
  }

  std::ostringstream text_;
  std::unordered_map<const Value*, size_t> numbers_;
};

}  // namespace

std::optional<std::string> SubgraphKey(Graph& subgraph,
                                       const std::vector<convert::InputKind>& kinds) {
  KeyWriter writer;
  writer.AddKinds(kinds);
  for (const Value* input : subgraph.inputs()) writer.AddDefinition(input);
  for (const Node* node : subgraph.nodes()) {
    if (!node->blocks().empty() || !writer.AddNode(*node)) return std::nullopt;
  }
  for (const Value* output : subgraph.outputs()) writer.AddValue(output);
  return writer.Text();
}

}  // namespace torch_tvm::jit
