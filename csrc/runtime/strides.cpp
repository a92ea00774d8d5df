#include "runtime/strides.h"

#include <algorithm>
#include <numeric>

namespace torch_tvm::runtime {
namespace {

std::vector<int64_t> Identity(size_t rank) {
  std::vector<int64_t> order(rank);
  std::iota(order.begin(), order.end(), 0);
  return order;
}

}  // namespace

std::vector<int64_t> DenseStrides(c10::IntArrayRef sizes, c10::IntArrayRef order) {
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  for (size_t i = order.size(); i-- > 0;) {
    strides[order[i]] = stride;
    stride *= std::max<int64_t>(sizes[order[i]], 1);  // as torch counts empty tensors
  }
  return strides;
}

bool SameMemory(c10::IntArrayRef sizes, c10::IntArrayRef a, c10::IntArrayRef b) {
  bool same = true;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == 0) return true;
    same &= sizes[i] == 1 || a[i] == b[i];
  }
  return same;
}

std::vector<int64_t> PhysicalOrder(c10::IntArrayRef sizes, c10::IntArrayRef strides) {
  std::vector<int64_t> order = Identity(sizes.size());
  if (SameMemory(sizes, strides, DenseStrides(sizes, order))) return order;
  // An extent of 1 has no say; it stays at its own place, or goes with channels_last as a whole.
  std::vector<int64_t> by_stride;
  for (int64_t i : order) {
    if (sizes[i] != 1) by_stride.push_back(i);
  }
  std::stable_sort(by_stride.begin(), by_stride.end(),
                   [&](int64_t a, int64_t b) { return strides[a] > strides[b]; });
  int64_t reach = 0;  // the farthest element that the dimensions inside can address
  for (size_t k = by_stride.size(); k-- > 0;) {
    const int64_t i = by_stride[k];
    if (strides[i] <= reach) return order;
    reach += strides[i] * (sizes[i] - 1);
  }
  if (sizes.size() == 4 || sizes.size() == 5) {
    std::vector<int64_t> channels_last = order;
    std::rotate(channels_last.begin() + 1, channels_last.begin() + 2, channels_last.end());
    std::vector<int64_t> without_ones;
    std::copy_if(channels_last.begin(), channels_last.end(), std::back_inserter(without_ones),
                 [&](int64_t i) { return sizes[i] != 1; });
    if (without_ones == by_stride) return channels_last;
  }
  auto next = by_stride.begin();
  for (int64_t& place : order) {
    if (sizes[place] != 1) place = *next++;
  }
  return order;
}

void Place(at::Tensor target, at::Tensor source) {
  for (int64_t i = 0; i < target.dim(); ++i) {
    if (target.stride(i) == 0 && target.size(i) > 1) {
      target = target.narrow(i, 0, 1);
      source = source.narrow(i, 0, 1);
    }
  }
  target.copy_(source);
}

}  // namespace torch_tvm::runtime
