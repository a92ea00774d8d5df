// What functions have in common that differ in sizes only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "relay/expr.h"

namespace torch_tvm::relay {

// Two functions of equal form and equal sizes are equal, up to the names of variables and to spans.
struct Skeleton {
  std::string form;            // everything but the sizes
  std::vector<int64_t> sizes;  // all integers of types and attributes, and constants that are one
};

Skeleton SkeletonOf(const Function& function);

}  // namespace torch_tvm::relay
