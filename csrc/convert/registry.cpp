#include "convert/registry.h"

#include <torch/csrc/jit/runtime/operator.h>

#include <algorithm>
#include <stdexcept>

#include "convert/operator_name.h"

namespace torch_tvm::convert {
namespace {

// The keys of the operators that a name stands for: one overload, or, without one, all that torch
// has.
std::vector<std::string> Expand(const std::string& name) {
  const size_t scope = name.find("::");
  if (scope == std::string::npos || scope == 0 || scope + 2 == name.size()) {
    throw std::invalid_argument("an operator's name is 'ns::op' or 'ns::op.overload', got '" +
                                name + "'");
  }
  const size_t dot = name.find('.', scope);
  const std::string op = name.substr(0, dot);
  const auto& known = torch::jit::getAllOperatorsFor(c10::Symbol::fromQualString(op));
  if (known.empty()) {
    throw std::invalid_argument("torch has no operator '" + op +
                                "'; define it first (torch.library or TORCH_LIBRARY)");
  }
  std::vector<std::string> keys;
  for (const auto& candidate : known) keys.push_back(OperatorName(candidate->schema()));
  if (dot == std::string::npos) return keys;
  if (std::find(keys.begin(), keys.end(), name) == keys.end()) {
    std::string message =
        "torch's operator '" + op + "' has no such overload as '" + name + "'; it has";
    for (const std::string& key : keys) message += " '" + key + "'";
    throw std::invalid_argument(message);
  }
  return {name};
}

}  // namespace

Registry& Registry::Global() {
  // Leaked on purpose: a converter may hold a Python function, which must not be destroyed after
  // the interpreter.
  static Registry* registry = new Registry();
  return *registry;
}

void Registry::Add(const std::string& name, const Entry& entry, bool override_entry) {
  const std::vector<std::string> keys = Expand(name);
  std::unique_lock lock(mutex_);
  for (const std::string& key : keys) {
    if (entries_.count(key) != 0 && !override_entry) {
      throw std::invalid_argument("operator '" + key +
                                  "' already has a converter; pass override=True to replace it");
    }
  }
  for (const std::string& key : keys) entries_[key] = entry;
}

void Registry::AddUnchecked(const std::string& key, const Entry& entry) {
  std::unique_lock lock(mutex_);
  if (!entries_.emplace(key, entry).second) {
    throw std::logic_error("two converters for operator '" + key + "'");
  }
}

std::optional<Entry> Registry::Find(const c10::FunctionSchema& schema) const {
  std::shared_lock lock(mutex_);
  const auto entry = entries_.find(OperatorName(schema));
  if (entry == entries_.end()) return std::nullopt;
  return entry->second;
}

std::vector<std::string> Registry::Names() const {
  std::shared_lock lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

Registrar::Registrar(std::initializer_list<Row> rows) {
  for (const Row& row : rows) {
    Registry::Global().AddUnchecked(row.name, {row.converter, row.check});
  }
}

Converter FindConverter(const torch::jit::Node* node) {
  const c10::FunctionSchema* schema = node->maybeSchema();
  if (schema == nullptr) return {};
  const auto entry = Registry::Global().Find(*schema);
  return entry ? entry->converter : Converter();
}

}  // namespace torch_tvm::convert
