// Converters of what moves elements without computing: views, permutations, slices, joins and
// splits.
#include <algorithm>
#include <numeric>

#include "convert/context.h"

namespace torch_tvm::convert {
namespace {

// view, flatten, squeeze, unflatten...: the result's sizes say it all.
Results Reshaped(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  return ctx.Reshape(self.expr, self.sizes(), ctx.Result().sizes);
}

// Same elements, same sizes: contiguous, clone, alias...
Converter Same(const char* name) {
  return [name](Context& ctx) -> Results { return ctx.Tensor(name).expr; };
}

// An argument that the graph does not fix passes the static check.
Results EvaluatedDropout(Context& ctx) {
  if (ctx.Bool("train")) ctx.Refuse("train=True is random");
  return ctx.Tensor("input").expr;
}

Results Unsqueeze(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  return ctx.Call("expand_dims", {self.expr}, {{"axis", ctx.Dim("dim", self.rank() + 1)}});
}

Results Squeeze(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  if (self.rank() == 0) return self.expr;
  Sizes dims = Counted(self.sizes().size());
  if (ctx.Has("dim")) dims = ctx.Dims("dim", self.rank());
  std::erase_if(dims, [&](int64_t dim) { return self.sizes()[static_cast<size_t>(dim)] != 1; });
  if (dims.empty()) return self.expr;
  return ctx.Call("squeeze", {self.expr}, {{"axis", IntArray(dims)}});
}

Results Permute(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  return ctx.Transpose(self.expr, ctx.Dims("dims", self.rank()));
}

Expr SwapDims(const Context& ctx, int64_t first, int64_t second) {
  const Operand self = ctx.Tensor("self");
  Sizes axes = Counted(self.sizes().size());
  if (!axes.empty())
    std::swap(axes.at(static_cast<size_t>(first)), axes.at(static_cast<size_t>(second)));
  return ctx.Transpose(self.expr, axes);
}

Converter Swap(const char* first, const char* second) {
  return [=](Context& ctx) -> Results {
    const int64_t rank = std::max<int64_t>(ctx.Result().rank(), 1);
    return SwapDims(ctx, ctx.Dim(first, rank), ctx.Dim(second, rank));
  };
}

Results TransposeMatrix(Context& ctx) {
  const int64_t rank = ctx.Result().rank();
  if (rank < 2) return ctx.Tensor("self").expr;
  return SwapDims(ctx, rank - 2, rank - 1);
}

Results ReverseDims(Context& ctx) {
  Sizes axes(ctx.Result().sizes.size());
  std::iota(axes.rbegin(), axes.rend(), 0);
  return ctx.Transpose(ctx.Tensor("self").expr, axes);
}

Results MoveDims(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const Sizes source = ctx.Dims("source", self.rank());
  const Sizes destination = ctx.Dims("destination", self.rank());
  Sizes axes(self.sizes().size(), -1);
  std::vector<bool> moved(axes.size(), false);
  for (size_t i = 0; i < source.size(); ++i) {
    axes.at(static_cast<size_t>(destination[i])) = source[i];
    moved.at(static_cast<size_t>(source[i])) = true;
  }
  size_t next = 0;
  for (int64_t& axis : axes) {
    if (axis >= 0) continue;
    while (moved[next]) ++next;
    axis = static_cast<int64_t>(next++);
  }
  return ctx.Transpose(self.expr, axes);
}

Results Expand(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  return ctx.BroadcastTo(self.expr, self.sizes(), ctx.Result().sizes);
}

// The elements begin, begin + step, ... below end, of one dimension.
Expr SliceDim(const Context& ctx, const Operand& self, int64_t dim, int64_t begin, int64_t end,
              int64_t step) {
  if (begin == 0 && end >= self.sizes().at(static_cast<size_t>(dim)) && step == 1) return self.expr;
  return ctx.Slice(self.expr, dim, begin, end, step);
}

// A bound of a slice as PyTorch reads it: negative counts from the end, then clamped.
int64_t Clamped(int64_t bound, int64_t size) {
  if (bound < 0) bound += size;
  return std::clamp<int64_t>(bound, 0, size);
}

Results Slice(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const int64_t dim = ctx.Dim("dim", self.rank());
  const int64_t size = self.sizes().at(static_cast<size_t>(dim));
  const int64_t begin = Clamped(ctx.Has("start") ? ctx.Int("start") : 0, size);
  const int64_t end = Clamped(ctx.Has("end") ? ctx.Int("end") : size, size);
  return SliceDim(ctx, self, dim, begin, std::max(begin, end), ctx.Int("step"));
}

Results Narrow(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const int64_t dim = ctx.Dim("dim", self.rank());
  int64_t begin = ctx.Int("start");
  if (begin < 0) begin += self.sizes().at(static_cast<size_t>(dim));
  return SliceDim(ctx, self, dim, begin, begin + ctx.Int("length"), 1);
}

Results Select(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const int64_t dim = ctx.Dim("dim", self.rank());
  int64_t index = ctx.Int("index");
  if (index < 0) index += self.sizes().at(static_cast<size_t>(dim));
  const Expr slice = SliceDim(ctx, self, dim, index, index + 1, 1);
  return ctx.Call("squeeze", {slice}, {{"axis", IntArray({dim})}});
}

// Concatenation promotes dtypes and, for old times' sake, skips empty vectors.
Results Concatenate(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  std::vector<Expr> parts;
  for (const Operand& part : ctx.Tensors("tensors")) {
    if (part.info.numel() != 0) parts.push_back(ctx.Cast(part, result.dtype));
  }
  return ctx.Concatenate(parts, ctx.Dim("dim", result.rank()));
}

// diff: n times each element's successor minus the element. With n = 0 PyTorch looks at nothing
// else.
Results Difference(Context& ctx) {
  const ScalarType dtype = ctx.Result().dtype;
  const ScalarType math = MathType(dtype);
  const Operand self = ctx.Tensor("self");
  const int64_t steps = ctx.Int("n");
  if (steps == 0) return self.expr;
  const int64_t dim = ctx.Dim("dim", self.rank());
  std::vector<Expr> parts;
  TensorInfo info = self.info;
  int64_t& size = info.sizes.at(static_cast<size_t>(dim));
  size = 0;
  for (const auto& part : {ctx.OptionalTensor("prepend"), std::optional<Operand>(self),
                           ctx.OptionalTensor("append")}) {
    if (!part || part->info.numel() == 0) continue;
    parts.push_back(ctx.Cast(*part, dtype));
    size += part->sizes().at(static_cast<size_t>(dim));
  }
  Expr x = ctx.Concatenate(parts, dim);
  for (int64_t step = 0; step < steps; ++step, --size) {
    const Operand whole{x, info};
    const Expr later = SliceDim(ctx, whole, dim, 1, size, 1);
    const Expr earlier = SliceDim(ctx, whole, dim, 0, size - 1, 1);
    x = dtype == ScalarType::Bool ? ctx.Call("logical_xor", {later, earlier})
                                  : ctx.Cast(ctx.Call("subtract", {ctx.Cast(later, dtype, math),
                                                                   ctx.Cast(earlier, dtype, math)}),
                                             math, dtype);
  }
  return x;
}

Results Stack(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  std::vector<Expr> parts;
  for (const Operand& part : ctx.Tensors("tensors")) {
    parts.push_back(ctx.Cast(part, result.dtype));
  }
  const relay::Tuple tuple(ffi::Array<Expr>(parts.begin(), parts.end()));
  return ctx.Call("stack", {tuple}, {{"axis", ctx.Dim("dim", result.rank())}});
}

// Parts of which some are empty, which `split` does not give.
std::vector<Expr> SlicedParts(const Context& ctx, const Operand& self, int64_t dim,
                              const Sizes& sizes) {
  std::vector<Expr> parts;
  int64_t begin = 0;
  for (const int64_t size : sizes) {
    if (size == 0) {
      Sizes empty = self.sizes();
      empty[dim] = 0;
      parts.push_back(
          ctx.Call("zeros", {}, {{"shape", IntArray(empty)}, {"dtype", DtypeName(self.dtype())}}));
    } else if (size == self.sizes()[dim]) {
      parts.push_back(self.expr);
    } else {
      parts.push_back(ctx.Slice(self.expr, dim, begin, begin + size));
    }
    begin += size;
  }
  return parts;
}

// The parts of one dimension, their sizes taken from the node's results.
std::vector<Expr> Parts(const Context& ctx, const Operand& self, int64_t dim, const Sizes& sizes) {
  if (sizes.size() == 1) return {self.expr};
  if (std::find(sizes.begin(), sizes.end(), 0) != sizes.end()) {
    return SlicedParts(ctx, self, dim, sizes);
  }
  const bool equal =
      std::all_of(sizes.begin(), sizes.end(), [&](int64_t s) { return s == sizes[0]; });
  Sizes cuts(sizes.size() - 1);
  std::partial_sum(sizes.begin(), sizes.end() - 1, cuts.begin());
  const ffi::Any sections =
      equal ? ffi::Any(static_cast<int64_t>(sizes.size())) : ffi::Any(IntArray(cuts));
  const Expr tuple =
      ctx.Call("split", {self.expr}, {{"indices_or_sections", sections}, {"axis", dim}});
  std::vector<Expr> parts;
  for (size_t i = 0; i < sizes.size(); ++i) {
    parts.push_back(relay::TupleGetItem(tuple, static_cast<int64_t>(i), tuple->span));
  }
  return parts;
}

Results SplitAlong(const Context& ctx, const Operand& self, int64_t dim) {
  Sizes sizes;
  for (size_t i = 0; i < ctx.NumResults(); ++i) {
    sizes.push_back(ctx.Result(i).sizes.at(static_cast<size_t>(dim)));
  }
  return Parts(ctx, self, dim, sizes);
}

Results Split(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  return SplitAlong(ctx, self, ctx.Dim("dim", self.rank()));
}

// hsplit, vsplit, dsplit; hsplit splits a vector's only dimension.
Converter SplitAcross(int64_t dim) {
  return [dim](Context& ctx) -> Results {
    const Operand self = ctx.Tensor("self");
    return SplitAlong(ctx, self, std::min(dim, self.rank() - 1));
  };
}

// prim::ConstantChunk holds its arguments as node attributes.
Results ConstantChunk(Context& ctx) {
  const Operand self = ctx.Input(0);
  const int64_t dim = ctx.node()->i(c10::attr::dim);
  return SplitAlong(ctx, self, dim < 0 ? dim + self.rank() : dim);
}

Results Unbind(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const int64_t dim = ctx.Dim("dim", self.rank());
  std::vector<Expr> parts = Parts(ctx, self, dim, Sizes(ctx.NumResults(), 1));
  for (Expr& part : parts) part = ctx.Call("squeeze", {part}, {{"axis", IntArray({dim})}});
  return parts;
}

Results Flip(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  Expr value = self.expr;
  if (self.rank() == 0) return value;
  for (const int64_t dim : ctx.Dims("dims", self.rank())) {
    value = ctx.Call("reverse", {value}, {{"axis", dim}});
  }
  return value;
}

Results Repeat(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  Sizes repeats = ctx.Ints(ctx.Has("repeats") ? "repeats" : "dims");
  if (repeats.size() < self.sizes().size()) {  // tile
    repeats.insert(repeats.begin(), self.sizes().size() - repeats.size(), 1);
  }
  Sizes shape(repeats.size() - self.sizes().size(), 1);
  shape.insert(shape.end(), self.sizes().begin(), self.sizes().end());
  const Expr value = ctx.Reshape(self.expr, self.sizes(), shape);
  const bool once = std::all_of(repeats.begin(), repeats.end(), [](int64_t r) { return r == 1; });
  return once ? value : ctx.Call("tile", {value}, {{"reps", IntArray(repeats)}});
}

Results RepeatInterleave(Context& ctx) {
  Operand self = ctx.Tensor("self");
  int64_t axis = 0;
  if (ctx.Has("dim")) {
    axis = ctx.Dim("dim", self.rank());
  } else {
    self.expr = ctx.Reshape(self.expr, self.sizes(), {self.info.numel()});
  }
  return ctx.Call("repeat", {self.expr}, {{"repeats", ctx.Int("repeats")}, {"axis", axis}});
}

const Registrar kViews({
    {"aten::view", Reshaped},
    {"aten::_unsafe_view", Reshaped},
    {"aten::reshape", Reshaped},
    {"aten::_reshape_alias", Reshaped},
    {"aten::view_as", Reshaped},
    {"aten::reshape_as", Reshaped},
    {"aten::flatten.using_ints", Reshaped},
    {"aten::unflatten.int", Reshaped},
    {"aten::ravel", Reshaped},
    {"aten::view_copy", Reshaped},
    {"aten::_reshape_copy", Reshaped},
    {"aten::squeeze_copy", Squeeze},
    {"aten::squeeze_copy.dim", Squeeze},
    {"aten::squeeze_copy.dims", Squeeze},
    {"aten::unsqueeze_copy", Unsqueeze},
    {"aten::permute_copy", Permute},
    {"aten::transpose_copy.int", Swap("dim0", "dim1")},
    {"aten::t_copy", TransposeMatrix},
    {"aten::expand_copy", Expand},
    {"aten::moveaxis.int", MoveDims},
    {"aten::moveaxis.intlist", MoveDims},
    {"aten::mH", TransposeMatrix},
    {"aten::matrix_H", TransposeMatrix},
    {"aten::unsqueeze", Unsqueeze},
    {"aten::squeeze", Squeeze},
    {"aten::squeeze.dim", Squeeze},
    {"aten::squeeze.dims", Squeeze},
    {"aten::permute", Permute},
    {"aten::transpose.int", Swap("dim0", "dim1")},
    {"aten::swapaxes", Swap("axis0", "axis1")},
    {"aten::swapdims", Swap("dim0", "dim1")},
    {"aten::t", TransposeMatrix},
    {"aten::mT", TransposeMatrix},
    {"aten::adjoint", TransposeMatrix},
    {"aten::numpy_T", ReverseDims},
    {"aten::movedim.int", MoveDims},
    {"aten::movedim.intlist", MoveDims},
    {"aten::expand", Expand},
    {"aten::expand_as", Expand},
    {"aten::broadcast_to", Expand},
});

const Registrar kCopies({
    {"aten::contiguous", Same("self")},
    {"aten::clone", Same("self")},
    {"aten::detach", Same("self")},
    {"aten::alias", Same("self")},
    {"aten::alias_copy", Same("self")},
    {"aten::positive", Same("self")},
    {"aten::dropout", EvaluatedDropout, RequireFalse("train")},
    {"aten::feature_dropout", EvaluatedDropout, RequireFalse("train")},
    {"aten::alpha_dropout", EvaluatedDropout, RequireFalse("train")},
    {"aten::feature_alpha_dropout", EvaluatedDropout, RequireFalse("train")},
});

const Registrar kPieces({
    {"aten::slice.Tensor", Slice},
    {"aten::diff", Difference},
    {"aten::slice_copy.Tensor", Slice},
    {"aten::narrow", Narrow},
    {"aten::narrow_copy", Narrow},
    {"aten::select.int", Select},
    {"aten::select_copy.int", Select},
    {"aten::cat", Concatenate},
    {"aten::concat", Concatenate},
    {"aten::concatenate", Concatenate},
    {"aten::stack", Stack},
    {"aten::split.Tensor", Split},
    {"aten::split.sizes", Split},
    {"aten::split_with_sizes", Split},
    {"aten::split_with_sizes_copy", Split},
    {"aten::split_copy.Tensor", Split},
    {"aten::unsafe_split_with_sizes", Split},
    {"aten::hsplit.int", SplitAcross(1)},
    {"aten::hsplit.array", SplitAcross(1)},
    {"aten::vsplit.int", SplitAcross(0)},
    {"aten::vsplit.array", SplitAcross(0)},
    {"aten::dsplit.int", SplitAcross(2)},
    {"aten::dsplit.array", SplitAcross(2)},
    {"aten::unsafe_split.Tensor", Split},
    {"aten::chunk", Split},
    {"aten::unsafe_chunk", Split},
    {"aten::tensor_split.sections", Split},
    {"aten::tensor_split.indices", Split},
    {"prim::ConstantChunk", ConstantChunk},
    {"aten::unbind.int", Unbind},
    {"aten::unbind_copy.int", Unbind},
    {"aten::flip", Flip},
    {"aten::repeat", Repeat},
    {"aten::tile", Repeat},
    {"aten::repeat_interleave.self_int", RepeatInterleave},
});

}  // namespace
}  // namespace torch_tvm::convert
