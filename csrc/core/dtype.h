// The dtypes that cross from PyTorch to TVM, and their names on both sides.
#pragma once

#include <c10/core/ScalarType.h>
#include <tvm/ffi/dtype.h>

#include <optional>

namespace torch_tvm {

// DLPack's spelling of a torch dtype; nullopt for one that no kernel takes (complex, quantised,
// bits).
std::optional<DLDataType> ToDLDataType(c10::ScalarType dtype);

// The inverse; throws for a DLPack dtype that torch has no tensors of.
c10::ScalarType ToScalarType(DLDataType dtype);

}  // namespace torch_tvm
