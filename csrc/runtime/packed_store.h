// What is packed from weights, shared by the plans of the process that want the same of the same
// weights: those of a group for its other sizes, above all.
#pragma once

#include <c10/util/ArrayRef.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/arena.h"
#include "runtime/plan.h"
#include "runtime/weight_identity.h"

namespace torch_tvm::runtime {

// A packed part in memory, with others that were packed by the same binding.
class PackedBytes {
 public:
  PackedBytes(std::shared_ptr<const Block> block, char* data, std::vector<WeightIdentity> sources)
      : block_(std::move(block)), data_(data), sources_(std::move(sources)) {}

  char* data() const { return data_; }
  const std::shared_ptr<const Block>& block() const { return block_; }

  bool IsOf(BorrowedTensors weights, const ffi::Array<int64_t>& numbers) const;

 private:
  std::shared_ptr<const Block> block_;
  char* data_;
  std::vector<WeightIdentity> sources_;  // in the order of PackedPart::weights
};

// Bindings own what is here. Each of them holds its weights weakly, so that the address of none of
// them comes again while a part made of it is here.
class PackedStore {
 public:
  using Pointer = std::shared_ptr<const PackedBytes>;

  static PackedStore& Get();

  // For each packed part of the plan what there is of these weights, or nullptr.
  std::vector<Pointer> Find(const PlanObj& plan, BorrowedTensors weights);

  // Gives each part that is missing its place in a new block, which is still to be filled. Returns
  // their numbers. All parts are taken to be missing where those that are not could keep much more
  // memory from being freed than the plan needs.
  static std::vector<size_t> AddMissing(const PlanObj& plan,
                                        const std::vector<WeightIdentity>& identities,
                                        std::vector<Pointer>* parts);

  // Lets others find these parts, which are filled.
  void Publish(const PlanObj& plan, const std::vector<Pointer>& parts,
               const std::vector<size_t>& numbers);

 private:
  using List = std::vector<std::weak_ptr<const PackedBytes>>;

  static constexpr size_t kFewestPerSweep = 256;

  // Needs the lock.
  void Sweep();

  std::mutex mutex_;
  std::unordered_map<std::string, List> parts_;  // by key
  size_t published_ = 0;                         // since the last sweep
};

}  // namespace torch_tvm::runtime
