// Where in the user's program a node comes from.
#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <optional>
#include <string>

namespace torch_tvm::convert {

struct Place {
  std::string file;
  int64_t line = 0;
  int64_t column = 0;
};

// The innermost frame outside of torch's own library; the innermost of all if there is none;
// nullopt for a node that no source was recorded for.
std::optional<Place> PlaceOf(const torch::jit::Node* node);

// "file:line", or "<unknown>".
std::string SourceOf(const torch::jit::Node* node);

}  // namespace torch_tvm::convert
