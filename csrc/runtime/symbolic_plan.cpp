#include "runtime/symbolic_plan.h"

#include <tvm/ffi/reflection/registry.h>

#include <algorithm>
#include <array>
#include <functional>
#include <numeric>
#include <utility>

namespace torch_tvm::runtime {
namespace {

namespace refl = tvm::ffi::reflection;

// Bytes that something takes at a time, and where in the arena.
struct Span {
  int64_t bytes, first, last;
  int64_t offset = 0;

  int64_t end() const { return offset + bytes; }
  bool Meets(const Span& other) const { return first <= other.last && other.first <= last; }
};

int64_t RoundUp(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Gives each span in turn the lowest offset at which it overlaps none that lives when it does.
// Returns the end of the last one.
int64_t Place(const std::vector<size_t>& order, std::vector<Span>* spans) {
  int64_t reach = 0;
  std::vector<const Span*> placed;  // by offset
  for (const size_t number : order) {
    Span& span = (*spans)[number];
    span.offset = 0;
    for (const Span* other : placed) {
      if (!other->Meets(span)) continue;
      if (span.end() <= other->offset) break;
      span.offset = std::max(span.offset, other->end());
    }
    const auto behind =
        std::upper_bound(placed.begin(), placed.end(), &span,
                         [](const Span* a, const Span* b) { return a->offset < b->offset; });
    placed.insert(behind, &span);
    reach = std::max(reach, span.end());
  }
  return reach;
}

// Largest first, or longest lived first, whichever takes less: as plan_arena (compiler/memory.py).
int64_t PlaceAll(std::vector<Span>* spans) {
  std::vector<size_t> order(spans->size());
  std::iota(order.begin(), order.end(), 0);
  const auto& s = *spans;
  const std::array<std::function<bool(size_t, size_t)>, 2> orders = {
      [&](size_t a, size_t b) { return s[a].bytes > s[b].bytes; },
      [&](size_t a, size_t b) { return s[a].last - s[a].first > s[b].last - s[b].first; },
  };
  std::vector<Span> best;
  int64_t least = -1;
  for (const auto& before : orders) {
    std::stable_sort(order.begin(), order.end(), before);
    const int64_t reach = Place(order, spans);
    if (least >= 0 && reach >= least) continue;
    least = reach;
    best = *spans;
  }
  *spans = std::move(best);
  return least;
}

}  // namespace

SymbolicBufferObj::SymbolicBufferObj(ffi::String kind, int64_t index, int64_t memory,
                                     ExtentCode offset, ffi::Array<ExtentCode> shape,
                                     DLDataType dtype)
    : kind(std::move(kind)),
      index(index),
      memory(memory),
      offset(std::move(offset)),
      shape(std::move(shape)),
      dtype(dtype) {}

MemoryObj::MemoryObj(ExtentCode bytes, int64_t first, int64_t last)
    : bytes(std::move(bytes)), first(first), last(last) {
  if (first < 0 || last < first) {
    TVM_FFI_THROW(ValueError) << "Memory lives from step " << first << " to " << last;
  }
}

SymbolicPlanObj::SymbolicPlanObj(
    ffi::String name, ffi::Array<int64_t> least, ffi::Array<int64_t> most,
    ffi::Array<SymbolicBuffer> buffers, ffi::Array<Memory> memory, ffi::Array<Step> steps,
    ffi::Array<Step> packing_steps, ffi::Array<PackedPart> packed_parts,
    ffi::Array<ffi::Tensor> constants, int64_t num_inputs, int64_t num_weights, int64_t num_outputs,
    int64_t packing_arena_bytes, ffi::Array<ExtentCode> sizes, ffi::Map<ffi::String, ffi::Any> info)
    : name(std::move(name)),
      least(std::move(least)),
      most(std::move(most)),
      buffers(std::move(buffers)),
      memory(std::move(memory)),
      steps(std::move(steps)),
      packing_steps(std::move(packing_steps)),
      packed_parts(std::move(packed_parts)),
      constants(std::move(constants)),
      num_inputs(num_inputs),
      num_weights(num_weights),
      num_outputs(num_outputs),
      packing_arena_bytes(packing_arena_bytes),
      sizes(std::move(sizes)),
      info(std::move(info)) {
  if (this->least.size() != this->most.size() || this->least.empty()) {
    TVM_FFI_THROW(ValueError) << "SymbolicPlan \"" << this->name << "\": " << this->least.size()
                              << " lower and " << this->most.size() << " upper bounds";
  }
  CheckBuffers();
  CheckSteps();
  const auto dims = static_cast<int64_t>(this->least.size());
  for (const SymbolicBuffer& buffer : this->buffers) {
    Shape shape{Extent(buffer->offset, dims), {}};
    for (const ExtentCode& size : buffer->shape) shape.sizes.emplace_back(size, dims);
    shapes_.push_back(std::move(shape));
  }
  for (const Memory& each : this->memory) bytes_.emplace_back(each->bytes, dims);
  for (const ExtentCode& size : this->sizes) sizes_.emplace_back(size, dims);
  const std::vector<int64_t> largest(this->most.begin(), this->most.end());
  At(largest);  // what is left to check, the plan checks
}

void SymbolicPlanObj::CheckBuffers() const {
  const auto count = static_cast<int64_t>(memory.size());
  for (const SymbolicBuffer& buffer : buffers) {
    if (buffer->memory < -1 || buffer->memory >= count ||
        (buffer->memory >= 0 && buffer->kind != "arena")) {
      TVM_FFI_THROW(ValueError) << "SymbolicPlan \"" << name << "\": a buffer of kind "
                                << buffer->kind << " names memory " << buffer->memory << " of "
                                << count;
    }
  }
}

// Memory that two things share must not be used by a step outside of its life.
void SymbolicPlanObj::CheckSteps() const {
  const auto count = static_cast<int64_t>(least.size());
  for (size_t time = 0; time < steps.size(); ++time) {
    for (const int64_t dim : steps[time]->scalars) {
      if (dim < 0 || dim >= count) {
        TVM_FFI_THROW(ValueError) << "SymbolicPlan \"" << name << "\": step \"" << steps[time]->name
                                  << "\" takes dimension " << dim << " of " << count;
      }
    }
    for (const int64_t arg : steps[time]->args) {
      if (arg < 0 || arg >= static_cast<int64_t>(buffers.size())) continue;  // the plan tells
      const int64_t number = buffers[arg]->memory;
      const bool in_arena = buffers[arg]->kind == "arena";
      if (!in_arena) continue;
      const auto now = static_cast<int64_t>(time);
      if (number < 0 || now < memory[number]->first || now > memory[number]->last) {
        TVM_FFI_THROW(ValueError) << "SymbolicPlan \"" << name << "\": step \"" << steps[time]->name
                                  << "\" uses memory " << number << " outside of its life";
      }
    }
  }
}

bool SymbolicPlanObj::Covers(c10::ArrayRef<int64_t> values) const {
  if (values.size() != least.size()) return false;
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] < least[i] || values[i] > most[i]) return false;
  }
  return true;
}

bool SymbolicPlanObj::HasSizes(c10::ArrayRef<int64_t> values,
                               c10::ArrayRef<int64_t> expected) const {
  return std::equal(
      sizes_.begin(), sizes_.end(), expected.begin(), expected.end(),
      [&](const Extent& size, int64_t value) { return size.Evaluate(values) == value; });
}

Plan SymbolicPlanObj::At(c10::ArrayRef<int64_t> values) const {
  if (!Covers(values)) {
    TVM_FFI_THROW(ValueError) << "SymbolicPlan \"" << name << "\" is for values from " << least
                              << " to " << most << ", got "
                              << ffi::Array<int64_t>(values.begin(), values.end());
  }
  std::vector<Span> spans;
  for (size_t i = 0; i < memory.size(); ++i) {
    spans.push_back({RoundUp(bytes_[i].Evaluate(values)), memory[i]->first, memory[i]->last});
  }
  const int64_t arena_bytes = spans.empty() ? 0 : PlaceAll(&spans);
  ffi::Array<Buffer> placed;
  for (size_t i = 0; i < buffers.size(); ++i) {
    const SymbolicBufferObj* buffer = buffers[i].get();
    ffi::Array<int64_t> shape;
    for (const Extent& size : shapes_[i].sizes) shape.push_back(size.Evaluate(values));
    int64_t offset = shapes_[i].offset.Evaluate(values);
    if (buffer->memory >= 0) offset += spans[buffer->memory].offset;
    placed.push_back(Buffer(
        ffi::make_object<BufferObj>(buffer->kind, buffer->index, offset, shape, buffer->dtype)));
    if (buffer->memory < 0) continue;
    const Span& span = spans[buffer->memory];
    if (offset < span.offset || offset + placed.back()->bytes > span.end()) {
      TVM_FFI_THROW(ValueError) << "SymbolicPlan \"" << name << "\": buffer " << i
                                << " leaves its memory of " << span.bytes << " bytes";
    }
  }
  ffi::Array<Step> called;
  for (const Step& step : steps) {
    ffi::Array<int64_t> scalars;
    for (const int64_t dim : step->scalars) scalars.push_back(values[dim]);
    called.push_back(
        Step(ffi::make_object<StepObj>(step->name, step->function, step->args, scalars)));
  }
  return Plan(ffi::make_object<PlanObj>(name, placed, called, packing_steps, packed_parts,
                                        constants, num_inputs, num_weights, num_outputs,
                                        arena_bytes, packing_arena_bytes, info));
}

TVM_FFI_STATIC_INIT_BLOCK() {
  refl::ObjectDef<SymbolicBufferObj>()
      .def(refl::init<ffi::String, int64_t, int64_t, ExtentCode, ffi::Array<ExtentCode>,
                      DLDataType>())
      .def_ro("kind", &SymbolicBufferObj::kind)
      .def_ro("index", &SymbolicBufferObj::index)
      .def_ro("memory", &SymbolicBufferObj::memory)
      .def_ro("offset", &SymbolicBufferObj::offset)
      .def_ro("shape", &SymbolicBufferObj::shape)
      .def_ro("dtype", &SymbolicBufferObj::dtype);
  refl::ObjectDef<MemoryObj>()
      .def(refl::init<ExtentCode, int64_t, int64_t>())
      .def_ro("bytes", &MemoryObj::bytes)
      .def_ro("first", &MemoryObj::first)
      .def_ro("last", &MemoryObj::last);
  refl::ObjectDef<SymbolicPlanObj>()
      .def(refl::init<ffi::String, ffi::Array<int64_t>, ffi::Array<int64_t>,
                      ffi::Array<SymbolicBuffer>, ffi::Array<Memory>, ffi::Array<Step>,
                      ffi::Array<Step>, ffi::Array<PackedPart>, ffi::Array<ffi::Tensor>, int64_t,
                      int64_t, int64_t, int64_t, ffi::Array<ExtentCode>,
                      ffi::Map<ffi::String, ffi::Any>>())
      .def_ro("name", &SymbolicPlanObj::name)
      .def_ro("least", &SymbolicPlanObj::least)
      .def_ro("most", &SymbolicPlanObj::most)
      .def_ro("buffers", &SymbolicPlanObj::buffers)
      .def_ro("memory", &SymbolicPlanObj::memory)
      .def_ro("steps", &SymbolicPlanObj::steps)
      .def_ro("packing_steps", &SymbolicPlanObj::packing_steps)
      .def_ro("packed_parts", &SymbolicPlanObj::packed_parts)
      .def_ro("sizes", &SymbolicPlanObj::sizes)
      .def_ro("info", &SymbolicPlanObj::info)
      .def("at", [](const SymbolicPlanObj* plan, const ffi::Array<int64_t>& values) {
        const std::vector<int64_t> given(values.begin(), values.end());
        return plan->At(given);
      });
}

}  // namespace torch_tvm::runtime
