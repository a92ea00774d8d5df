// "Never slower": the first calls of a plan are timed against PyTorch's interpreter, so that the
// slower of the two can be dropped.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>

namespace torch_tvm::jit {

// One plan's trial. A round is one call that runs both; rounds of two threads never overlap.
class Trial {
 public:
  using Nanoseconds = int64_t;

  // What counts: the fastest run of any round, or, where each round may have other sizes, the sum
  // of the fastest ones of each.
  enum class Kind : uint8_t { kFastest, kSum };

  explicit Trial(Kind kind = Kind::kFastest) : kind_(kind) {}

  // Whether the caller runs a round; if so it must end it, by Abandon() or Finish().
  bool Begin();

  bool is_first_round() const { return rounds_ == 0; }

  void AddPlanTime(Nanoseconds time) { round_plan_ = std::min(round_plan_, time); }
  void AddInterpreterTime(Nanoseconds time) {
    round_interpreter_ = std::min(round_interpreter_, time);
  }

  // Ends the trial: the plan stays.
  void Abandon() { state_.store(State::kOver, std::memory_order_release); }

  // Ends the round. Whether it was the last one: the fastest times of both decide.
  bool Finish(Nanoseconds spent);

  Nanoseconds plan() const { return plan_; }
  Nanoseconds interpreter() const { return interpreter_; }
  bool plan_is_slower() const { return interpreter_ < plan_; }

 private:
  enum class State : uint8_t { kOpen, kBusy, kOver };

  static constexpr Nanoseconds kNever = std::numeric_limits<Nanoseconds>::max();

  void EndRound(Nanoseconds* total, Nanoseconds* round) const;

  const Kind kind_;
  std::atomic<State> state_{State::kOpen};
  int rounds_ = 0;
  Nanoseconds spent_ = 0;
  Nanoseconds plan_ = 0, interpreter_ = 0;
  Nanoseconds round_plan_ = kNever, round_interpreter_ = kNever;
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
