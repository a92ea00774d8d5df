// Converters of recurrent networks: the input's part of all steps is one product, and a recursive
// function adds the state's part step by step. Its attribute Composite names what it computes, for
// a compiler that takes it whole.
#include <torch/csrc/jit/ir/constants.h>

#include "convert/context.h"

namespace torch_tvm::convert {
namespace {

enum class Cell { kLstm, kGru, kTanh, kRelu };

int64_t Gates(Cell cell) { return cell == Cell::kLstm ? 4 : cell == Cell::kGru ? 3 : 1; }

const char* CompositeName(Cell cell) {
  switch (cell) {
    case Cell::kLstm:
      return "torch_tvm.lstm";
    case Cell::kGru:
      return "torch_tvm.gru";
    case Cell::kTanh:
      return "torch_tvm.rnn_tanh";
    case Cell::kRelu:
      return "torch_tvm.rnn_relu";
  }
  TORCH_CHECK(false, "no such cell");
}

// A tensor of the math dtype and its sizes.
struct Sized {
  Expr expr;
  Sizes sizes;
};

// The parameters of one layer in one direction.
struct Weights {
  Sized input, hidden;
  std::optional<Sized> input_bias, hidden_bias, projection;
};

struct State {
  Expr hidden;
  std::optional<Expr> cell;
};

// What one layer computes in one direction, in the math dtype; half and bfloat16 are rounded where
// eager PyTorch stores them.
class Recurrence {
 public:
  Recurrence(Context& ctx, Cell cell, int64_t batch)
      : ctx_(ctx),
        cell_(cell),
        dtype_(ctx.Result().dtype),
        math_(MathType(dtype_)),
        batch_(batch) {}

  Sized Held(const Operand& operand) const { return {ctx_.Cast(operand, math_), operand.sizes()}; }
  std::optional<Sized> Held(const std::optional<Operand>& operand) const {
    if (!operand) return std::nullopt;
    return Held(*operand);
  }

  // Rows of inputs times the input's weights. Biases of the hidden part that are added to it anyhow
  // come with it.
  Expr Input(const Weights& weights, const Expr& rows, int64_t count) const {
    ctx_.AddFlops(2.0 * static_cast<double>(count * Product(weights.input.sizes)));
    Expr value = Linear(rows, weights.input);
    if (weights.input_bias) value = Biased(value, *weights.input_bias);
    if (weights.hidden_bias && cell_ != Cell::kGru) value = Biased(value, *weights.hidden_bias);
    return Round(value);
  }

  State Step(const Weights& weights, const Expr& input, const State& state) const {
    Expr hidden = Linear(state.hidden, weights.hidden);
    if (cell_ == Cell::kGru) {
      if (weights.hidden_bias) hidden = Biased(hidden, *weights.hidden_bias);
      return {Gru(input, Round(hidden), state.hidden), std::nullopt};
    }
    const Expr sum = Round(Add(input, hidden));
    if (cell_ == Cell::kLstm) return Lstm(weights, sum, *state.cell);
    return {Round(ctx_.Call(cell_ == Cell::kTanh ? "tanh" : "nn.relu", {sum})), std::nullopt};
  }

  void AddFlopsOfSteps(const Weights& weights, int64_t steps) const {
    int64_t size = Product(weights.hidden.sizes);
    if (weights.projection) size += Product(weights.projection->sizes);
    ctx_.AddFlops(2.0 * static_cast<double>(steps * batch_ * size));
  }

  ScalarType dtype() const { return dtype_; }
  ScalarType math() const { return math_; }

 private:
  Expr Add(const Expr& a, const Expr& b) const { return ctx_.Call("add", {a, b}); }
  Expr Multiply(const Expr& a, const Expr& b) const { return ctx_.Call("multiply", {a, b}); }
  Expr Round(const Expr& x) const { return ctx_.Cast(ctx_.Cast(x, math_, dtype_), dtype_, math_); }

  Expr Linear(const Expr& x, const Sized& weight) const {
    return ctx_.Call("nn.dense", {x, weight.expr}, {{"units", weight.sizes[0]}});
  }
  Expr Biased(const Expr& x, const Sized& bias) const {
    return ctx_.Call("nn.bias_add", {x, bias.expr}, {{"axis", int64_t{-1}}});
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

  State Lstm(const Weights& weights, const Expr& gates, const Expr& cell) const {
    const std::vector<Expr> parts = Split(gates);
    const Expr admitted = Multiply(ctx_.Call("sigmoid", {parts[0]}), ctx_.Call("tanh", {parts[2]}));
    const Expr kept = Multiply(ctx_.Call("sigmoid", {parts[1]}), cell);
    const Expr next = Round(Add(kept, admitted));
    Expr hidden = Round(Multiply(ctx_.Call("sigmoid", {parts[3]}), ctx_.Call("tanh", {next})));
    if (weights.projection) hidden = Round(Linear(hidden, *weights.projection));
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
  ScalarType dtype_, math_;
  int64_t batch_;
};

ffi::Array<Expr> Array(const std::vector<Expr>& exprs) { return {exprs.begin(), exprs.end()}; }

// All steps of one layer in one direction as the call of a function of
//   (inputs of all steps, hidden state, cell state of an LSTM, weights of the hidden state,
//    bias of a GRU's hidden part if it has one, projection of an LSTM if it has one)
// that gives (outputs of all steps, last hidden state, last cell state of an LSTM). Attribute
// `reverse` says that it begins with the last input, `rounded` the dtype that states are rounded
// to.
class Sequence {
 public:
  Sequence(Context& ctx, const Recurrence& recurrence, Cell cell, bool reverse)
      : ctx_(ctx), recurrence_(recurrence), cell_(cell), reverse_(reverse) {}

  Expr Run(const Sized& inputs, const std::vector<Sized>& states, const Weights& weights) {
    length_ = inputs.sizes[0];
    const relay::Var gates = Parameter("inputs", inputs);
    std::vector<relay::Var> given = {Parameter("hidden", states[0])};
    if (cell_ == Cell::kLstm) given.push_back(Parameter("cell", states[1]));
    Weights inside = weights;
    inside.hidden.expr = Parameter("weight", weights.hidden);
    if (weights.hidden_bias && cell_ == Cell::kGru) {
      inside.hidden_bias->expr = Parameter("bias", *weights.hidden_bias);
    }
    if (weights.projection) inside.projection->expr = Parameter("projection", *weights.projection);
    recurrence_.AddFlopsOfSteps(weights, length_);

    Sizes outputs = states[0].sizes;
    outputs.insert(outputs.begin(), length_);
    std::vector<relay::Type> types = {TypeOf(outputs)};
    for (const Sized& state : states) types.push_back(TypeOf(state.sizes));
    const relay::TupleType result(ffi::Array<relay::Type>(types.begin(), types.end()));

    std::vector<Expr> first = {ctx_.Constant(0, ScalarType::Long),
                               ctx_.Full(0, outputs, recurrence_.math())};
    first.insert(first.end(), given.begin(), given.end());
    const relay::Var self("while_loop");
    const relay::Function loop = Loop(self, gates, inside, states, outputs, result);
    const relay::Call all(relay::Let(self, loop, self), Array(first), {}, ctx_.span());
    const relay::Function function(ffi::Array<relay::Var>(params_.begin(), params_.end()), all,
                                   result,
                                   {{"Composite", ffi::String(CompositeName(cell_))},
                                    {"reverse", reverse_},
                                    {"rounded", DtypeName(recurrence_.dtype())}});
    return relay::Call(function, Array(args_), {}, ctx_.span());
  }

 private:
  relay::TensorType TypeOf(const Sizes& sizes) const {
    return {IntArray(sizes), ToRelay(recurrence_.math())};
  }

  relay::Var Parameter(const char* name, const Sized& given) {
    params_.push_back(relay::MakeVar(name, TypeOf(given.sizes)));
    args_.push_back(given.expr);
    return params_.back();
  }

  // The function of step, outputs and states that does all steps from this one on.
  relay::Function Loop(const relay::Var& self, const relay::Var& gates, const Weights& weights,
                       const std::vector<Sized>& states, const Sizes& outputs,
                       const relay::TupleType& result) const {
    const ScalarType number = ScalarType::Long;
    const relay::Var step = relay::MakeVar("step", {IntArray({}), ToRelay(number)});
    std::vector<relay::Var> params = {step, relay::MakeVar("outputs", TypeOf(outputs)),
                                      relay::MakeVar("hidden", TypeOf(states[0].sizes))};
    State state{params[2], std::nullopt};
    if (cell_ == Cell::kLstm) {
      params.push_back(relay::MakeVar("cell", TypeOf(states[1].sizes)));
      state.cell = params.back();
    }
    Expr place = step;
    if (reverse_) place = ctx_.Call("subtract", {ctx_.Constant(length_ - 1, number), step});
    const Expr input =
        ctx_.Call("take", {gates, place}, {{"axis", int64_t{0}}, {"mode", ffi::String("clip")}});
    const State next = recurrence_.Step(weights, input, state);
    Sizes row = outputs;
    row[0] = 1;
    const Expr written = ctx_.Call("scatter_nd",
                                   {params[1], ctx_.Reshape(place, {}, {1, 1}),
                                    ctx_.Reshape(next.hidden, states[0].sizes, row)},
                                   {{"mode", ffi::String("update")}});
    std::vector<Expr> following = {ctx_.Call("add", {step, ctx_.Constant(1, number)}), written,
                                   next.hidden};
    if (next.cell) following.push_back(*next.cell);
    const Expr goes_on = ctx_.Call("less", {step, ctx_.Constant(length_, number)});
    const relay::If body(goes_on, relay::Call(self, Array(following), {}, ctx_.span()),
                         relay::Tuple({params.begin() + 1, params.end()}), ctx_.span());
    return {ffi::Array<relay::Var>(params.begin(), params.end()), body, result};
  }

  Context& ctx_;
  const Recurrence& recurrence_;
  Cell cell_;
  bool reverse_;
  int64_t length_ = 0;
  std::vector<relay::Var> params_;
  std::vector<Expr> args_;
};

// A whole network: layers, directions, and where the sequence lies in its input.
class Network {
 public:
  Network(Context& ctx, Cell cell) : ctx_(ctx), cell_(cell), math_(MathType(ctx.Result().dtype)) {
    const Operand input = ctx.Tensor("input");
    if (input.rank() != 3) ctx.Refuse("input has " + std::to_string(input.rank()) + " dimensions");
    if (input.info.numel() == 0) ctx.Refuse("input has no elements");
    const bool batch_first = ctx.Bool("batch_first");
    if (ctx.Bool("train") && ctx.Double("dropout") > 0 && ctx.Int("num_layers") > 1) {
      ctx.Refuse("dropout=" + std::to_string(ctx.Double("dropout")) + " in training is random");
    }
    length_ = input.sizes()[batch_first ? 1 : 0];
    batch_ = input.sizes()[batch_first ? 0 : 1];
    input_ = ctx.Cast(input, math_);
    if (batch_first) input_ = ctx.Transpose(*input_, {1, 0, 2});
    input_width_ = input.sizes()[2];
    for (const Operand& state :
         cell_ == Cell::kLstm ? ctx_.Tensors("hx") : std::vector<Operand>{ctx_.Tensor("hx")}) {
      initial_.push_back({ctx_.Cast(state, math_), state.sizes()});
    }
  }

  Results Run() {
    const int64_t directions = ctx_.Bool("bidirectional") ? 2 : 1;
    const int64_t layers = ctx_.Int("num_layers");
    const int64_t hidden_width = initial_.at(0).sizes.at(2);
    Expr sequence = *input_;
    int64_t width = input_width_;
    std::vector<std::vector<Expr>> ends(initial_.size());
    for (int64_t layer = 0; layer < layers; ++layer) {
      std::vector<Expr> sides;
      for (int64_t direction = 0; direction < directions; ++direction) {
        const auto position = static_cast<size_t>(layer * directions + direction);
        const Expr all = Direction(sequence, width, position, direction == 1);
        sides.push_back(relay::TupleGetItem(all, 0, all->span));
        for (size_t i = 0; i < ends.size(); ++i) {
          ends[i].push_back(relay::TupleGetItem(all, static_cast<int64_t>(i) + 1, all->span));
        }
      }
      width = hidden_width * directions;
      sequence = ctx_.Concatenate(sides, 2);
    }
    if (ctx_.Bool("batch_first")) sequence = ctx_.Transpose(sequence, {1, 0, 2});
    std::vector<Expr> results = {Give(sequence)};
    for (const auto& states : ends) {
      results.push_back(
          Give(ctx_.Call("stack", {relay::Tuple(Array(states))}, {{"axis", int64_t{0}}})));
    }
    return results;
  }

 private:
  Weights WeightsOf(size_t position, const Recurrence& recurrence) const {
    const std::vector<Operand> params = ctx_.Tensors("params");
    const bool biases = ctx_.Bool("has_biases");
    const bool projected =
        cell_ == Cell::kLstm && initial_[0].sizes.at(2) != initial_.at(1).sizes.at(2);
    const size_t each = (biases ? 4U : 2U) + (projected ? 1U : 0U);
    const size_t first = position * each;
    Weights weights{
        recurrence.Held(params.at(first)), recurrence.Held(params.at(first + 1)), {}, {}, {}};
    if (biases) {
      weights.input_bias = recurrence.Held(params.at(first + 2));
      weights.hidden_bias = recurrence.Held(params.at(first + 3));
    }
    if (projected) weights.projection = recurrence.Held(params.at(first + each - 1));
    return weights;
  }

  // One layer in one direction: a tuple of its outputs of all steps and the last states.
  Expr Direction(const Expr& sequence, int64_t width, size_t position, bool reverse) const {
    const Recurrence recurrence(ctx_, cell_, batch_);
    const Weights weights = WeightsOf(position, recurrence);
    const int64_t rows = length_ * batch_;
    const Expr flat = ctx_.Reshape(sequence, {length_, batch_, width}, {rows, width});
    const int64_t units = weights.input.sizes[0];
    const Sizes sizes = {length_, batch_, units};
    const Expr inputs = ctx_.Reshape(recurrence.Input(weights, flat, rows), {rows, units}, sizes);
    std::vector<Sized> states;
    for (const Sized& state : initial_) states.push_back(Initial(state, position));
    return Sequence(ctx_, recurrence, cell_, reverse).Run({inputs, sizes}, states, weights);
  }

  // The state that one layer in one direction begins with.
  Sized Initial(const Sized& states, size_t position) const {
    const Sizes matrix = {batch_, states.sizes.at(2)};
    Sizes part = states.sizes;
    Expr own = states.expr;
    if (part[0] != 1) {
      const auto index = static_cast<int64_t>(position);
      own = ctx_.Slice(own, 0, index, index + 1);
      part[0] = 1;
    }
    return {ctx_.Reshape(own, part, matrix), matrix};
  }

  Expr Give(const Expr& expr) const { return ctx_.Cast(expr, math_, ctx_.Result().dtype); }

  Context& ctx_;
  Cell cell_;
  ScalarType math_;
  std::optional<Expr> input_;
  std::vector<Sized> initial_;
  int64_t length_ = 0, batch_ = 0, input_width_ = 0;
};

Converter WholeNetwork(Cell cell) {
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
    const Recurrence recurrence(ctx, cell, batch);
    const Weights weights{recurrence.Held(ctx.Tensor("w_ih")), recurrence.Held(ctx.Tensor("w_hh")),
                          recurrence.Held(ctx.OptionalTensor("b_ih")),
                          recurrence.Held(ctx.OptionalTensor("b_hh")), std::nullopt};
    recurrence.AddFlopsOfSteps(weights, 1);
    State state{rows(states.at(0)), std::nullopt};
    if (cell == Cell::kLstm) state.cell = rows(states.at(1));
    state = recurrence.Step(weights, recurrence.Input(weights, rows(input), batch), state);
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
    {"aten::lstm.input", WholeNetwork(Cell::kLstm), WithoutDropout},
    {"aten::gru.input", WholeNetwork(Cell::kGru), WithoutDropout},
    {"aten::rnn_tanh.input", WholeNetwork(Cell::kTanh), WithoutDropout},
    {"aten::rnn_relu.input", WholeNetwork(Cell::kRelu), WithoutDropout},
    {"aten::lstm_cell", SingleStep(Cell::kLstm)},
    {"aten::gru_cell", SingleStep(Cell::kGru)},
    {"aten::rnn_tanh_cell", SingleStep(Cell::kTanh)},
    {"aten::rnn_relu_cell", SingleStep(Cell::kRelu)},
});

}  // namespace
}  // namespace torch_tvm::convert
