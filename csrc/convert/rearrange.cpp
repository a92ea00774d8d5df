// Converters of what rearranges elements in patterns: shuffles of channels, diagonals, windows,
// stacks of several tensors.
#include <algorithm>

#include "convert/context.h"

namespace torch_tvm::convert {
namespace {

size_t At(int64_t dim) { return static_cast<size_t>(dim); }

// The operand with its dimensions split, these in another order, and joined again.
Expr Shuffled(const Context& ctx, const Operand& self, const Sizes& split, const Sizes& axes) {
  const Expr moved = ctx.Transpose(ctx.Reshape(self.expr, self.sizes(), split), axes);
  return ctx.Reshape(moved, Permuted(split, axes), ctx.Result().sizes);
}

// Zeros before and behind one dimension.
Expr PadAxis(const Context& ctx, const Expr& x, int64_t rank, int64_t axis, int64_t before,
             int64_t behind, ScalarType dtype) {
  if (before == 0 && behind == 0) return x;
  std::vector<ffi::Array<int64_t>> widths(At(rank), IntArray({0, 0}));
  widths[At(axis)] = IntArray({before, behind});
  return ctx.Call("nn.pad", {x, ctx.Constant(0, dtype)},
                  {{"pad_width", ffi::Array<ffi::Array<int64_t>>(widths.begin(), widths.end())}});
}

// (..., C r r, H, W) to (..., C, H r, W r), and back.
Results PixelShuffle(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const int64_t r = ctx.Int("upscale_factor"), lead = self.rank() - 3;
  const Sizes& sizes = self.sizes();
  Sizes split(sizes.begin(), sizes.begin() + lead);
  split.insert(split.end(),
               {sizes[At(lead)] / r / r, r, r, sizes[At(lead + 1)], sizes[At(lead + 2)]});
  Sizes axes = Counted(At(lead));
  for (const int64_t axis : {0, 3, 1, 4, 2}) axes.push_back(lead + axis);
  return Shuffled(ctx, self, split, axes);
}

Results PixelUnshuffle(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const int64_t r = ctx.Int("downscale_factor"), lead = self.rank() - 3;
  const Sizes& sizes = self.sizes();
  Sizes split(sizes.begin(), sizes.begin() + lead + 1);
  split.insert(split.end(), {sizes[At(lead + 1)] / r, r, sizes[At(lead + 2)] / r, r});
  Sizes axes = Counted(At(lead));
  for (const int64_t axis : {0, 2, 4, 1, 3}) axes.push_back(lead + axis);
  return Shuffled(ctx, self, split, axes);
}

Results ChannelShuffle(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const int64_t groups = ctx.Int("groups");
  const Sizes& sizes = self.sizes();
  Sizes split = {sizes[0], groups, sizes[1] / groups};
  split.insert(split.end(), sizes.begin() + 2, sizes.end());
  Sizes axes = Counted(split.size());
  std::swap(axes[1], axes[2]);
  return Shuffled(ctx, self, split, axes);
}

// -- Diagonals

// The diagonal of two dimensions, as the last one: elements of a matrix in steps of a row and one.
Expr DiagonalOf(const Context& ctx, const Operand& self, int64_t offset, int64_t first,
                int64_t second, int64_t length) {
  Sizes axes;
  for (int64_t dim = 0; dim < self.rank(); ++dim) {
    if (dim != first && dim != second) axes.push_back(dim);
  }
  axes.insert(axes.end(), {first, second});
  const Sizes moved = Permuted(self.sizes(), axes);
  const int64_t columns = moved.back();
  Sizes flat(moved.begin(), moved.end() - 1);
  flat.back() *= columns;
  const Expr rows = ctx.Reshape(ctx.Transpose(self.expr, axes), moved, flat);
  const int64_t begin = offset >= 0 ? offset : -offset * columns;
  const int64_t last = begin + (length - 1) * (columns + 1);
  return ctx.Slice(rows, static_cast<int64_t>(flat.size()) - 1, begin, last + 1, columns + 1);
}

Results Diagonal(Context& ctx) {
  const Operand self = ctx.Tensor(ctx.node()->schema().argumentIndexWithName("A") ? "A" : "self");
  return DiagonalOf(ctx, self, ctx.Int("offset"), ctx.Dim("dim1", self.rank()),
                    ctx.Dim("dim2", self.rank()), ctx.Result().sizes.back());
}

Results Trace(Context& ctx) {
  Operand self = ctx.Tensor("self");
  const ScalarType dtype = ctx.Result().dtype;
  const int64_t length = std::min(self.sizes()[0], self.sizes()[1]);
  if (length == 0) return ctx.Full(0, {}, dtype);
  const Expr diagonal = DiagonalOf(ctx, self, 0, 0, 1, length);
  const Expr sum = ctx.Call("sum", {ctx.Cast(diagonal, self.dtype(), MathType(dtype))},
                            {{"axis", IntArray({0})}, {"keepdims", false}});
  return ctx.Cast(sum, MathType(dtype), dtype);
}

// Matrices with the last dimension on a diagonal: its elements, counted by columns, where the
// column's number is the row's and the offset.
Expr OnDiagonal(const Context& ctx, const Operand& self, int64_t offset) {
  const ScalarType dtype = self.dtype();
  Sizes row = self.sizes();
  const int64_t side = row.back() + std::abs(offset);
  Expr x = self.expr;
  const auto rank = static_cast<int64_t>(row.size());
  x = PadAxis(ctx, x, rank, rank - 1, std::max<int64_t>(offset, 0), std::max<int64_t>(-offset, 0),
              dtype);
  row.back() = side;
  Sizes rows = row;
  rows.insert(rows.end() - 1, 1);
  const Expr columns = ctx.Arange(side, -offset);
  const Expr numbers = ctx.Reshape(ctx.Arange(side), {side}, {side, 1});
  return ctx.Call("where", {ctx.Call("equal", {columns, numbers}), ctx.Reshape(x, row, rows),
                            ctx.Constant(0, dtype)});
}

Results DiagEmbed(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const int64_t rank = self.rank() + 1;
  const Expr matrices = OnDiagonal(ctx, self, ctx.Int("offset"));
  const int64_t first = ctx.Dim("dim1", rank), second = ctx.Dim("dim2", rank);
  Sizes axes;
  for (int64_t dim = 0, next = 0; dim < rank; ++dim) {
    axes.push_back(dim == first ? rank - 2 : dim == second ? rank - 1 : next++);
  }
  return ctx.Transpose(matrices, axes);
}

Results DiagFlat(Context& ctx) {
  Operand self = ctx.Tensor("self");
  const Sizes flat = {self.info.numel()};
  self.expr = ctx.Reshape(self.expr, self.sizes(), flat);
  self.info.sizes = flat;
  return OnDiagonal(ctx, self, ctx.Int("offset"));
}

// The diagonal of a matrix, and a matrix of a diagonal.
Results Diag(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  if (self.rank() < 2) return OnDiagonal(ctx, self, ctx.Int("diagonal"));
  return DiagonalOf(ctx, self, ctx.Int("diagonal"), 0, 1, ctx.Result().sizes[0]);
}

// -- Flips

Expr Reversed(const Context& ctx, const Expr& x, int64_t dim) {
  return ctx.Call("reverse", {x}, {{"axis", dim}});
}

Converter FlipDim(int64_t dim) {
  return [dim](Context& ctx) -> Results { return Reversed(ctx, ctx.Tensor("self").expr, dim); };
}

Results Rotate(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const Sizes dims = ctx.Dims("dims", self.rank());
  const int64_t turns = ((ctx.Int("k") % 4) + 4) % 4;
  Sizes axes = Counted(At(self.rank()));
  std::swap(axes[At(dims[0])], axes[At(dims[1])]);
  if (turns == 0) return self.expr;
  if (turns == 2) return Reversed(ctx, Reversed(ctx, self.expr, dims[0]), dims[1]);
  if (turns == 1) return ctx.Transpose(Reversed(ctx, self.expr, dims[1]), axes);
  return Reversed(ctx, ctx.Transpose(self.expr, axes), dims[1]);
}

// -- Windows

// All windows of one dimension, which become the last dimension: a slice for each place in a
// window, side by side.
Expr Windows(const Context& ctx, const Expr& x, int64_t rank, int64_t dim, int64_t count,
             int64_t size, int64_t step, int64_t dilation) {
  std::vector<Expr> places;
  for (int64_t place = 0; place < size; ++place) {
    const int64_t begin = place * dilation;
    places.push_back(ctx.Slice(x, dim, begin, begin + (count - 1) * step + 1, step));
  }
  const relay::Tuple tuple(ffi::Array<Expr>(places.begin(), places.end()));
  return ctx.Call("stack", {tuple}, {{"axis", rank}});
}

constexpr int64_t kMostPlaces = 256;

Results Unfold(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const int64_t size = ctx.Int("size");
  if (self.rank() == 0) return ctx.Reshape(self.expr, {}, ctx.Result().sizes);
  if (size > kMostPlaces) ctx.Refuse("size=" + std::to_string(size) + "; at most 256 is converted");
  const int64_t dim = ctx.Dim("dimension", self.rank());
  return Windows(ctx, self.expr, self.rank(), dim, ctx.Result().sizes[At(dim)], size,
                 ctx.Int("step"), 1);
}

// The two numbers of an argument for height and width; one stands for both.
Sizes Pair(const Context& ctx, const char* name) {
  const Sizes values = ctx.Ints(name);
  return values.size() == 1 ? Sizes{values[0], values[0]} : values;
}

// torch.nn.functional.unfold: columns of the patches of an image.
Results ImageToColumns(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const Sizes kernel = Pair(ctx, "kernel_size"), dilation = Pair(ctx, "dilation");
  const Sizes padding = Pair(ctx, "padding"), stride = Pair(ctx, "stride");
  if (kernel[0] * kernel[1] > kMostPlaces) ctx.Refuse("kernel_size has more than 256 places");
  const bool batched = self.rank() == 4;
  Sizes sizes = self.sizes();
  if (!batched) sizes.insert(sizes.begin(), 1);
  Expr x = ctx.Reshape(self.expr, self.sizes(), sizes);
  x = PadAxis(ctx, x, 4, 2, padding[0], padding[0], self.dtype());
  x = PadAxis(ctx, x, 4, 3, padding[1], padding[1], self.dtype());
  Sizes count(2);
  for (size_t i = 0; i < 2; ++i) {
    const int64_t extent = sizes[2 + i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1;
    count[i] = extent / stride[i] + 1;
  }
  x = Windows(ctx, x, 4, 2, count[0], kernel[0], stride[0], dilation[0]);
  x = Windows(ctx, x, 5, 3, count[1], kernel[1], stride[1], dilation[1]);
  x = ctx.Transpose(x, {0, 1, 4, 5, 2, 3});
  const Sizes made = {sizes[0], sizes[1], kernel[0], kernel[1], count[0], count[1]};
  return ctx.Reshape(x, made, ctx.Result().sizes);
}

// Adds up what the places of a window hold, (lead, places, mid, count, tail), where the places lie:
// (lead * mid, whole, tail). Each place's elements are spread by the stride, with zeros between.
Expr AddPlaces(const Context& ctx, const Expr& x, const Sizes& sizes, int64_t whole, int64_t stride,
               int64_t dilation, ScalarType dtype) {
  const int64_t rows = sizes[0] * sizes[2], count = sizes[3], tail = sizes[4];
  const int64_t used = (count - 1) * stride + 1;
  std::optional<Expr> sum;
  for (int64_t place = 0; place < sizes[1]; ++place) {
    Sizes one = sizes;
    one[1] = 1;
    const Expr slice = sizes[1] == 1 ? x : ctx.Slice(x, 1, place, place + 1);
    Expr part = ctx.Reshape(slice, one, {rows, count, 1, tail});
    part = PadAxis(ctx, part, 4, 2, 0, stride - 1, dtype);
    part = ctx.Reshape(part, {rows, count, stride, tail}, {rows, count * stride, tail});
    if (used != count * stride) part = ctx.Slice(part, 1, 0, used);
    const int64_t before = place * dilation;
    part = PadAxis(ctx, part, 3, 1, before, whole - before - used, dtype);
    sum = sum ? ctx.Call("add", {*sum, part}) : part;
  }
  return *sum;
}

// torch.nn.functional.fold: the patches, added where they overlap.
Results ColumnsToImage(Context& ctx) {
  const Operand self = ctx.Tensor("self");
  const ScalarType math = MathType(self.dtype());
  const Sizes kernel = Pair(ctx, "kernel_size"), dilation = Pair(ctx, "dilation");
  const Sizes padding = Pair(ctx, "padding"), stride = Pair(ctx, "stride");
  const Sizes output = Pair(ctx, "output_size");
  if (kernel[0] * kernel[1] > kMostPlaces) ctx.Refuse("kernel_size has more than 256 places");
  const Sizes& sizes = self.sizes();
  const int64_t planes = self.info.numel() / sizes.back() / kernel[0] / kernel[1];
  Sizes count(2), whole(2);
  for (size_t i = 0; i < 2; ++i) {
    whole[i] = output[i] + 2 * padding[i];
    count[i] = (whole[i] - dilation[i] * (kernel[i] - 1) - 1) / stride[i] + 1;
  }
  const Sizes patches = {planes, kernel[0], kernel[1], count[0], count[1]};
  Expr x = ctx.Reshape(ctx.Cast(self, math), sizes, patches);
  x = AddPlaces(ctx, x, patches, whole[0], stride[0], dilation[0], math);
  const Sizes lines = {planes, kernel[1], whole[0], count[1], 1};
  x = ctx.Reshape(x, {planes * kernel[1], whole[0], count[1]}, lines);
  x = AddPlaces(ctx, x, lines, whole[1], stride[1], dilation[1], math);
  x = ctx.Reshape(x, {planes * whole[0], whole[1], 1}, {planes, whole[0], whole[1]});
  if (padding[0] != 0) x = ctx.Slice(x, 1, padding[0], padding[0] + output[0]);
  if (padding[1] != 0) x = ctx.Slice(x, 2, padding[1], padding[1] + output[1]);
  x = ctx.Reshape(x, {planes, output[0], output[1]}, ctx.Result().sizes);
  return ctx.Cast(x, math, ctx.Result().dtype);
}

// -- Several tensors

Results BroadcastTensors(Context& ctx) {
  std::vector<Expr> results;
  for (const Operand& operand : ctx.Tensors("tensors")) {
    results.push_back(ctx.BroadcastTo(operand.expr, operand.sizes(), ctx.Result().sizes));
  }
  return results;
}

// atleast_1d, atleast_2d, atleast_3d.
Results AtLeast(Context& ctx) {
  std::vector<Expr> results;
  const bool one = ctx.Value(ctx.node()->schema().arguments()[0].name().c_str()).isTensor();
  const std::vector<Operand> operands =
      one ? std::vector<Operand>{ctx.Tensor("self")} : ctx.Tensors("tensors");
  if (operands.size() != ctx.NumResults()) {
    ctx.Refuse("some of its tensors have the rank already, and others do not");
  }
  for (size_t i = 0; i < operands.size(); ++i) {
    results.push_back(ctx.Reshape(operands[i].expr, operands[i].sizes(), ctx.Result(i).sizes));
  }
  return results;
}

// Joins along `dim` of tensors that are given the result's rank first.
Results Joined(Context& ctx, int64_t dim, Sizes (*widened)(const Sizes&)) {
  const ScalarType dtype = ctx.Result().dtype;
  std::vector<Expr> parts;
  for (const Operand& part : ctx.Tensors("tensors")) {
    if (part.info.numel() == 0) continue;
    parts.push_back(ctx.Reshape(ctx.Cast(part, dtype), part.sizes(), widened(part.sizes())));
  }
  return ctx.Concatenate(parts, dim);
}

Sizes AsRow(const Sizes& sizes) {
  if (sizes.empty()) return {1, 1};
  return sizes.size() == 1 ? Sizes{1, sizes[0]} : sizes;
}

Sizes AsColumn(const Sizes& sizes) {
  if (sizes.empty()) return {1, 1};
  return sizes.size() == 1 ? Sizes{sizes[0], 1} : sizes;
}

Sizes AsVector(const Sizes& sizes) { return sizes.empty() ? Sizes{1} : sizes; }

Sizes AsVolume(const Sizes& sizes) {
  if (sizes.empty()) return {1, 1, 1};
  if (sizes.size() == 1) return {1, sizes[0], 1};
  return sizes.size() == 2 ? Sizes{sizes[0], sizes[1], 1} : sizes;
}

// Each matrix in rows of its own, zeros beside it.
Results BlockDiagonal(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  const int64_t columns = result.sizes[1];
  std::vector<Expr> rows;
  int64_t before = 0;
  for (const Operand& part : ctx.Tensors("tensors")) {
    const Sizes block = AsRow(part.sizes());
    const int64_t width = block[1];
    const Expr x = ctx.Reshape(ctx.Cast(part, result.dtype), part.sizes(), block);
    before += width;
    if (block[0] == 0) continue;
    rows.push_back(width == 0
                       ? ctx.Full(0, {block[0], columns}, result.dtype)
                       : PadAxis(ctx, x, 2, 1, before - width, columns - before, result.dtype));
  }
  return ctx.Concatenate(rows, 0);
}

// Each tensor in chunks of one dimension, padded with zeros; chunks of one number side by side.
Results ChunkAndJoin(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  const int64_t chunks = ctx.Int("num_chunks");
  const std::vector<Operand> tensors = ctx.Tensors("tensors");
  const int64_t dim = ctx.Dim("dim", tensors.at(0).rank());
  std::vector<Expr> parts;
  for (const Operand& part : tensors) {
    if (part.info.numel() == 0) ctx.Refuse("one of its tensors has no elements");
    Sizes sizes = part.sizes();
    int64_t& size = sizes[At(dim)];
    const int64_t whole = (size + chunks - 1) / chunks * chunks;
    const Expr x =
        PadAxis(ctx, ctx.Cast(part, result.dtype), part.rank(), dim, 0, whole - size, result.dtype);
    size = whole;
    Sizes folded(sizes.begin(), sizes.begin() + dim);
    folded.push_back(chunks);
    folded.push_back(Product({sizes.begin() + dim, sizes.end()}) / chunks);
    parts.push_back(ctx.Reshape(x, sizes, folded));
  }
  return ctx.Concatenate(parts, dim + 1);
}

Results StackRows(Context& ctx) { return Joined(ctx, 0, AsRow); }
Results StackColumns(Context& ctx) { return Joined(ctx, 1, AsColumn); }
Results StackDepth(Context& ctx) { return Joined(ctx, 2, AsVolume); }
Results StackAcross(Context& ctx) {
  return Joined(ctx, ctx.Result().rank() == 1 ? 0 : 1, AsVector);
}

const Registrar kRearrange({
    {"aten::pixel_shuffle", PixelShuffle},
    {"aten::pixel_unshuffle", PixelUnshuffle},
    {"aten::channel_shuffle", ChannelShuffle},
    {"aten::native_channel_shuffle", ChannelShuffle},
    {"aten::diagonal", Diagonal},
    {"aten::diagonal_copy", Diagonal},
    {"aten::linalg_diagonal", Diagonal},
    {"aten::trace", Trace},
    {"aten::diag_embed", DiagEmbed},
    {"aten::diagflat", DiagFlat},
    {"aten::diag", Diag},
    {"aten::fliplr", FlipDim(1)},
    {"aten::flipud", FlipDim(0)},
    {"aten::rot90", Rotate},
    {"aten::unfold", Unfold},
    {"aten::unfold_copy", Unfold},
    {"aten::im2col", ImageToColumns},
    {"aten::col2im", ColumnsToImage},
    {"aten::broadcast_tensors", BroadcastTensors},
    {"aten::atleast_1d", AtLeast},
    {"aten::atleast_1d.Sequence", AtLeast},
    {"aten::atleast_2d", AtLeast},
    {"aten::atleast_2d.Sequence", AtLeast},
    {"aten::atleast_3d", AtLeast},
    {"aten::atleast_3d.Sequence", AtLeast},
    {"aten::vstack", StackRows},
    {"aten::row_stack", StackRows},
    {"aten::hstack", StackAcross},
    {"aten::column_stack", StackColumns},
    {"aten::dstack", StackDepth},
    {"aten::block_diag", BlockDiagonal},
    {"aten::_chunk_cat", ChunkAndJoin},
});

}  // namespace
}  // namespace torch_tvm::convert
