// What a group compiled, by signature: bounded, compiled once however many threads ask.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <stdexcept>
#include <unordered_map>
#include <utility>
#include <vector>

namespace torch_tvm::runtime {

// Value: what compiling makes, a failure included, so that it too is remembered. It is shared with
// the calls that run it: an entry may be dropped under them, and no lock is held while they use it.
//
// A signature is given as its words and a hash of them, which the caller forms while it reads its
// inputs.
template <typename Value>
class CompileCache {
 public:
  using Pointer = std::shared_ptr<const Value>;
  using Words = std::span<const int64_t>;

  // nullptr where nothing is compiled yet.
  Pointer Find(size_t hash, Words words) {
    std::lock_guard lock(mutex_);
    const auto entry = Touch({hash, words});
    return entry != nullptr ? entry->value : nullptr;
  }

  // Calls `build() -> Pointer` where there is no entry. Threads that ask for the same signature
  // meanwhile wait for it, those that ask for another do not. If `build` throws, nothing is
  // remembered and the next thread tries. At most `capacity` entries stay; the least recently used
  // go first.
  //
  // nullptr: this thread is building (for this cache or another) and there is no value yet; waiting
  // for one might be waiting for itself.
  template <typename Build>
  Pointer GetOrBuild(size_t hash, Words words, size_t capacity, Build&& build) {
    std::shared_ptr<Entry> entry;
    {
      std::unique_lock lock(mutex_);
      while ((entry = Touch({hash, words})) != nullptr) {
        if (entry->value != nullptr) return entry->value;
        if (is_building) return nullptr;
        entry->finished.wait(lock, [&] { return entry->value != nullptr || entry->abandoned; });
        if (entry->value != nullptr) return entry->value;
      }
      if (is_building) return nullptr;
      entry = std::make_shared<Entry>(hash, words);
      entries_.push_front(entry);
      index_.emplace(entry->key, entries_.begin());
    }
    return Fill(entry, capacity, std::forward<Build>(build));
  }

  // Puts another value in the place of one that is there, if it still is.
  void Replace(size_t hash, Words words, Pointer value) {
    std::lock_guard lock(mutex_);
    const auto found = index_.find({hash, words});
    if (found == index_.end() || (*found->second)->value == nullptr) return;
    value.swap(
        (*found->second)->value);  // the old one dies after the lock: `value` is older than it
  }

  // Forgets everything. What is being built is given to those who wait for it and is then
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
  struct Key {
    size_t hash;
    Words words;

    friend bool operator==(const Key& a, const Key& b) {
      return a.hash == b.hash && std::ranges::equal(a.words, b.words);
    }
  };
  struct HashOf {
    size_t operator()(const Key& key) const { return key.hash; }
  };
  struct Entry {
    Entry(size_t hash, Words given) : words(given.begin(), given.end()), key{hash, words} {}

    const std::vector<int64_t> words;
    const Key key;  // views the words
    Pointer value;
    bool abandoned = false;
    std::condition_variable finished;
  };
  using Position = typename std::list<std::shared_ptr<Entry>>::iterator;

  struct BuildingScope {
    BuildingScope() { is_building = true; }
    ~BuildingScope() { is_building = false; }
  };

  // Needs the lock. Marks the entry as used.
  std::shared_ptr<Entry> Touch(const Key& key) {
    const auto found = index_.find(key);
    if (found == index_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return *found->second;
  }

  template <typename Build>
  Pointer Fill(const std::shared_ptr<Entry>& entry, size_t capacity, Build&& build) {
    Pointer value;
    try {
      const BuildingScope building;
      value = build();
      if (value == nullptr) throw std::logic_error("a compilation must return a value");
    } catch (...) {
      Abandon(entry);
      throw;
    }
    std::vector<std::shared_ptr<Entry>> evicted;  // values die after the lock
    std::lock_guard lock(mutex_);
    entry->value = value;
    entry->finished.notify_all();
    Evict(capacity, &evicted);
    return value;
  }

  void Abandon(const std::shared_ptr<Entry>& entry) {
    std::lock_guard lock(mutex_);
    entry->abandoned = true;
    entry->finished.notify_all();
    const auto found = index_.find(entry->key);  // Clear() may have been faster
    if (found == index_.end() || *found->second != entry) return;
    const Position position = found->second;
    index_.erase(found);
    entries_.erase(position);
  }

  // Needs the lock. What is being built stays.
  void Evict(size_t capacity, std::vector<std::shared_ptr<Entry>>* evicted) {
    for (Position last = entries_.end(); entries_.size() > capacity && last != entries_.begin();) {
      --last;
      if ((*last)->value == nullptr) continue;
      evicted->push_back(*last);
      index_.erase((*last)->key);
      last = entries_.erase(last);
    }
  }

  static inline thread_local bool is_building = false;

  mutable std::mutex mutex_;
  std::list<std::shared_ptr<Entry>> entries_;  // most recently used first
  std::unordered_map<Key, Position, HashOf> index_;
};

}  // namespace torch_tvm::runtime
