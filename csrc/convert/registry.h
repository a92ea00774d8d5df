// The registry of converters: which TorchScript operators become Relay, and by which function.
// Stands before lowering (lower.h), which looks every node up here, and before the fusion pass,
// which asks IsConvertible. README.md in this folder is the contract of a converter.
#pragma once

#include <ATen/core/function_schema.h>
#include <torch/csrc/jit/ir/ir.h>

#include <functional>
#include <initializer_list>
#include <optional>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/api.h"

namespace torch_tvm::convert {

class TORCH_TVM_API Context;  // context.h
struct Results;               // context.h

// Builds the Relay expression (or one expression per output) of the node that the context stands
// at.
using Converter = std::function<Results(Context&)>;

// What must hold of a node's constant arguments, tested before a group is formed; returns the
// reason of a refusal, or an empty string. An argument that is not constant in the graph must be
// let pass: the converter meets its value and refuses then.
using StaticCheck = std::function<std::string(const torch::jit::Node&)>;

struct Entry {
  Converter converter;
  StaticCheck check;  // may be empty
};

// Process-wide; filled by static registrars at load and by register_operator at run time.
// Thread-safe.
class TORCH_TVM_API Registry {
 public:
  static Registry& Global();

  // `name` is "ns::op.overload", or "ns::op" for all overloads. Throws std::invalid_argument when
  // torch has no such operator, or when one has an entry already and `override_entry` is false.
  void Add(const std::string& name, const Entry& entry, bool override_entry = false);

  std::optional<Entry> Find(const c10::FunctionSchema& schema) const;

  // Every registered name, sorted.
  std::vector<std::string> Names() const;

 private:
  friend class Registrar;
  void AddUnchecked(const std::string& key, const Entry& entry);

  mutable std::shared_mutex mutex_;
  std::unordered_map<std::string, Entry> entries_;
};

// A family's table: `static const Registrar kFamily({{"aten::relu", Relu}, ...})` at the end of its
// file. The name is exact: "aten::max" is the overload without a name, not all of them.
class Registrar {
 public:
  struct Row {
    std::string name;
    Converter converter;
    StaticCheck check = {};
  };
  Registrar(std::initializer_list<Row> rows);
};

// The converter of a node's operator (of prim::ConstantChunk by its kind); empty if there is none.
Converter FindConverter(const torch::jit::Node* node);

// Whether the fusion pass may take the node into a group: its operator has a converter whose static
// check passes, or it is a structural node (lists, tuples), or it computes on sizes and constants
// only. What depends on shapes and dtypes is decided later, by Lower.
bool IsConvertible(const torch::jit::Node* node);

// Why a node is not convertible, in words; empty if it is.
std::string WhyNotConvertible(const torch::jit::Node* node);

// Whether a value's type may cross a group's boundary: tensors and the numbers, lists of numbers,
// devices and strings that a signature can hold; not lists of tensors.
bool CanCrossBoundary(const torch::jit::Value* value);

// Whether TorchScript has to assume that the value shares memory with an argument of its node, or
// with its neighbours in a list, and lowering can tell: the result of Tensor.to, and elements of a
// list that an operator makes anew as far as its schema says.
bool MayTurnOutFresh(const torch::jit::Value* value);

// A StaticCheck that a boolean argument is false ("training", "train").
TORCH_TVM_API StaticCheck RequireFalse(std::string argument);

}  // namespace torch_tvm::convert
