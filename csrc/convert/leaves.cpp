#include "convert/leaves.h"

#include <ATen/ATen.h>

namespace torch_tvm::convert {

bool IsUninitialised(const c10::IValue& value) { return value.tagKind() == "Uninitialized"; }

bool IsTensor(const c10::IValue& value) { return value.isTensor() && value.toTensor().defined(); }

bool IsNumber(const c10::IValue& value) {
  return value.isTensor()
             ? IsTensor(value) && value.toTensor().unsafeGetTensorImpl()->is_wrapped_number()
             : NumberType(value).has_value();
}

bool Same(const c10::IValue& a, const c10::IValue& b) {
  if (a.is(b)) return true;
  if (a.isTensor() || b.isTensor() || a.isList() || a.isTuple()) return false;
  return a.tagKind() == b.tagKind() && (IsUninitialised(a) || a == b);
}

c10::IValue Map(const c10::IValue& value,
                const std::function<c10::IValue(const c10::IValue&)>& make) {
  if (value.isList()) {
    c10::impl::GenericList list(value.toList().elementType());
    for (const c10::IValue& element : value.toListRef()) list.push_back(Map(element, make));
    return list;
  }
  if (value.isTuple()) {
    std::vector<c10::IValue> elements;
    for (const c10::IValue& element : value.toTupleRef().elements()) {
      elements.push_back(Map(element, make));
    }
    return c10::ivalue::Tuple::create(std::move(elements));
  }
  return make(value);
}

std::optional<std::vector<std::pair<c10::IValue, c10::IValue>>> Pairs(const c10::IValue& a,
                                                                      const c10::IValue& b) {
  const auto elements = [](const c10::IValue& value) {
    return value.isList() ? value.toListRef().vec() : value.toTupleRef().elements().vec();
  };
  if (!(a.isList() && b.isList()) && !(a.isTuple() && b.isTuple())) return std::nullopt;
  const auto left = elements(a);
  const auto right = elements(b);
  if (left.size() != right.size()) return std::nullopt;
  std::vector<std::pair<c10::IValue, c10::IValue>> pairs;
  for (size_t i = 0; i < left.size(); ++i) pairs.emplace_back(left[i], right[i]);
  return pairs;
}

c10::IValue Rebuilt(const c10::IValue& container, std::vector<c10::IValue> elements) {
  if (container.isTuple()) return c10::ivalue::Tuple::create(std::move(elements));
  c10::impl::GenericList list(container.toList().elementType());
  for (c10::IValue& element : elements) list.push_back(std::move(element));
  return list;
}

std::string Describe(const c10::IValue& value) {
  if (IsNumber(value)) return std::string("a number of ") + c10::toString(*NumberType(value));
  if (value.isList()) return "a list of " + std::to_string(value.toListRef().size());
  if (!IsTensor(value)) return value.tagKind();
  const at::Tensor& tensor = value.toTensor();
  std::string text = c10::toString(tensor.scalar_type()) + std::string("(");
  for (int64_t i = 0; i < tensor.dim(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(tensor.size(i));
  }
  return text + ")";
}

at::Tensor Common(const c10::IValue& a, const c10::IValue& b) {
  if (IsNumber(a) && IsNumber(b)) {
    return NumberType(a) == NumberType(b) ? NumberOf(*NumberType(a)) : at::Tensor();
  }
  if (!IsTensor(a) || !IsTensor(b) || IsNumber(a) || IsNumber(b)) return {};
  const at::Tensor& one = a.toTensor();
  const at::Tensor& other = b.toTensor();
  const bool agree = one.sizes() == other.sizes() && one.scalar_type() == other.scalar_type();
  return agree ? MetaLike(one) : at::Tensor();
}

at::Tensor LikeOne(const c10::IValue& leaf) {
  if (IsNumber(leaf)) return NumberOf(*NumberType(leaf));
  return IsTensor(leaf) ? MetaLike(leaf.toTensor()) : at::Tensor();
}

}  // namespace torch_tvm::convert
