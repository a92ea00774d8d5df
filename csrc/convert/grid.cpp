// Converters of sampling an image at the places of a grid, and of grids made of affine maps.
#include <ATen/ATen.h>

#include <array>

#include "convert/context.h"

namespace torch_tvm::convert {
namespace {

Results GridSample(Context& ctx) {
  constexpr std::array<const char*, 3> kMethods = {"bilinear", "nearest", "bicubic"};
  constexpr std::array<const char*, 3> kPaddings = {"zeros", "border", "reflection"};
  const Operand input = ctx.Tensor("input"), grid = ctx.Tensor("grid");
  const auto chosen = [&](const char* name, const std::array<const char*, 3>& names) {
    const int64_t number = ctx.Int(name);
    if (number < 0 || number > 2) {
      ctx.Refuse(std::string(name) + "=" + std::to_string(number) + " is unknown");
    }
    return ffi::String(names[static_cast<size_t>(number)]);
  };
  const ScalarType result = ctx.Result().dtype, math = MathType(result);
  const bool volume = input.rank() == 5;
  if (input.info.numel() == 0) ctx.Refuse("input has no elements");
  // Relay has the coordinates in dimension 1.
  const Expr places =
      ctx.Transpose(ctx.Cast(grid, math), volume ? Sizes{0, 4, 1, 2, 3} : Sizes{0, 3, 1, 2});
  const Expr value = ctx.Call("image.grid_sample", {ctx.Cast(input, math), places},
                              {{"method", chosen("interpolation_mode", kMethods)},
                               {"layout", ffi::String(volume ? "NCDHW" : "NCHW")},
                               {"padding_mode", chosen("padding_mode", kPaddings)},
                               {"align_corners", ctx.Bool("align_corners")}});
  return ctx.Cast(value, math, result);
}

// Numbers from -1 to 1: of the first and last pixels' centers, or of the edges around them.
at::Tensor Range(int64_t count, bool align_corners, ScalarType dtype) {
  if (count <= 1) return at::zeros({1}, at::dtype(dtype));
  const at::Tensor range = at::linspace(-1, 1, count, at::dtype(dtype));
  return align_corners ? range : range * (count - 1) / count;
}

// Places of all pixels, with a 1 behind, times the maps.
Results AffineGrid(Context& ctx) {
  const Operand theta = ctx.Tensor("theta");
  const Sizes size = ctx.Ints("size");
  const ScalarType dtype = theta.dtype(), math = MathType(dtype);
  std::vector<at::Tensor> ranges;
  for (size_t dim = 2; dim < size.size(); ++dim) {
    ranges.push_back(Range(size[dim], ctx.Bool("align_corners"), dtype));
  }
  std::vector<at::Tensor> places = at::meshgrid(ranges, "ij");
  std::reverse(places.begin(), places.end());
  places.push_back(at::ones_like(places[0]));
  const auto width = static_cast<int64_t>(places.size());
  const at::Tensor base = at::stack(places, -1).reshape({1, -1, width}).to(math);
  const Expr grid = ctx.Call("nn.batch_matmul", {CarriedConstant(base), ctx.Cast(theta, math)},
                             {{"transpose_a", false}, {"transpose_b", true}});
  const Sizes made = {theta.sizes()[0], base.size(1), width - 1};
  return ctx.Cast(ctx.Reshape(grid, made, ctx.Result().sizes), math, dtype);
}

const Registrar kGrid({
    {"aten::grid_sampler", GridSample},
    {"aten::grid_sampler_2d", GridSample},
    {"aten::grid_sampler_3d", GridSample},
    {"aten::affine_grid_generator", AffineGrid},
});

}  // namespace
}  // namespace torch_tvm::convert
