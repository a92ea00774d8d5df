#include "runtime/program.h"

#include <ATen/record_function.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <utility>

#include "core/stats.h"

namespace torch_tvm::runtime {
namespace {

// Kernels refuse a null address, which is what torch gives for a tensor without elements.
alignas(kAlignment) char no_elements[kAlignment];

// More only where a kernel concatenates many tensors.
constexpr size_t kStackArgs = 16;

}  // namespace

Program::Program(Plan plan) : plan_(std::move(plan)) {
  AlignConstants();
  const auto count = static_cast<int64_t>(plan_->buffers.size());
  extents_.reserve(count);
  tensors_.reserve(count);
  for (int64_t i = 0; i < count; ++i) {
    AddTensor(plan_->buffers[i]);
    AddSource(i, plan_->buffers[i]);
  }
  packing_steps_ = Prepare(plan_->packing_steps);
  steps_ = Prepare(plan_->steps);
}

std::vector<Program::Call> Program::Prepare(const ffi::Array<Step>& steps) const {
  std::vector<Call> calls;
  calls.reserve(steps.size());
  for (const Step& step : steps) {
    calls.push_back({step->function,
                     {step->args.begin(), step->args.end()},
                     {step->scalars.begin(), step->scalars.end()},
                     step->name});
  }
  return calls;
}

void Program::AlignConstants() {
  for (const ffi::Tensor& constant : plan_->constants) {
    char* data = static_cast<char*>(constant.data_ptr()) + constant.byte_offset();
    const size_t bytes = ffi::GetDataSize(constant.numel(), constant.dtype());
    if (bytes == 0) {
      data = no_elements;
    } else if (!IsAligned(data)) {
      aligned_constants_.emplace_back(static_cast<int64_t>(bytes));
      data = static_cast<char*>(std::memcpy(aligned_constants_.back().data(), data, bytes));
    }
    constants_.push_back(data);
  }
}

void Program::AddTensor(const Buffer& buffer) {
  const auto rank = static_cast<int64_t>(buffer->shape.size());
  std::vector<int64_t> extents(buffer->shape.begin(), buffer->shape.end());
  extents.resize(2 * rank, 1);
  for (int64_t i = rank - 1; i > 0; --i) extents[rank + i - 1] = extents[rank + i] * extents[i];
  DLTensor tensor{};
  tensor.device = {kDLCPU, 0};
  tensor.ndim = static_cast<int32_t>(rank);
  tensor.dtype = buffer->dtype;
  tensor.shape = extents.data();
  tensor.strides = extents.data() + rank;
  if (buffer->place == BufferKind::kConstant) tensor.data = constants_[buffer->index];
  extents_.push_back(std::move(extents));
  tensors_.push_back(tensor);
}

void Program::AddSource(int64_t tensor, const Buffer& buffer) {
  switch (buffer->place) {
    case BufferKind::kPacked: {
      const auto part = static_cast<int64_t>(plan_->PartAt(buffer->offset));
      binding_sources_.push_back(
          {tensor, part, buffer->offset - plan_->packed_parts[part]->offset});
      break;
    }
    case BufferKind::kWeight: {
      const auto parts = static_cast<int64_t>(plan_->packed_parts.size());
      binding_sources_.push_back({tensor, parts + buffer->index, 0});
      break;
    }
    case BufferKind::kArena:
      call_sources_.push_back({tensor, 0, buffer->offset});
      break;
    case BufferKind::kInput:
      call_sources_.push_back({tensor, 1 + buffer->index, 0});
      break;
    case BufferKind::kOutput:
      call_sources_.push_back({tensor, 1 + plan_->num_inputs + buffer->index, 0});
      break;
    case BufferKind::kConstant:
      break;
  }
}

void Program::Fill(const std::vector<AddressSource>& sources, c10::ArrayRef<char*> slots,
                   DLTensor* tensors) {
  for (const AddressSource& source : sources) {
    char* base = slots[source.slot];
    tensors[source.tensor].data = base != nullptr ? base + source.offset : no_elements;
  }
}

void Program::RunPackingStep(int64_t number, DLTensor* tensors) const {
  Invoke(packing_steps_[number], tensors);
}

void Program::RunSteps(DLTensor* tensors, bool timed) const {
  for (const Call& call : steps_) {
    if (timed) {
      InvokeTimed(call, tensors);
    } else {
      Invoke(call, tensors);
    }
  }
}

void Program::Invoke(const Call& call, DLTensor* tensors) const {
  std::array<ffi::AnyView, kStackArgs> few;
  const size_t count = call.args.size() + call.scalars.size();
  std::vector<ffi::AnyView> many(count > kStackArgs ? count : 0);
  ffi::AnyView* args = many.empty() ? few.data() : many.data();
  for (size_t i = 0; i < call.args.size(); ++i) args[i] = tensors + call.args[i];
  std::copy(call.scalars.begin(), call.scalars.end(), args + call.args.size());
  ffi::Any nothing;
  try {
    call.function.CallPacked(args, static_cast<int32_t>(count), &nothing);
  } catch (const ffi::Error& error) {
    TORCH_CHECK(false, "kernel ", call.name, " of plan ", std::string(plan_->name),
                " failed: ", std::string(error.kind()), ": ", std::string(error.message()));
  }
}

void Program::InvokeTimed(const Call& call, DLTensor* tensors) const {
  at::RecordFunction record(at::RecordScope::FUNCTION);
  if (record.isActive()) record.before(call.name);
  const auto start = std::chrono::steady_clock::now();
  Invoke(call, tensors);
  const auto took = std::chrono::steady_clock::now() - start;
  Stats::Get().CountKernel(plan_->name, call.name, std::chrono::nanoseconds(took).count());
}

}  // namespace torch_tvm::runtime
