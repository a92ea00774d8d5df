#include "runtime/packed_store.h"

#include <algorithm>
#include <set>
#include <utility>

#include "core/stats.h"

namespace torch_tvm::runtime {
namespace {

// A part keeps the whole block that it is in, so that plans which share could keep what nobody
// needs any more. They share unless that could be more than this many times what they need. Plans
// of one group for other sizes keep up to 2.5 times as much (ResNet-18: blocks of 92 and 47 MB for
// 56).
constexpr int64_t kMostKept = 4;

// A block that the statistics know of.
std::shared_ptr<const Block> MakeBlock(int64_t bytes) {
  std::shared_ptr<const Block> block(new Block(bytes), [](const Block* dying) {
    Stats::Get().packed_bytes -= dying->bytes();
    delete dying;
  });
  Stats::Get().packed_bytes += bytes;
  return block;
}

int64_t BytesHeld(const std::vector<PackedStore::Pointer>& parts) {
  std::set<const Block*> blocks;
  int64_t bytes = 0;
  for (const auto& part : parts) {
    if (part != nullptr && blocks.insert(part->block().get()).second) {
      bytes += part->block()->bytes();
    }
  }
  return bytes;
}

}  // namespace

bool PackedBytes::IsOf(BorrowedTensors weights, const ffi::Array<int64_t>& numbers) const {
  return std::equal(sources_.begin(), sources_.end(), numbers.begin(), numbers.end(),
                    [&](const WeightIdentity& source, int64_t number) {
                      return source.Matches(weights[number]);
                    });
}

PackedStore& PackedStore::Get() {
  static auto* store = new PackedStore;  // bindings may die after static destructors ran
  return *store;
}

std::vector<PackedStore::Pointer> PackedStore::Find(const PlanObj& plan, BorrowedTensors weights) {
  std::vector<Pointer> found(plan.packed_parts.size());
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < found.size(); ++i) {
    const PackedPartObj* part = plan.packed_parts[i].get();
    const auto list = parts_.find(part->key);
    if (list == parts_.end()) continue;
    for (const auto& weak : list->second) {
      Pointer candidate = weak.lock();
      if (candidate == nullptr || !candidate->IsOf(weights, part->weights)) continue;
      found[i] = std::move(candidate);
      break;
    }
  }
  return found;
}

std::vector<size_t> PackedStore::AddMissing(const PlanObj& plan,
                                            const std::vector<WeightIdentity>& identities,
                                            std::vector<Pointer>* parts) {
  if (BytesHeld(*parts) > kMostKept * plan.packed_bytes()) parts->assign(parts->size(), nullptr);
  std::vector<size_t> missing;
  int64_t bytes = 0;
  for (size_t i = 0; i < parts->size(); ++i) {
    if ((*parts)[i] != nullptr) continue;
    missing.push_back(i);
    bytes += plan.packed_parts[i]->bytes;
  }
  if (missing.empty()) return missing;
  const std::shared_ptr<const Block> block = MakeBlock(bytes);
  char* data = block->data();
  for (const size_t i : missing) {
    const PackedPartObj* part = plan.packed_parts[i].get();
    std::vector<WeightIdentity> sources;
    for (const int64_t weight : part->weights) sources.push_back(identities[weight]);
    (*parts)[i] = std::make_shared<const PackedBytes>(block, data, std::move(sources));
    data += part->bytes;
  }
  return missing;
}

void PackedStore::Publish(const PlanObj& plan, const std::vector<Pointer>& parts,
                          const std::vector<size_t>& numbers) {
  std::lock_guard lock(mutex_);
  published_ += numbers.size();
  if (published_ > std::max(kFewestPerSweep, parts_.size())) Sweep();
  for (const size_t i : numbers) {
    parts_[plan.packed_parts[i]->key].emplace_back(parts[i]);
  }
}

void PackedStore::Sweep() {
  published_ = 0;
  for (auto& [key, list] : parts_) {
    std::erase_if(list, [](const auto& part) { return part.expired(); });
  }
  std::erase_if(parts_, [](const auto& entry) { return entry.second.empty(); });
}

}  // namespace torch_tvm::runtime
