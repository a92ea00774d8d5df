#include "runtime/extent.h"

namespace torch_tvm::runtime {
namespace {

// Expressions are written down by depth, which the compiler keeps at two or three.
constexpr int kMaxDepth = 16;

// Reads one expression and computes its value.
class Reader {
 public:
  Reader(c10::ArrayRef<int64_t> code, c10::ArrayRef<int64_t> values)
      : code_(code), values_(values) {}

  int64_t Sum(int depth = 0) {
    Require(depth < kMaxDepth, "is nested too deep");
    int64_t total = 0;
    const int64_t terms = Next();
    for (int64_t term = 0; term < terms; ++term) {
      int64_t product = Next();
      const int64_t atoms = Next();
      for (int64_t i = 0; i < atoms; ++i) {
        const int64_t atom = Atom(depth);
        Require(!__builtin_mul_overflow(product, atom, &product), "is above 2^63");
      }
      Require(!__builtin_add_overflow(total, product, &total), "is above 2^63");
    }
    return total;
  }

  void Finish() const { Require(position_ == code_.size(), "has numbers left over"); }

 private:
  int64_t Atom(int depth) {
    const int64_t kind = Next();
    if (kind >= 0) {
      Require(kind < static_cast<int64_t>(values_.size()), "has a dimension that is not there");
      return values_[kind];
    }
    const int64_t divisor = Next();
    Require(kind == -1 && divisor > 0, "is divided by what is not positive");
    const int64_t numerator = Sum(depth + 1);
    return numerator / divisor - (numerator % divisor < 0 ? 1 : 0);
  }

  int64_t Next() {
    Require(position_ < code_.size(), "is cut off");
    return code_[position_++];
  }

  static void Require(bool holds, const char* what) {
    if (!holds) TVM_FFI_THROW(ValueError) << "an extent " << what;
  }

  const c10::ArrayRef<int64_t> code_, values_;
  size_t position_ = 0;
};

}  // namespace

Extent::Extent(const ffi::Array<int64_t>& code, int64_t num_dims)
    : code_(code.begin(), code.end()) {
  const std::vector<int64_t> ones(num_dims, 1);
  Reader reader(code_, ones);
  reader.Sum();
  reader.Finish();
}

int64_t Extent::Evaluate(c10::ArrayRef<int64_t> values) const {
  return Reader(code_, values).Sum();
}

}  // namespace torch_tvm::runtime
