// Lowering: a group's TorchScript subgraph, for the inputs of one call, to a Relay function. Every
// value's shape and dtype is first found by running the subgraph's nodes on meta tensors, so that
// type promotion and shape rules are PyTorch's own; then each node's converter builds Relay.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/jit/ir/ir.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "relay/expr.h"

namespace torch_tvm::convert {

// How the integers of a quantised tensor stand for numbers: (integer - zero_point) * scale.
struct Quantiser {
  double scale;
  int64_t zero_point;
};

// What eager PyTorch would give for a tensor. A quantised tensor is one of uint8 or int8 here, the
// integers that represent it.
struct TensorInfo {
  c10::ScalarType dtype;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
  std::optional<Quantiser> quantiser = std::nullopt;

  int64_t rank() const { return static_cast<int64_t>(sizes.size()); }
  int64_t numel() const;
};

enum class InputKind : uint8_t { kRuntime, kWeight };

// Where a weight parameter's tensor comes from at each call: a subgraph input (input >= 0), or a
// constant of the subgraph.
struct WeightSource {
  int64_t input = -1;
  at::Tensor constant;
};

// One output of the subgraph: a tensor of the plan, or a value that is known once the signature is.
struct OutputSource {
  bool is_tensor = true;
  c10::IValue value;
  TensorInfo info;
};

struct Refusal {
  std::string op;  // "aten::add.Tensor"
  std::string reason;
  std::string source;  // the user's source range
  const torch::jit::Node* node;
  bool shares_memory = false;  // nothing is to be computed: a result is an argument
};

struct Lowered {
  // Parameters: the runtime tensor inputs in the subgraph's order, then the weights. Body: the
  // tensor outputs and, if there are runtime refusals, a boolean of rank 0 that says whether one of
  // them holds for the values of a call; a Tuple when there is not exactly one.
  relay::Function function;
  std::vector<int64_t> inputs;  // subgraph input of each runtime parameter
  std::vector<TensorInfo> input_infos;
  std::vector<WeightSource> weights;  // one for each weight parameter
  std::vector<OutputSource> outputs;  // one for each subgraph output
  std::vector<int64_t> sizes;         // of all tensors that nodes give, in order
  double flops = 0;                   // of convolutions and matrix products, 2 for a multiply-add
  // What PyTorch raises an error for and kernels do not: see Context::RefuseIf.
  std::vector<Refusal> runtime_refusals;
};

// Carries every node that does not convert for these inputs.
class NotConvertible : public std::runtime_error {
 public:
  explicit NotConvertible(std::vector<Refusal> refusals);
  std::vector<Refusal> refusals;
};

struct LowerOptions {
  bool weights_as_constants = false;  // bind weights into the function instead of making parameters
  bool flatten_outputs = false;       // tensors in lists and tuples of outputs become outputs
  bool runtime_refusals = true;       // check values; without, kernels clip what PyTorch refuses
  bool spans = true;                  // say where calls come from, which takes 5 us each
  bool control_flow = false;          // branches and loops that depend on data; else refused
  bool shared_outputs = false;        // outputs may share memory, as computed anew; else refused
};

// `inputs` are the values of this call in the order of subgraph->inputs(); `kinds` says which
// tensor inputs are weights. The names of the subgraph's inputs become the names of the parameters.
// Neither the subgraph nor a tensor's data is read or changed, except for the data of constants of
// one element. Not to be called with a lock held that a holder of Python's GIL may wait for: meta
// kernels may be Python.
Lowered Lower(const std::shared_ptr<torch::jit::Graph>& subgraph, c10::ArrayRef<c10::IValue> inputs,
              c10::ArrayRef<InputKind> kinds, const LowerOptions& options = {});

}  // namespace torch_tvm::convert
