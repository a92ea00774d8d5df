// Converters of orthogonal polynomials, by their recurrences.
#include <functional>

#include "convert/term.h"

namespace torch_tvm::convert {
namespace {

// A family: the argument that its recurrence takes, the polynomial of degree 1, and the one of
// degree k from the two before it.
struct Family {
  std::function<Term(const Term& x)> argument;
  std::function<Term(const Term& x)> first;
  std::function<Term(const Term& x, const Term& last, const Term& before, double k)> next;
};

// Degrees up to which recurrences are unrolled where the degree is a tensor.
constexpr int64_t kMostDegrees = 16;
// And where it is known.
constexpr int64_t kMostKnownDegrees = 64;

// The polynomial of each element's degree, 0 for negative ones.
Term ValueAt(const Family& family, const Term& given, const Term& degree, int64_t most) {
  const Term x = family.argument(given);
  Term before = x.Of(1), last = family.first(x);
  Term value = Where(degree == 1, last, (degree == 0).As(x.dtype));
  for (int64_t k = 2; k <= most; ++k) {
    const Term next = family.next(x, last, before, static_cast<double>(k));
    before = last;
    last = next;
    value = Where(degree == k, last, value);
  }
  return value;
}

Converter Polynomial(const Family& family) {
  return [family](Context& ctx) -> Results {
    const bool known = !ctx.Value("n").isTensor();
    const int64_t most = known ? ctx.Scalar("n").toLong() : kMostDegrees;
    if (known && most > kMostKnownDegrees) {
      ctx.Refuse("n=" + std::to_string(most) + "; at most " + std::to_string(kMostKnownDegrees) +
                 " is converted");
    }
    const Term x = Lift(ctx, "x"), n = Lift(ctx, "n");
    const Term degree = Apply("trunc", Where(IsNan(n), -1, n));
    if (!known) ctx.RefuseIf((degree > kMostDegrees).expr, "a degree above 16");
    const Term value = ValueAt(family, x, degree, most);
    if (x.dtype == ScalarType::Double) return Settle(value);
    // Near a zero most digits cancel out: float64 keeps float32's. Where float32 overflows, what
    // PyTorch's recurrence gives is what float32's gives.
    const Term exact = ValueAt(family, x.As(ScalarType::Double), degree, most).As(x.dtype);
    return Settle(Where(Test("isfinite", value), exact, value));
  };
}

Term Same(const Term& x) { return x; }
Term Twice(const Term& x) { return x + x; }
// Also the argument that moves [0, 1] to [-1, 1].
Term TwiceLessOne(const Term& x) { return x + x - 1; }
Term TwiceMoreOne(const Term& x) { return x + x + 1; }
Term OneLess(const Term& x) { return 1 - x; }

Term Chebyshev(const Term& x, const Term& last, const Term& before, double) {
  return (x + x) * last - before;
}
Term Physicists(const Term& x, const Term& last, const Term& before, double k) {
  return (x + x) * last - before * (2 * (k - 1));
}
Term Probabilists(const Term& x, const Term& last, const Term& before, double k) {
  return x * last - before * (k - 1);
}
Term Laguerre(const Term& x, const Term& last, const Term& before, double k) {
  return (((1 - x) + 2 * (k - 1)) * last - before * (k - 1)) / k;
}
Term Legendre(const Term& x, const Term& last, const Term& before, double k) {
  return (x * (2 * k - 1) * last - before * (k - 1)) / k;
}

const Converter kChebyshevT = Polynomial({Same, Same, Chebyshev});
const Converter kChebyshevU = Polynomial({Same, Twice, Chebyshev});
const Converter kChebyshevV = Polynomial({Same, TwiceLessOne, Chebyshev});
const Converter kChebyshevW = Polynomial({Same, TwiceMoreOne, Chebyshev});
const Converter kShiftedT = Polynomial({TwiceLessOne, Same, Chebyshev});
const Converter kShiftedU = Polynomial({TwiceLessOne, Twice, Chebyshev});
const Converter kShiftedV = Polynomial({TwiceLessOne, TwiceLessOne, Chebyshev});
const Converter kShiftedW = Polynomial({TwiceLessOne, TwiceMoreOne, Chebyshev});
const Converter kHermiteH = Polynomial({Same, Twice, Physicists});
const Converter kHermiteHe = Polynomial({Same, Same, Probabilists});
const Converter kLaguerreL = Polynomial({Same, OneLess, Laguerre});
const Converter kLegendreP = Polynomial({Same, Same, Legendre});

const Registrar kPolynomial({
    {"aten::special_chebyshev_polynomial_t", kChebyshevT},
    {"aten::special_chebyshev_polynomial_t.n_scalar", kChebyshevT},
    {"aten::special_chebyshev_polynomial_u", kChebyshevU},
    {"aten::special_chebyshev_polynomial_u.n_scalar", kChebyshevU},
    {"aten::special_chebyshev_polynomial_v", kChebyshevV},
    {"aten::special_chebyshev_polynomial_v.n_scalar", kChebyshevV},
    {"aten::special_chebyshev_polynomial_w", kChebyshevW},
    {"aten::special_chebyshev_polynomial_w.n_scalar", kChebyshevW},
    {"aten::special_shifted_chebyshev_polynomial_t", kShiftedT},
    {"aten::special_shifted_chebyshev_polynomial_t.n_scalar", kShiftedT},
    {"aten::special_shifted_chebyshev_polynomial_u", kShiftedU},
    {"aten::special_shifted_chebyshev_polynomial_u.n_scalar", kShiftedU},
    {"aten::special_shifted_chebyshev_polynomial_v", kShiftedV},
    {"aten::special_shifted_chebyshev_polynomial_v.n_scalar", kShiftedV},
    {"aten::special_shifted_chebyshev_polynomial_w", kShiftedW},
    {"aten::special_shifted_chebyshev_polynomial_w.n_scalar", kShiftedW},
    {"aten::special_hermite_polynomial_h", kHermiteH},
    {"aten::special_hermite_polynomial_h.n_scalar", kHermiteH},
    {"aten::special_hermite_polynomial_he", kHermiteHe},
    {"aten::special_hermite_polynomial_he.n_scalar", kHermiteHe},
    {"aten::special_laguerre_polynomial_l", kLaguerreL},
    {"aten::special_laguerre_polynomial_l.n_scalar", kLaguerreL},
    {"aten::special_legendre_polynomial_p", kLegendreP},
    {"aten::special_legendre_polynomial_p.n_scalar", kLegendreP},
});

}  // namespace
}  // namespace torch_tvm::convert
