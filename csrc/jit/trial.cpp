#include "jit/trial.h"

namespace torch_tvm::jit {
namespace {

// A trial is over after ten rounds; after three if they took long enough for one interruption not
// to spoil all of them, and are clear. So a plan costs its user at most ten runs of the
// interpreter, and three where one takes longer than 17 ms.
constexpr Trial::Nanoseconds kLong = 50'000'000;
constexpr double kClearlyFaster = 1.15;
// To drop a good plan costs more than some more rounds: on a shared machine whose speed changes by
// 1.5 within seconds, three rounds made BERT's plan look slower that was 1.4 times as fast.
constexpr double kClearlySlower = 1.5;

double Ratio(const Trial::Round& round) {
  return static_cast<double>(round.interpreter) / static_cast<double>(round.plan);
}

}  // namespace

bool Trial::Begin() {
  State seen = state_.load(std::memory_order_relaxed);
  if (seen == State::kNew) state_.compare_exchange_strong(seen, State::kOpen);
  if (seen != State::kOpen) return false;
  State open = State::kOpen;
  return state_.compare_exchange_strong(open, State::kBusy, std::memory_order_acquire);
}

bool Trial::Finish(const Round& round, Nanoseconds spent) {
  rounds_.push_back({std::max<Nanoseconds>(round.plan, 1), round.interpreter});
  std::sort(rounds_.begin(), rounds_.end(),
            [](const Round& a, const Round& b) { return Ratio(a) < Ratio(b); });
  spent_ += spent;
  const Round typical = Typical();
  const bool clear = Ratio(typical) >= kClearlyFaster || Ratio(rounds_.back()) * kClearlySlower < 1;
  const bool over =
      rounds_.size() >= kMostRounds || (rounds_.size() >= kFewRounds && spent_ >= kLong && clear);
  state_.store(over ? State::kOver : State::kOpen, std::memory_order_release);
  return over;
}

Trial::Round Trial::Typical() const {
  const size_t odd = (rounds_.size() - 1) / 3;
  const size_t count = rounds_.size() - 2 * odd;
  Round sum;
  for (size_t i = odd; i < odd + count; ++i) {
    sum.plan += rounds_[i].plan;
    sum.interpreter += rounds_[i].interpreter;
  }
  const auto divisor = static_cast<Nanoseconds>(count);
  return {sum.plan / divisor, sum.interpreter / divisor};
}

}  // namespace torch_tvm::jit
