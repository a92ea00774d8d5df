#include "runtime/plan.h"

#include <tvm/ffi/reflection/registry.h>

#include <algorithm>
#include <array>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

namespace torch_tvm::runtime {
namespace {

namespace refl = tvm::ffi::reflection;

constexpr std::array<std::pair<std::string_view, BufferKind>, 6> kKinds = {{
    {"input", BufferKind::kInput},
    {"output", BufferKind::kOutput},
    {"weight", BufferKind::kWeight},
    {"packed", BufferKind::kPacked},
    {"arena", BufferKind::kArena},
    {"constant", BufferKind::kConstant},
}};

BufferKind ParseKind(const ffi::String& kind) {
  for (const auto& [name, value] : kKinds) {
    if (std::string_view(kind.data(), kind.size()) == name) return value;
  }
  TVM_FFI_THROW(ValueError)
      << "Buffer.kind must be input, output, weight, packed, arena or constant, "
      << "got \"" << kind << "\"";
}

bool IsBlock(BufferKind kind) { return kind == BufferKind::kPacked || kind == BufferKind::kArena; }

bool IsKnown(DLDataType dtype) {
  if (dtype.lanes != 1) return false;
  switch (dtype.code) {
    case kDLBool:
      return dtype.bits == 8;
    case kDLInt:
    case kDLUInt:
      return dtype.bits == 8 || dtype.bits == 16 || dtype.bits == 32 || dtype.bits == 64;
    case kDLFloat:
      return dtype.bits == 16 || dtype.bits == 32 || dtype.bits == 64;
    case kDLBfloat:
      return dtype.bits == 16;
    default:
      return false;
  }
}

int64_t CheckedBytes(const ffi::Array<int64_t>& shape, DLDataType dtype) {
  int64_t bytes = dtype.bits / 8;
  for (int64_t extent : shape) {
    if (extent < 0) {
      TVM_FFI_THROW(ValueError) << "Buffer.shape must be concrete and not negative, got " << shape;
    }
    if (__builtin_mul_overflow(bytes, extent, &bytes)) {
      TVM_FFI_THROW(ValueError) << "Buffer.shape " << shape << " has more than 2^63 bytes";
    }
  }
  return bytes;
}

// Checks that every argument of every step can be had, and names the first that cannot.
class PlanChecker {
 public:
  explicit PlanChecker(const PlanObj& plan) : plan_(plan), written_(plan.num_outputs, false) {}

  void Check() {
    CheckSizes();
    CheckParts();
    for (int64_t i = 0; i < static_cast<int64_t>(plan_.buffers.size()); ++i) CheckBuffer(i);
    for (const Step& step : plan_.packing_steps) CheckStep(step, /*packing=*/true);
    for (const Step& step : plan_.steps) CheckStep(step, /*packing=*/false);
    for (int64_t i = 0; i < plan_.num_outputs; ++i) {
      if (!written_[i]) {
        TVM_FFI_THROW(ValueError) << Where() << "no step has output " << i << " among its args";
      }
    }
  }

 private:
  std::string Where() const { return "Plan \"" + std::string(plan_.name) + "\": "; }

  void CheckSizes() const {
    const std::array<std::pair<const char*, int64_t>, 5> sizes = {{
        {"num_inputs", plan_.num_inputs},
        {"num_weights", plan_.num_weights},
        {"num_outputs", plan_.num_outputs},
        {"arena_bytes", plan_.arena_bytes},
        {"packing_arena_bytes", plan_.packing_arena_bytes},
    }};
    for (const auto& [name, value] : sizes) {
      if (value < 0) {
        TVM_FFI_THROW(ValueError) << Where() << name << " must not be negative, got " << value;
      }
    }
    for (size_t i = 0; i < plan_.constants.size(); ++i) {
      const ffi::Tensor constant = plan_.constants[i];
      if (constant.device().device_type != kDLCPU || !constant.IsContiguous()) {
        TVM_FFI_THROW(ValueError) << Where() << "constant " << i
                                  << " must be contiguous CPU memory";
      }
    }
  }

  void CheckParts() const {
    int64_t end = 0;
    for (const PackedPart& part : plan_.packed_parts) {
      if (part->offset != end) {
        TVM_FFI_THROW(ValueError) << Where() << "a packed part begins at byte " << part->offset
                                  << ", but the one before it ends at " << end;
      }
      end = part->end();
      for (const int64_t weight : part->weights) {
        CheckNumber(weight, plan_.num_weights, "weight");
      }
      for (const int64_t step : part->steps) {
        CheckNumber(step, static_cast<int64_t>(plan_.packing_steps.size()), "packing step");
      }
    }
  }

  void CheckNumber(int64_t number, int64_t count, const char* what) const {
    if (number >= 0 && number < count) return;
    TVM_FFI_THROW(ValueError) << Where() << "a packed part names " << what << " " << number
                              << ", but the plan has " << count;
  }

  void CheckIsInPart(int64_t buffer) const {
    const BufferObj* b = plan_.buffers[buffer].get();
    const size_t number = plan_.PartAt(b->offset);
    CheckFits(buffer, number < plan_.packed_parts.size() ? plan_.packed_parts[number]->end() : 0,
              "the end of its packed part");
  }

  void CheckIndex(int64_t buffer, int64_t count, const char* what) const {
    const int64_t index = plan_.buffers[buffer]->index;
    if (index >= count) {
      TVM_FFI_THROW(ValueError) << Where() << "buffer " << buffer << " is " << what << " " << index
                                << ", but the plan has " << count;
    }
  }

  void CheckFits(int64_t buffer, int64_t limit, const char* what) const {
    const BufferObj* b = plan_.buffers[buffer].get();
    if (b->bytes > limit || b->offset > limit - b->bytes) {
      TVM_FFI_THROW(ValueError) << Where() << "buffer " << buffer << " takes bytes " << b->offset
                                << " to " << b->offset + b->bytes << ", but " << what << " is "
                                << limit;
    }
  }

  void CheckBuffer(int64_t i) const {
    switch (plan_.buffers[i]->place) {
      case BufferKind::kInput:
        return CheckIndex(i, plan_.num_inputs, "input");
      case BufferKind::kOutput:
        return CheckIndex(i, plan_.num_outputs, "output");
      case BufferKind::kWeight:
        return CheckIndex(i, plan_.num_weights, "weight");
      case BufferKind::kPacked:
        return CheckIsInPart(i);
      case BufferKind::kConstant: {
        CheckIndex(i, static_cast<int64_t>(plan_.constants.size()), "constant");
        const BufferObj* buffer = plan_.buffers[i].get();
        const ffi::Tensor constant = plan_.constants[buffer->index];
        const auto bytes =
            static_cast<int64_t>(ffi::GetDataSize(constant.numel(), constant.dtype()));
        if (bytes != buffer->bytes) {
          TVM_FFI_THROW(ValueError) << Where() << "buffer " << i << " has " << buffer->bytes
                                    << " bytes, but constant " << buffer->index << " has " << bytes;
        }
        return;
      }
      case BufferKind::kArena:
        return;  // which arena is known by the step
    }
  }

  void CheckStep(const Step& step, bool packing) {
    const auto count = static_cast<int64_t>(plan_.buffers.size());
    const char* role = packing ? "packing step \"" : "step \"";
    for (int64_t arg : step->args) {
      if (arg < 0 || arg >= count) {
        TVM_FFI_THROW(ValueError) << Where() << role << step->name << "\" names buffer " << arg
                                  << ", but the plan has " << count;
      }
      const BufferObj* buffer = plan_.buffers[arg].get();
      const bool of_call =
          buffer->place == BufferKind::kInput || buffer->place == BufferKind::kOutput;
      if (packing && of_call) {
        TVM_FFI_THROW(ValueError) << Where() << role << step->name << "\" uses buffer " << arg
                                  << " of kind " << buffer->kind << ", which only a call has";
      }
      if (buffer->place == BufferKind::kArena) {
        CheckFits(arg, packing ? plan_.packing_arena_bytes : plan_.arena_bytes,
                  packing ? "packing_arena_bytes" : "arena_bytes");
      }
      if (buffer->place == BufferKind::kOutput) written_[buffer->index] = true;
    }
  }

  const PlanObj& plan_;
  std::vector<bool> written_;
};

}  // namespace

BufferObj::BufferObj(ffi::String kind, int64_t index, int64_t offset, ffi::Array<int64_t> shape,
                     DLDataType dtype)
    : kind(std::move(kind)), index(index), offset(offset), shape(std::move(shape)), dtype(dtype) {
  place = ParseKind(this->kind);
  if (!IsKnown(dtype)) {
    TVM_FFI_THROW(ValueError)
        << "Buffer.dtype must be a scalar bool, int, uint, float or bfloat type "
        << "of whole bytes, got " << dtype;
  }
  bytes = CheckedBytes(this->shape, dtype);
  if (IsBlock(place)) {
    if (offset < 0 || offset % kAlignment != 0) {
      TVM_FFI_THROW(ValueError) << "Buffer.offset must be a multiple of " << kAlignment << ", got "
                                << offset;
    }
    if (index != -1) {
      TVM_FFI_THROW(ValueError) << "a buffer of kind " << this->kind << " has index -1, got "
                                << index;
    }
  } else {
    if (index < 0) {
      TVM_FFI_THROW(ValueError) << "a buffer of kind " << this->kind << " needs an index, got "
                                << index;
    }
    if (offset != 0) {
      TVM_FFI_THROW(ValueError) << "a buffer of kind " << this->kind << " has offset 0, got "
                                << offset;
    }
  }
}

StepObj::StepObj(ffi::String name, ffi::Function function, ffi::Array<int64_t> args,
                 ffi::Array<int64_t> scalars)
    : name(std::move(name)),
      function(std::move(function)),
      args(std::move(args)),
      scalars(std::move(scalars)) {
  if (this->function == nullptr) {
    TVM_FFI_THROW(ValueError) << "Step \"" << this->name << "\" has no function";
  }
}

PackedPartObj::PackedPartObj(ffi::String key, ffi::Array<int64_t> weights, int64_t offset,
                             int64_t bytes, ffi::Array<int64_t> steps)
    : key(std::move(key)),
      weights(std::move(weights)),
      offset(offset),
      bytes(bytes),
      steps(std::move(steps)) {
  if (offset < 0 || bytes <= 0 || offset % kAlignment != 0 || bytes % kAlignment != 0) {
    TVM_FFI_THROW(ValueError) << "PackedPart must be bytes between multiples of " << kAlignment
                              << ", got " << bytes << " bytes at " << offset;
  }
}

size_t PlanObj::PartAt(int64_t offset) const {
  const auto behind =
      std::upper_bound(packed_parts.begin(), packed_parts.end(), offset,
                       [](int64_t value, const PackedPart& part) { return value < part->end(); });
  return behind - packed_parts.begin();
}

PlanObj::PlanObj(ffi::String name, ffi::Array<Buffer> buffers, ffi::Array<Step> steps,
                 ffi::Array<Step> packing_steps, ffi::Array<PackedPart> packed_parts,
                 ffi::Array<ffi::Tensor> constants, int64_t num_inputs, int64_t num_weights,
                 int64_t num_outputs, int64_t arena_bytes, int64_t packing_arena_bytes,
                 ffi::Map<ffi::String, ffi::Any> info)
    : name(std::move(name)),
      buffers(std::move(buffers)),
      steps(std::move(steps)),
      packing_steps(std::move(packing_steps)),
      packed_parts(std::move(packed_parts)),
      constants(std::move(constants)),
      num_inputs(num_inputs),
      num_weights(num_weights),
      num_outputs(num_outputs),
      arena_bytes(arena_bytes),
      packing_arena_bytes(packing_arena_bytes),
      info(std::move(info)) {
  PlanChecker(*this).Check();
}

TVM_FFI_STATIC_INIT_BLOCK() {
  refl::ObjectDef<BufferObj>()
      .def(refl::init<ffi::String, int64_t, int64_t, ffi::Array<int64_t>, DLDataType>())
      .def_ro("kind", &BufferObj::kind)
      .def_ro("index", &BufferObj::index)
      .def_ro("offset", &BufferObj::offset)
      .def_ro("shape", &BufferObj::shape)
      .def_ro("dtype", &BufferObj::dtype);
  refl::ObjectDef<StepObj>()
      .def(refl::init<ffi::String, ffi::Function, ffi::Array<int64_t>, ffi::Array<int64_t>>())
      .def_ro("name", &StepObj::name)
      .def_ro("function", &StepObj::function)
      .def_ro("args", &StepObj::args)
      .def_ro("scalars", &StepObj::scalars);
  refl::ObjectDef<PackedPartObj>()
      .def(refl::init<ffi::String, ffi::Array<int64_t>, int64_t, int64_t, ffi::Array<int64_t>>())
      .def_ro("key", &PackedPartObj::key)
      .def_ro("weights", &PackedPartObj::weights)
      .def_ro("offset", &PackedPartObj::offset)
      .def_ro("bytes", &PackedPartObj::bytes)
      .def_ro("steps", &PackedPartObj::steps);
  refl::ObjectDef<PlanObj>()
      .def(refl::init<ffi::String, ffi::Array<Buffer>, ffi::Array<Step>, ffi::Array<Step>,
                      ffi::Array<PackedPart>, ffi::Array<ffi::Tensor>, int64_t, int64_t, int64_t,
                      int64_t, int64_t, ffi::Map<ffi::String, ffi::Any>>())
      .def_ro("name", &PlanObj::name)
      .def_ro("buffers", &PlanObj::buffers)
      .def_ro("steps", &PlanObj::steps)
      .def_ro("packing_steps", &PlanObj::packing_steps)
      .def_ro("packed_parts", &PlanObj::packed_parts)
      .def_ro("constants", &PlanObj::constants)
      .def_ro("num_inputs", &PlanObj::num_inputs)
      .def_ro("num_weights", &PlanObj::num_weights)
      .def_ro("num_outputs", &PlanObj::num_outputs)
      .def_ro("arena_bytes", &PlanObj::arena_bytes)
      .def_ro("packing_arena_bytes", &PlanObj::packing_arena_bytes)
      .def_ro("info", &PlanObj::info);
}

}  // namespace torch_tvm::runtime
