#include "core/stats.h"

#include <pthread.h>

#include <utility>

#include "core/log.h"

namespace torch_tvm {

Stats& Stats::Get() {
  static auto* stats = new Stats;  // leaked: groups that run while the process exits count
  return *stats;
}

Stats::Stats() {
  // A forked child counts too; the lock must not be held by a thread that it does not have.
  pthread_atfork([] { Get().mutex_.lock(); }, [] { Get().mutex_.unlock(); },
                 [] { Get().mutex_.unlock(); });
}

void Stats::CountFallback(const std::string& reason) {
  fallbacks.fetch_add(1, std::memory_order_relaxed);
  CountReason(reason);
}

void Stats::CountReason(const std::string& reason) {
  bool log = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const bool full = reasons_.size() >= kMaxReasons && reasons_.count(reason) == 0;
    ++reasons_[full ? "other reasons" : reason];
    log = logged_.size() < kMaxReasons && logged_.insert(reason).second;
  }
  if (log) Log(LogLevel::kWarning, "left to PyTorch's interpreter: " + reason);
}

std::map<std::string, int64_t> Stats::FallbackReasons() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return reasons_;
}

void Stats::CountKernel(const std::string& plan, const std::string& kernel, int64_t nanoseconds) {
  std::lock_guard<std::mutex> lock(mutex_);
  KernelTime& time = kernels_[plan][kernel];
  time.calls += 1;
  time.nanoseconds += nanoseconds;
}

Stats::KernelTimes Stats::Kernels() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return kernels_;
}

int64_t Stats::AddSymbolicPlan(SymbolicPlan plan) {
  std::lock_guard<std::mutex> lock(mutex_);
  symbolic_plans_.emplace(++symbolic_count_, std::move(plan));
  if (symbolic_plans_.size() > kMaxReasons) symbolic_plans_.erase(symbolic_plans_.begin());
  return symbolic_count_;
}

void Stats::CountSymbolicValue(int64_t number) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = symbolic_plans_.find(number);
  if (found != symbolic_plans_.end()) ++found->second.values;
}

std::vector<Stats::SymbolicPlan> Stats::SymbolicPlans() const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<SymbolicPlan> plans;
  for (const auto& [number, plan] : symbolic_plans_) plans.push_back(plan);
  return plans;
}

void Stats::CountSymbolicRefusal(const std::string& reason) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const bool full = symbolic_refusals_.size() >= kMaxReasons;
    ++symbolic_refusals_[full && symbolic_refusals_.count(reason) == 0 ? "other reasons" : reason];
  }
  Log(LogLevel::kInfo, "no plan for all sizes: " + reason);
}

std::map<std::string, int64_t> Stats::SymbolicRefusals() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return symbolic_refusals_;
}

void Stats::AddTrial(Trial trial) {
  std::lock_guard<std::mutex> lock(mutex_);
  trials_.push_back(std::move(trial));
  if (trials_.size() > kMaxReasons) trials_.pop_front();
}

std::deque<Stats::Trial> Stats::Trials() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return trials_;
}

void Stats::Reset() {
  for (auto* counter : {&compiled, &cache_hits, &fallbacks, &packed, &compile_nanoseconds}) {
    counter->store(0, std::memory_order_relaxed);
  }
  std::lock_guard<std::mutex> lock(mutex_);
  reasons_.clear();
  kernels_.clear();
  trials_.clear();
  symbolic_plans_.clear();
  symbolic_refusals_.clear();
}

}  // namespace torch_tvm
