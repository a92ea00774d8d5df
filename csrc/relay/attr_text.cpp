#include "relay/attr_text.h"

#include <tvm/ffi/extra/structural_equal.h>

#include "relay/literal.h"

namespace torch_tvm::relay {
namespace {

std::string FieldText(const AttrField& field, const ffi::Any& value, MetadataWriter& metadata,
                      const ExprText& expr_text) {
  if (field.kind == kInt) return std::to_string(value.cast<int64_t>());
  return ValueText(value, metadata, expr_text);
}

}  // namespace

std::string ValueText(const ffi::Any& value, MetadataWriter& metadata, const ExprText& expr_text) {
  if (value == nullptr) return "None";
  if (auto flag = value.as<bool>()) return *flag ? "True" : "False";
  if (auto number = value.as<int64_t>()) return IntText(*number);
  if (auto real = value.as<double>()) return FloatText(*real);
  if (auto text = value.as<ffi::String>()) return QuotedText(std::string(*text));
  if (auto box = value.as<BoxInt>()) return metadata.Reference(*box);
  if (auto var = value.as<SizeVar>()) return metadata.Reference(*var);
  if (auto device = value.as<VirtualDevice>()) return metadata.Reference(*device);
  if (auto constant = value.as<Constant>()) return metadata.Reference(*constant);
  // TVM prints a reference to a copy, in which a variable is another one; its parser takes these.
  if (auto expr = value.as<Expr>()) return expr_text(*expr);
  if (auto items = value.as<ffi::Array<ffi::Any>>()) {
    std::string inside;
    for (const ffi::Any& item : *items) {
      inside += (inside.empty() ? "" : ", ") + ValueText(item, metadata, expr_text);
    }
    return Concat("[", inside, "]");
  }
  TVM_FFI_THROW(ValueError) << "an attribute holds a " << value.GetTypeKey()
                            << ", which Relay text cannot hold";
}

std::vector<std::string> CallAttrTexts(const CallObj* call, bool show_meta_data,
                                       MetadataWriter& metadata, const ExprText& expr_text) {
  std::vector<std::string> texts;
  const auto* op = call->op.as<OpObj>();
  const OpInfo* info = op ? FindOp(op->name) : nullptr;
  if (!info || (info->attrs && info->attrs->open)) {
    for (const auto& [key, value] : call->attrs) {
      texts.push_back(std::string(key) + "=" + ValueText(value, metadata, expr_text));
    }
    return texts;
  }
  if (!info->attrs) return texts;
  if (!info->attrs_registered && show_meta_data) {
    return {metadata.Reference(call, *info->attrs)};
  }
  for (const AttrField& field : info->attrs->fields) {
    const ffi::Any& value = call->attrs.at(field.name);
    if (!field.required && ffi::StructuralEqual()(value, field.default_value)) continue;
    texts.push_back(field.name + "=" + FieldText(field, value, metadata, expr_text));
  }
  return texts;
}

}  // namespace torch_tvm::relay
