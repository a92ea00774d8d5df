// Built and run by test_runtime_compile_cache.py, with ThreadSanitizer. Prints the case that fails.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "runtime/compile_cache.h"

namespace {

using torch_tvm::runtime::CompileCache;
using Cache = CompileCache<std::string>;
using Words = std::vector<int64_t>;

#define EXPECT(condition)                                                \
  if (!(condition)) {                                                    \
    std::printf("%s:%d: expected %s\n", __FILE__, __LINE__, #condition); \
    std::exit(1);                                                        \
  }

constexpr size_t kCapacity = 4;

// A hash that collides, so that words must be compared.
size_t HashOf(const Words& words) { return words.size(); }

Cache::Pointer Make(const std::string& text) { return std::make_shared<const std::string>(text); }

Cache::Pointer Get(Cache& cache, const Words& words, const std::string& text, int* builds) {
  return cache.GetOrBuild(HashOf(words), words, kCapacity, [&] {
    ++*builds;
    return Make(text);
  });
}

void RunThreads(int count, const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back(body, i);
  for (auto& thread : threads) thread.join();
}

void BuildsOnceAndFinds() {
  Cache cache;
  int builds = 0;
  EXPECT(cache.Find(2, Words{1, 2}) == nullptr);
  const auto value = Get(cache, {1, 2}, "a", &builds);
  EXPECT(*value == "a");
  EXPECT(Get(cache, {1, 2}, "b", &builds) == value);
  EXPECT(cache.Find(2, Words{1, 2}) == value);
  EXPECT(cache.Find(2, Words{2, 1}) == nullptr);
  EXPECT(*Get(cache, {2, 1}, "c", &builds) == "c");
  EXPECT(builds == 2);
}

void LeastRecentlyUsedGoFirst() {
  Cache cache;
  int builds = 0;
  for (int64_t i = 0; i < 4; ++i) Get(cache, {i}, std::to_string(i), &builds);
  const auto kept = Get(cache, {0}, "", &builds);
  const std::weak_ptr<const std::string> oldest = cache.Find(1, Words{1});
  EXPECT(!oldest.expired());
  for (int64_t i : {0, 2, 3}) EXPECT(cache.Find(1, Words{i}) != nullptr);
  Get(cache, {4}, "4", &builds);
  EXPECT(builds == 5);
  EXPECT(cache.size() == 4);
  EXPECT(oldest.expired());
  EXPECT(cache.Find(1, Words{1}) == nullptr);
  EXPECT(cache.Find(1, Words{0}) == kept);
}

void ThreadsOfOneSignatureBuildOnce() {
  Cache cache;
  std::atomic<int> builds = 0;
  RunThreads(8, [&](int) {
    const auto value = cache.GetOrBuild(1, Words{7}, kCapacity, [&] {
      ++builds;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      return Make("once");
    });
    EXPECT(*value == "once");
  });
  EXPECT(builds == 1);
}

void SignaturesBuildAtOnce() {
  Cache cache;
  std::atomic<int> inside = 0;
  RunThreads(2, [&](int i) {
    cache.GetOrBuild(1, Words{i}, kCapacity, [&] {
      ++inside;
      while (inside < 2) std::this_thread::yield();  // hangs if one waits for the other
      return Make("");
    });
  });
}

void ReentryIsTold() {
  Cache cache, other;
  const auto value = cache.GetOrBuild(1, Words{1}, kCapacity, [&] {
    const auto never = [] { return Make("never"); };
    EXPECT(cache.GetOrBuild(1, Words{1}, kCapacity, never) == nullptr);
    EXPECT(cache.GetOrBuild(1, Words{2}, kCapacity, never) == nullptr);
    EXPECT(other.GetOrBuild(1, Words{1}, kCapacity, never) == nullptr);
    return Make("outer");
  });
  EXPECT(*value == "outer");
  EXPECT(cache.size() == 1);
}

void ThrowingBuildIsForgotten() {
  Cache cache;
  std::atomic<int> attempts = 0, thrown = 0;
  RunThreads(4, [&](int) {
    try {
      const auto value = cache.GetOrBuild(1, Words{1}, kCapacity, [&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        if (++attempts == 1) throw std::runtime_error("first");
        return Make("second");
      });
      EXPECT(*value == "second");
    } catch (const std::runtime_error&) {
      ++thrown;
    }
  });
  EXPECT(thrown == 1);
  EXPECT(attempts == 2);
}

void ClearDropsAlsoWhatIsBeingBuilt() {
  Cache cache;
  int builds = 0;
  Get(cache, {1}, "old", &builds);
  const auto value = cache.GetOrBuild(1, Words{2}, kCapacity, [&] {
    cache.Clear();
    return Make("built");
  });
  EXPECT(*value == "built");
  EXPECT(cache.size() == 0);
  EXPECT(*Get(cache, {1}, "new", &builds) == "new");
}

void ThreadsMixEverything() {
  Cache cache;
  RunThreads(4, [&](int thread) {
    for (int64_t i = 0; i < 2000; ++i) {
      const int64_t word = (i * 7 + thread) % 9;
      const auto value =
          cache.GetOrBuild(1, Words{word}, kCapacity, [&] { return Make(std::to_string(word)); });
      EXPECT(*value == std::to_string(word));
      if (i % 500 == 0) cache.Clear();
    }
  });
  EXPECT(cache.size() <= kCapacity);
}

}  // namespace

int main() {
  BuildsOnceAndFinds();
  LeastRecentlyUsedGoFirst();
  ThreadsOfOneSignatureBuildOnce();
  SignaturesBuildAtOnce();
  ReentryIsTold();
  ThrowingBuildIsForgotten();
  ClearDropsAlsoWhatIsBeingBuilt();
  ThreadsMixEverything();
  std::puts("ok");
}
