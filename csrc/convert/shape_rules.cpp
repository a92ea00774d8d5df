#include "convert/shape_rules.h"

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <ATen/native/ConvUtils.h>
#include <ATen/ops/_softmax_meta_dispatch.h>
#include <ATen/ops/add_meta_dispatch.h>
#include <ATen/ops/avg_pool2d_meta_dispatch.h>
#include <ATen/ops/bmm_meta_dispatch.h>
#include <ATen/ops/cat_meta_dispatch.h>
#include <ATen/ops/div_meta_dispatch.h>
#include <ATen/ops/exp_meta_dispatch.h>
#include <ATen/ops/gather_meta_dispatch.h>
#include <ATen/ops/max_pool2d_with_indices_meta_dispatch.h>
#include <ATen/ops/mean_meta_dispatch.h>
#include <ATen/ops/mul_meta_dispatch.h>
#include <ATen/ops/neg_meta_dispatch.h>
#include <ATen/ops/pow_meta_dispatch.h>
#include <ATen/ops/rsqrt_meta_dispatch.h>
#include <ATen/ops/sigmoid_meta_dispatch.h>
#include <ATen/ops/sub_meta_dispatch.h>
#include <ATen/ops/tanh_meta_dispatch.h>

#include <algorithm>
#include <string>
#include <unordered_map>

#include "convert/operator_name.h"

namespace torch_tvm::convert {
namespace {

using Outputs = std::optional<std::vector<c10::IValue>>;

class Arguments {
 public:
  Arguments(const c10::FunctionSchema& schema, const std::vector<c10::IValue>& inputs)
      : schema_(schema), inputs_(inputs) {}

  const c10::IValue& operator[](const char* name) const {
    return inputs_.at(static_cast<size_t>(*schema_.argumentIndexWithName(name)));
  }
  bool Has(const char* name) const { return schema_.argumentIndexWithName(name).has_value(); }
  at::Tensor Tensor(const char* name) const {
    const c10::IValue& value = (*this)[name];
    return value.isTensor() ? value.toTensor() : at::Tensor();
  }

 private:
  const c10::FunctionSchema& schema_;
  const std::vector<c10::IValue>& inputs_;
};

// Absent, or one number for each channel, of the dtype of the data.
bool IsPerChannel(const at::Tensor& vector, const at::Tensor& data, int64_t channels) {
  return !vector.defined() || (vector.dim() == 1 && vector.size(0) == channels &&
                               vector.scalar_type() == data.scalar_type());
}

bool AllAtLeast(const std::vector<int64_t>& values, size_t count, int64_t least) {
  return values.size() == count &&
         std::all_of(values.begin(), values.end(), [&](int64_t value) { return value >= least; });
}

// Batched, not transposed, over images. Strides: cpu_strides.h.
Outputs Convolution(const Arguments& arguments) {
  const at::Tensor input = arguments.Tensor("input");
  const at::Tensor weight = arguments.Tensor("weight");
  if (arguments.Has("transposed") && arguments["transposed"].toBool()) return std::nullopt;
  if (!arguments["padding"].isIntList() || !weight.defined() || weight.dim() != 4) {
    return std::nullopt;
  }
  const auto stride = arguments["stride"].toIntVector();
  const auto padding = arguments["padding"].toIntVector();
  const auto dilation = arguments["dilation"].toIntVector();
  const int64_t groups = arguments["groups"].toInt();
  const bool valid = input.dim() == 4 && input.scalar_type() == weight.scalar_type() &&
                     groups > 0 && weight.size(0) % groups == 0 &&
                     input.size(1) == weight.size(1) * groups && AllAtLeast(stride, 2, 1) &&
                     AllAtLeast(padding, 2, 0) && AllAtLeast(dilation, 2, 1) &&
                     IsPerChannel(arguments.Tensor("bias"), input, weight.size(0)) &&
                     input.numel() > 0 && weight.numel() > 0;
  if (!valid) return std::nullopt;
  for (int64_t d = 0; d < 2; ++d) {
    const int64_t window = dilation[d] * (weight.size(d + 2) - 1) + 1;
    if (input.size(d + 2) + 2 * padding[d] < window) return std::nullopt;
  }
  const auto sizes =
      at::native::conv_output_size(input.sizes(), weight.sizes(), padding, stride, dilation);
  return std::vector<c10::IValue>{at::empty(sizes, input.options())};
}

// In evaluation, with the statistics of training.
Outputs BatchNorm(const Arguments& arguments) {
  const at::Tensor input = arguments.Tensor("input");
  if (arguments["training"].toBool() || input.dim() < 2 || input.numel() == 0) return std::nullopt;
  for (const char* name : {"weight", "bias", "running_mean", "running_var"}) {
    if (!IsPerChannel(arguments.Tensor(name), input, input.size(1))) return std::nullopt;
  }
  for (const char* name : {"running_mean", "running_var"}) {
    if (!arguments.Tensor(name).defined()) return std::nullopt;
  }
  return std::vector<c10::IValue>{at::empty(input.sizes(), input.options())};
}

// One result for each element, of its dtype and in its place.
Outputs Activation(const Arguments& arguments) {
  const at::Tensor self = arguments.Tensor(arguments.Has("self") ? "self" : "input");
  if (!self.is_floating_point() || !self.is_non_overlapping_and_dense()) return std::nullopt;
  return std::vector<c10::IValue>{at::empty_strided(self.sizes(), self.strides(), self.options())};
}

Outputs LayerNorm(const Arguments& arguments) {
  const at::Tensor input = arguments.Tensor("input");
  const auto shape = arguments["normalized_shape"].toIntVector();
  const auto rank = static_cast<int64_t>(shape.size());
  if (!input.is_floating_point() || rank == 0 || rank > input.dim() ||
      input.sizes().slice(static_cast<size_t>(input.dim() - rank)) != at::IntArrayRef(shape)) {
    return std::nullopt;
  }
  for (const char* name : {"weight", "bias"}) {
    const at::Tensor affine = arguments.Tensor(name);
    if (affine.defined() &&
        (affine.sizes() != at::IntArrayRef(shape) || affine.scalar_type() != input.scalar_type())) {
      return std::nullopt;
    }
  }
  return std::vector<c10::IValue>{at::empty(input.sizes(), input.options())};
}

Outputs Linear(const Arguments& arguments) {
  const at::Tensor input = arguments.Tensor("input");
  const at::Tensor weight = arguments.Tensor("weight");
  const bool valid = input.is_floating_point() && input.is_contiguous() && input.dim() > 0 &&
                     weight.dim() == 2 && input.size(-1) == weight.size(1) &&
                     input.scalar_type() == weight.scalar_type() &&
                     IsPerChannel(arguments.Tensor("bias"), input, weight.size(0));
  if (!valid) return std::nullopt;
  std::vector<int64_t> sizes = input.sizes().vec();
  sizes.back() = weight.size(0);
  return std::vector<c10::IValue>{at::empty(sizes, input.options())};
}

// Structured operators have a meta kernel in C++ too, behind the one in Python.
Outputs Add(const Arguments& arguments) {
  return std::vector<c10::IValue>{at::meta::add(arguments.Tensor("self"), arguments.Tensor("other"),
                                                arguments["alpha"].toScalar())};
}

Outputs Subtract(const Arguments& arguments) {
  return std::vector<c10::IValue>{at::meta::sub(arguments.Tensor("self"), arguments.Tensor("other"),
                                                arguments["alpha"].toScalar())};
}

Outputs Multiply(const Arguments& arguments) {
  return std::vector<c10::IValue>{
      at::meta::mul(arguments.Tensor("self"), arguments.Tensor("other"))};
}

Outputs Concatenate(const Arguments& arguments) {
  return std::vector<c10::IValue>{
      at::meta::cat(arguments["tensors"].toTensorVector(), arguments["dim"].toInt())};
}

template <at::Tensor (*kFunction)(const at::Tensor&)>
Outputs Unary(const Arguments& arguments) {
  return std::vector<c10::IValue>{kFunction(arguments.Tensor("self"))};
}

bool IsContiguousImage(const at::Tensor& input) {
  return input.dim() == 4 && input.is_floating_point() && input.numel() > 0 &&
         input.suggest_memory_format() == at::MemoryFormat::Contiguous;
}

Outputs MaxPool(const Arguments& arguments) {
  return std::vector<c10::IValue>{std::get<0>(at::meta::max_pool2d_with_indices(
      arguments.Tensor("self"), arguments["kernel_size"].toIntVector(),
      arguments["stride"].toIntVector(), arguments["padding"].toIntVector(),
      arguments["dilation"].toIntVector(), arguments["ceil_mode"].toBool()))};
}

Outputs AveragePool(const Arguments& arguments) {
  return std::vector<c10::IValue>{
      at::meta::avg_pool2d(arguments.Tensor("self"), arguments["kernel_size"].toIntVector(),
                           arguments["stride"].toIntVector(), arguments["padding"].toIntVector(),
                           arguments["ceil_mode"].toBool(), arguments["count_include_pad"].toBool(),
                           arguments["divisor_override"].toOptional<int64_t>())};
}

Outputs AdaptivePool(const Arguments& arguments) {
  const at::Tensor input = arguments.Tensor("self");
  const auto pooled = arguments["output_size"].toIntVector();
  if (!IsContiguousImage(input) || !AllAtLeast(pooled, 2, 1)) return std::nullopt;
  const std::vector<int64_t> sizes = {input.size(0), input.size(1), pooled[0], pooled[1]};
  return std::vector<c10::IValue>{at::empty(sizes, input.options())};
}

Outputs Mean(const Arguments& arguments) {
  if (!arguments["dim"].isIntList() || !arguments["dtype"].isNone()) return std::nullopt;
  return std::vector<c10::IValue>{at::meta::mean(arguments.Tensor("self"),
                                                 arguments["dim"].toIntVector(),
                                                 arguments["keepdim"].toBool(), std::nullopt)};
}

Outputs Divide(const Arguments& arguments) {
  return std::vector<c10::IValue>{
      at::meta::div(arguments.Tensor("self"), arguments.Tensor("other"))};
}

Outputs Power(const Arguments& arguments) {
  return std::vector<c10::IValue>{
      at::meta::pow(arguments.Tensor("self"), arguments["exponent"].toScalar())};
}

Outputs Softmax(const Arguments& arguments) {
  const at::Tensor self = arguments.Tensor("self");
  if (!arguments["dtype"].isNone() || !self.is_floating_point()) return std::nullopt;
  return std::vector<c10::IValue>{
      at::meta::_softmax(self, arguments["dim"].toInt(), /*half_to_float=*/false)};
}

Outputs Gather(const Arguments& arguments) {
  return std::vector<c10::IValue>{at::meta::gather(
      arguments.Tensor("self"), arguments["dim"].toInt(), arguments.Tensor("index"))};
}

Outputs Embedding(const Arguments& arguments) {
  const at::Tensor weight = arguments.Tensor("weight");
  const at::Tensor indices = arguments.Tensor("indices");
  const bool whole = indices.scalar_type() == c10::kLong || indices.scalar_type() == c10::kInt;
  if (weight.dim() != 2 || !whole) return std::nullopt;
  std::vector<int64_t> sizes = indices.sizes().vec();
  sizes.push_back(weight.size(1));
  return std::vector<c10::IValue>{at::empty(sizes, weight.options())};
}

Outputs BatchedProduct(const Arguments& arguments) {
  return std::vector<c10::IValue>{
      at::meta::bmm(arguments.Tensor("self"), arguments.Tensor("mat2"))};
}

// The dimensions before the last two, of tensors that have them.
at::IntArrayRef BatchOf(const at::Tensor& tensor) {
  return tensor.sizes().slice(0, static_cast<size_t>(tensor.dim()) - 2);
}

// Matrices in equal batches.
bool AreBatches(const at::Tensor& a, const at::Tensor& b) {
  return a.dim() >= 3 && a.dim() == b.dim() && a.is_floating_point() && a.numel() > 0 &&
         b.numel() > 0 && a.scalar_type() == b.scalar_type() && BatchOf(a) == BatchOf(b);
}

Outputs BatchOfMatrices(const at::Tensor& like, int64_t rows, int64_t columns) {
  std::vector<int64_t> sizes = BatchOf(like).vec();
  sizes.insert(sizes.end(), {rows, columns});
  return std::vector<c10::IValue>{at::empty(sizes, like.options())};
}

Outputs MatrixProduct(const Arguments& arguments) {
  const at::Tensor self = arguments.Tensor("self");
  const at::Tensor other = arguments.Tensor("other");
  if (!AreBatches(self, other) || self.size(-1) != other.size(-2)) return std::nullopt;
  return BatchOfMatrices(self, self.size(-2), other.size(-1));
}

// Its meta kernel is all of its decomposition: 1.2 ms. Strides: cpu_strides.h.
Outputs Attention(const Arguments& arguments) {
  const at::Tensor query = arguments.Tensor("query");
  const at::Tensor key = arguments.Tensor("key");
  const at::Tensor value = arguments.Tensor("value");
  const at::Tensor mask = arguments.Tensor("attn_mask");
  const bool valid = AreBatches(query, key) && AreBatches(key, value) &&
                     query.size(-1) == key.size(-1) && key.size(-2) == value.size(-2) &&
                     arguments["dropout_p"].toDouble() == 0;
  if (!valid) return std::nullopt;
  std::vector<int64_t> scores = BatchOf(query).vec();
  scores.insert(scores.end(), {query.size(-2), key.size(-2)});
  const bool fits =
      !mask.defined() ||
      (!arguments["is_causal"].toBool() && at::is_expandable_to(mask.sizes(), scores) &&
       (mask.scalar_type() == c10::kBool || mask.scalar_type() == query.scalar_type()));
  if (!fits) return std::nullopt;
  return BatchOfMatrices(query, query.size(-2), value.size(-1));
}

// The operators from here on have no meta kernel of PyTorch's, or one that asks for values.

at::Tensor Sized(const at::Tensor& like, at::IntArrayRef sizes) {
  return at::empty(sizes, like.options());
}

bool IsWeight(const at::Tensor& weight, const at::Tensor& like, at::IntArrayRef sizes) {
  return !weight.defined() ||
         (weight.scalar_type() == like.scalar_type() && weight.sizes() == sizes);
}

Outputs Histogram(const Arguments& arguments) {
  const at::Tensor self = arguments.Tensor("self");
  const at::Tensor edges = arguments.Tensor("bins");
  const int64_t count = edges.defined() ? edges.numel() - 1 : arguments["bins"].toInt();
  const bool valid =
      count > 0 && self.is_floating_point() &&
      IsWeight(arguments.Tensor("weight"), self, self.sizes()) &&
      (!edges.defined() || (edges.dim() == 1 && edges.scalar_type() == self.scalar_type()));
  if (!valid) return std::nullopt;
  if (arguments.Has("range") && !arguments["range"].isNone() &&
      arguments["range"].toDoubleVector().size() != 2) {
    return std::nullopt;
  }
  return std::vector<c10::IValue>{Sized(self, {count}), Sized(self, {count + 1})};
}

Outputs HistogramOfPoints(const Arguments& arguments) {
  const at::Tensor self = arguments.Tensor("self");
  if (self.dim() < 2 || !self.is_floating_point() || self.size(-1) == 0) return std::nullopt;
  const auto dims = static_cast<size_t>(self.size(-1));
  std::vector<int64_t> counts(dims, 0);
  if (arguments["bins"].isInt()) {
    std::fill(counts.begin(), counts.end(), arguments["bins"].toInt());
  } else if (arguments["bins"].isIntList()) {
    counts = arguments["bins"].toIntVector();
  } else {
    const std::vector<at::Tensor> bins = arguments["bins"].toTensorVector();
    if (bins.size() != dims) return std::nullopt;
    for (size_t dim = 0; dim < dims; ++dim) {
      const at::Tensor& edges = bins[dim];
      if (edges.dim() != 1 || edges.scalar_type() != self.scalar_type()) return std::nullopt;
      counts[dim] = edges.numel() - 1;
    }
  }
  const auto& range = arguments["range"];
  if (!AllAtLeast(counts, dims, 1) ||
      (!range.isNone() && range.toDoubleVector().size() != 2 * dims) ||
      !IsWeight(arguments.Tensor("weight"), self,
                self.sizes().slice(0, static_cast<size_t>(self.dim()) - 1))) {
    return std::nullopt;
  }
  if (arguments["bins"].isTensorList()) {  // edges that are given are given back
    return std::vector<c10::IValue>{Sized(self, counts), arguments["bins"]};
  }
  c10::List<at::Tensor> edges;
  for (const int64_t count : counts) edges.push_back(Sized(self, {count + 1}));
  return std::vector<c10::IValue>{Sized(self, counts), edges};
}

Outputs Covariance(const Arguments& arguments) {
  const at::Tensor self = arguments.Tensor("self");
  if (self.dim() > 2 || !self.is_floating_point() || self.numel() == 0) return std::nullopt;
  const int64_t rows = self.dim() == 2 ? self.size(0) : 1;
  const int64_t count = self.numel() / rows;
  for (const char* name : {"fweights", "aweights"}) {
    if (!arguments.Has(name)) continue;
    const at::Tensor weight = arguments.Tensor(name);
    if (weight.defined() && (weight.dim() != 1 || weight.numel() != count)) return std::nullopt;
  }
  const std::vector<int64_t> sizes = {rows, rows};
  return std::vector<c10::IValue>{Sized(self, rows == 1 ? at::IntArrayRef() : sizes)};
}

Outputs Combinations(const Arguments& arguments) {
  const at::Tensor self = arguments.Tensor("self");
  const int64_t r = arguments["r"].toInt();
  if (self.dim() != 1 || r < 1 || r > 64) return std::nullopt;
  const int64_t repeats = arguments["with_replacement"].toBool() ? r - 1 : 0;
  double count = 1;
  for (int64_t i = 0; i < r; ++i) {
    count = count * static_cast<double>(self.numel() + repeats - i) / static_cast<double>(i + 1);
  }
  constexpr double kMost = 1 << 24;
  if (self.numel() + repeats < r) count = 0;
  if (count > kMost) return std::nullopt;
  return std::vector<c10::IValue>{Sized(self, {static_cast<int64_t>(count + 0.5), r})};
}

bool HasSizes(const at::Tensor& tensor, const at::Tensor& like, at::IntArrayRef sizes) {
  return tensor.defined() && tensor.sizes() == sizes && tensor.scalar_type() == like.scalar_type();
}

// All weights of a recurrent network with `gates` gates, whose states have `hidden` and `units`
// elements; they differ where an LSTM has projections.
bool AreWeights(const Arguments& arguments, int64_t gates, int64_t hidden, int64_t units) {
  const at::Tensor input = arguments.Tensor("input");
  const auto params = arguments["params"].toTensorVector();
  const bool biases = arguments["has_biases"].toBool();
  const int64_t directions = arguments["bidirectional"].toBool() ? 2 : 1;
  const int64_t count = arguments["num_layers"].toInt() * directions;
  const size_t each = (biases ? 4U : 2U) + (hidden != units ? 1U : 0U);
  if (count <= 0 || params.size() != static_cast<size_t>(count) * each) return false;
  const int64_t rows = gates * units;
  for (int64_t i = 0; i < count; ++i) {
    const at::Tensor* own = &params[static_cast<size_t>(i) * each];
    const int64_t width = i < directions ? input.size(2) : hidden * directions;
    if (!HasSizes(own[0], input, {rows, width}) || !HasSizes(own[1], input, {rows, hidden}) ||
        (biases && (!HasSizes(own[2], input, {rows}) || !HasSizes(own[3], input, {rows}))) ||
        (hidden != units && !HasSizes(own[each - 1], input, {hidden, units}))) {
      return false;
    }
  }
  return true;
}

// A recurrent network over a batch. Its meta kernel runs every step: 0.5 ms for each of an LSTM.
template <int64_t gates>
Outputs RecurrentNetwork(const Arguments& arguments) {
  const at::Tensor input = arguments.Tensor("input");
  if (input.dim() != 3 || !input.is_floating_point() || input.numel() == 0) return std::nullopt;
  const c10::IValue& given = arguments["hx"];
  const auto states = given.isTensor() ? std::vector<at::Tensor>{given.toTensor()}  // NOLINT
                                       : given.toTensorVector();
  if (states.size() != (gates == 4 ? 2 : 1)) return std::nullopt;
  const bool batch_first = arguments["batch_first"].toBool();
  const int64_t directions = arguments["bidirectional"].toBool() ? 2 : 1;
  const int64_t count = arguments["num_layers"].toInt() * directions;
  const int64_t batch = input.size(batch_first ? 0 : 1);
  for (const at::Tensor& state : states) {
    if (state.dim() != 3 || !HasSizes(state, input, {count, batch, state.size(2)})) {
      return std::nullopt;
    }
  }
  const int64_t hidden = states[0].size(2);
  if (!AreWeights(arguments, gates, hidden, states.back().size(2))) return std::nullopt;
  at::Tensor sequence =
      at::empty({input.size(batch_first ? 1 : 0), batch, hidden * directions}, input.options());
  if (batch_first) sequence = sequence.transpose(0, 1);
  std::vector<c10::IValue> outputs = {sequence};
  for (const at::Tensor& state : states) {
    outputs.emplace_back(at::empty(state.sizes(), input.options()));
  }
  return outputs;
}

using Rule = Outputs (*)(const Arguments&);
const std::unordered_map<std::string, Rule>& Rules() {
  static const std::unordered_map<std::string, Rule> rules = {
      {"aten::_convolution", Convolution},
      {"aten::adaptive_avg_pool2d", AdaptivePool},
      {"aten::add.Tensor", Add},
      {"aten::avg_pool2d", AveragePool},
      {"aten::bmm", BatchedProduct},
      {"aten::batch_norm", BatchNorm},
      {"aten::cat", Concatenate},
      {"aten::combinations", Combinations},
      {"aten::conv2d", Convolution},
      {"aten::convolution", Convolution},
      {"aten::corrcoef", Covariance},
      {"aten::cov", Covariance},
      {"aten::div.Tensor", Divide},
      {"aten::embedding", Embedding},
      {"aten::exp", Unary<at::meta::exp>},
      {"aten::gather", Gather},
      {"aten::gelu", Activation},
      {"aten::gru.input", RecurrentNetwork<3>},
      {"aten::hardsigmoid", Activation},
      {"aten::hardswish", Activation},
      {"aten::hardtanh", Activation},
      {"aten::histogram.bin_ct", Histogram},
      {"aten::histogram.bins_tensor", Histogram},
      {"aten::histogramdd", HistogramOfPoints},
      {"aten::histogramdd.int_bins", HistogramOfPoints},
      {"aten::histogramdd.TensorList_bins", HistogramOfPoints},
      {"aten::layer_norm", LayerNorm},
      {"aten::leaky_relu", Activation},
      {"aten::linear", Linear},
      {"aten::lstm.input", RecurrentNetwork<4>},
      {"aten::matmul", MatrixProduct},
      {"aten::max_pool2d", MaxPool},
      {"aten::mean.dim", Mean},
      {"aten::mul.Tensor", Multiply},
      {"aten::neg", Unary<at::meta::neg>},
      {"aten::pow.Tensor_Scalar", Power},
      {"aten::relu", Activation},
      {"aten::relu6", Activation},
      {"aten::rnn_relu.input", RecurrentNetwork<1>},
      {"aten::rnn_tanh.input", RecurrentNetwork<1>},
      {"aten::rsqrt", Unary<at::meta::rsqrt>},
      {"aten::scaled_dot_product_attention", Attention},
      {"aten::sigmoid", Unary<at::meta::sigmoid>},
      {"aten::silu", Activation},
      {"aten::softmax.int", Softmax},
      {"aten::sub.Tensor", Subtract},
      {"aten::tanh", Unary<at::meta::tanh>},
  };
  return rules;
}

}  // namespace

Outputs OutputsByRule(const c10::FunctionSchema& schema, const std::vector<c10::IValue>& inputs) {
  const auto rule = Rules().find(OperatorName(schema));
  return rule == Rules().end() ? std::nullopt : rule->second({schema, inputs});
}

}  // namespace torch_tvm::convert
