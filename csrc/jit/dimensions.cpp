#include <algorithm>
#include <array>
#include <set>

#include "jit/symbolic.h"

namespace torch_tvm::jit {
namespace {

// Beside the values of a call. Two numbers are determined by two examples, the others can
// contradict.
constexpr std::array<double, 4> kParts = {0.95, 0.6, 0.35, 0.8};
constexpr int64_t kSmallestPrime = 5;
// The largest values of a dimension below which examples may be larger than what was seen.
constexpr int64_t kSmall = 24;

bool IsPrime(int64_t number) {
  for (int64_t divisor = 2; divisor * divisor <= number; ++divisor) {
    if (number % divisor == 0) return false;
  }
  return number > 1;
}

// Two sizes that strides of 2 to 32 round in ways of their own: they leave one element, and none.
constexpr int64_t kStrides = 32;

// A prime number near `about`, preferably below it, that is not among `used`.
int64_t PrimeNear(int64_t about, const std::set<int64_t>& used) {
  for (int64_t number = about; number >= kSmallestPrime; --number) {
    if (IsPrime(number) && used.count(number) == 0) return number;
  }
  int64_t number = std::max(about, kSmallestPrime);
  while (!IsPrime(number) || used.count(number) != 0) ++number;
  return number;
}

}  // namespace

Dimensions::Dimensions(const std::vector<Sizes>& seen) {
  const Sizes& first = seen.front();
  for (size_t i = 0; i < first.size(); ++i) {
    const auto follows = [&](int64_t origin) {
      return std::all_of(seen.begin(), seen.end(), [&](const Sizes& sizes) {
        return sizes[i] - sizes[origin] == first[i] - first[origin];
      });
    };
    if (std::all_of(seen.begin(), seen.end(),
                    [&](const Sizes& sizes) { return sizes[i] == first[i]; })) {
      rules_.push_back({-1, first[i]});
      continue;
    }
    const auto found = std::find_if(origins_.begin(), origins_.end(), follows);
    const int64_t dim = found - origins_.begin();
    if (found == origins_.end()) origins_.push_back(static_cast<int64_t>(i));
    // The smallest one is the value, so that bounds of it bound all others.
    if (first[i] < first[origins_[dim]]) origins_[dim] = static_cast<int64_t>(i);
    rules_.push_back({dim, first[i]});
  }
  for (Rule& rule : rules_) {
    if (rule.dim >= 0) rule.offset -= first[origins_[rule.dim]];
  }
}

std::optional<std::vector<int64_t>> Dimensions::ValuesOf(const Sizes& sizes) const {
  if (sizes.size() != rules_.size()) return std::nullopt;
  std::vector<int64_t> values;
  for (const int64_t origin : origins_) values.push_back(sizes[origin]);
  if (SizesAt(values) != sizes) return std::nullopt;
  return values;
}

Sizes Dimensions::SizesAt(const std::vector<int64_t>& values) const {
  Sizes sizes;
  for (const Rule& rule : rules_) {
    sizes.push_back(rule.offset + (rule.dim < 0 ? 0 : values[rule.dim]));
  }
  return sizes;
}

std::vector<std::vector<int64_t>> Dimensions::Examples(const std::vector<Sizes>& seen) const {
  std::vector<std::vector<int64_t>> called;
  for (const Sizes& sizes : seen) {
    if (auto values = ValuesOf(sizes)) called.push_back(std::move(*values));
  }
  const auto volume = [](const std::vector<int64_t>& values) {
    double product = 1;
    for (const int64_t value : values) product *= static_cast<double>(value);
    return product;
  };
  std::sort(called.begin(), called.end(),
            [&](const auto& a, const auto& b) { return volume(a) < volume(b); });
  std::vector<std::vector<int64_t>> examples = {called[called.size() / 2]};
  std::set<int64_t> used;
  for (const double part : kParts) {
    std::vector<int64_t> values;
    for (int64_t dim = 0; dim < count(); ++dim) {
      int64_t largest = kSmall;
      for (const auto& each : called) largest = std::max(largest, each[dim]);
      const auto about = static_cast<int64_t>(part * static_cast<double>(largest));
      const int64_t left = part == kParts.front() ? 1 : 0;
      const int64_t special = (about - left) / kStrides * kStrides + left;
      const bool taken = (left == 1 || part == kParts.back()) && special > kStrides;
      values.push_back(taken && used.count(special) == 0 ? special : PrimeNear(about, used));
      used.insert(values.back());
    }
    examples.push_back(std::move(values));
  }
  return examples;
}

}  // namespace torch_tvm::jit
