#include "jit/fork.h"

#include <pthread.h>

#include <atomic>

namespace torch_tvm::jit {
namespace {

std::atomic<bool> forked{false};

const int registered = pthread_atfork(nullptr, nullptr, [] { forked.store(true); });

}  // namespace

bool InForkedChild() { return forked.load(std::memory_order_relaxed); }

}  // namespace torch_tvm::jit
