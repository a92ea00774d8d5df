// What branches and loops hand on: tensors, numbers, and lists and tuples of them, down to the
// leaves.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "convert/builder.h"

namespace torch_tvm::convert {

// What TorchScript gives where a value is never used, as in a branch that leaves the function.
bool IsUninitialised(const c10::IValue& value);

bool IsTensor(const c10::IValue& value);  // one that stands for a number included
bool IsNumber(const c10::IValue& value);  // known, or a tensor that stands for it

// The same tensor, list or tuple, or equal values of another type.
bool Same(const c10::IValue& a, const c10::IValue& b);

// The same list or tuple with leaves made by `make`.
c10::IValue Map(const c10::IValue& value,
                const std::function<c10::IValue(const c10::IValue&)>& make);

// The elements of lists and tuples of the same length in both values; nullopt for anything else.
std::optional<std::vector<std::pair<c10::IValue, c10::IValue>>> Pairs(const c10::IValue& a,
                                                                      const c10::IValue& b);

// The same container of other elements.
c10::IValue Rebuilt(const c10::IValue& container, std::vector<c10::IValue> elements);

// "Float(2, 3)", for messages.
std::string Describe(const c10::IValue& value);

// A tensor of the dtype and sizes that two leaves have in common, undefined if they have not.
at::Tensor Common(const c10::IValue& a, const c10::IValue& b);

// A tensor of a leaf's dtype and sizes, undefined if it is neither tensor nor number.
at::Tensor LikeOne(const c10::IValue& leaf);

}  // namespace torch_tvm::convert
