#include "core/options.h"

#include <c10/util/Exception.h>
#include <torch/csrc/jit/runtime/profiling_graph_executor_impl.h>

#include <atomic>
#include <deque>
#include <mutex>
#include <optional>
#include <tuple>

namespace torch_tvm {
namespace {

auto CompileFields(const Options& options) {
  return std::tie(options.opt_level, options.debug, options.debug_runtime, options.is_training,
                  options.winograd, options.device_id, options.device_type, options.target,
                  options.host);
}

auto CallFields(const Options& options) {
  return std::tie(options.strict, options.guard, options.min_group_size, options.max_signatures,
                  options.max_static_signatures);
}

void CheckRange(const char* name, int64_t value, int64_t low, int64_t high) {
  TORCH_CHECK_VALUE(low <= value && value <= high, "option ", name, " must lie between ", low,
                    " and ", high, ", got ", value);
}

void Check(const Options& options) {
  constexpr int64_t kMany = int64_t{1} << 31;
  CheckRange("opt_level", options.opt_level, 0, 3);
  CheckRange("min_group_size", options.min_group_size, 1, kMany);
  CheckRange("max_signatures", options.max_signatures, 1, kMany);
  CheckRange("max_static_signatures", options.max_static_signatures, 1, kMany);
  CheckRange("device_id", options.device_id, 0, 0);
  TORCH_CHECK_VALUE(
      options.winograd == "off" || options.winograd == "f2" || options.winograd == "auto",
      "option winograd must be \"off\", \"f2\" or \"auto\", got \"", options.winograd, "\"");
  TORCH_CHECK_VALUE(options.device_type == "cpu", "option device_type must be \"cpu\", got \"",
                    options.device_type, "\"");
}

// Every option set that was ever in force. Leaked: groups that run while the process exits read it.
class Interned {
 public:
  const Options* Find(Options options) {
    std::lock_guard<std::mutex> lock(mutex_);
    options.compile_id = static_cast<int64_t>(sets_.size());
    for (const Options& set : sets_) {
      if (CompileFields(set) != CompileFields(options)) continue;
      options.compile_id = set.compile_id;
      if (CallFields(set) == CallFields(options)) return &set;
    }
    return &sets_.emplace_back(std::move(options));
  }

 private:
  std::mutex mutex_;
  std::deque<Options> sets_;
};

Interned& AllSets() {
  static auto* sets = new Interned;
  return *sets;
}

std::atomic<const Options*>& Current() {
  static std::atomic<const Options*> current{AllSets().Find(Options{})};
  return current;
}

std::atomic<bool> enabled{false};

}  // namespace

const Options& GetOptions() { return *Current().load(std::memory_order_acquire); }

void SetOptions(const Options& options) {
  Check(options);
  Current().store(AllSets().Find(options), std::memory_order_release);
}

bool IsEnabled() { return enabled.load(std::memory_order_relaxed); }

void SetEnabled(bool on) {
  static std::mutex mutex;
  static std::optional<size_t> profiled_runs;  // what the user had before
  std::lock_guard<std::mutex> lock(mutex);
  if (on && !profiled_runs) {
    profiled_runs = torch::jit::getNumProfiledRuns().exchange(0);
  } else if (!on && profiled_runs) {
    torch::jit::getNumProfiledRuns() = *profiled_runs;
    profiled_runs.reset();
  }
  enabled.store(on, std::memory_order_relaxed);
}

}  // namespace torch_tvm
