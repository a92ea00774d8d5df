// Converters of recurrent networks, unrolled over the sequence: the input's part of all steps is
// one product, and every step adds its own.
#include <torch/csrc/jit/ir/constants.h>

#include "convert/context.h"

namespace torch_tvm::convert {
namespace {

enum class Cell { kLstm, kGru, kTanh, kRelu };

int64_t Gates(Cell cell) { return cell == Cell::kLstm ? 4 : cell == Cell::kGru ? 3 : 1; }

// The parameters of one layer in one direction.
struct Weights {
  Operand input, hidden;
  std::optional<Operand> input_bias, hidden_bias, projection;
};

struct State {
  Expr hidden;
  std::optional<Expr> cell;
};

// What one layer computes in one direction, in the math dtype; half and bfloat16 are rounded where
// eager PyTorch stores them.
class Recurrence {
 public:
  Recurrence(Context& ctx, Cell cell, Weights weights, int64_t batch)
      : ctx_(ctx),
        cell_(cell),
        weights_(std::move(weights)),
        dtype_(ctx.Result().dtype),
        math_(MathType(dtype_)),
        batch_(batch) {}

  // Rows of inputs times the input's weights. Biases of the hidden part that are added to it anyhow
  // come with it.
  Expr Input(const Expr& rows, int64_t count) const {
    Expr value = Linear(rows, weights_.input, count);
    if (weights_.input_bias) value = Biased(value, *weights_.input_bias);
    if (weights_.hidden_bias && cell_ != Cell::kGru) value = Biased(value, *weights_.hidden_bias);
    return Round(value);
  }

  State Step(const Expr& input, const State& state) const {
    Expr hidden = Linear(state.hidden, weights_.hidden, batch_);
    if (cell_ == Cell::kGru) {
      if (weights_.hidden_bias) hidden = Biased(hidden, *weights_.hidden_bias);
      return {Gru(input, Round(hidden), state.hidden), std::nullopt};
    }
    const Expr sum = Round(Add(input, hidden));
    if (cell_ == Cell::kLstm) return Lstm(sum, *state.cell);
    return {Round(ctx_.Call(cell_ == Cell::kTanh ? "tanh" : "nn.relu", {sum})), std::nullopt};
  }

 private:
  Expr Add(const Expr& a, const Expr& b) const { return ctx_.Call("add", {a, b}); }
  Expr Multiply(const Expr& a, const Expr& b) const { return ctx_.Call("multiply", {a, b}); }
  Expr Round(const Expr& x) const { return ctx_.Cast(ctx_.Cast(x, math_, dtype_), dtype_, math_); }

  Expr Linear(const Expr& x, const Operand& weight, int64_t rows) const {
    ctx_.AddFlops(2.0 * static_cast<double>(rows) * static_cast<double>(weight.info.numel()));
    return ctx_.Call("nn.dense", {x, ctx_.Cast(weight, math_)}, {{"units", weight.sizes()[0]}});
  }
  Expr Biased(const Expr& x, const Operand& bias) const {
    return ctx_.Call("nn.bias_add", {x, ctx_.Cast(bias, math_)}, {{"axis", int64_t{-1}}});
  }

  std::vector<Expr> Split(const Expr& gates) const {
    const Expr parts =
        ctx_.Call("split", {gates}, {{"indices_or_sections", Gates(cell_)}, {"axis", int64_t{-1}}});
    std::vector<Expr> fields;
    for (int64_t i = 0; i < Gates(cell_); ++i) {
      fields.push_back(relay::TupleGetItem(parts, i, parts->span));
    }
    return fields;
  }

  State Lstm(const Expr& gates, const Expr& cell) const {
    const std::vector<Expr> parts = Split(gates);
    const Expr admitted = Multiply(ctx_.Call("sigmoid", {parts[0]}), ctx_.Call("tanh", {parts[2]}));
    const Expr kept = Multiply(ctx_.Call("sigmoid", {parts[1]}), cell);
    const Expr next = Round(Add(kept, admitted));
    Expr hidden = Round(Multiply(ctx_.Call("sigmoid", {parts[3]}), ctx_.Call("tanh", {next})));
    if (weights_.projection) hidden = Round(Linear(hidden, *weights_.projection, batch_));
    return {hidden, next};
  }

  Expr Gru(const Expr& input, const Expr& hidden, const Expr& state) const {
    const std::vector<Expr> from_input = Split(input);
    const std::vector<Expr> from_hidden = Split(hidden);
    const Expr reset = ctx_.Call("sigmoid", {Add(from_input[0], from_hidden[0])});
    const Expr update = ctx_.Call("sigmoid", {Add(from_input[1], from_hidden[1])});
    const Expr fresh = ctx_.Call("tanh", {Add(from_input[2], Multiply(reset, from_hidden[2]))});
    const Expr change = Multiply(ctx_.Call("subtract", {state, fresh}), update);
    return Round(Add(change, fresh));
  }

  Context& ctx_;
  Cell cell_;
  Weights weights_;
  ScalarType dtype_, math_;
  int64_t batch_;
};

// A whole network: layers, directions, and where the sequence lies in its input.
class Network {
 public:
  Network(Context& ctx, Cell cell) : ctx_(ctx), cell_(cell), math_(MathType(ctx.Result().dtype)) {
    const Operand input = ctx.Tensor("input");
    if (input.rank() != 3) ctx.Refuse("input has " + std::to_string(input.rank()) + " dimensions");
    const bool batch_first = ctx.Bool("batch_first");
    if (ctx.Bool("train") && ctx.Double("dropout") > 0 && ctx.Int("num_layers") > 1) {
      ctx.Refuse("dropout=" + std::to_string(ctx.Double("dropout")) + " in training is random");
    }
    length_ = input.sizes()[batch_first ? 1 : 0];
    batch_ = input.sizes()[batch_first ? 0 : 1];
    if (length_ > kMostSteps) {
      ctx.Refuse("a sequence of " + std::to_string(length_) + " steps; up to " +
                 std::to_string(kMostSteps) + " are unrolled");
    }
    input_ = ctx.Cast(input, math_);
    if (batch_first) input_ = ctx.Transpose(*input_, {1, 0, 2});
    input_width_ = input.sizes()[2];
    ReadStates();
  }

  Results Run() {
    const int64_t directions = ctx_.Bool("bidirectional") ? 2 : 1;
    const int64_t layers = ctx_.Int("num_layers");
    Expr sequence = *input_;
    int64_t width = input_width_;
    std::vector<State> ends;
    for (int64_t layer = 0; layer < layers; ++layer) {
      std::vector<Expr> sides;
      for (int64_t direction = 0; direction < directions; ++direction) {
        const auto position = static_cast<size_t>(layer * directions + direction);
        sides.push_back(Direction(sequence, width, position, direction == 1, ends));
      }
      width = hidden_width_ * directions;
      sequence = ctx_.Concatenate(sides, 2);
    }
    if (ctx_.Bool("batch_first")) sequence = ctx_.Transpose(sequence, {1, 0, 2});
    std::vector<Expr> results = {Give(sequence), Give(Ends(ends, false))};
    if (cell_ == Cell::kLstm) results.push_back(Give(Ends(ends, true)));
    return results;
  }

 private:
  // Unrolling is paid for in graph passes: two layers of LSTM(128, 128) took 1.0 s of them for 10
  // steps and 3.0 s for 35, and the plan sees one length only.
  static constexpr int64_t kMostSteps = 128;

  void ReadStates() {
    const auto states =
        cell_ == Cell::kLstm ? ctx_.Tensors("hx") : std::vector<Operand>{ctx_.Tensor("hx")};
    hidden_ = ctx_.Cast(states.at(0), math_);
    hidden_width_ = states[0].sizes().at(2);
    state_count_ = states[0].sizes()[0];
    if (cell_ == Cell::kLstm) {
      cell_state_ = ctx_.Cast(states.at(1), math_);
      cell_width_ = states[1].sizes().at(2);
    }
  }

  Weights WeightsOf(size_t position) const {
    const std::vector<Operand> params = ctx_.Tensors("params");
    const bool biases = ctx_.Bool("has_biases");
    const bool projected = cell_ == Cell::kLstm && cell_width_ != hidden_width_;
    const size_t each = (biases ? 4U : 2U) + (projected ? 1U : 0U);
    const size_t first = position * each;
    Weights weights{params.at(first), params.at(first + 1), {}, {}, {}};
    if (biases) {
      weights.input_bias = params.at(first + 2);
      weights.hidden_bias = params.at(first + 3);
    }
    if (projected) weights.projection = params.at(first + each - 1);
    return weights;
  }

  // One layer in one direction: its outputs of all steps; the last state is added to `ends`.
  Expr Direction(const Expr& sequence, int64_t width, size_t position, bool reverse,
                 std::vector<State>& ends) {
    const Weights weights = WeightsOf(position);
    const Recurrence recurrence(ctx_, cell_, weights, batch_);
    const int64_t rows = length_ * batch_;
    const Expr flat = ctx_.Reshape(sequence, {length_, batch_, width}, {rows, width});
    const int64_t units = weights.input.sizes()[0];
    const std::vector<Expr> inputs =
        Slices(ctx_.Reshape(recurrence.Input(flat, rows), {rows, units}, {length_, batch_, units}),
               length_, units);
    State state{Initial(*hidden_, position, hidden_width_), std::nullopt};
    if (cell_state_) state.cell = Initial(*cell_state_, position, cell_width_);
    std::vector<Expr> outputs(inputs.size(), state.hidden);
    for (size_t step = 0; step < inputs.size(); ++step) {
      const size_t at = reverse ? inputs.size() - 1 - step : step;
      state = recurrence.Step(inputs[at], state);
      outputs[at] = state.hidden;
    }
    ends.push_back(state);
    return Stacked(outputs);
  }

  // The matrices along the first of three dimensions.
  std::vector<Expr> Slices(const Expr& expr, int64_t count, int64_t width) const {
    const Sizes matrix = {batch_, width};
    if (count == 1) return {ctx_.Reshape(expr, {1, batch_, width}, matrix)};
    const Expr parts =
        ctx_.Call("split", {expr}, {{"indices_or_sections", count}, {"axis", int64_t{0}}});
    std::vector<Expr> slices;
    for (int64_t i = 0; i < count; ++i) {
      const Expr part = relay::TupleGetItem(parts, i, parts->span);
      slices.push_back(ctx_.Call("squeeze", {part}, {{"axis", IntArray({0})}}));
    }
    return slices;
  }

  Expr Initial(const Expr& states, size_t position, int64_t width) const {
    return Slices(states, state_count_, width).at(position);
  }

  Expr Stacked(const std::vector<Expr>& parts) const {
    const relay::Tuple tuple(ffi::Array<Expr>(parts.begin(), parts.end()));
    return ctx_.Call("stack", {tuple}, {{"axis", 0}});
  }

  Expr Ends(const std::vector<State>& ends, bool cell) const {
    std::vector<Expr> states;
    for (const State& state : ends) states.push_back(cell ? *state.cell : state.hidden);
    return Stacked(states);
  }

  Expr Give(const Expr& expr) const { return ctx_.Cast(expr, math_, ctx_.Result().dtype); }

  Context& ctx_;
  Cell cell_;
  ScalarType math_;
  std::optional<Expr> input_, hidden_, cell_state_;
  int64_t length_ = 0, batch_ = 0, input_width_ = 0;
  int64_t hidden_width_ = 0, cell_width_ = 0, state_count_ = 0;
};

Converter Unrolled(Cell cell) {
  return [cell](Context& ctx) -> Results { return Network(ctx, cell).Run(); };
}

// One step; without a batch dimension, as one of a batch of 1.
Converter SingleStep(Cell cell) {
  return [cell](Context& ctx) -> Results {
    const ScalarType dtype = ctx.Result().dtype;
    const ScalarType math = MathType(dtype);
    const Operand input = ctx.Tensor("input");
    if (input.info.numel() == 0) ctx.Refuse("input has no elements");
    const auto rows = [&](const Operand& x) {
      const Sizes matrix = {Product(x.sizes()) / x.sizes().back(), x.sizes().back()};
      return ctx.Reshape(ctx.Cast(x, math), x.sizes(), matrix);
    };
    const auto states =
        cell == Cell::kLstm ? ctx.Tensors("hx") : std::vector<Operand>{ctx.Tensor("hx")};
    const int64_t batch = input.info.numel() / input.sizes().back();
    const Weights weights{ctx.Tensor("w_ih"), ctx.Tensor("w_hh"), ctx.OptionalTensor("b_ih"),
                          ctx.OptionalTensor("b_hh"), std::nullopt};
    const Recurrence recurrence(ctx, cell, weights, batch);
    State state{rows(states.at(0)), std::nullopt};
    if (cell == Cell::kLstm) state.cell = rows(states.at(1));
    state = recurrence.Step(recurrence.Input(rows(input), batch), state);
    const auto give = [&](const Expr& expr, size_t index) {
      const Sizes& sizes = ctx.Result(index).sizes;
      return ctx.Cast(ctx.Reshape(expr, {batch, sizes.back()}, sizes), math, dtype);
    };
    if (cell != Cell::kLstm) return give(state.hidden, 0);
    return std::vector<Expr>{give(state.hidden, 0), give(*state.cell, 1)};
  };
}

std::optional<c10::IValue> ConstantArgument(const torch::jit::Node& node, const char* name) {
  return torch::jit::toIValue(node.namedInput(name));
}

// Dropout between layers is random in training.
std::string WithoutDropout(const torch::jit::Node& node) {
  const auto train = ConstantArgument(node, "train");
  const auto dropout = ConstantArgument(node, "dropout");
  const auto layers = ConstantArgument(node, "num_layers");
  if (!train || !dropout || !layers) return "";
  if (!train->toBool() || dropout->toDouble() == 0 || layers->toInt() < 2) return "";
  return "train=True with dropout=" + std::to_string(dropout->toDouble()) + " is random";
}

const Registrar kRecurrent({
    {"aten::lstm.input", Unrolled(Cell::kLstm), WithoutDropout},
    {"aten::gru.input", Unrolled(Cell::kGru), WithoutDropout},
    {"aten::rnn_tanh.input", Unrolled(Cell::kTanh), WithoutDropout},
    {"aten::rnn_relu.input", Unrolled(Cell::kRelu), WithoutDropout},
    {"aten::lstm_cell", SingleStep(Cell::kLstm)},
    {"aten::gru_cell", SingleStep(Cell::kGru)},
    {"aten::rnn_tanh_cell", SingleStep(Cell::kTanh)},
    {"aten::rnn_relu_cell", SingleStep(Cell::kRelu)},
});

}  // namespace
}  // namespace torch_tvm::convert
