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

  // Whether the caller runs a round; if so it must end it, by Abandon() or Finish().
  bool Begin();

  bool is_first_round() const { return rounds_ == 0; }

  void AddPlanTime(Nanoseconds time) { plan_ = std::min(plan_, time); }
  void AddInterpreterTime(Nanoseconds time) { interpreter_ = std::min(interpreter_, time); }

  // Ends the trial: the plan stays.
  void Abandon() { state_.store(State::kOver, std::memory_order_release); }

  // Ends the round. Whether it was the last one: the fastest times of both decide.
  bool Finish(Nanoseconds spent);

  Nanoseconds plan() const { return plan_; }
  Nanoseconds interpreter() const { return interpreter_; }
  bool plan_is_slower() const { return interpreter_ < plan_; }

 private:
  enum class State : uint8_t { kOpen, kBusy, kOver };

  std::atomic<State> state_{State::kOpen};
  int rounds_ = 0;
  Nanoseconds spent_ = 0;
  Nanoseconds plan_ = std::numeric_limits<Nanoseconds>::max();
  Nanoseconds interpreter_ = std::numeric_limits<Nanoseconds>::max();
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
