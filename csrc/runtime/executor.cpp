#include "runtime/executor.h"

#include <ATen/EmptyTensor.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/util/Exception.h>
#include <c10/util/SmallVector.h>

#include <algorithm>
#include <string>
#include <utility>

#include "core/dtype.h"
#include "runtime/arena.h"

namespace torch_tvm::runtime {
namespace {

// DLTensors of a call stand on the stack up to this many (0.8 KiB), then behind the arena.
constexpr size_t kStackTensors = 16;

// The system call takes a microsecond.
constexpr int64_t kHugeOutput = int64_t{4} << 20;

int64_t BytesOf(const TensorSpec& spec) {
  auto bytes = static_cast<int64_t>(c10::elementSize(spec.dtype));
  for (int64_t extent : spec.sizes) bytes *= extent;
  return bytes;
}

int64_t RoundUp(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

char* Address(const c10::TensorImpl* tensor) {
  const auto* base = static_cast<const char*>(tensor->unsafe_storage().data());
  return const_cast<char*>(base) +
         tensor->storage_offset() * static_cast<int64_t>(tensor->dtype().itemsize());
}

}  // namespace

Executor::Port Executor::MakePort(TensorSpec spec) {
  Port port;
  port.order = PhysicalOrder(spec.sizes, spec.strides);
  port.dense = DenseStrides(spec.sizes, port.order);
  port.in_place = SameMemory(spec.sizes, spec.strides, port.dense);
  port.contiguous =
      port.dense == spec.strides && std::is_sorted(port.order.begin(), port.order.end());
  port.spec = std::move(spec);
  return port;
}

Executor::Executor(Plan plan, std::vector<TensorSpec> inputs, std::vector<TensorSpec> weights,
                   std::vector<TensorSpec> outputs)
    : Executor(std::move(plan), std::move(inputs), std::move(weights), std::move(outputs),
               nullptr) {}

Executor::Executor(Plan plan, std::vector<TensorSpec> inputs, std::vector<TensorSpec> weights,
                   std::vector<TensorSpec> outputs, std::shared_ptr<BindingCache> bindings)
    : program_(std::make_shared<const Program>(std::move(plan))),
      weights_(std::move(weights)),
      bindings_(bindings != nullptr ? std::move(bindings)
                                    : std::make_shared<BindingCache>(program_, weights_)) {
  for (TensorSpec& spec : inputs) inputs_.push_back(MakePort(std::move(spec)));
  for (TensorSpec& spec : outputs) outputs_.push_back(MakePort(std::move(spec)));
  CheckBuffers();
}

void Executor::CheckBuffers() const {
  const PlanObj& plan = program_->plan();
  const std::string name = plan.name;
  const auto check_count = [&](const char* what, int64_t expected, size_t got) {
    TORCH_CHECK_VALUE(expected == static_cast<int64_t>(got), "plan ", name, " has ", expected, " ",
                      what, ", got ", got);
  };
  check_count("inputs", plan.num_inputs, inputs_.size());
  check_count("weights", plan.num_weights, weights_.size());
  check_count("outputs", plan.num_outputs, outputs_.size());
  for (const Buffer& buffer : plan.buffers) {
    const TensorSpec* spec = nullptr;
    if (buffer->place == BufferKind::kInput) spec = &inputs_[buffer->index].spec;
    if (buffer->place == BufferKind::kOutput) spec = &outputs_[buffer->index].spec;
    if (buffer->place == BufferKind::kWeight) spec = &weights_[buffer->index];
    if (spec == nullptr) continue;
    TORCH_CHECK_VALUE(buffer->bytes == BytesOf(*spec), "plan ", name, ": ",
                      std::string(buffer->kind), " ", buffer->index, " of sizes ",
                      c10::IntArrayRef(spec->sizes), " and dtype ", spec->dtype, " has ",
                      BytesOf(*spec), " bytes, its buffer has ", buffer->bytes);
  }
}

std::vector<at::Tensor> Executor::Run(BorrowedTensors inputs, const Binding& binding,
                                      bool timed) const {
  TORCH_CHECK(inputs.size() == inputs_.size(), "plan ", std::string(plan().name), " takes ",
              inputs_.size(), " inputs, got ", inputs.size());
  const bool bound = binding.program() == program_.get();
  const std::vector<DLTensor>& prebuilt = bound ? binding.tensors() : program_->tensors();
  const bool on_stack = prebuilt.size() <= kStackTensors;
  const int64_t arena_bytes = RoundUp(plan().arena_bytes);
  const auto tensors_bytes = static_cast<int64_t>(prebuilt.size() * sizeof(DLTensor));
  const Arena arena(arena_bytes + (on_stack ? 0 : tensors_bytes));
  DLTensor stack_tensors[kStackTensors];
  DLTensor* tensors =
      on_stack ? stack_tensors : reinterpret_cast<DLTensor*>(arena.data() + arena_bytes);
  std::copy(prebuilt.begin(), prebuilt.end(), tensors);
  if (!bound) Program::Fill(program_->binding_sources(), binding.addresses(), tensors);

  c10::SmallVector<char*, 24> slots;
  std::vector<at::Tensor> copies, outputs;
  slots.push_back(arena.data());
  for (size_t i = 0; i < inputs.size(); ++i) {
    slots.push_back(InputAddress(i, inputs[i], &copies));
  }
  outputs.reserve(outputs_.size());
  for (const Port& port : outputs_) {
    outputs.push_back(MakeOutput(port));
    slots.push_back(Address(outputs.back().unsafeGetTensorImpl()));
  }
  Program::Fill(program_->call_sources(), slots, tensors);
  program_->RunSteps(tensors, timed);
  for (size_t i = 0; i < outputs_.size(); ++i) {
    if (!outputs_[i].in_place) outputs[i] = PlaceOutput(outputs_[i], outputs[i]);
  }
  return outputs;
}

char* Executor::InputAddress(size_t i, c10::TensorImpl* input,
                             std::vector<at::Tensor>* copies) const {
  const Port& port = inputs_[i];
  TORCH_CHECK(input->sizes() == port.spec.sizes &&
                  input->dtype() == c10::scalarTypeToTypeMeta(port.spec.dtype),
              "plan ", std::string(plan().name), " was compiled for input ", i, " of sizes ",
              c10::IntArrayRef(port.spec.sizes), " and dtype ", port.spec.dtype, ", got sizes ",
              input->sizes(), " and dtype ", input->dtype());
  char* const address = Address(input);
  if (IsAligned(address) && SameMemory(port.spec.sizes, input->strides(), port.dense)) {
    return address;
  }
  const at::AutoDispatchBelowADInplaceOrView plain;
  copies->push_back(Borrow(input).permute(port.order).clone(at::MemoryFormat::Contiguous));
  return Address(copies->back().unsafeGetTensorImpl());
}

at::Tensor Executor::MakeOutput(const Port& port) const {
  at::Tensor output =
      port.contiguous
          ? at::detail::empty_cpu(port.spec.sizes, port.spec.dtype)
          : at::detail::empty_strided_cpu(
                port.spec.sizes, port.in_place ? port.spec.strides : port.dense, port.spec.dtype);
  const auto bytes = static_cast<int64_t>(output.nbytes());
  if (bytes >= kHugeOutput) UseHugePages(output.mutable_data_ptr(), bytes);
  return output;
}

at::Tensor Executor::PlaceOutput(const Port& port, const at::Tensor& dense) const {
  at::Tensor output =
      at::detail::empty_strided_cpu(port.spec.sizes, port.spec.strides, port.spec.dtype);
  const at::AutoDispatchBelowADInplaceOrView plain;
  Place(output, dense);
  return output;
}

void ReleaseMemory() {
  SweepBindings();
  ArenaPool::Get().Trim();
}

}  // namespace torch_tvm::runtime
