// The signature of a call: all that a plan depends on, read from the inputs in one pass and without
// allocation for groups of ordinary size.
#pragma once

#include <ATen/core/ivalue.h>
#include <c10/util/ArrayRef.h>
#include <c10/util/SmallVector.h>

#include <cstdint>
#include <span>
#include <vector>

namespace torch_tvm::jit {

// A signature without the sizes of its tensors, and these. Sizes of 0 and 1 stay in the form too:
// no plan serves them and others, because they broadcast or are no work at all. A form with objects
// must not be kept, as it has their addresses.
struct SplitSignature {
  std::vector<int64_t> form, sizes;
  bool has_objects = false;
};
SplitSignature Split(std::span<const int64_t> words);

class SignatureReader {
 public:
  // Reads dtype, sizes and memory order of tensors and the values of everything else, checking
  // eligibility on the way. False if an input cannot go to compiled code: refused_input() and
  // refusal() say why.
  bool Read(c10::ArrayRef<c10::IValue> inputs, int64_t compile_id);

  std::span<const int64_t> words() const { return {words_.data(), words_.size()}; }
  size_t hash() const { return hash_; }

  // Whether gradients must be recorded: some input requires them and grad mode is on.
  bool needs_grad() const { return needs_grad_; }

  size_t refused_input() const { return refused_input_; }
  const char* refusal() const { return refusal_; }

 private:
  const char* Add(const c10::IValue& value);
  const char* AddTensor(const at::Tensor& tensor);
  const char* AddList(const c10::IValue& value);
  void AddStrides(const at::Tensor& tensor);
  void AddWord(int64_t word) {
    words_.push_back(word);
    hash_ = (hash_ ^ static_cast<size_t>(word)) * 0x9E3779B97F4A7C15u;
    hash_ ^= hash_ >> 32;
  }

  c10::SmallVector<int64_t, 48> words_;
  size_t hash_ = 0;
  bool needs_grad_ = false;
  size_t refused_input_ = 0;
  const char* refusal_ = nullptr;
};

}  // namespace torch_tvm::jit
