// Signatures of a group that differ in sizes only: how many of them are compiled one by one, and
// what becomes of all others.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "jit/compile.h"
#include "jit/symbolic.h"

namespace torch_tvm::jit {

class ShapeFamily {
 public:
  // Whether these sizes are to be compiled by themselves, because only few others were.
  bool CompilesAlone(const Sizes& sizes, int64_t max_static_signatures);
  // They were, and have a plan.
  void CompiledAlone(const Sizes& sizes);

  // What a call with these sizes runs: a plan for many sizes, or a reason to leave it to PyTorch.
  // Waits while another thread compiles that plan.
  std::shared_ptr<const Compiled> Get(const Source& source, c10::ArrayRef<c10::IValue> inputs,
                                      const Sizes& sizes, Partitions* partitions);

  // PyTorch is faster than the plan for many sizes.
  void Drop();

 private:
  void CompileAnew(const Source& source, c10::ArrayRef<c10::IValue> inputs, const Sizes& sizes);

  std::mutex mutex_;  // guards what follows
  std::set<Sizes> alone_;
  std::vector<Sizes> seen_;
  std::shared_ptr<const SymbolicCompiled> symbolic_;
  int attempts_ = 0;
  std::string refusal_;  // why there is no plan, or none for some sizes
  bool dropped_ = false;
};

// The families of one group.
class ShapeFamilies {
 public:
  // nullptr where there are too many already, as where a number among the inputs changes always.
  std::shared_ptr<ShapeFamily> Find(const std::vector<int64_t>& form);
  void Clear();

 private:
  static constexpr size_t kMost = 128;

  std::mutex mutex_;
  std::map<std::vector<int64_t>, std::shared_ptr<ShapeFamily>> families_;
};

}  // namespace torch_tvm::jit
