// Process-wide counters behind torch_tvm.stats().
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/api.h"

namespace torch_tvm {

class TORCH_TVM_API Stats {
 public:
  static Stats& Get();

  std::atomic<int64_t> groups{0};        // alive
  std::atomic<int64_t> compiled{0};      // plans built
  std::atomic<int64_t> cache_hits{0};    // calls served by a plan that was there
  std::atomic<int64_t> fallbacks{0};     // calls run by the interpreter
  std::atomic<int64_t> packed{0};        // bindings that packed something
  std::atomic<int64_t> packed_bytes{0};  // held now
  std::atomic<int64_t> compile_nanoseconds{0};

  // Counts one call that the interpreter ran, and logs `reason` the first time that it comes up.
  void CountFallback(const std::string& reason);
  // Counts `reason` alone: the call is compiled but for a part of it.
  void CountReason(const std::string& reason);

  std::map<std::string, int64_t> FallbackReasons() const;

  // What a timed call (debug_runtime) spent in one kernel of a plan.
  void CountKernel(const std::string& plan, const std::string& kernel, int64_t nanoseconds);

  struct KernelTime {
    int64_t calls = 0, nanoseconds = 0;
  };
  // By plan, then by kernel.
  using KernelTimes = std::map<std::string, std::map<std::string, KernelTime>>;
  KernelTimes Kernels() const;

  // How the trial of a plan against PyTorch's interpreter ended: the times of typical runs.
  struct Trial {
    std::string group;
    int64_t plan_nanoseconds, interpreter_nanoseconds;
    bool dropped;  // the plan, because the interpreter was faster
  };
  // A plan for all values of some dimensions.
  struct SymbolicPlan {
    std::string group;
    std::vector<std::pair<int64_t, int64_t>> bounds;  // of each dimension
    int64_t values = 0;                               // that it was made ready for
  };
  // Returns its number, for CountSymbolicValue.
  int64_t AddSymbolicPlan(SymbolicPlan plan);
  void CountSymbolicValue(int64_t number);
  std::vector<SymbolicPlan> SymbolicPlans() const;

  // Why there is none where there could have been one.
  void CountSymbolicRefusal(const std::string& reason);
  std::map<std::string, int64_t> SymbolicRefusals() const;

  void AddTrial(Trial trial);
  std::deque<Trial> Trials() const;

  // Zeroes what counts events; what counts things that are alive stays.
  void Reset();

 private:
  Stats();

  // Shape arithmetic can put any number into a reason, so that the table needs a bound.
  static constexpr size_t kMaxReasons = 1000;

  mutable std::mutex mutex_;
  std::map<std::string, int64_t> reasons_;
  std::set<std::string> logged_;
  KernelTimes kernels_;
  std::map<int64_t, SymbolicPlan> symbolic_plans_;  // the last kMaxReasons
  int64_t symbolic_count_ = 0;
  std::map<std::string, int64_t> symbolic_refusals_;
  std::deque<Trial> trials_;  // the last kMaxReasons
};

}  // namespace torch_tvm
