// register_operator: converters written in Python, or in any language that speaks tvm-ffi. The
// function gets the operator's arguments in the order of its schema - tensors as Relay expressions
// with checked_type filled, everything else as plain values - and gives one expression for each
// tensor result.
#include "convert/context.h"
#include "convert/refused.h"

namespace torch_tvm::convert {
namespace {

relay::Type TypeOf(const TensorInfo& info) {
  return relay::TensorType(IntArray(info.sizes), ToRelay(info.dtype));
}

ffi::Any Argument(const Context& ctx, const c10::IValue& value) {
  if (value.isNone() || (value.isTensor() && !value.toTensor().defined())) return nullptr;
  if (value.isTensor()) {
    const Operand operand = ctx.Given(value.toTensor());
    operand.expr->checked_type = TypeOf(operand.info);
    return operand.expr;
  }
  if (value.isBool()) return value.toBool();
  if (value.isInt()) return value.toInt();
  if (value.isDouble()) return value.toDouble();
  if (value.isString()) return ffi::String(value.toStringRef());
  if (value.isDevice()) return ffi::String(value.toDevice().str());
  if (!value.isList()) ctx.Refuse("a " + value.tagKind() + " cannot be given to its converter");
  ffi::Array<ffi::Any> elements;
  for (const c10::IValue& element : value.toListRef()) elements.push_back(Argument(ctx, element));
  return elements;
}

Results Call(const ffi::Function& function, Context& ctx) {
  std::vector<ffi::AnyView> views;
  std::vector<ffi::Any> arguments;
  for (const c10::IValue& value : ctx.inputs()) arguments.push_back(Argument(ctx, value));
  for (const ffi::Any& argument : arguments) views.emplace_back(argument);
  ffi::Any result;
  function.CallPacked(views.data(), static_cast<int32_t>(views.size()), &result);
  if (auto expr = result.as<Expr>()) return *expr;
  if (auto many = result.as<ffi::Array<Expr>>())
    return std::vector<Expr>(many->begin(), many->end());
  ctx.Refuse("its converter gave a " + result.GetTypeKey() + ", expected a Relay expression");
}

void Register(const ffi::String& name, const ffi::Function& function, bool override_entry) {
  try {
    Registry::Global().Add(name, {[function](Context& ctx) { return Call(function, ctx); }, {}},
                           override_entry);
  } catch (const std::invalid_argument& error) {
    TVM_FFI_THROW(ValueError) << error.what();
  }
}

ffi::Array<ffi::String> Names() {
  ffi::Array<ffi::String> names;
  for (const std::string& name : Registry::Global().Names()) names.push_back(name);
  return names;
}

ffi::Map<ffi::String, ffi::String> Reasons() {
  ffi::Map<ffi::String, ffi::String> reasons;
  for (const auto& [name, reason] : ReasonsByOperator()) reasons.Set(name, reason);
  return reasons;
}

TVM_FFI_STATIC_INIT_BLOCK() {
  ffi::reflection::GlobalDef()
      .def("torch_tvm.convert.register", Register)
      .def("torch_tvm.convert.operators", Names)
      .def("torch_tvm.convert.refused_operators", Reasons);
}

}  // namespace
}  // namespace torch_tvm::convert
