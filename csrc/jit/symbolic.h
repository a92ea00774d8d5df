// One plan for all calls of a group that differ in the values of some dimensions.
#pragma once

#include <ATen/core/ivalue.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "jit/compile.h"
#include "runtime/binding.h"
#include "runtime/symbolic_plan.h"

namespace torch_tvm::jit {

// The sizes of all tensor inputs of a call, in order.
using Sizes = std::vector<int64_t>;

// Why there is no plan for the sizes of a call.
class NotSymbolic : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// How sizes that changed follow from the values of a few dimensions.
class Dimensions {
 public:
  // Sizes that change together, at a constant distance, are one dimension. `seen`: at least two
  // rows, all of one length.
  explicit Dimensions(const std::vector<Sizes>& seen);

  int64_t count() const { return static_cast<int64_t>(origins_.size()); }

  // The values of the dimensions; nullopt where a size disagrees, or one changed that never had.
  std::optional<std::vector<int64_t>> ValuesOf(const Sizes& sizes) const;
  Sizes SizesAt(const std::vector<int64_t>& values) const;

  // Values for which the subgraph is compiled to see what depends on them: those of a call, then
  // primes of about the same size, which nothing divides by chance, and two that strides round in
  // ways of their own.
  std::vector<std::vector<int64_t>> Examples(const std::vector<Sizes>& seen) const;

 private:
  struct Rule {
    int64_t dim = -1;    // -1: the size is `offset`
    int64_t offset = 0;  // to be added to the value of the dimension
  };

  std::vector<Rule> rules_;       // of each size
  std::vector<int64_t> origins_;  // of each dimension the size that is its value
};

// Immutable but for its bindings, which all values share; any number of threads may ask at once.
class SymbolicCompiled {
 public:
  // Compiles for sizes that differ as `seen` do. `inputs`: those of the call at hand. Throws
  // NotSymbolic if there can be no such plan.
  SymbolicCompiled(const Source& source, c10::ArrayRef<c10::IValue> inputs,
                   const std::vector<Sizes>& seen);

  // The plan for inputs of these sizes. Converts the subgraph for them and compares, so that it is
  // exact whatever the examples were. Throws NotSymbolic where it does not cover them and
  // convert::NotConvertible where the subgraph cannot be converted.
  std::unique_ptr<const CompiledPlan> At(const Source& source, c10::ArrayRef<c10::IValue> inputs,
                                         const Sizes& sizes) const;

  Trial& trial() const { return trial_; }

 private:
  struct Form;  // what all values have in common

  const Dimensions dimensions_;
  std::shared_ptr<const Form> form_;
  std::optional<runtime::SymbolicPlan> plan_;
  int64_t number_ = 0;  // in the statistics
  mutable std::mutex mutex_;
  mutable std::shared_ptr<runtime::BindingCache> bindings_;
  mutable Trial trial_;
};

}  // namespace torch_tvm::jit
