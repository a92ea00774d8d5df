#include "runtime/threads.h"

#include <ATen/Parallel.h>
#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/reflection/registry.h>
#include <tvm/ffi/tvm_ffi.h>

#include <atomic>
#include <cstdint>
#include <vector>

namespace torch_tvm::runtime {
namespace {

// As in TVM's c_backend_api.h: what generated code passes and expects.
struct ParallelGroup {
  void* sync_handle;
  int32_t num_task;
};
using ParallelLambda = int (*)(int task, ParallelGroup* group, void* data);

// A forked child has the parent's OpenMP team on paper but none of its threads: libgomp waits for
// them for ever (torch's own loops do too), so a child runs loops on the thread that calls.
std::atomic<bool> is_forked_child{false};

// Non-null in a group whose tasks run at once, so that they may wait for each other.
char concurrent;

int RunSerially(ParallelLambda lambda, void* data, int tasks) {
  ParallelGroup group{nullptr, tasks};
  for (int task = 0; task < tasks; ++task) {
    if (const int status = lambda(task, &group, data); status != 0) return status;
  }
  return 0;
}

// tvm-ffi keeps a raised error per thread; the first of a team's is carried to the thread that
// launched.
class TeamError {
 public:
  void Take(int status) {
    TVMFFIObjectHandle error = nullptr;
    TVMFFIErrorMoveFromRaised(&error);
    int none = 0;
    if (status_.compare_exchange_strong(none, status)) {
      error_ = error;
    } else if (error != nullptr) {
      TVMFFIObjectDecRef(error);
    }
  }

  int Raise() {
    if (error_ != nullptr) {
      TVMFFIErrorSetRaised(error_);
      TVMFFIObjectDecRef(error_);
    }
    return status_.load();
  }

 private:
  std::atomic<int> status_{0};
  TVMFFIObjectHandle error_ = nullptr;
};

int RunOnTeam(ParallelLambda lambda, void* data, int requested, int threads) {
  TeamError failure;
#pragma omp parallel num_threads(threads)
  {
    // OpenMP may give fewer threads than asked for (OMP_THREAD_LIMIT).
    const int team = omp_get_num_threads();
    ParallelGroup group{&concurrent, requested > 0 ? requested : team};
    for (int task = omp_get_thread_num(); task < group.num_task; task += team) {
      if (const int status = lambda(task, &group, data); status != 0) failure.Take(status);
    }
  }
  return failure.Raise();
}

// `requested` 0: as many tasks as there are threads, each a contiguous part of the loop.
int ParallelLaunch(ParallelLambda lambda, void* data, int requested) {
  const int threads = requested > 0 ? requested : at::get_num_threads();
  if (threads == 1 || at::in_parallel_region() || is_forked_child.load(std::memory_order_relaxed)) {
    return RunSerially(lambda, data, requested > 0 ? requested : 1);
  }
  return RunOnTeam(lambda, data, requested, threads);
}

int ParallelBarrier(int task, ParallelGroup* group) {
  if (group->sync_handle != nullptr) {
#pragma omp barrier
  }
  return 0;
}

}  // namespace

// On which torch's threads may run.
std::vector<int64_t> ThreadCpus() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
#pragma omp parallel num_threads(at::get_num_threads())
  {
    cpu_set_t own;
    CPU_ZERO(&own);
    sched_getaffinity(0, sizeof(own), &own);
#pragma omp critical
    CPU_OR(&cpus, &cpus, &own);
  }
  std::vector<int64_t> found;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &cpus)) found.push_back(cpu);
  }
  return found;
}

void UseTorchThreads() {
  TVM_FFI_CHECK_SAFE_CALL(TVMFFIEnvModRegisterContextSymbol(
      "__TVMBackendParallelLaunch", reinterpret_cast<void*>(&ParallelLaunch)));
  TVM_FFI_CHECK_SAFE_CALL(TVMFFIEnvModRegisterContextSymbol(
      "__TVMBackendParallelBarrier", reinterpret_cast<void*>(&ParallelBarrier)));
}

namespace {

const bool installed = [] {
  UseTorchThreads();
  pthread_atfork(nullptr, nullptr, [] { is_forked_child.store(true, std::memory_order_relaxed); });
  return true;
}();

TVM_FFI_STATIC_INIT_BLOCK() {
  tvm::ffi::reflection::GlobalDef().def("torch_tvm.runtime.thread_cpus", [] {
    const auto cpus = is_forked_child ? std::vector<int64_t>{} : ThreadCpus();
    return tvm::ffi::Array<int64_t>(cpus.begin(), cpus.end());
  });
}

}  // namespace
}  // namespace torch_tvm::runtime
