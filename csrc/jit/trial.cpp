#include "jit/trial.h"

namespace torch_tvm::jit {
namespace {

// A trial is over after ten rounds; after three if they took long enough for one interruption not
// to spoil all of them, and the times are far apart. So a plan costs its user at most ten runs of
// the interpreter, and three where one takes longer than 17 ms.
constexpr int kFewRounds = 3;
constexpr int kManyRounds = 10;
constexpr Trial::Nanoseconds kLong = 50'000'000;
constexpr double kFarApart = 1.15;

}  // namespace

bool Trial::Begin() {
  if (state_.load(std::memory_order_relaxed) != State::kOpen) return false;
  State open = State::kOpen;
  return state_.compare_exchange_strong(open, State::kBusy, std::memory_order_acquire);
}

void Trial::EndRound(Nanoseconds* total, Nanoseconds* round) const {
  const bool first = rounds_ == 0;
  *total = kind_ == Kind::kSum ? *total + *round : first ? *round : std::min(*total, *round);
  *round = kNever;
}

bool Trial::Finish(Nanoseconds spent) {
  EndRound(&plan_, &round_plan_);
  EndRound(&interpreter_, &round_interpreter_);
  ++rounds_;
  spent_ += spent;
  const auto low = static_cast<double>(std::min(plan_, interpreter_));
  const auto high = static_cast<double>(std::max(plan_, interpreter_));
  const bool clear = rounds_ >= kFewRounds && spent_ >= kLong && high >= kFarApart * low;
  const bool over = clear || rounds_ >= kManyRounds;
  state_.store(over ? State::kOver : State::kOpen, std::memory_order_release);
  return over;
}

}  // namespace torch_tvm::jit
