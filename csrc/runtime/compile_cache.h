// What a group compiled, by signature: bounded, compiled once however many threads ask.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace torch_tvm::runtime {

// dtype, sizes and whatever else compiled code depends on, as words; a call builds it on its stack.
struct Signature {
  explicit Signature(std::span<const int64_t> words) : words(words), hash(Hash(words)) {}

  std::span<const int64_t> words;
  uint64_t hash;

  friend bool operator==(const Signature& a, const Signature& b) {
    return a.hash == b.hash && std::ranges::equal(a.words, b.words);
  }

 private:
  // Multiply-xorshift a word: about 1 ns each.
  static uint64_t Hash(std::span<const int64_t> words) {
    uint64_t hash = 0x9e3779b97f4a7c15u + words.size();
    for (int64_t word : words) {
      hash = (hash ^ static_cast<uint64_t>(word)) * 0xff51afd7ed558ccdu;
      hash ^= hash >> 32;
    }
    return hash;
  }
};

// True while this thread compiles anything: a call that it makes meanwhile must not wait for a
// compilation, which might be its own.
class CompilingScope {
 public:
  CompilingScope() { ++depth_; }
  ~CompilingScope() { --depth_; }
  CompilingScope(const CompilingScope&) = delete;
  CompilingScope& operator=(const CompilingScope&) = delete;

  static bool Active() { return depth_ > 0; }

 private:
  static inline thread_local int depth_ = 0;
};

// Value: what compiling makes, shared with running calls, so that an entry may be dropped under
// them.
template <typename Value>
class CompileCache {
 public:
  enum class State {
    kReady,      // `value`
    kFailed,     // `failure`: compiling this signature failed, now or before
    kReentrant,  // the thread is compiling: take the fallback
  };
  struct Result {
    State state;
    std::shared_ptr<Value> value;
    std::shared_ptr<const std::string> failure;
    bool compiled_now = false;  // by this call
  };
  // What a compile function returns: a value, or why there is none (remembered like a value).
  struct Outcome {
    std::shared_ptr<Value> value;
    std::string failure;
  };

  // The entry of `signature`; made by `compile() -> Outcome` where there is none. Other threads
  // with this signature wait meanwhile, those with another do not. If `compile` throws, nothing is
  // remembered and the next thread tries. At most `capacity` entries stay (the least recently used
  // go first).
  template <typename Compile>
  Result GetOrCompile(const Signature& signature, size_t capacity, Compile&& compile) {
    std::shared_ptr<Entry> entry;
    {
      std::unique_lock lock(mutex_);
      while (true) {
        entry = Find(signature);
        if (entry == nullptr || entry->done) break;
        if (CompilingScope::Active()) return {State::kReentrant, nullptr, nullptr};
        entry->finished.wait(lock, [&] { return entry->done || entry->abandoned; });
        if (entry->done) break;
      }
      if (entry != nullptr) return ResultOf(*entry);
      if (CompilingScope::Active()) return {State::kReentrant, nullptr, nullptr};
      entry = std::make_shared<Entry>(signature);
      entries_.push_front(entry);
      index_.emplace(entry->signature, entries_.begin());
    }
    return Fill(entry, capacity, std::forward<Compile>(compile));
  }

  // Forgets everything. A compilation in progress is given to those who wait for it, then
  // forgotten.
  void Clear() {
    std::list<std::shared_ptr<Entry>> dropped;  // values die after the lock
    std::lock_guard lock(mutex_);
    index_.clear();
    dropped.swap(entries_);
  }

  size_t size() const {
    std::lock_guard lock(mutex_);
    return entries_.size();
  }

 private:
  struct Entry {
    explicit Entry(const Signature& key)
        : words(key.words.begin(), key.words.end()), signature(words) {}

    const std::vector<int64_t> words;
    const Signature signature;
    bool done = false, abandoned = false;
    std::shared_ptr<Value> value;
    std::shared_ptr<const std::string> failure;
    std::condition_variable finished;
  };
  using Position = typename std::list<std::shared_ptr<Entry>>::iterator;
  struct HashOf {
    size_t operator()(const Signature& signature) const { return signature.hash; }
  };

  static Result ResultOf(const Entry& entry) {
    return {entry.value != nullptr ? State::kReady : State::kFailed, entry.value, entry.failure};
  }

  // Needs the lock. Marks the entry as used.
  std::shared_ptr<Entry> Find(const Signature& signature) {
    const auto found = index_.find(signature);
    if (found == index_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return *found->second;
  }

  template <typename Compile>
  Result Fill(const std::shared_ptr<Entry>& entry, size_t capacity, Compile&& compile) {
    Outcome outcome;
    try {
      const CompilingScope compiling;
      outcome = compile();
    } catch (...) {
      std::lock_guard lock(mutex_);
      entry->abandoned = true;
      Erase(entry);
      entry->finished.notify_all();
      throw;
    }
    std::vector<std::shared_ptr<Entry>> evicted;  // values die after the lock
    std::lock_guard lock(mutex_);
    entry->value = std::move(outcome.value);
    if (entry->value == nullptr) {
      entry->failure = std::make_shared<const std::string>(std::move(outcome.failure));
    }
    entry->done = true;
    entry->finished.notify_all();
    Evict(capacity, &evicted);
    Result result = ResultOf(*entry);
    result.compiled_now = true;
    return result;
  }

  // Needs the lock. Clear() may have been faster.
  void Erase(const std::shared_ptr<Entry>& entry) {
    const auto found = index_.find(entry->signature);
    if (found == index_.end() || *found->second != entry) return;
    entries_.erase(found->second);
    index_.erase(found);
  }

  // Needs the lock. What is being compiled stays.
  void Evict(size_t capacity, std::vector<std::shared_ptr<Entry>>* evicted) {
    for (Position last = entries_.end(); entries_.size() > capacity && last != entries_.begin();) {
      --last;
      if (!(*last)->done) continue;
      evicted->push_back(*last);
      index_.erase((*last)->signature);
      last = entries_.erase(last);
    }
  }

  mutable std::mutex mutex_;
  std::list<std::shared_ptr<Entry>> entries_;              // most recently used first
  std::unordered_map<Signature, Position, HashOf> index_;  // keys view the entries' words
};

}  // namespace torch_tvm::runtime
