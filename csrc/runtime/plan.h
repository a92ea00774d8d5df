// A plan: what a signature was compiled to. Kernels in order, the buffers that they read and write,
// and the weight-only kernels that run once per binding. Made by torch_tvm/compiler, immutable, run
// by executor.h.
#pragma once

#include <tvm/ffi/tvm_ffi.h>

#include <cstdint>
#include <string>
#include <utility>

namespace torch_tvm::runtime {

namespace ffi = tvm::ffi;

// Every buffer of a plan begins at a multiple of this (a cache line, a zmm): code that TVM
// generates moves aligned vectors unless told otherwise, and would fault. Torch's own allocations
// do, slices may not.
inline constexpr int64_t kAlignment = 64;

inline bool IsAligned(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % kAlignment == 0;
}

enum class BufferKind : uint8_t { kInput, kOutput, kWeight, kPacked, kArena, kConstant };

// Where one kernel argument lies. Several buffers may share one place, to give it several shapes.
class BufferObj : public ffi::Object {
 public:
  ffi::String kind;    // input | output | weight | packed | arena | constant
  int64_t index = -1;  // which input, output, weight or constant; -1 for packed and arena
  int64_t offset = 0;  // bytes into the packed block or the arena; 0 for the others
  ffi::Array<int64_t> shape;
  DLDataType dtype;

  BufferKind place;
  int64_t bytes;

  BufferObj(ffi::String kind, int64_t index, int64_t offset, ffi::Array<int64_t> shape,
            DLDataType dtype);

  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.runtime.Buffer", BufferObj, ffi::Object);
};

class Buffer : public ffi::ObjectRef {
 public:
  explicit Buffer(ffi::ObjectPtr<BufferObj> node) : ffi::ObjectRef(std::move(node)) {}
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(Buffer, ffi::ObjectRef, BufferObj);
};

// One kernel call.
class StepObj : public ffi::Object {
 public:
  ffi::String name;
  ffi::Function function;
  ffi::Array<int64_t> args;     // into Plan.buffers; inputs, then outputs
  ffi::Array<int64_t> scalars;  // what the function takes behind them: sizes of its dimensions

  StepObj(ffi::String name, ffi::Function function, ffi::Array<int64_t> args,
          ffi::Array<int64_t> scalars);

  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.runtime.Step", StepObj, ffi::Object);
};

class Step : public ffi::ObjectRef {
 public:
  explicit Step(ffi::ObjectPtr<StepObj> node) : ffi::ObjectRef(std::move(node)) {}
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(Step, ffi::ObjectRef, StepObj);
};

// A piece of the packed block that all plans share which want the same of the same weights.
class PackedPartObj : public ffi::Object {
 public:
  ffi::String key;              // what makes it: equal keys and equal weights give equal bytes
  ffi::Array<int64_t> weights;  // that it is made of
  int64_t offset, bytes;        // in the packed block; multiples of kAlignment
  ffi::Array<int64_t> steps;    // the packing steps that make it, rising

  PackedPartObj(ffi::String key, ffi::Array<int64_t> weights, int64_t offset, int64_t bytes,
                ffi::Array<int64_t> steps);

  int64_t end() const { return offset + bytes; }

  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.runtime.PackedPart", PackedPartObj, ffi::Object);
};

class PackedPart : public ffi::ObjectRef {
 public:
  explicit PackedPart(ffi::ObjectPtr<PackedPartObj> node) : ffi::ObjectRef(std::move(node)) {}
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(PackedPart, ffi::ObjectRef, PackedPartObj);
};

class PlanObj : public ffi::Object {
 public:
  ffi::String name;
  ffi::Array<Buffer> buffers;
  ffi::Array<Step> steps;  // every call
  // Once for what is packed: read weights and constants, write packed buffers.
  ffi::Array<Step> packing_steps;
  ffi::Array<PackedPart> packed_parts;  // one behind the other, all of the packed block
  ffi::Array<ffi::Tensor> constants;
  int64_t num_inputs;
  int64_t num_weights;
  int64_t num_outputs;
  int64_t arena_bytes;
  int64_t packing_arena_bytes;  // what "arena" means to packing_steps
  ffi::Map<ffi::String, ffi::Any> info;

  // Throws ValueError naming the buffer or the step that cannot be run.
  PlanObj(ffi::String name, ffi::Array<Buffer> buffers, ffi::Array<Step> steps,
          ffi::Array<Step> packing_steps, ffi::Array<PackedPart> packed_parts,
          ffi::Array<ffi::Tensor> constants, int64_t num_inputs, int64_t num_weights,
          int64_t num_outputs, int64_t arena_bytes, int64_t packing_arena_bytes,
          ffi::Map<ffi::String, ffi::Any> info);

  int64_t packed_bytes() const {
    return packed_parts.empty() ? 0 : packed_parts[packed_parts.size() - 1]->end();
  }
  // The number of the part that has a byte of the packed block.
  size_t PartAt(int64_t offset) const;

  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.runtime.Plan", PlanObj, ffi::Object);
};

class Plan : public ffi::ObjectRef {
 public:
  explicit Plan(ffi::ObjectPtr<PlanObj> node) : ffi::ObjectRef(std::move(node)) {}
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(Plan, ffi::ObjectRef, PlanObj);
};

}  // namespace torch_tvm::runtime
