#include "runtime/arena.h"

#include <c10/core/alignment.h>
#include <c10/core/impl/alloc_cpu.h>
#include <sys/mman.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <algorithm>
#include <utility>

#include "runtime/plan.h"

namespace torch_tvm::runtime {

static_assert(c10::gAlignment % kAlignment == 0, "alloc_cpu must align as plans expect");

void UseHugePages([[maybe_unused]] void* data, [[maybe_unused]] int64_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t kPage = uintptr_t{2} << 20U;
  const auto address = reinterpret_cast<uintptr_t>(data);
  const uintptr_t first = (address + kPage - 1) / kPage * kPage;
  const uintptr_t last = (address + static_cast<uintptr_t>(bytes)) / kPage * kPage;
  // Advice: a kernel that does not take it changes nothing.
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

void TrimHeap() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

Block::Block(int64_t bytes) : data_(static_cast<char*>(c10::alloc_cpu(bytes))), bytes_(bytes) {
  UseHugePages(data_, bytes);
}

Block::Block(Block&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Block& Block::operator=(Block&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Block::~Block() {
  if (data_ != nullptr) c10::free_cpu(data_);
}

ArenaPool& ArenaPool::Get() {
  static auto* pool = new ArenaPool;  // calls may still run while the process ends
  return *pool;
}

Block ArenaPool::Acquire(int64_t bytes) {
  Block outgrown;  // freed after the lock
  {
    std::lock_guard lock(mutex_);
    auto best = idle_.end();
    for (auto block = idle_.begin(); block != idle_.end(); ++block) {
      if (block->bytes() < bytes) continue;
      if (best == idle_.end() || block->bytes() < best->bytes()) best = block;
    }
    if (best == idle_.end() && !idle_.empty()) {
      outgrown = std::move(idle_.back());
      idle_.pop_back();
    } else if (best != idle_.end()) {
      Block found = std::move(*best);
      idle_.erase(best);
      return found;
    }
  }
  outgrown = Block();
  return Block(bytes);
}

void ArenaPool::Release(Block block) {
  std::lock_guard lock(mutex_);
  idle_.push_back(std::move(block));
  if (idle_.size() <= kMaxIdle) return;
  const auto smallest =
      std::min_element(idle_.begin(), idle_.end(),
                       [](const Block& a, const Block& b) { return a.bytes() < b.bytes(); });
  block = std::move(*smallest);  // freed when the caller is done with its argument, after the lock
  *smallest = std::move(idle_.back());
  idle_.pop_back();
}

void ArenaPool::Trim() {
  std::vector<Block> freed;
  std::lock_guard lock(mutex_);
  freed.swap(idle_);
}

int64_t ArenaPool::idle_bytes() const {
  std::lock_guard lock(mutex_);
  int64_t bytes = 0;
  for (const Block& block : idle_) bytes += block.bytes();
  return bytes;
}

}  // namespace torch_tvm::runtime
