// Converters of max pooling with indices, which Relay has no operator for; of unpooling, and of
// max pooling's gradient, which scatter to such indices.
#include <algorithm>
#include <limits>
#include <numeric>

#include "convert/indices.h"
#include "convert/pooling.h"
#include "convert/term.h"

namespace torch_tvm::convert {
namespace {

constexpr ScalarType kLong = ScalarType::Long;

// For each window along one dimension the elements that it holds, in order. A place outside of the
// tensor stands for the window's nearest element inside: repeated next to itself, that changes
// neither which of equal elements is the first nor which NaN is the last.
struct Table {
  int64_t windows;
  int64_t places;
  std::vector<double> elements;
};

Table TableOf(const Context& ctx, const Window& window, size_t dim) {
  Table table{window.out[dim], window.kernel[dim], {}};
  const int64_t step = window.dilation[dim];
  for (int64_t i = 0; i < table.windows; ++i) {
    const int64_t start = i * window.strides[dim] - window.padding[dim];
    const int64_t first = start < 0 ? (step - 1 - start) / step : 0;
    const int64_t last = std::min(table.places - 1, (window.in[dim] - 1 - start) / step);
    if (first > last) ctx.Refuse("a window that lies in the padding alone");
    for (int64_t place = 0; place < table.places; ++place) {
      table.elements.push_back(static_cast<double>(start + std::clamp(place, first, last) * step));
    }
  }
  return table;
}

Table AdaptiveTable(int64_t in, int64_t out) {
  const auto start = [&](int64_t i) { return i * in / out; };
  const auto end = [&](int64_t i) { return ((i + 1) * in + out - 1) / out; };
  Table table{out, 0, {}};
  for (int64_t i = 0; i < out; ++i) table.places = std::max(table.places, end(i) - start(i));
  for (int64_t i = 0; i < out; ++i) {
    for (int64_t place = 0; place < table.places; ++place) {
      table.elements.push_back(static_cast<double>(std::min(start(i) + place, end(i) - 1)));
    }
  }
  return table;
}

// Windows and the numbers of their elements within a plane, as tensors of dimensions (planes,
// windows, places, windows, places, ...).
struct Windows {
  Term values;
  Term numbers;
  Sizes axes;  // of the places
};

// The largest element of each window and its number. PyTorch scans a window in order: the first one
// of equal elements counts, and the last NaN.
Results LargestOf(const Context& ctx, const Windows& windows) {
  const Term& x = windows.values;
  const Term largest = Reduce("max", x, windows.axes, true);
  const Term none = windows.numbers.Of(std::numeric_limits<int64_t>::max());
  const Term equal = x == largest;
  Term number = Reduce("min", Where(equal, windows.numbers, none), windows.axes, true);
  if (IsFloat(x.dtype)) {
    const Term last = Reduce("max", Where(IsNan(x), windows.numbers, -1), windows.axes, true);
    number = Where(IsNan(largest), last, number);
  }
  const TensorInfo& result = ctx.Result();
  const auto shaped = [&](const Expr& expr) {
    return ctx.Call("reshape", {expr}, {{"newshape", IntArray(result.sizes)}});
  };
  return std::vector<Expr>{ctx.Cast(shaped(largest.expr), x.dtype, result.dtype),
                           shaped(number.expr)};
}

// The sizes of a tensor as (planes, spatial sizes...).
Sizes PlanesOf(const Sizes& sizes, size_t dims) {
  const auto spatial = sizes.end() - static_cast<int64_t>(dims);
  Sizes planes(spatial, sizes.end());
  planes.insert(planes.begin(), Product({sizes.begin(), spatial}));
  return planes;
}

Results PoolByTables(const Context& ctx, const Operand& self, const std::vector<Table>& tables) {
  const size_t dims = tables.size();
  const ScalarType math = MathType(self.dtype());
  const Sizes planes = PlanesOf(self.sizes(), dims);
  Expr x = ctx.Reshape(ctx.Cast(self, math), self.sizes(), planes);
  std::optional<Term> numbers;
  Sizes axes;
  int64_t stride = 1;
  for (size_t dim = dims; dim-- > 0;) {
    const Table& table = tables[dim];
    const Sizes shape = {table.windows, table.places};
    x = ctx.Call("take", {x, ctx.ConstantTensor(table.elements, shape, kLong)},
                 {{"axis", static_cast<int64_t>(dim) + 1}});
    Sizes spread(2 * dims, 1);
    spread[2 * dim] = table.windows;
    spread[2 * dim + 1] = table.places;
    std::vector<double> own = table.elements;
    for (double& element : own) element *= static_cast<double>(stride);
    const Term part(ctx, ctx.ConstantTensor(own, spread, kLong), kLong);
    numbers = numbers ? *numbers + part : part;
    axes.insert(axes.begin(), static_cast<int64_t>(2 * dim) + 2);
    stride *= planes[dim + 1];
  }
  return LargestOf(ctx, {Term(ctx, x, math), *numbers, axes});
}

// Where the windows of fractional pooling begin along one dimension: (planes, windows). PyTorch
// computes that in the dtype of the samples.
Term FractionalStarts(const Term& sample, int64_t in, int64_t out, int64_t kernel) {
  const Context& ctx = *sample.ctx;
  const double last = static_cast<double>(in - kernel);
  if (out == 1) return (sample * 0).As(kLong) + (in - kernel);
  const Term alpha = sample.Of(last) / sample.Of(static_cast<double>(out - 1));
  const Term count(ctx, ctx.Arange(out, 0, 1, sample.dtype), sample.dtype);
  const Term start = ((count + sample) * alpha).As(kLong) - (sample * alpha).As(kLong);
  const Term is_last = count == static_cast<double>(out - 1);
  const Term within = Max(Min(start, start.Of(in - kernel)), start.Of(0));
  return Where(is_last, in - kernel, within);
}

Converter FractionalMaxPool(size_t dims) {
  return [dims](Context& ctx) -> Results {
    const Operand self = ctx.Tensor("self"), samples = ctx.Tensor("random_samples");
    const ScalarType dtype = self.dtype();
    if (MathType(dtype) != dtype || samples.dtype() != dtype) {
      ctx.Refuse("self and random_samples are not both float32 or float64");
    }
    const Sizes planes = PlanesOf(self.sizes(), dims);
    const Sizes out = PlanesOf(ctx.Result().sizes, dims);
    Sizes kernel = ctx.Ints("kernel_size");
    if (kernel.size() == 1) kernel.resize(dims, kernel[0]);
    const int64_t count = planes[0];
    const Expr rows = ctx.Reshape(samples.expr, samples.sizes(), {count, int64_t(dims)});
    std::optional<Term> numbers;
    Sizes whole = {count}, axes;
    int64_t stride = 1;
    for (size_t dim = 0; dim < dims; ++dim) whole.insert(whole.end(), {out[dim + 1], kernel[dim]});
    for (size_t dim = dims; dim-- > 0;) {
      // Of two dimensions, the sample of the width comes first; of three, that of the depth.
      const auto column = static_cast<int64_t>(dims == 2 ? 1 - dim : dim);
      const Term sample(ctx, ctx.Slice(rows, 1, column, column + 1), dtype);
      const int64_t windows = out[dim + 1], places = kernel[dim];
      const Term starts = FractionalStarts(sample, planes[dim + 1], windows, places);
      Sizes spread(2 * dims + 1, 1), inner(2 * dims, 1);
      spread[0] = count;
      spread[2 * dim + 1] = windows;
      inner[2 * dim + 1] = places;
      const Term first(ctx, ctx.Reshape(starts.expr, {count, windows}, spread), kLong);
      const Term place(ctx, ctx.Reshape(ctx.Arange(places), {places}, inner), kLong);
      const Term part = (first + place) * stride;
      numbers = numbers ? *numbers + part : part;
      axes.insert(axes.begin(), static_cast<int64_t>(2 * dim) + 2);
      stride *= planes[dim + 1];
    }
    const Sizes flat = {count, Product(whole) / count};
    const Expr index = ctx.Reshape(numbers->expr, whole, flat);
    const Expr x = ctx.Reshape(self.expr, self.sizes(), {count, stride});
    const Expr values = ctx.Call("gather", {x, index}, {{"axis", 1}});
    return LargestOf(ctx, {Term(ctx, ctx.Reshape(values, flat, whole), dtype), *numbers, axes});
  };
}

// Zeros of the result's sizes, to which numbers go at their indices within a plane.
Results ToIndices(Context& ctx, const char* source, size_t dims, const char* reduction) {
  const Operand values = ctx.Tensor(source);
  Operand index = ctx.Tensor("indices");
  const TensorInfo& result = ctx.Result();
  if (values.info.numel() == 0) return ctx.Full(0, result.sizes, result.dtype);
  const Sizes planes = PlanesOf(result.sizes, dims);
  const Sizes flat = {planes[0], result.numel() / planes[0]};
  const Sizes given = {planes[0], values.info.numel() / planes[0]};
  RequireWithin(ctx, index, 0, flat[1]);
  const Expr value =
      ctx.Call("scatter_elements",
               {ctx.Full(0, flat, result.dtype), ctx.Reshape(index.expr, index.sizes(), given),
                ctx.Reshape(values.expr, values.sizes(), given)},
               {{"axis", 1}, {"reduction", reduction}});
  return ctx.Reshape(value, flat, result.sizes);
}

// Of several numbers for one place, the last one stays.
Converter Unpool(size_t dims) {
  return [dims](Context& ctx) -> Results { return ToIndices(ctx, "self", dims, "update"); };
}

Converter MaxPoolGradient(size_t dims) {
  return [dims](Context& ctx) -> Results { return ToIndices(ctx, "grad_output", dims, "add"); };
}

const Registrar kPoolingIndices({
    {"aten::fractional_max_pool2d", FractionalMaxPool(2)},
    {"aten::fractional_max_pool3d", FractionalMaxPool(3)},
    {"aten::max_unpool2d", Unpool(2)},
    {"aten::max_unpool3d", Unpool(3)},
    {"aten::max_pool2d_with_indices_backward", MaxPoolGradient(2)},
    {"aten::max_pool3d_with_indices_backward", MaxPoolGradient(3)},
    {"aten::adaptive_max_pool2d_backward", MaxPoolGradient(2)},
    {"aten::adaptive_max_pool3d_backward", MaxPoolGradient(3)},
    {"aten::fractional_max_pool2d_backward", MaxPoolGradient(2)},
    {"aten::fractional_max_pool3d_backward", MaxPoolGradient(3)},
});

}  // namespace

Results MaxPoolWithIndices(Context& ctx, size_t dims) {
  const Operand self = ctx.Tensor("self");
  const Window window = WindowOf(ctx, self, dims);
  std::vector<Table> tables;
  for (size_t dim = 0; dim < dims; ++dim) tables.push_back(TableOf(ctx, window, dim));
  return PoolByTables(ctx, self, tables);
}

Results AdaptiveMaxPoolWithIndices(Context& ctx, size_t dims) {
  const Operand self = ctx.Tensor("self");
  const Sizes in = PlanesOf(self.sizes(), dims), out = PlanesOf(ctx.Result().sizes, dims);
  std::vector<Table> tables;
  for (size_t dim = 1; dim <= dims; ++dim) tables.push_back(AdaptiveTable(in[dim], out[dim]));
  return PoolByTables(ctx, self, tables);
}

}  // namespace torch_tvm::convert
