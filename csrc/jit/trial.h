// "Never slower": the first calls of a plan are timed against PyTorch's interpreter, so that the
// slower of the two can be dropped.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <vector>

namespace torch_tvm::jit {

// One plan's trial. A round is one call that runs both; rounds of two threads never overlap.
class Trial {
 public:
  using Nanoseconds = int64_t;

  // What the two took one right after the other, so that a machine whose speed changes treats both
  // alike. Rounds of a plan for many sizes may have one each.
  struct Round {
    Nanoseconds plan = 0;
    Nanoseconds interpreter = 0;
  };

  // Whether the caller runs a round; if so it must end it, by Abandon() or Finish(). Not at the
  // first call, which has compiled and packed: sizes that come once are not run twice as well.
  bool Begin();

  bool is_first_round() const { return rounds_.empty(); }

  // Ends the trial: the plan stays.
  void Abandon() { state_.store(State::kOver, std::memory_order_release); }

  // Ends the round. Whether it was the last one.
  bool Finish(const Round& round, Nanoseconds spent);

  // The mean of the middle third of the rounds, in the order of how much faster the plan was: an
  // interruption spoils rounds at the ends. It decides.
  Round Typical() const;

  bool plan_is_slower() const { return Typical().interpreter < Typical().plan; }

 private:
  enum class State : uint8_t { kNew, kOpen, kBusy, kOver };

  static constexpr size_t kFewRounds = 3;
  static constexpr size_t kMostRounds = 10;

  std::atomic<State> state_{State::kNew};
  Nanoseconds spent_ = 0;
  std::vector<Round> rounds_;  // in the order of interpreter / plan
};

// Nanoseconds that a call of `function` takes.
template <typename Function>
Trial::Nanoseconds Timed(Function&& function) {
  const auto start = std::chrono::steady_clock::now();
  function();
  const auto spent = std::chrono::steady_clock::now() - start;
  return std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count();
}

}  // namespace torch_tvm::jit
