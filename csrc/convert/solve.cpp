// Converters of substitution in triangular matrices and of products with Householder reflections,
// of Cholesky's factorisation, unrolled: Relay has none. Other decompositions have no converters.
#include <ATen/ATen.h>

#include <algorithm>

#include "convert/indices.h"
#include "convert/term.h"

namespace torch_tvm::convert {
namespace {

// Steps that are unrolled at most.
constexpr int64_t kMostSteps = 32;

// A batch of matrices, of sizes (batch, rows, columns).
struct Matrices {
  Term values;
  int64_t batch, rows, columns;

  const Context& ctx() const { return *values.ctx; }
  Matrices With(const Term& other, int64_t height, int64_t width) const {
    return {other, batch, height, width};
  }
  Matrices Transposed() const {
    return With({ctx(), ctx().Transpose(values.expr, {0, 2, 1}), values.dtype}, columns, rows);
  }
  // Parts [first, end) of the rows, and of the columns.
  Term Rows(int64_t first, int64_t end) const {
    if (first == 0 && end == rows) return values;
    return {ctx(), ctx().Slice(values.expr, 1, first, end), values.dtype};
  }
  Matrices Column(int64_t column) const {
    const Expr part = columns == 1 ? values.expr : ctx().Slice(values.expr, 2, column, column + 1);
    return With({ctx(), part, values.dtype}, rows, 1);
  }
};

Sizes LeadingOf(const Sizes& sizes) { return {sizes.begin(), sizes.end() - 2}; }

// An operand as matrices whose leading dimensions are broadcast to `leading`.
Matrices MatricesOf(const Context& ctx, const char* name, const Sizes& leading) {
  const Operand operand = ctx.Tensor(name);
  const ScalarType dtype = operand.dtype();
  if (dtype != ScalarType::Float && dtype != ScalarType::Double) {
    ctx.Refuse(std::string(name) + " holds " + c10::toString(dtype) +
               "; float32 and float64 are converted");
  }
  const Sizes& sizes = operand.sizes();
  const int64_t rows = sizes.at(sizes.size() - 2), columns = sizes.back();
  Sizes whole = leading;
  whole.insert(whole.end(), {rows, columns});
  const Expr wide = ctx.BroadcastTo(operand.expr, sizes, whole);
  const int64_t batch = Product(leading);
  return {Term(ctx, ctx.Reshape(wide, whole, {batch, rows, columns}), dtype), batch, rows, columns};
}

Expr Shaped(const Matrices& matrices, const Sizes& sizes) {
  return matrices.ctx().Reshape(matrices.values.expr,
                                {matrices.batch, matrices.rows, matrices.columns}, sizes);
}

void RequireFewSteps(const Context& ctx, int64_t steps) {
  if (steps > kMostSteps) {
    ctx.Refuse("matrices of " + std::to_string(steps) + " rows; at most " +
               std::to_string(kMostSteps) + " steps are unrolled");
  }
}

// X of A X = B for a triangular A: each row that is solved is taken out of those that are left.
Matrices Substituted(const Matrices& a, const Matrices& b, bool upper, bool unit) {
  const Context& ctx = a.ctx();
  RequireFewSteps(ctx, a.rows);
  std::vector<Expr> solved;
  Matrices left = b;
  for (int64_t step = 0; step < a.rows; ++step) {
    const int64_t row = upper ? a.rows - 1 - step : step;
    const int64_t own = upper ? left.rows - 1 : 0;
    const Matrices column = a.Column(row);
    Term x = left.Rows(own, own + 1);
    if (!unit) x = x / column.Rows(row, row + 1);
    solved.push_back(x.expr);
    if (left.rows == 1) break;
    const Term rest = upper ? left.Rows(0, own) : left.Rows(1, left.rows);
    const Term factors = upper ? column.Rows(0, row) : column.Rows(row + 1, a.rows);
    left = left.With(rest - factors * x, left.rows - 1, left.columns);
  }
  if (upper) std::reverse(solved.begin(), solved.end());
  return b.With({ctx, ctx.Concatenate(solved, 1), b.values.dtype}, b.rows, b.columns);
}

Results SolveTriangular(Context& ctx) {
  const Sizes& sizes = ctx.Result().sizes;
  Matrices a = MatricesOf(ctx, "self", LeadingOf(sizes));
  Matrices b = MatricesOf(ctx, "B", LeadingOf(sizes));
  const bool unit = ctx.Bool("unitriangular"), upper = ctx.Bool("upper");
  if (ctx.Bool("left")) return Shaped(Substituted(a, b, upper, unit), sizes);
  return Shaped(Substituted(a.Transposed(), b.Transposed(), !upper, unit).Transposed(), sizes);
}

// The older form, which gives the matrix too.
Results TriangularSolve(Context& ctx) {
  const Sizes& sizes = ctx.Result().sizes;
  Matrices a = MatricesOf(ctx, "A", LeadingOf(sizes));
  const Expr given = Shaped(a, ctx.Result(1).sizes);
  bool upper = ctx.Bool("upper");
  if (ctx.Bool("transpose")) {
    a = a.Transposed();
    upper = !upper;
  }
  const Matrices b = MatricesOf(ctx, "self", LeadingOf(sizes));
  const Matrices x = Substituted(a, b, upper, ctx.Bool("unitriangular"));
  return std::vector<Expr>{Shaped(x, sizes), given};
}

// Where the rows come from that a sequence of exchanges puts in order: row i is exchanged with row
// pivots[i], counted from 1, one after the other.
Expr RowsExchanged(Context& ctx, const char* name, const Sizes& leading, int64_t rows) {
  const ScalarType wide = ScalarType::Long;
  const Operand given = ctx.Tensor(name);
  Sizes whole = leading;
  whole.push_back(rows);
  RequireWithin(ctx, given, 1, rows + 1);
  const int64_t batch = Product(leading);
  const Expr spread = ctx.BroadcastTo(ctx.Cast(given, wide), given.sizes(), whole);
  const Operand pivots{ctx.Reshape(spread, whole, {batch, rows}), {wide, {batch, rows}, {}}};
  const Term numbers(ctx, ctx.Arange(rows), wide);
  Term order(ctx, ctx.BroadcastTo(numbers.expr, {rows}, {batch, rows}), wide);
  for (int64_t row = 0; row < rows; ++row) {
    const Expr column = rows == 1 ? pivots.expr : ctx.Slice(pivots.expr, 1, row, row + 1);
    const Term other = Term(ctx, column, wide) - 1;
    const Expr place = Within(ctx, {other.expr, {wide, {batch, 1}, {}}}, rows);
    const Term there(ctx, ctx.Call("gather", {order.expr, place}, {{"axis", 1}}), wide);
    const Term here(ctx, ctx.Slice(order.expr, 1, row, row + 1), wide);
    order = Where(numbers == row, there, Where(numbers == other, here, order));
  }
  return order.expr;
}

// A X = B for A = P L U, with P of row exchanges; or the transpose of A in place of A.
Matrices SolvedByFactors(Context& ctx, const Matrices& lu, const Expr& order, const Matrices& b,
                         bool transpose) {
  const Sizes flat = {b.batch, b.rows}, column = {b.batch, b.rows, 1};
  const Expr index =
      ctx.BroadcastTo(ctx.Reshape(order, flat, column), column, {b.batch, b.rows, b.columns});
  if (!transpose) {
    const Term moved(ctx, ctx.Call("gather", {b.values.expr, index}, {{"axis", 1}}),
                     b.values.dtype);
    const Matrices y = Substituted(lu, b.With(moved, b.rows, b.columns), false, true);
    return Substituted(lu, y, true, false);
  }
  const Matrices across = lu.Transposed();
  const Matrices y = Substituted(across, b, false, false);
  const Matrices z = Substituted(across, y, true, true);
  const Expr moved = ctx.Call("scatter_elements", {z.values.expr, index, z.values.expr},
                              {{"axis", 1}, {"reduction", "update"}});
  return z.With({ctx, moved, b.values.dtype}, b.rows, b.columns);
}

Converter SolveByFactors(const char* factors, const char* pivots, const char* right) {
  return [=](Context& ctx) -> Results {
    const Sizes& sizes = ctx.Result().sizes;
    const Sizes leading = LeadingOf(sizes);
    const Matrices lu = MatricesOf(ctx, factors, leading), b = MatricesOf(ctx, right, leading);
    RequireFewSteps(ctx, lu.rows);
    const Expr order = RowsExchanged(ctx, pivots, leading, lu.rows);
    const bool transpose = ctx.BoolOr("adjoint", false);
    if (ctx.BoolOr("left", true)) {
      return Shaped(SolvedByFactors(ctx, lu, order, b, transpose), sizes);
    }
    return Shaped(SolvedByFactors(ctx, lu, order, b.Transposed(), !transpose).Transposed(), sizes);
  };
}

// A X = B for A = L L^T, or U^T U.
Results CholeskySolve(Context& ctx) {
  const Sizes& sizes = ctx.Result().sizes;
  const Sizes leading = LeadingOf(sizes);
  Matrices lower = MatricesOf(ctx, "input2", leading);
  if (ctx.Bool("upper")) lower = lower.Transposed();
  const Matrices y = Substituted(lower, MatricesOf(ctx, "self", leading), false, false);
  return Shaped(Substituted(lower.Transposed(), y, true, false), sizes);
}

// L of A = L L^T, of which the lower triangle is read; column by column.
Matrices Factorised(Context& ctx, const Matrices& a) {
  RequireFewSteps(ctx, a.rows);
  std::vector<Expr> columns, pivots;
  Matrices left = a;
  for (int64_t step = 0; step < a.rows; ++step) {
    const Matrices first = left.Column(0);
    const Term pivot = first.Rows(0, 1);
    pivots.push_back(pivot.expr);
    const Matrices column = first.With(first.values / Sqrt(pivot), left.rows, 1);
    std::vector<Expr> parts = {column.values.expr};
    if (step > 0) parts.insert(parts.begin(), ctx.Full(0, {a.batch, step, 1}, a.values.dtype));
    columns.push_back(ctx.Concatenate(parts, 1));
    if (left.rows == 1) break;
    const Matrices below = column.With(column.Rows(1, left.rows), left.rows - 1, 1);
    const Term rest(ctx, ctx.Slice(left.Rows(1, left.rows).expr, 2, 1, left.rows), a.values.dtype);
    left = a.With(rest - below.values * below.Transposed().values, below.rows, below.rows);
  }
  const Term all_pivots(ctx, ctx.Concatenate(pivots, 2), a.values.dtype);
  const Term usable = (all_pivots > 0) & Test("isfinite", all_pivots);
  ctx.RefuseIf((!usable).expr, "a matrix that is not positive-definite");
  return a.With({ctx, ctx.Concatenate(columns, 2), a.values.dtype}, a.rows, a.columns);
}

Results Cholesky(Context& ctx) {
  const Sizes& sizes = ctx.Result().sizes;
  std::vector<Expr> results;
  if (Product(sizes) == 0) {
    results = {ctx.Call("zeros", {},
                        {{"shape", IntArray(sizes)}, {"dtype", DtypeName(ctx.Result().dtype)}})};
  } else {
    const char* name = ctx.node()->schema().arguments()[0].name().c_str();
    const Matrices a = MatricesOf(ctx, name, LeadingOf(sizes));
    const bool upper = ctx.Bool("upper");
    const Matrices lower = Factorised(ctx, upper ? a.Transposed() : a);
    results = {Shaped(upper ? lower.Transposed() : lower, sizes)};
  }
  // How far the factorisation came, where it failed; PyTorch runs what fails.
  if (ctx.NumResults() == 2) {
    results.push_back(ctx.Full(0, ctx.Result(1).sizes, ctx.Result(1).dtype));
  }
  return results;
}

Matrices IdentityLike(const Matrices& matrices) {
  const Context& ctx = matrices.ctx();
  const ScalarType dtype = matrices.values.dtype;
  const int64_t rows = matrices.rows, columns = matrices.columns;
  const Expr eye = CarriedConstant(at::eye(rows, columns, at::dtype(dtype)));
  const Expr whole = ctx.BroadcastTo(eye, {rows, columns}, {matrices.batch, rows, columns});
  return matrices.With({ctx, whole, dtype}, rows, columns);
}

// The inverse of L L^T, or of U^T U.
Results CholeskyInverse(Context& ctx) {
  const Sizes& sizes = ctx.Result().sizes;
  Matrices lower = MatricesOf(ctx, "self", LeadingOf(sizes));
  if (ctx.Bool("upper")) lower = lower.Transposed();
  const Matrices y = Substituted(lower, IdentityLike(lower), false, false);
  return Shaped(Substituted(lower.Transposed(), y, true, false), sizes);
}

// Q C, or Q^T C, for Q = H_1 H_2 ...: H_i = I - tau_i v v^T, v being 1 at row i, and the i-th
// column of the reflectors below.
Matrices Reflected(const Context& ctx, const Matrices& reflectors, const Expr& tau, int64_t count,
                   Matrices c, bool transpose) {
  RequireFewSteps(ctx, count);
  const ScalarType dtype = c.values.dtype;
  for (int64_t step = 0; step < count; ++step) {
    const int64_t i = transpose ? step : count - 1 - step;
    std::vector<Expr> parts;
    if (i > 0) parts.push_back(ctx.Full(0, {c.batch, i, 1}, dtype));
    parts.push_back(ctx.Full(1, {c.batch, 1, 1}, dtype));
    if (i + 1 < c.rows) parts.push_back(reflectors.Column(i).Rows(i + 1, c.rows).expr);
    const Term v(ctx, ctx.Concatenate(parts, 1), dtype);
    const Expr own = count == 1 ? tau : ctx.Slice(tau, 1, i, i + 1);
    const Term scale(ctx, ctx.Reshape(own, {c.batch, 1}, {c.batch, 1, 1}), dtype);
    const Term projected = Reduce("sum", v * c.values, {1}, true);
    c = c.With(c.values - scale * v * projected, c.rows, c.columns);
  }
  return c;
}

Expr ScalesOf(const Context& ctx, const char* name, const Sizes& leading) {
  const Operand tau = ctx.Tensor(name);
  Sizes whole = leading;
  whole.push_back(tau.sizes().back());
  return ctx.Reshape(ctx.BroadcastTo(tau.expr, tau.sizes(), whole), whole,
                     {Product(leading), tau.sizes().back()});
}

Results MultiplyByReflections(Context& ctx) {
  const Sizes& sizes = ctx.Result().sizes;
  const Sizes leading = LeadingOf(sizes);
  const Matrices reflectors = MatricesOf(ctx, "self", leading);
  const Matrices c = MatricesOf(ctx, "input3", leading);
  const int64_t count = ctx.Tensor("input2").sizes().back();
  const Expr tau = ScalesOf(ctx, "input2", leading);
  const bool transpose = ctx.Bool("transpose");
  if (ctx.Bool("left")) return Shaped(Reflected(ctx, reflectors, tau, count, c, transpose), sizes);
  const Matrices across = Reflected(ctx, reflectors, tau, count, c.Transposed(), !transpose);
  return Shaped(across.Transposed(), sizes);
}

Converter HouseholderProduct(const char* input, const char* scales) {
  return [=](Context& ctx) -> Results {
    const Sizes& sizes = ctx.Result().sizes;
    const Sizes leading = LeadingOf(sizes);
    const Matrices reflectors = MatricesOf(ctx, input, leading);
    const int64_t count = ctx.Tensor(scales).sizes().back();
    const Matrices c = IdentityLike(reflectors);
    return Shaped(Reflected(ctx, reflectors, ScalesOf(ctx, scales, leading), count, c, false),
                  sizes);
  };
}

const Registrar kSolve({
    {"aten::linalg_solve_triangular", SolveTriangular},
    {"aten::triangular_solve", TriangularSolve},
    {"aten::linalg_lu_solve", SolveByFactors("LU", "pivots", "B")},
    {"aten::lu_solve", SolveByFactors("LU_data", "LU_pivots", "self")},
    {"aten::cholesky", Cholesky},
    {"aten::linalg_cholesky", Cholesky},
    {"aten::linalg_cholesky_ex", Cholesky},
    {"aten::cholesky_solve", CholeskySolve},
    {"aten::cholesky_inverse", CholeskyInverse},
    {"aten::ormqr", MultiplyByReflections},
    {"aten::linalg_householder_product", HouseholderProduct("input", "tau")},
    {"aten::orgqr", HouseholderProduct("self", "input2")},
});

}  // namespace
}  // namespace torch_tvm::convert
