// A plan for all values of some dimensions within bounds: a batch, a length, the size of an image.
// Its kernels are compiled once; for given values it becomes an ordinary plan.
#pragma once

#include <c10/util/ArrayRef.h>
#include <tvm/ffi/tvm_ffi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/api.h"
#include "runtime/extent.h"
#include "runtime/plan.h"

namespace torch_tvm::runtime {

using ExtentCode = ffi::Array<int64_t>;

// A buffer whose shape depends on the dimensions. One in the arena of a call lies `offset` bytes
// into memory number `memory` of the plan; all others are as in Buffer, with a fixed offset.
class SymbolicBufferObj : public ffi::Object {
 public:
  ffi::String kind;
  int64_t index = -1;
  int64_t memory = -1;
  ExtentCode offset;
  ffi::Array<ExtentCode> shape;
  DLDataType dtype;

  SymbolicBufferObj(ffi::String kind, int64_t index, int64_t memory, ExtentCode offset,
                    ffi::Array<ExtentCode> shape, DLDataType dtype);

  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.runtime.SymbolicBuffer", SymbolicBufferObj,
                                    ffi::Object);
};

class SymbolicBuffer : public ffi::ObjectRef {
 public:
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(SymbolicBuffer, ffi::ObjectRef, SymbolicBufferObj);
};

// Bytes in the arena that hold something from one step of a call to another.
class MemoryObj : public ffi::Object {
 public:
  ExtentCode bytes;
  int64_t first, last;  // steps

  MemoryObj(ExtentCode bytes, int64_t first, int64_t last);

  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.runtime.Memory", MemoryObj, ffi::Object);
};

class Memory : public ffi::ObjectRef {
 public:
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(Memory, ffi::ObjectRef, MemoryObj);
};

class SymbolicPlanObj : public ffi::Object {
 public:
  ffi::String name;
  ffi::Array<int64_t> least, most;  // of each dimension
  ffi::Array<SymbolicBuffer> buffers;
  ffi::Array<Memory> memory;
  ffi::Array<Step> steps;  // `scalars` are numbers of dimensions
  ffi::Array<Step> packing_steps;
  ffi::Array<PackedPart> packed_parts;
  ffi::Array<ffi::Tensor> constants;
  int64_t num_inputs, num_weights, num_outputs;
  int64_t packing_arena_bytes;
  ffi::Array<ExtentCode> sizes;  // of the Relay function that was compiled: see relay/skeleton.h
  ffi::Map<ffi::String, ffi::Any> info;

  // Throws ValueError for what no values could make a plan of.
  SymbolicPlanObj(ffi::String name, ffi::Array<int64_t> least, ffi::Array<int64_t> most,
                  ffi::Array<SymbolicBuffer> buffers, ffi::Array<Memory> memory,
                  ffi::Array<Step> steps, ffi::Array<Step> packing_steps,
                  ffi::Array<PackedPart> packed_parts, ffi::Array<ffi::Tensor> constants,
                  int64_t num_inputs, int64_t num_weights, int64_t num_outputs,
                  int64_t packing_arena_bytes, ffi::Array<ExtentCode> sizes,
                  ffi::Map<ffi::String, ffi::Any> info);

  // The plan for values of the dimensions; throws ValueError if one is out of its bounds.
  TORCH_TVM_API Plan At(c10::ArrayRef<int64_t> values) const;

  // Whether the Relay function for these values has these sizes, in all its places.
  bool HasSizes(c10::ArrayRef<int64_t> values, c10::ArrayRef<int64_t> sizes) const;

  // Whether each value lies within the bounds.
  bool Covers(c10::ArrayRef<int64_t> values) const;

  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("torch_tvm.runtime.SymbolicPlan", SymbolicPlanObj, ffi::Object);

 private:
  struct Shape {
    Extent offset;
    std::vector<Extent> sizes;
  };

  void CheckBuffers() const;
  void CheckSteps() const;

  std::vector<Shape> shapes_;  // of each buffer
  std::vector<Extent> bytes_;  // of each memory
  std::vector<Extent> sizes_;
};

class SymbolicPlan : public ffi::ObjectRef {
 public:
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(SymbolicPlan, ffi::ObjectRef, SymbolicPlanObj);
};

}  // namespace torch_tvm::runtime
