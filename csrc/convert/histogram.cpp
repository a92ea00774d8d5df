// Converters of histograms: bins are found by a formula or a search, and counted by scattering.
#include <ATen/ATen.h>

#include <cmath>

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

// Histogram and edges.
Results WithEdges(Context& ctx, const std::vector<Term>& columns, const std::vector<Bins>& bins,
                  int64_t size) {
  const TensorInfo& result = ctx.Result();
  Term counts = Counted(columns, bins, ctx.OptionalTensor("weight"), size);
  counts = ctx.Bool("density")
               ? Density(counts, bins)
               : Term(ctx, ctx.Reshape(counts.expr, {result.numel()}, result.sizes), counts.dtype);
  std::vector<Expr> results = {counts.expr};
  for (const Bins& each : bins) results.push_back(each.edges->expr);
  return results;
}

// `count` bins of one width, over the range that the argument or else the elements have.
Bins EvenBins(Context& ctx, const Term& x, size_t dim, int64_t count) {
  if (!ctx.Has("range")) {
    const auto ends = EndsOf(ctx, x, 1);
    const auto scalar = [&](const Term& end) {
      return Term(ctx, ctx.Reshape(end.expr, {1}, {}), end.dtype);
    };
    return BinsBetween(Linspace(scalar(ends.first), scalar(ends.second), count + 1, x.dtype),
                       count);
  }
  const std::vector<double> range = ctx.Value("range").toDoubleVector();
  double least = range.at(2 * dim), greatest = range.at(2 * dim + 1);
  if (!std::isfinite(least) || !std::isfinite(greatest) || least > greatest) {
    ctx.Refuse("range holds no range, for which PyTorch raises");
  }
  if (least == greatest) {
    least -= 0.5;
    greatest += 0.5;
  }
  const at::Tensor edges = at::linspace(least, greatest, count + 1, at::dtype(x.dtype));
  return BinsBetween({ctx, CarriedConstant(edges), x.dtype}, count);
}

Results Histogram(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  RequireExactCounts(ctx, self.dtype());
  const int64_t size = self.info.numel();
  if (size == 0) ctx.Refuse("self has no elements");
  const Term x = Flat(ctx, self);
  const int64_t count = ctx.Result().numel();
  if (!ctx.Value("bins").isTensor()) {
    return WithEdges(ctx, {x}, {EvenBins(ctx, x, 0, count)}, size);
  }
  if (count == 0) ctx.Refuse("bins has one edge");
  const Term edges(ctx, ctx.Tensor("bins").expr, self.dtype());
  return WithEdges(ctx, {x}, {BinsBetween(edges, count)}, size);
}

Results HistogramOfPoints(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  RequireExactCounts(ctx, self.dtype());
  const Sizes& counts = ctx.Result().sizes;
  const auto dims = static_cast<int64_t>(counts.size());
  if (self.info.numel() == 0 || ctx.Result().numel() == 0) {
    ctx.Refuse("self has no elements, or bins has one edge");
  }
  const int64_t size = self.info.numel() / dims;
  const Expr points = ctx.Reshape(self.expr, self.sizes(), {size, dims});
  std::vector<Term> columns;
  std::vector<Bins> bins;
  for (int64_t dim = 0; dim < dims; ++dim) {
    const Expr column = dims == 1 ? points : ctx.Slice(points, 1, dim, dim + 1);
    columns.emplace_back(ctx, ctx.Reshape(column, {size, 1}, {size}), self.dtype());
    const auto place = static_cast<size_t>(dim);
    bins.push_back(EvenBins(ctx, columns.back(), place, counts[place]));
  }
  return WithEdges(ctx, columns, bins, size);
}

const Registrar kHistogram({
    {"aten::histc", CountInRange},
    {"aten::histogram.bin_ct", Histogram},
    {"aten::histogram.bins_tensor", Histogram},
    {"aten::histogramdd", HistogramOfPoints},
    {"aten::histogramdd.int_bins", HistogramOfPoints},
});

}  // namespace
}  // namespace torch_tvm::convert
