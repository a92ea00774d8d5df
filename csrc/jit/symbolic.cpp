#include "jit/symbolic.h"

#include <algorithm>
#include <utility>

#include "core/stats.h"
#include "jit/lowered.h"
#include "relay/skeleton.h"
#include "runtime/strides.h"

namespace torch_tvm::jit {
namespace {

namespace ffi = tvm::ffi;
using convert::Lowered;

constexpr size_t kFewestExamples = 4;
// Each doubles the products that a number may depend on.
constexpr int64_t kMostDimensions = 4;

// Beside those that are compiled: the next smaller sizes, whose quotients say where strides of up
// to 32 round down. A table, of positions for example, may have no larger ones.
constexpr int64_t kNeighbours = 65;
constexpr int64_t kSmallest = 2;

using Rows = std::vector<std::vector<int64_t>>;

// Tensors without data that have these sizes, and their dimensions in memory as those at hand.
std::vector<c10::IValue> WithSizes(c10::ArrayRef<c10::IValue> inputs, const Sizes& sizes) {
  std::vector<c10::IValue> result;
  auto next = sizes.begin();
  for (const c10::IValue& input : inputs) {
    if (!input.isTensor()) {
      result.push_back(input);
      continue;
    }
    const at::Tensor& tensor = input.toTensor();
    const Sizes own(next, next + tensor.dim());
    next += tensor.dim();
    if (tensor.sizes() == own) {
      result.push_back(input);
      continue;
    }
    Sizes strides = tensor.strides().vec();
    if (tensor.is_non_overlapping_and_dense()) {
      strides =
          runtime::DenseStrides(own, runtime::PhysicalOrder(tensor.sizes(), tensor.strides()));
    }
    const auto options = tensor.options().device(c10::kMeta).requires_grad(false);
    result.push_back(at::empty_strided(own, strides, options));
  }
  return result;
}

// What is computed, without its sizes, and these: all of them, so that values for which the
// examples say nothing are noticed.
relay::Skeleton SkeletonOf(const Lowered& lowered) {
  relay::Skeleton skeleton = relay::SkeletonOf(lowered.function);
  skeleton.sizes.insert(skeleton.sizes.end(), lowered.sizes.begin(), lowered.sizes.end());
  return skeleton;
}

}  // namespace

struct SymbolicCompiled::Form {
  std::string relay;
  Rows input_orders, output_orders;

  explicit Form(const Lowered& lowered, std::string relay_form)
      : relay(std::move(relay_form)),
        input_orders(Orders(InputSpecs(lowered))),
        output_orders(Orders(OutputSpecs(lowered))) {}

  void Require(const Form& other) const {
    if (relay != other.relay) throw NotSymbolic("what is computed depends on the sizes");
    if (input_orders != other.input_orders || output_orders != other.output_orders) {
      throw NotSymbolic("the order of dimensions in memory depends on the sizes");
    }
  }
};

SymbolicCompiled::SymbolicCompiled(const Source& source, c10::ArrayRef<c10::IValue> inputs,
                                   const std::vector<Sizes>& seen)
    : dimensions_(seen) {
  if (dimensions_.count() > kMostDimensions) {
    throw NotSymbolic("more than " + std::to_string(kMostDimensions) +
                      " sizes change independently");
  }
  ffi::Array<ffi::Any> functions;
  Rows examples, sizes;
  int64_t num_inputs = 0;
  const auto add = [&](const std::vector<int64_t>& values, bool compiled) {
    try {
      const auto example = WithSizes(inputs, dimensions_.SizesAt(values));
      const Lowered lowered = convert::Lower(source.subgraph, example, Kinds(source));
      relay::Skeleton skeleton = SkeletonOf(lowered);
      auto form = std::make_shared<const Form>(lowered, std::move(skeleton.form));
      if (form_ != nullptr) form_->Require(*form);
      if (form_ == nullptr) form_ = std::move(form);
      if (compiled) functions.push_back(lowered.function);
      examples.push_back(values);
      sizes.push_back(std::move(skeleton.sizes));
      num_inputs = static_cast<int64_t>(lowered.inputs.size());
    } catch (const convert::NotConvertible&) {  // sizes that the model does not take
    }
  };
  for (const auto& values : dimensions_.Examples(seen)) add(values, /*compiled=*/true);
  if (examples.size() < kFewestExamples) {
    throw NotSymbolic("too few sizes near those of the calls can be converted");
  }
  std::vector<int64_t> values = examples.front();
  for (int64_t step = 0; step < kNeighbours; ++step) {
    for (int64_t& value : values) value = std::max(value - 1, kSmallest);
    if (values == examples.back()) break;
    add(values, /*compiled=*/false);
  }
  Rows bounds(dimensions_.count());
  for (const Sizes& each : seen) {
    const auto values = dimensions_.ValuesOf(each);
    for (size_t dim = 0; values && dim < bounds.size(); ++dim) {
      auto& range = bounds[dim];
      if (range.empty()) range = {(*values)[dim], (*values)[dim]};
      range = {std::min(range[0], (*values)[dim]), std::max(range[1], (*values)[dim])};
    }
  }
  const auto compile = ffi::Function::GetGlobal("torch_tvm.compiler.compile_symbolic");
  TORCH_CHECK(compile, "the compiler (torch_tvm.compiler) is not loaded in this process");
  const ffi::Any plan =
      (*compile)(functions, num_inputs, ToArrays(form_->input_orders),
                 ToArrays(form_->output_orders), CompilerOptions(GetOptions(), source.name),
                 ToArrays(examples), ToArrays(bounds), ToArrays(sizes));
  plan_ = plan.cast<runtime::SymbolicPlan>();
  ++Stats::Get().compiled;
  Stats::SymbolicPlan entry{source.name, {}, 0};
  for (size_t i = 0; i < (*plan_)->least.size(); ++i) {
    entry.bounds.emplace_back((*plan_)->least[i], (*plan_)->most[i]);
  }
  number_ = Stats::Get().AddSymbolicPlan(std::move(entry));
}

std::unique_ptr<const CompiledPlan> SymbolicCompiled::At(const Source& source,
                                                         c10::ArrayRef<c10::IValue> inputs,
                                                         const Sizes& sizes) const {
  const auto values = dimensions_.ValuesOf(sizes);
  if (!values) throw NotSymbolic("sizes that differ in another way than those before");
  if (!(*plan_)->Covers(*values)) throw NotSymbolic("sizes out of the bounds of its kernels");
  // Lowered anew, not only its shapes inferred, because a converter may choose otherwise for other
  // sizes. A function of the same form, whose sizes are in all places what the plan has computed
  // them to be, is the one that the plan is for. Takes 0.8 ms for two layers of BERT.
  const Lowered lowered = convert::Lower(source.subgraph, inputs, Kinds(source), {.spans = false});
  relay::Skeleton skeleton = SkeletonOf(lowered);
  form_->Require(Form(lowered, std::move(skeleton.form)));
  if (!(*plan_)->HasSizes(*values, skeleton.sizes)) {
    throw NotSymbolic("sizes from which others follow in another way than from those before");
  }
  const runtime::Plan plan = (*plan_)->At(*values);
  std::lock_guard lock(mutex_);
  auto compiled = std::make_unique<const CompiledPlan>(plan, lowered, inputs, bindings_);
  bindings_ = compiled->bindings();
  Stats::Get().CountSymbolicValue(number_);
  return compiled;
}

}  // namespace torch_tvm::jit
