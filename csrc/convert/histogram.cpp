// Converters of histograms: bins are found by a formula or a search, and counted by scattering.
#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "convert/creation.h"

namespace torch_tvm::convert {
namespace {

constexpr ScalarType kLong = ScalarType::Long;

// The bins along one dimension. Elements outside of the two ends, and NaN, are in none.
struct Bins {
  Term left;
  Term right;
  int64_t count;
  std::optional<Term> edges;  // count + 1 of them; without, bins are found by a formula
};

Term At(const Term& edges, int64_t place) {
  const Context& ctx = *edges.ctx;
  return {ctx, ctx.Slice(edges.expr, 0, place, place + 1), edges.dtype};
}

Bins BinsBetween(const Term& edges, int64_t count) {
  return {At(edges, 0), At(edges, count), count, edges};
}

// The bin of each element, which is any for elements that are in none.
Term PlacesIn(const Bins& bins, const Term& x) {
  const Context& ctx = *x.ctx;
  if (!bins.edges) {
    const Term share = (x - bins.left) * static_cast<double>(bins.count);
    const Term place = (share / (bins.right - bins.left)).As(kLong);
    return Max(Min(place, place.Of(bins.count - 1)), place.Of(0));
  }
  const Expr behind = ctx.Call("searchsorted", {bins.edges->expr, x.expr},
                               {{"right", true}, {"dtype", DtypeName(kLong)}});
  const Term place = Term(ctx, behind, kLong) - 1;
  return Max(Min(place, place.Of(bins.count - 1)),
             place.Of(0));  // the last one holds both its edges
}

// The weights of the elements in each bin, `columns` being their coordinates.
Term Counted(const std::vector<Term>& columns, const std::vector<Bins>& bins,
             const std::optional<Operand>& weight, int64_t size) {
  const Context& ctx = *columns[0].ctx;
  const ScalarType dtype = columns[0].dtype;
  std::optional<Term> place, inside;
  int64_t total = 1;
  for (size_t dim = 0; dim < bins.size(); ++dim) {
    const Term& x = columns[dim];
    const Term own = PlacesIn(bins[dim], x);
    const Term within = (x >= bins[dim].left) & (x <= bins[dim].right);
    place = place ? *place * bins[dim].count + own : own;
    inside = inside ? *inside & within : within;
    total *= bins[dim].count;
  }
  // What is in no bin is counted behind the last one.
  const Term number = Where(*inside, *place, total);
  const Expr weights =
      weight ? ctx.Reshape(weight->expr, weight->sizes(), {size}) : ctx.Full(1, {size}, dtype);
  const Expr counts =
      ctx.Call("scatter_elements", {ctx.Full(0, {total + 1}, dtype), number.expr, weights},
               {{"axis", 0}, {"reduction", "add"}});
  return {ctx, ctx.Slice(counts, 0, 0, total), dtype};
}

void RequireExactCounts(const Context& ctx, ScalarType dtype) {
  if (dtype != ScalarType::Float && dtype != ScalarType::Double) {
    ctx.Refuse(std::string("self holds ") + c10::toString(dtype) +
               ", in which counts are rounded; float32 and float64 are converted");
  }
}

// The least and the greatest element, a width apart if they are equal.
std::pair<Term, Term> EndsOf(Context& ctx, const Term& x, double width) {
  const Term least = Reduce("min", x, {0}, true), greatest = Reduce("max", x, {0}, true);
  const Term rest = greatest - least;  // NaN of infinities too
  ctx.RefuseIf(((!(rest == rest)) | Test("isinf", least) | Test("isinf", greatest)).expr,
               "a range that is not finite");
  const Term equal = least == greatest;
  return {Where(equal, least - width / 2, least), Where(equal, greatest + width / 2, greatest)};
}

Term Flat(const Context& ctx, const Operand& self) {
  return {ctx, ctx.Reshape(self.expr, self.sizes(), {self.info.numel()}), self.dtype()};
}

Results CountInRange(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const ScalarType dtype = self.dtype();
  RequireExactCounts(ctx, dtype);
  const TensorInfo& result = ctx.Result();
  const int64_t size = self.info.numel();
  if (size == 0) return ctx.Full(0, result.sizes, dtype);
  const Term x = Flat(ctx, self);
  const double least = ctx.Double("min"), greatest = ctx.Double("max");
  if (!std::isfinite(least) || !std::isfinite(greatest) || least > greatest) {
    ctx.Refuse("min and max are no range, for which PyTorch raises");
  }
  const auto ends =
      least == greatest ? EndsOf(ctx, x, 2) : std::pair<Term, Term>{x.Of(least), x.Of(greatest)};
  return Counted({x}, {{ends.first, ends.second, result.numel(), std::nullopt}}, std::nullopt, size)
      .expr;
}

// Divided by the sum of all and by the volume of each bin.
Term Density(const Term& counts, const std::vector<Bins>& bins) {
  const Context& ctx = *counts.ctx;
  Sizes sizes;
  for (const Bins& each : bins) sizes.push_back(each.count);
  Term density = counts / Reduce("sum", counts, {0}, true);
  density.expr = ctx.Reshape(density.expr, {Product(sizes)}, sizes);
  for (size_t dim = 0; dim < bins.size(); ++dim) {
    const int64_t count = bins[dim].count;
    const Term upper(ctx, ctx.Slice(bins[dim].edges->expr, 0, 1, count + 1), counts.dtype);
    const Term lower(ctx, ctx.Slice(bins[dim].edges->expr, 0, 0, count), counts.dtype);
    Sizes spread(bins.size(), 1);
    spread[dim] = count;
    const Term length = upper - lower;
    density = density / Term(ctx, ctx.Reshape(length.expr, {count}, spread), counts.dtype);
  }
  return density;
}

// `columns` are the coordinates of the elements; none if there are no elements.
Expr CountsOf(Context& ctx, const std::vector<Term>& columns, const std::vector<Bins>& bins) {
  const TensorInfo& result = ctx.Result();
  const bool density = ctx.Bool("density");
  if (columns.empty()) {
    const double each = density ? std::numeric_limits<double>::quiet_NaN() : 0;
    return ctx.Full(each, result.sizes, result.dtype);
  }
  const int64_t size = ctx.Tensor("self").info.numel() / static_cast<int64_t>(columns.size());
  const Term counts = Counted(columns, bins, ctx.OptionalTensor("weight"), size);
  if (density) return Density(counts, bins).expr;
  return ctx.Reshape(counts.expr, {result.numel()}, result.sizes);
}

Bins BinsOver(const Context& ctx, double least, double greatest, int64_t count, ScalarType dtype) {
  if (!std::isfinite(least) || !std::isfinite(greatest) || least > greatest) {
    ctx.Refuse("range holds no range, for which PyTorch raises");
  }
  if (least == greatest) {
    least -= 0.5;
    greatest += 0.5;
  }
  const at::Tensor edges = at::linspace(least, greatest, count + 1, at::dtype(dtype));
  return BinsBetween({ctx, CarriedConstant(edges), dtype}, count);
}

// `count` bins of one width, over the range that the argument or else the elements have; from 0 to
// 1 if there are none.
Bins EvenBins(Context& ctx, const std::vector<Term>& columns, size_t dim, int64_t count) {
  const ScalarType dtype = ctx.Result().dtype;
  if (ctx.Has("range")) {
    const std::vector<double> range = ctx.Value("range").toDoubleVector();
    return BinsOver(ctx, range.at(2 * dim), range.at(2 * dim + 1), count, dtype);
  }
  if (columns.empty()) return BinsOver(ctx, 0, 1, count, dtype);
  const auto ends = EndsOf(ctx, columns[dim], 1);
  const auto scalar = [&](const Term& end) {
    return Term(ctx, ctx.Reshape(end.expr, {1}, {}), end.dtype);
  };
  return BinsBetween(Linspace(scalar(ends.first), scalar(ends.second), count + 1, dtype), count);
}

Bins GivenBins(const Context& ctx, const Operand& edges, int64_t count) {
  return BinsBetween({ctx, edges.expr, edges.dtype()}, count);
}

Results Histogram(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  RequireExactCounts(ctx, self.dtype());
  const int64_t count = ctx.Result().numel();
  std::vector<Term> columns;
  if (self.info.numel() > 0) columns.push_back(Flat(ctx, self));
  const Bins bins = ctx.Value("bins").isTensor() ? GivenBins(ctx, ctx.Tensor("bins"), count)
                                                 : EvenBins(ctx, columns, 0, count);
  return std::vector<Expr>{CountsOf(ctx, columns, {bins}), bins.edges->expr};
}

// The coordinates of points along each dimension; nothing if there are no points.
std::vector<Term> ColumnsOf(const Context& ctx, const Operand& self, int64_t dims) {
  std::vector<Term> columns;
  if (self.info.numel() == 0) return columns;
  const int64_t size = self.info.numel() / dims;
  const Expr points = ctx.Reshape(self.expr, self.sizes(), {size, dims});
  for (int64_t dim = 0; dim < dims; ++dim) {
    const Expr column = dims == 1 ? points : ctx.Slice(points, 1, dim, dim + 1);
    columns.emplace_back(ctx, ctx.Reshape(column, {size, 1}, {size}), self.dtype());
  }
  return columns;
}

Results HistogramOfPoints(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  RequireExactCounts(ctx, self.dtype());
  const Sizes& counts = ctx.Result().sizes;
  const std::vector<Term> columns = ColumnsOf(ctx, self, static_cast<int64_t>(counts.size()));
  const bool given = ctx.Value("bins").isTensorList();
  std::vector<Bins> bins;
  for (size_t dim = 0; dim < counts.size(); ++dim) {
    bins.push_back(given ? GivenBins(ctx, ctx.Tensors("bins")[dim], counts[dim])
                         : EvenBins(ctx, columns, dim, counts[dim]));
  }
  std::vector<Expr> results = {CountsOf(ctx, columns, bins)};
  if (given) return results;  // edges that are given are given back
  for (const Bins& each : bins) results.push_back(each.edges->expr);
  return results;
}

const Registrar kHistogram({
    {"aten::histc", CountInRange},
    {"aten::histogram.bin_ct", Histogram},
    {"aten::histogram.bins_tensor", Histogram},
    {"aten::histogramdd", HistogramOfPoints},
    {"aten::histogramdd.int_bins", HistogramOfPoints},
    {"aten::histogramdd.TensorList_bins", HistogramOfPoints},
});

}  // namespace
}  // namespace torch_tvm::convert
