// Converters of matrix products. A right operand of rank 2 stays nn.dense or nn.matmul, whatever
// the rank of the left one; everything else becomes nn.batch_matmul.

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
});

}  // namespace
}  // namespace torch_tvm::convert
