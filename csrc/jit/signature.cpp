#include "jit/signature.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <bit>

#include "jit/eligibility.h"

namespace torch_tvm::jit {
namespace {

// First word of each input: what follows it.
enum class Tag : int64_t {
  kNone,
  kTensor,
  kInt,
  kFloat,
  kBool,
  kIntList,
  kFloatList,
  kBoolList,
  kString,
  kDevice,
  kObject
};

constexpr int64_t Head(Tag tag, int64_t detail = 0) {
  return static_cast<int64_t>(tag) | detail << 8;
}

// Bits of a tensor's memory order. Contiguous and channels-last can both hold when dimensions have
// one element; which one eager operators then follow shows in "suggests".
enum Layout : int64_t {
  kContiguous = 1,
  kChannelsLast = 2,
  kChannelsLast3d = 4,
  kSuggestsChannelsLast = 8,
  kSuggestsChannelsLast3d = 16,
  kDense = 32,
};

int64_t LayoutOf(const at::Tensor& tensor) {
  const auto* impl = tensor.unsafeGetTensorImpl();
  int64_t layout = 0;
  if (impl->is_contiguous()) layout |= kContiguous;
  if (impl->is_contiguous(at::MemoryFormat::ChannelsLast)) layout |= kChannelsLast;
  if (impl->is_contiguous(at::MemoryFormat::ChannelsLast3d)) layout |= kChannelsLast3d;
  if (impl->is_strides_like_channels_last()) layout |= kSuggestsChannelsLast;
  if (impl->is_strides_like_channels_last_3d()) layout |= kSuggestsChannelsLast3d;
  if (impl->is_non_overlapping_and_dense()) layout |= kDense;
  return layout;
}

// Whether the strides of a tensor follow from its sizes and its layout.
constexpr bool IsOrdinary(int64_t layout) {
  return (layout & (kContiguous | kChannelsLast | kChannelsLast3d)) != 0;
}

// Words behind the first one of an input that is no tensor.
int64_t CountWords(Tag tag, int64_t detail) {
  switch (tag) {
    case Tag::kInt:
    case Tag::kFloat:
    case Tag::kObject:
      return 1;
    case Tag::kIntList:
    case Tag::kFloatList:
    case Tag::kBoolList:
    case Tag::kString:
      return detail;
    default:
      return 0;
  }
}

}  // namespace

SplitSignature Split(std::span<const int64_t> words) {
  SplitSignature split;
  split.form.push_back(words[0]);
  for (size_t i = 1; i < words.size();) {
    const int64_t head = words[i++];
    split.form.push_back(head);
    const auto tag = static_cast<Tag>(head & 0xFF);
    const int64_t detail = head >> 8;
    int64_t others = CountWords(tag, detail);
    split.has_objects |= tag == Tag::kObject;
    if (tag == Tag::kTensor) {
      const int64_t rank = detail >> 16;
      for (int64_t k = 0; k < rank; ++k, ++i) {
        split.sizes.push_back(words[i]);
        split.form.push_back(std::min<int64_t>(words[i], 2));
      }
      others = IsOrdinary(detail & 0xFF) ? 0 : rank;  // strides
      if (c10::isQIntType(static_cast<c10::ScalarType>(detail >> 8 & 0xFF))) others += 2;
    }
    for (int64_t k = 0; k < others; ++k) split.form.push_back(words[i++]);
  }
  return split;
}

bool SignatureReader::Read(c10::ArrayRef<c10::IValue> inputs, int64_t compile_id) {
  AddWord(compile_id);
  for (size_t i = 0; i < inputs.size(); ++i) {
    refusal_ = Add(inputs[i]);
    if (refusal_ != nullptr) {
      refused_input_ = i;
      return false;
    }
  }
  needs_grad_ = needs_grad_ && c10::GradMode::is_enabled();
  return true;
}

const char* SignatureReader::Add(const c10::IValue& value) {
  if (value.isTensor()) return AddTensor(value.toTensor());
  if (value.isNone()) {
    AddWord(Head(Tag::kNone));
  } else if (value.isInt()) {
    AddWord(Head(Tag::kInt));
    AddWord(value.toInt());
  } else if (value.isDouble()) {
    AddWord(Head(Tag::kFloat));
    AddWord(std::bit_cast<int64_t>(value.toDouble()));
  } else if (value.isBool()) {
    AddWord(Head(Tag::kBool, value.toBool()));
  } else if (value.isString()) {
    const std::string& text = value.toStringRef();
    AddWord(Head(Tag::kString, static_cast<int64_t>(text.size())));
    for (const char c : text) AddWord(c);
  } else if (value.isDevice()) {
    if (!value.toDevice().is_cpu()) return "is a device other than cpu";
    AddWord(Head(Tag::kDevice));
  } else if (value.isList()) {
    return AddList(value);
  } else if (value.isObject()) {
    // Packed weights (Roles). They count by identity: what is compiled for them holds them
    // (Compiled::objects), so that nothing else can take their address.
    AddWord(Head(Tag::kObject));
    AddWord(reinterpret_cast<int64_t>(&value.toObjectRef()));
  } else {
    return "is neither a tensor nor a number, string, device or list of numbers";
  }
  return nullptr;
}

const char* SignatureReader::AddList(const c10::IValue& value) {
  const auto list = value.toListRef();
  const bool ints = value.isIntList();
  if (!ints && !value.isDoubleList() && !value.isBoolList()) {
    return "is a list of something else than numbers";
  }
  const Tag tag = ints ? Tag::kIntList : value.isDoubleList() ? Tag::kFloatList : Tag::kBoolList;
  AddWord(Head(tag, static_cast<int64_t>(list.size())));
  for (const c10::IValue& element : list) {
    AddWord(element.isInt()      ? element.toInt()
            : element.isDouble() ? std::bit_cast<int64_t>(element.toDouble())
                                 : element.toBool());
  }
  return nullptr;
}

const char* SignatureReader::AddTensor(const at::Tensor& tensor) {
  if (const char* refusal = TensorRefusal(tensor)) return refusal;
  const int64_t layout = LayoutOf(tensor);
  const auto dtype = static_cast<int64_t>(tensor.scalar_type());
  AddWord(Head(Tag::kTensor, layout | dtype << 8 | tensor.dim() << 16));
  for (const int64_t size : tensor.sizes()) AddWord(size);
  if (!IsOrdinary(layout)) AddStrides(tensor);
  if (tensor.is_quantized()) {
    AddWord(std::bit_cast<int64_t>(tensor.q_scale()));
    AddWord(tensor.q_zero_point());
  }
  needs_grad_ |= tensor.requires_grad();
  return nullptr;
}

// Strides of other tensors decide what eager's views of them may do, so they count one by one.
void SignatureReader::AddStrides(const at::Tensor& tensor) {
  for (const int64_t stride : tensor.strides()) AddWord(stride);
}

}  // namespace torch_tvm::jit
