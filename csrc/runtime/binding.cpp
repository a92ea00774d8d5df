#include "runtime/binding.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <set>
#include <unordered_set>
#include <utility>

#include "core/stats.h"
#include "runtime/arena.h"

namespace torch_tvm::runtime {
namespace {

// Dead weights give their memory back within this many calls of a thread; a sweep costs about 1 us
// per 100 weights.
constexpr uint32_t kCallsPerSweep = 4096;

// Every cache of the process, for SweepBindings.
class Registry {
 public:
  static Registry& Get() {
    static auto* registry = new Registry;  // caches may die after static destructors ran
    return *registry;
  }

  void Add(BindingCache* cache) {
    std::lock_guard lock(mutex_);
    caches_.insert(cache);
  }

  void Remove(BindingCache* cache) {
    std::lock_guard lock(mutex_);
    caches_.erase(cache);
  }

  void Sweep() {
    std::lock_guard lock(mutex_);
    for (BindingCache* cache : caches_) cache->Sweep();
  }

 private:
  std::mutex mutex_;
  std::unordered_set<BindingCache*> caches_;
};

}  // namespace

Binding::Binding(std::shared_ptr<const Program> program, BorrowedTensors weights)
    : program_(std::move(program)), tensors_(program_->tensors()) {
  // Before packing, so that a write during it shows as a change.
  identities_.reserve(weights.size());
  for (c10::TensorImpl* weight : weights) {
    identities_.emplace_back(weight);
    weak_.emplace_back(weight);
  }
  PackedStore& store = PackedStore::Get();
  parts_ = store.Find(program_->plan(), weights);
  const std::vector<size_t> missing = store.AddMissing(program_->plan(), identities_, &parts_);
  AddAddresses(weights);
  Program::Fill(program_->binding_sources(), addresses_, tensors_.data());
  if (!missing.empty()) {
    Pack(missing);
    store.Publish(program_->plan(), parts_, missing);
  }
  if (!missing.empty() || copied_bytes_ > 0) ++Stats::Get().packed;
  Stats::Get().packed_bytes += copied_bytes_;
}

Binding::~Binding() { Stats::Get().packed_bytes -= copied_bytes_; }

void Binding::AddAddresses(BorrowedTensors weights) {
  const at::AutoDispatchBelowADInplaceOrView plain;
  for (const auto& part : parts_) addresses_.push_back(part->data());
  for (c10::TensorImpl* impl : weights) {
    at::Tensor weight(Borrow(impl));
    if (!weight.is_contiguous() || !IsAligned(weight.const_data_ptr())) {
      weight = weight.clone(at::MemoryFormat::Contiguous);
      copied_bytes_ += static_cast<int64_t>(weight.nbytes());
      copies_.push_back(weight);
    }
    addresses_.push_back(static_cast<char*>(const_cast<void*>(weight.const_data_ptr())));
  }
}

// Packs these parts. Others are read by calls meanwhile: no step that makes one of them runs.
void Binding::Pack(const std::vector<size_t>& missing) {
  const PlanObj& plan = program_->plan();
  std::set<int64_t> steps;
  for (const size_t part : missing) {
    steps.insert(plan.packed_parts[part]->steps.begin(), plan.packed_parts[part]->steps.end());
  }
  const Arena arena(plan.packing_arena_bytes);
  std::vector<DLTensor> tensors = tensors_;
  std::vector<char*> slots(1 + plan.num_inputs + plan.num_outputs, nullptr);
  slots[0] = arena.data();
  Program::Fill(program_->call_sources(), slots, tensors.data());
  for (const int64_t step : steps) program_->RunPackingStep(step, tensors.data());
}

bool Binding::Matches(BorrowedTensors weights) const {
  for (size_t i = 0; i < weights.size(); ++i) {
    if (!identities_[i].Matches(weights[i])) return false;
  }
  return true;
}

bool Binding::IsFor(BorrowedTensors weights) const {
  for (size_t i = 0; i < weights.size(); ++i) {
    if (!identities_[i].IsTensor(weights[i])) return false;
  }
  return true;
}

bool Binding::Died() const {
  return std::any_of(weak_.begin(), weak_.end(),
                     [](const WeakWeight& weight) { return weight.Died(); });
}

BindingCache::BindingCache(std::shared_ptr<const Program> program, std::vector<TensorSpec> weights)
    : program_(std::move(program)), weights_(std::move(weights)), list_(std::make_shared<List>()) {
  Registry::Get().Add(this);
}

BindingCache::~BindingCache() { Registry::Get().Remove(this); }

std::shared_ptr<const BindingCache::List> BindingCache::Snapshot() const {
  std::lock_guard lock(mutex_);
  return list_;
}

std::shared_ptr<const Binding> BindingCache::Bind(BorrowedTensors weights) {
  TORCH_CHECK(weights.size() == weights_.size(), "plan ", std::string(program_->plan().name),
              " takes ", weights_.size(), " weights, got ", weights.size());
  static thread_local uint32_t calls = 0;
  if (++calls % kCallsPerSweep == 0) SweepBindings();
  const std::shared_ptr<const List> known = Snapshot();
  for (const auto& binding : *known) {
    if (binding->Matches(weights)) return binding;
  }
  if (!Fits(weights)) return nullptr;
  SweepBindings();
  return Pack(weights);
}

std::shared_ptr<const Binding> BindingCache::Pack(BorrowedTensors weights) {
  std::lock_guard lock(packing_);
  const std::shared_ptr<const List> known = Snapshot();
  for (const auto& binding : *known) {
    if (binding->Matches(weights)) return binding;
  }
  auto binding = std::make_shared<const Binding>(program_, weights);
  Insert(binding, weights);
  return binding;
}

void BindingCache::Insert(std::shared_ptr<const Binding> binding, BorrowedTensors weights) {
  auto updated = std::make_shared<List>();
  updated->push_back(std::move(binding));
  std::shared_ptr<const List> outdated;  // dies after the lock
  std::lock_guard lock(mutex_);
  for (const auto& other : *list_) {
    if (updated->size() < kMaxBindings && !other->IsFor(weights)) updated->push_back(other);
  }
  outdated = std::exchange(list_, std::move(updated));
}

bool BindingCache::Fits(BorrowedTensors weights) const {
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i]->sizes() != weights_[i].sizes ||
        weights[i]->dtype() != c10::scalarTypeToTypeMeta(weights_[i].dtype)) {
      return false;
    }
  }
  return true;
}

void BindingCache::Sweep() {
  std::shared_ptr<const List> outdated;  // dies after the lock
  std::lock_guard lock(mutex_);
  const auto died = [](const std::shared_ptr<const Binding>& binding) { return binding->Died(); };
  if (std::none_of(list_->begin(), list_->end(), died)) return;
  auto alive = std::make_shared<List>();
  std::remove_copy_if(list_->begin(), list_->end(), std::back_inserter(*alive), died);
  outdated = std::exchange(list_, std::move(alive));
}

void SweepBindings() { Registry::Get().Sweep(); }

}  // namespace torch_tvm::runtime
