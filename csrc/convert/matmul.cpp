// Converters of matrix products. A right operand of rank 2 stays nn.dense or nn.matmul, whatever
// the rank of the left one; everything else becomes nn.batch_matmul.

#include <functional>
#include <limits>

#include "convert/broadcast.h"
#include "convert/context.h"

namespace torch_tvm::convert {
namespace {

struct Matrix {
  Expr expr;
  Sizes sizes;
  int64_t rank() const { return static_cast<int64_t>(sizes.size()); }
};

// If the expression is a transpose of its last two dimensions: what it transposes.
std::optional<Matrix> Untransposed(const Matrix& matrix) {
  const auto* call = matrix.expr.as<relay::CallObj>();
  if (call == nullptr || matrix.rank() < 2) return std::nullopt;
  const auto* op = call->op.as<relay::OpObj>();
  if (op == nullptr || op->name != "transpose") return std::nullopt;
  const auto axes = call->attrs["axes"].as<ffi::Array<int64_t>>();
  const size_t rank = matrix.sizes.size();
  if (!axes || axes->size() != rank) return std::nullopt;
  for (size_t i = 0; i < rank; ++i) {
    const size_t swapped = i + 2 < rank ? i : (i + 1 == rank ? rank - 2 : rank - 1);
    if ((*axes)[i] != static_cast<int64_t>(swapped)) return std::nullopt;
  }
  Matrix base{call->args[0], matrix.sizes};
  std::swap(base.sizes[rank - 1], base.sizes[rank - 2]);
  return base;
}

// a (..., M, K) times b (K, N): every row of a is a row of one product.
Expr TimesMatrix(Context& ctx, const Matrix& a, const Matrix& b) {
  const int64_t units = b.sizes[1];
  ctx.AddFlops(2.0 * static_cast<double>(Product(a.sizes)) * static_cast<double>(units));
  if (const auto base = Untransposed(b)) {
    return ctx.Call("nn.dense", {a.expr, base->expr}, {{"units", units}});
  }
  return ctx.Call("nn.matmul", {a.expr, b.expr}, {{"units", units}});
}

// The matrix with all leading dimensions in one.
Expr Batched(const Context& ctx, const Matrix& matrix) {
  const size_t rank = matrix.sizes.size();
  const Sizes leading(matrix.sizes.begin(), matrix.sizes.end() - 2);
  return ctx.Reshape(matrix.expr, matrix.sizes,
                     {Product(leading), matrix.sizes[rank - 2], matrix.sizes[rank - 1]});
}

// Broadcasts the leading dimensions to `batch`, unless they are one matrix, which batch_matmul
// broadcasts.
Matrix Spread(const Context& ctx, const Matrix& matrix, const Sizes& batch) {
  const Sizes leading(matrix.sizes.begin(), matrix.sizes.end() - 2);
  if (Product(leading) == 1 || leading == batch) return matrix;
  Sizes sizes = batch;
  sizes.insert(sizes.end(), matrix.sizes.end() - 2, matrix.sizes.end());
  return {ctx.BroadcastTo(matrix.expr, matrix.sizes, sizes), sizes};
}

// a (..., M, K) times b (..., K, N), leading dimensions broadcast to `batch`.
Expr TimesBatch(Context& ctx, const Matrix& a, const Matrix& b, const Sizes& batch) {
  const auto a_base = Untransposed(a);
  const auto b_base = Untransposed(b);
  const Expr left = Batched(ctx, Spread(ctx, a_base.value_or(a), batch));
  const Expr right = Batched(ctx, Spread(ctx, b_base.value_or(b), batch));
  const int64_t rows = a.sizes[a.sizes.size() - 2];
  const int64_t inner = a.sizes.back();
  const int64_t columns = b.sizes.back();
  const double products = static_cast<double>(Product(batch)) * static_cast<double>(rows) *
                          static_cast<double>(columns);
  ctx.AddFlops(2.0 * products * static_cast<double>(inner));
  const Expr product =
      ctx.Call("nn.batch_matmul", {left, right},
               {{"transpose_a", a_base.has_value()}, {"transpose_b", b_base.has_value()}});
  Sizes sizes = batch;
  sizes.push_back(rows);
  sizes.push_back(columns);
  const bool single = Product({a.sizes.begin(), a.sizes.end() - 2}) == 1 &&
                      Product({b.sizes.begin(), b.sizes.end() - 2}) == 1;
  return ctx.Reshape(product, {single ? 1 : Product(batch), rows, columns}, sizes);
}

// torch.matmul of two tensors in `math`; the result has the sizes of `result`.
Expr Multiply(Context& ctx, Matrix a, Matrix b, const Sizes& result, ScalarType math) {
  if (a.sizes.back() == 0) return ctx.Full(0, result, math);
  if (b.rank() == 1) {
    b = {ctx.Reshape(b.expr, b.sizes, {b.sizes[0], 1}), {b.sizes[0], 1}};
  }
  if (b.rank() == 2) {
    Sizes sizes(a.sizes.begin(), a.sizes.end() - 1);
    sizes.push_back(b.sizes[1]);
    return ctx.Reshape(TimesMatrix(ctx, a, b), sizes, result);
  }
  if (a.rank() == 1) {
    a = {ctx.Reshape(a.expr, a.sizes, {1, a.sizes[0]}), {1, a.sizes[0]}};
  }
  const Sizes a_batch(a.sizes.begin(), a.sizes.end() - 2);
  const Sizes b_batch(b.sizes.begin(), b.sizes.end() - 2);
  Sizes batch(std::max(a_batch.size(), b_batch.size()), 1);
  for (size_t i = 0; i < batch.size(); ++i) {  // from the right
    const int64_t left = i < a_batch.size() ? a_batch[a_batch.size() - 1 - i] : 1;
    const int64_t right = i < b_batch.size() ? b_batch[b_batch.size() - 1 - i] : 1;
    batch[batch.size() - 1 - i] = left == 1 ? right : left;
  }
  Sizes sizes = batch;
  sizes.push_back(a.sizes[a.sizes.size() - 2]);
  sizes.push_back(b.sizes.back());
  return ctx.Reshape(TimesBatch(ctx, a, b, batch), sizes, result);
}

Matrix Argument(const Context& ctx, const char* name, ScalarType math) {
  const Operand operand = ctx.Tensor(name);
  return {ctx.Cast(operand, math), operand.sizes()};
}

ScalarType ProductMath(const Context& ctx) {
  if (ctx.Result().dtype == ScalarType::Bool) ctx.Refuse("the operands are bool");
  return MathType(ctx.Result().dtype);
}

Converter Matmul(const char* left, const char* right) {
  return [=](Context& ctx) -> Results {
    const ScalarType math = ProductMath(ctx);
    const Expr product = Multiply(ctx, Argument(ctx, left, math), Argument(ctx, right, math),
                                  ctx.Result().sizes, math);
    return ctx.Cast(product, math, ctx.Result().dtype);
  };
}

// Adds a vector over the last dimension.
Expr AddBias(const Context& ctx, const Expr& expr, const Operand& bias, ScalarType math,
             const Sizes& sizes) {
  const Expr vector = ctx.Cast(bias, math);
  if (bias.rank() == 1 && sizes.size() > 1 && bias.sizes()[0] == sizes.back()) {
    return ctx.Call("nn.bias_add", {expr, vector}, {{"axis", int64_t{-1}}});
  }
  return ctx.Call("add", {expr, vector});
}

Results Linear(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  const ScalarType math = ProductMath(ctx);
  const Matrix input = Argument(ctx, "input", math);
  Matrix weight = Argument(ctx, "weight", math);
  const bool vector = weight.rank() == 1;
  if (vector) {
    weight = {ctx.Reshape(weight.expr, weight.sizes, {1, weight.sizes[0]}), {1, weight.sizes[0]}};
  }
  const int64_t units = weight.sizes[0];
  Sizes sizes(input.sizes.begin(), input.sizes.end() - 1);
  sizes.push_back(units);
  Expr value = ctx.Full(0, sizes, math);
  if (input.sizes.back() != 0) {
    ctx.AddFlops(2.0 * static_cast<double>(Product(input.sizes)) * static_cast<double>(units));
    value = ctx.Call("nn.dense", {input.expr, weight.expr}, {{"units", units}});
  }
  value = ctx.Reshape(value, sizes, result.sizes);
  if (const auto bias = ctx.OptionalTensor("bias")) {
    value = AddBias(ctx, value, *bias, math, result.sizes);
  }
  return ctx.Cast(value, math, result.dtype);
}

Expr Scaled(const Context& ctx, const Expr& expr, const char* name, ScalarType math) {
  if (!ctx.Has(name) || ctx.Scalar(name).toDouble() == 1) return expr;
  return ctx.Call("multiply", {expr, ctx.Constant(ctx.Scalar(name), math)});
}

// beta * self + alpha * (left @ right); with beta = 0 self is not looked at, not even a NaN in it.
Converter AddProduct(const char* left, const char* right) {
  return [=](Context& ctx) -> Results {
    const TensorInfo& result = ctx.Result();
    const ScalarType math = ProductMath(ctx);
    Expr value =
        Multiply(ctx, Argument(ctx, left, math), Argument(ctx, right, math), result.sizes, math);
    value = Scaled(ctx, value, "alpha", math);
    const bool added = !ctx.Has("beta") || ctx.Scalar("beta").toDouble() != 0;
    const Operand self = ctx.Tensor("self");
    if (added && ctx.Has("beta") && ctx.Scalar("beta").toDouble() != 1) {
      value = ctx.Call("add", {value, Scaled(ctx, ctx.Cast(self, math), "beta", math)});
    } else if (added) {
      value = AddBias(ctx, value, self, math, result.sizes);
    }
    return ctx.Cast(value, math, result.dtype);
  };
}

// beta * self + alpha * the sum of the products of a batch: one product of all columns of the left
// matrices with all rows of the right ones.
Results AddSummedProducts(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  const ScalarType math = ProductMath(ctx);
  const Matrix a = Argument(ctx, "batch1", math), b = Argument(ctx, "batch2", math);
  const int64_t batch = a.sizes[0], rows = a.sizes[1], inner = a.sizes[2], columns = b.sizes[2];
  Expr value = ctx.Full(0, {rows, columns}, math);
  if (batch * inner > 0) {
    const Expr left =
        ctx.Reshape(ctx.Transpose(a.expr, {1, 0, 2}), {rows, batch, inner}, {rows, batch * inner});
    const Expr right = ctx.Reshape(b.expr, b.sizes, {batch * inner, columns});
    value = TimesMatrix(ctx, {left, {rows, batch * inner}}, {right, {batch * inner, columns}});
  }
  value = Scaled(ctx, value, "alpha", math);
  if (ctx.Scalar("beta").toDouble() != 0) {
    value = ctx.Call("add", {value, Scaled(ctx, ctx.Cast(ctx.Tensor("self"), math), "beta", math)});
  }
  return ctx.Cast(value, math, result.dtype);
}

// Products of the last dimensions of both.
Results Inner(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  const ScalarType math = ProductMath(ctx);
  const Matrix a = Argument(ctx, "self", math), b = Argument(ctx, "other", math);
  if (a.rank() == 0 || b.rank() == 0) {
    return ctx.Cast(ctx.Call("multiply", {a.expr, b.expr}), math, result.dtype);
  }
  const int64_t inner = a.sizes.back();
  if (inner == 0) return ctx.Full(0, result.sizes, result.dtype);
  const int64_t rows = Product(a.sizes) / inner, columns = Product(b.sizes) / inner;
  ctx.AddFlops(2.0 * static_cast<double>(Product(a.sizes)) * static_cast<double>(columns));
  const Expr value = ctx.Call(
      "nn.dense",
      {ctx.Reshape(a.expr, a.sizes, {rows, inner}), ctx.Reshape(b.expr, b.sizes, {columns, inner})},
      {{"units", columns}});
  return ctx.Cast(ctx.Reshape(value, {rows, columns}, result.sizes), math, result.dtype);
}

// For each output the sum over both inputs' elements, the second one first.
Results Bilinear(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  const ScalarType math = ProductMath(ctx);
  const Matrix first = Argument(ctx, "input1", math), second = Argument(ctx, "input2", math);
  const Matrix weight = Argument(ctx, "weight", math);
  const int64_t outputs = weight.sizes[0], left = weight.sizes[1], right = weight.sizes[2];
  if (left * right == 0) ctx.Refuse("weight has no elements");
  const int64_t rows = Product(first.sizes) / left;
  ctx.AddFlops(2.0 * static_cast<double>(rows) * static_cast<double>(Product(weight.sizes)));
  const Expr table = ctx.Reshape(weight.expr, weight.sizes, {outputs * left, right});
  Expr value = ctx.Call("nn.dense", {ctx.Reshape(second.expr, second.sizes, {rows, right}), table},
                        {{"units", outputs * left}});
  value = ctx.Reshape(value, {rows, outputs * left}, {rows, outputs, left});
  const Expr factor = ctx.Reshape(first.expr, first.sizes, {rows, 1, left});
  value = ctx.Call("sum", {ctx.Call("multiply", {value, factor})},
                   {{"axis", IntArray({2})}, {"keepdims", false}});
  value = ctx.Reshape(value, {rows, outputs}, result.sizes);
  if (const auto bias = ctx.OptionalTensor("bias")) {
    value = AddBias(ctx, value, *bias, math, result.sizes);
  }
  return ctx.Cast(value, math, result.dtype);
}

// A product of several matrices in the order of the fewest multiplications; the first and the last
// may be vectors.
Results MultiplyChain(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  const ScalarType math = ProductMath(ctx);
  std::vector<Matrix> chain;
  const char* name = ctx.Has("tensors") ? "tensors" : "matrices";
  for (const Operand& operand : ctx.Tensors(name)) {
    chain.push_back({ctx.Cast(operand, math), operand.sizes()});
  }
  const auto shaped = [&](Matrix& matrix, const Sizes& sizes) {
    matrix = {ctx.Reshape(matrix.expr, matrix.sizes, sizes), sizes};
  };
  if (chain.front().rank() == 1) shaped(chain.front(), {1, chain.front().sizes[0]});
  if (chain.back().rank() == 1) shaped(chain.back(), {chain.back().sizes[0], 1});
  const size_t count = chain.size();
  const auto rows = [&](size_t i) { return static_cast<double>(chain[i].sizes[0]); };
  std::vector<std::vector<double>> cost(count, std::vector<double>(count, 0));
  std::vector<std::vector<size_t>> split(count, std::vector<size_t>(count, 0));
  for (size_t length = 1; length < count; ++length) {
    for (size_t i = 0; i + length < count; ++i) {
      const size_t last = i + length;
      const auto columns = static_cast<double>(chain[last].sizes[1]);
      cost[i][last] = std::numeric_limits<double>::infinity();
      for (size_t at = i; at < last; ++at) {
        const double total = cost[i][at] + cost[at + 1][last] + rows(i) * rows(at + 1) * columns;
        if (total < cost[i][last]) {
          cost[i][last] = total;
          split[i][last] = at;
        }
      }
    }
  }
  const std::function<Matrix(size_t, size_t)> product = [&](size_t i, size_t last) -> Matrix {
    if (i == last) return chain[i];
    const Matrix left = product(i, split[i][last]), right = product(split[i][last] + 1, last);
    const Sizes sizes = {left.sizes[0], right.sizes[1]};
    return {Multiply(ctx, left, right, sizes, math), sizes};
  };
  const Matrix whole = product(0, count - 1);
  return ctx.Cast(ctx.Reshape(whole.expr, whole.sizes, result.sizes), math, result.dtype);
}

// Products of squares of the matrix, by the bits of the exponent.
Results MatrixPower(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  const ScalarType math = ProductMath(ctx);
  const int64_t n = ctx.Int("n");
  if (n < 0) ctx.Refuse("n=" + std::to_string(n) + " inverts self; n of at least 0 is converted");
  if (n == 0) {
    const int64_t side = result.sizes.back();
    const Expr row = ctx.Reshape(ctx.Arange(side), {side}, {side, 1});
    const Expr equal = ctx.Call("equal", {row, ctx.Arange(side)});
    return ctx.BroadcastTo(ctx.Cast(equal, ScalarType::Bool, result.dtype), {side, side},
                           result.sizes);
  }
  Matrix square = Argument(ctx, "self", math);
  std::optional<Matrix> power;
  for (int64_t rest = n; rest > 0; rest /= 2) {
    if (rest % 2 != 0) {
      power =
          power ? Matrix{Multiply(ctx, *power, square, result.sizes, math), result.sizes} : square;
    }
    if (rest > 1) square = {Multiply(ctx, square, square, result.sizes, math), result.sizes};
  }
  return ctx.Cast(power->expr, math, result.dtype);
}

const Registrar kMatmul({
    {"aten::linear", Linear},
    {"aten::matmul", Matmul("self", "other")},
    {"aten::mm", Matmul("self", "mat2")},
    {"aten::bmm", Matmul("self", "mat2")},
    {"aten::mv", Matmul("self", "vec")},
    {"aten::dot", Matmul("self", "tensor")},
    {"aten::addmm", AddProduct("mat1", "mat2")},
    {"aten::addmv", AddProduct("mat", "vec")},
    {"aten::baddbmm", AddProduct("batch1", "batch2")},
    {"aten::addbmm", AddSummedProducts},
    {"aten::inner", Inner},
    {"aten::bilinear", Bilinear},
    {"aten::linalg_multi_dot", MultiplyChain},
    {"aten::chain_matmul", MultiplyChain},
    {"aten::linalg_matrix_power", MatrixPower},
    {"aten::matrix_power", MatrixPower},
});

}  // namespace
}  // namespace torch_tvm::convert
