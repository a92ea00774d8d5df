// Converters of the logarithm of Gamma, its derivatives and Hurwitz' zeta function, for which Relay
// has no operators: recurrences lead to arguments that are large enough for the asymptotic series
// (Abramowitz and Stegun 6.1.41, 6.3.18 and 23.2, with Euler and Maclaurin's rest). In float64
// throughout, so that float32 results are exact to the last bit or two.
#include <array>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <numbers>
#include <string>

#include "convert/term.h"

namespace torch_tvm::convert {
namespace {

constexpr ScalarType kDouble = ScalarType::Double;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kPi = std::numbers::pi;

// c0 + x * (c1 + x * ...).
Term Series(const Term& x, std::initializer_list<double> coefficients) {
  const double* next = std::end(coefficients);
  Term value = x.Of(*--next);
  while (next != std::begin(coefficients)) value = value * x + *--next;
  return value;
}

// How far it is to the nearest integer: sines and tangents of pi * x are those of pi * this.
Term BesideInteger(const Term& x) { return x - Apply("round", x); }

// For x >= 0.5. The next term of the series is below 1e-15 from 8 on.
Term LogGammaOfPositive(const Term& x) {
  constexpr int kShift = 8;
  const Term base = Min(x, x.Of(kShift));
  Term product = base;
  for (int k = 1; k < kShift; ++k) product = product * (base + k);
  const Term small = x < kShift;
  const Term y = Where(small, x + kShift, x);
  const Term inverse = 1 / y;
  const Term rest =
      inverse * Series(inverse * inverse, {1.0 / 12, -1.0 / 360, 1.0 / 1260, -1.0 / 1680,
                                           1.0 / 1188, -691.0 / 360360, 1.0 / 156});
  const Term large = (y - 0.5) * (Log(y) - 1) + (0.5 * std::log(2 * kPi) - 0.5) + rest;
  return large - Log(Where(small, product, 1));
}

// log |Gamma(x)|, by reflection below 0.5.
Term LogGamma(const Term& x) {
  const Term mirrored = x < 0.5;
  const Term positive = LogGammaOfPositive(Where(mirrored, 1 - x, x));
  const Term sine = Abs(Apply("sin", BesideInteger(x) * kPi));
  const Term value = Where(mirrored, std::log(kPi) - Log(sine) - positive, positive);
  return Where(Test("isinf", x), kInfinity, value);
}

// The derivative of log Gamma; the next term of the series is below 1e-15 from 10 on.
Term Digamma(const Term& x) {
  constexpr int kShift = 10;
  const Term mirrored = x < 0;
  const Term positive = Where(mirrored, 1 - x, x);
  Term sum = 1 / positive;
  for (int k = 1; k < kShift; ++k) sum = sum + 1 / (positive + k);
  const Term y = positive + kShift;
  const Term inverse = 1 / y;
  const Term rest = inverse * inverse *
                    Series(inverse * inverse, {1.0 / 12, -1.0 / 120, 1.0 / 252, -1.0 / 240,
                                               1.0 / 132, -691.0 / 32760, 1.0 / 12});
  const Term value = Log(y) - inverse * 0.5 - rest - sum;
  const Term beside = BesideInteger(x);
  const Term reflected = value - kPi / Apply("tan", beside * kPi);
  const Term below = Where(beside == 0, std::numeric_limits<double>::quiet_NaN(), reflected);
  return Where(x == 0, CopySign(x.Of(kInfinity), -x), Where(mirrored, below, value));
}

// The sum of (a + k)^-s over k = 0, 1, ..., for a >= 10; `power` is a^-s. `Order` is double or
// Term.
template <typename Order>
Term RestOfZeta(const Term& a, const Term& power, const Order& s) {
  // Bernoulli's numbers B_2j / (2j)!.
  constexpr std::array kCoefficients = {1.0 / 12,          -1.0 / 720,
                                        1.0 / 30240,       -1.0 / 1209600,
                                        1.0 / 47900160,    -691.0 / 1307674368000,
                                        1.0 / 74724249600, -3617.0 / 10670622842880000};
  Term sum = a / (s - 1.0) + 0.5;
  Term factor = s / a;
  for (size_t j = 0; j < kCoefficients.size(); ++j) {
    sum = sum + factor * kCoefficients[j];
    const double next = 2.0 * static_cast<double>(j);
    factor = factor * ((s + (next + 1)) * (s + (next + 2))) / (a * a);
  }
  return power * sum;
}

// x^n for n > 0.
Term Power(const Term& x, int64_t n) {
  if (n == 1) return x;
  const Term half = Power(x, n / 2);
  return n % 2 == 0 ? half * half : half * half * x;
}

// Terms of the sum that are added before the rest, which begins at 10 at least.
constexpr int kTerms = 24;
constexpr int kLeast = 10 - kTerms;

// The n-th derivative of Digamma, n > 0: (-1)^(n + 1) n! times the sum of (x + k)^-(n + 1).
Term Polygamma(Context& ctx, const Term& x, int64_t n) {
  ctx.RefuseIf(((x < kLeast) | Test("isinf", x)).expr,
               "an argument that is infinite or below " + std::to_string(kLeast));
  const Term pole = (x <= 0) & (BesideInteger(x) == 0);
  // PyTorch's sine of a multiple of pi is what rounding left of it.
  if (n == 1) ctx.RefuseIf((pole & (x < 0)).expr, "a pole of n=1");
  const int64_t order = n + 1;
  Term sum = Power(1 / x, order);
  for (int k = 1; k < kTerms; ++k) sum = sum + Power(1 / (x + k), order);
  const Term a = x + kTerms;
  sum = sum + RestOfZeta(a, Power(1 / a, order), static_cast<double>(order));
  const double sign = n % 2 == 0 ? -1 : 1;
  return Where(pole, sign * kInfinity, sum * (sign * std::tgamma(static_cast<double>(order))));
}

Term Wide(const Context& ctx, const char* name) { return Lift(ctx, name).As(kDouble); }

Results Settled(const Context& ctx, const Term& value) {
  return Settle(value.As(MathType(ctx.Result().dtype)));
}

Results LogGammaOf(Context& ctx) { return Settled(ctx, LogGamma(Wide(ctx, "self"))); }

Results DigammaOf(Context& ctx) { return Settled(ctx, Digamma(Wide(ctx, "self"))); }

Results PolygammaOf(Context& ctx) {
  constexpr int64_t kMost = 20;
  const int64_t n = ctx.Int("n");
  if (n > kMost) {
    ctx.Refuse("n=" + std::to_string(n) + "; at most " + std::to_string(kMost) + " is converted");
  }
  const Term x = Wide(ctx, "self");
  return Settled(ctx, n == 0 ? Digamma(x) : Polygamma(ctx, x, n));
}

// log of p(p-1)/4 factors of pi, and of Gamma at x, x - 1/2, ...
Results MultivariateLogGamma(Context& ctx) {
  constexpr int64_t kMost = 32;
  const int64_t p = ctx.Int("p");
  if (p > kMost) {
    ctx.Refuse("p=" + std::to_string(p) + "; at most " + std::to_string(kMost) + " is converted");
  }
  // Rounded where eager PyTorch rounds: beside poles the last bit of an argument counts.
  const ScalarType dtype = ctx.Result().dtype;
  const Term x = Lift(ctx, "self");
  const auto log_gamma = [&](const Term& argument) {
    const Term exact = LogGamma(argument.Rounded(dtype).As(kDouble));
    return exact.As(x.dtype).Rounded(dtype).As(kDouble);
  };
  Term sum = log_gamma(x);
  for (int64_t j = 1; j < p; ++j) sum = sum + log_gamma(x - 0.5 * static_cast<double>(j));
  const Term rounded = sum.As(x.dtype).Rounded(dtype);
  return Settle(rounded + static_cast<double>(p * (p - 1)) * 0.25 * std::log(kPi));
}

// The sum of (q + k)^-s over k = 0, 1, ...
Results Zeta(Context& ctx) {
  const Term s = Wide(ctx, "self"), q = Wide(ctx, "other");
  const auto is_integer = [](const Term& x) { return Apply("floor", x) == x; };
  const Term defined = (s > 1) & ((q > 0) | is_integer(s));
  ctx.RefuseIf((Test("isinf", s) | Test("isinf", q) | (defined & (q < kLeast))).expr,
               "an argument that is infinite, or other below " + std::to_string(kLeast));
  const Term exponent = -s;
  const Term odd = !is_integer(s * 0.5);
  const auto term = [&](const Term& x) {
    const Term size = Apply("power", Abs(x), exponent);
    return Where((x < 0) & odd, -size, size);
  };
  Term sum = term(q);
  for (int k = 1; k < kTerms; ++k) sum = sum + term(q + k);
  const Term a = q + kTerms;
  sum = sum + RestOfZeta(a, Apply("power", Abs(a), exponent), s);
  const Term of_negative = Where(is_integer(s), sum, std::numeric_limits<double>::quiet_NaN());
  const Term value = Where(q <= 0, Where(is_integer(q), kInfinity, of_negative), sum);
  const Term below = Where(s < 1, std::numeric_limits<double>::quiet_NaN(), value);
  return Settled(ctx, Where(s == 1, kInfinity, below));
}

const Registrar kGamma({
    {"aten::lgamma", LogGammaOf},
    {"aten::special_gammaln", LogGammaOf},
    {"aten::digamma", DigammaOf},
    {"aten::special_digamma", DigammaOf},
    {"aten::special_psi", DigammaOf},
    {"aten::polygamma", PolygammaOf},
    {"aten::special_polygamma", PolygammaOf},
    {"aten::mvlgamma", MultivariateLogGamma},
    {"aten::special_multigammaln", MultivariateLogGamma},
    {"aten::special_zeta", Zeta},
    {"aten::special_zeta.other_scalar", Zeta},
    {"aten::special_zeta.self_scalar", Zeta},
});

}  // namespace
}  // namespace torch_tvm::convert
