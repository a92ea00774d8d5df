#include "convert/context.h"

#include <ATen/ATen.h>
#include <ATen/DLConvertor.h>
#include <ATen/WrapDimUtils.h>

#include <functional>
#include <numeric>

#include "core/dtype.h"

namespace torch_tvm::convert {

ScalarType MathType(ScalarType dtype) {
  return dtype == ScalarType::Half || dtype == ScalarType::BFloat16 ? ScalarType::Float : dtype;
}

bool IsFloat(ScalarType dtype) { return c10::isFloatingType(dtype); }

DLDataType ToRelay(ScalarType dtype) {
  const auto converted = ToDLDataType(dtype);
  if (!converted) throw Refused(std::string("no kernel takes dtype ") + c10::toString(dtype));
  return *converted;
}

ffi::String DtypeName(ScalarType dtype) { return ffi::DLDataTypeToString(ToRelay(dtype)); }

ffi::Array<int64_t> IntArray(const Sizes& values) {
  return ffi::Array<int64_t>(values.begin(), values.end());
}

int64_t Product(const Sizes& sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{1}, std::multiplies<>());
}

Sizes Counted(size_t count) {
  Sizes dims(count);
  std::iota(dims.begin(), dims.end(), 0);
  return dims;
}

Sizes Permuted(const Sizes& sizes, const Sizes& axes) {
  Sizes permuted;
  for (const int64_t axis : axes) permuted.push_back(sizes[static_cast<size_t>(axis)]);
  return permuted;
}

int64_t TensorInfo::numel() const { return Product(sizes); }

relay::Constant CarriedConstant(const at::Tensor& tensor) {
  const at::Tensor plain = tensor.detach().contiguous().resolve_neg().resolve_conj();
  return relay::MakeConstant(ffi::Tensor::FromDLPack(at::toDLPack(plain)));
}

Context::Context(const torch::jit::Node* node, const std::vector<c10::IValue>& inputs,
                 const std::vector<at::Tensor>& outputs, Surroundings& surroundings,
                 ffi::Optional<relay::Span> span)
    : node_(node), inputs_(inputs), surroundings_(surroundings), span_(std::move(span)) {
  for (const at::Tensor& output : outputs) results_.push_back(surroundings.InfoOf(output));
}

void Context::Refuse(const std::string& reason) const { throw Refused(reason); }

std::optional<size_t> Context::Index(const char* name) const {
  const c10::FunctionSchema* schema = node_->maybeSchema();
  if (schema == nullptr) return std::nullopt;
  const auto index = schema->argumentIndexWithName(name);
  if (!index) return std::nullopt;
  return static_cast<size_t>(*index);
}

const c10::IValue& Context::Value(const char* name) const {
  const auto index = Index(name);
  if (!index) Refuse(std::string("its schema has no argument '") + name + "'");
  return inputs_.at(*index);
}

bool Context::Has(const char* name) const {
  const auto index = Index(name);
  if (!index || inputs_.at(*index).isNone()) return false;
  return !inputs_[*index].isTensor() || inputs_[*index].toTensor().defined();
}

at::Tensor Context::Meta(const char* name) const {
  const c10::IValue& value = Value(name);
  if (!value.isTensor() || !value.toTensor().defined()) {
    Refuse(std::string(name) + " is " + value.tagKind() + ", expected a tensor");
  }
  return value.toTensor();
}

Operand Context::Tensor(const char* name) const { return Given(Meta(name)); }

Operand Context::Input(size_t index) const { return Given(inputs_.at(index).toTensor()); }

std::optional<Operand> Context::OptionalTensor(const char* name) const {
  if (!Has(name)) return std::nullopt;
  return Tensor(name);
}

std::vector<Operand> Context::Tensors(const char* name) const {
  std::vector<Operand> operands;
  for (const c10::IValue& element : Value(name).toListRef()) {
    if (!element.isTensor()) Refuse(std::string(name) + " holds a value that is no tensor");
    operands.push_back(Given(element.toTensor()));
  }
  return operands;
}

int64_t Context::Int(const char* name) const {
  const c10::IValue& value = Value(name);
  if (value.isBool()) return value.toBool() ? 1 : 0;
  if (!value.isInt()) Refuse(std::string(name) + " is " + value.tagKind() + ", expected an int");
  return value.toInt();
}

at::Scalar Context::Scalar(const char* name) const {
  const c10::IValue& value = Value(name);
  if (!value.isScalar()) {
    Refuse(std::string(name) + " is " + value.tagKind() + ", expected a number");
  }
  if (value.isComplexDouble()) Refuse(std::string(name) + " is complex");
  return value.toScalar();
}

double Context::Double(const char* name) const { return Scalar(name).toDouble(); }

bool Context::Bool(const char* name) const {
  const c10::IValue& value = Value(name);
  if (!value.isBool()) Refuse(std::string(name) + " is " + value.tagKind() + ", expected a bool");
  return value.toBool();
}

bool Context::BoolOr(const char* name, bool absent) const {
  return Has(name) ? Bool(name) : absent;
}

std::string Context::String(const char* name) const {
  const c10::IValue& value = Value(name);
  if (!value.isString()) {
    Refuse(std::string(name) + " is " + value.tagKind() + ", expected a string");
  }
  return value.toStringRef();
}

Sizes Context::Ints(const char* name) const {
  const c10::IValue& value = Value(name);
  if (value.isInt()) return {value.toInt()};
  if (value.isList() && value.toListRef().empty()) return {};
  if (!value.isIntList()) {
    Refuse(std::string(name) + " is " + value.tagKind() + ", expected a list of ints");
  }
  return value.toIntVector();
}

int64_t Context::Dim(const char* name, int64_t rank) const {
  return at::maybe_wrap_dim(Int(name), rank);
}

Sizes Context::Dims(const char* name, int64_t rank) const {
  Sizes dims = Ints(name);
  for (int64_t& dim : dims) dim = at::maybe_wrap_dim(dim, rank);
  return dims;
}

Expr Context::Call(const std::string& op, std::vector<Expr> args, relay::AttrList attrs) const {
  return relay::MakeCall(op, std::move(args), attrs, span_);
}

Expr Context::Constant(const at::Scalar& value, ScalarType dtype) const {
  // Through a tensor, for the wrap-around and rounding that PyTorch gives, where there may be any.
  if (value.isFloatingPoint() && (dtype == ScalarType::Double || dtype == ScalarType::Float)) {
    return relay::MakeScalar(value.toDouble(), ToRelay(dtype));
  }
  if (value.isIntegral(/*includeBool=*/false) && dtype == ScalarType::Long) {
    return relay::MakeScalar(value.toLong(), ToRelay(dtype));
  }
  const at::Scalar held = at::scalar_tensor(value, at::dtype(value.type())).to(dtype).item();
  const DLDataType type = ToRelay(dtype);
  if (held.isFloatingPoint()) return relay::MakeScalar(held.toDouble(), type);
  if (held.isBoolean()) return relay::MakeScalar(held.toBool(), type);
  return relay::MakeScalar(held.toLong(), type);
}

Expr Context::ConstantTensor(const std::vector<double>& values, const Sizes& shape,
                             ScalarType dtype) const {
  return CarriedConstant(at::tensor(values, at::dtype(at::kDouble)).reshape(shape).to(dtype));
}

Expr Context::Arange(int64_t count, const at::Scalar& start, const at::Scalar& step,
                     ScalarType dtype) const {
  const ScalarType math = MathType(dtype);
  // Relay counts ceil((stop - start) / step): half a step short of the next number is safe from
  // rounding.
  const at::Scalar stop =
      IsFloat(math)
          ? at::Scalar(start.toDouble() + (static_cast<double>(count) - 0.5) * step.toDouble())
          : at::Scalar(start.toLong() + count * step.toLong());
  const Expr first = Constant(start, math);
  const Expr last = Constant(stop, math);
  const Expr by = Constant(step, math);
  const Expr numbers =
      Call("arange", {first, last, by},
           {{"start", first}, {"stop", last}, {"step", by}, {"dtype", DtypeName(math)}});
  return Cast(numbers, math, dtype);
}

Expr Context::Cast(Expr expr, ScalarType from, ScalarType to) const {
  if (from == to) return expr;
  if (const auto* constant = expr.as<relay::ConstantObj>();
      constant != nullptr && constant->data.numel() == 1) {
    return CarriedConstant(at::fromDLPack(constant->data.ToDLPack()).to(to));
  }
  if (to == ScalarType::Bool) return Call("not_equal", {expr, Constant(0, from)});
  return Call("cast", {expr}, {{"dtype", DtypeName(to)}});
}

Expr Context::Reshape(Expr expr, const Sizes& from, const Sizes& to) const {
  if (from == to) return expr;
  return Call("reshape", {expr}, {{"newshape", IntArray(to)}});
}

Expr Context::Transpose(Expr expr, const Sizes& axes) const {
  bool identity = true;
  for (size_t i = 0; i < axes.size(); ++i) identity &= axes[i] == static_cast<int64_t>(i);
  return identity ? expr : Call("transpose", {expr}, {{"axes", IntArray(axes)}});
}

Expr Context::BroadcastTo(Expr expr, const Sizes& from, const Sizes& to) const {
  if (from == to) return expr;
  return Call("broadcast_to", {expr}, {{"shape", IntArray(to)}});
}

Expr Context::Slice(const Expr& expr, int64_t dim, int64_t begin, int64_t end, int64_t step) const {
  return Call("strided_slice", {expr},
              {{"begin", IntArray({begin})},
               {"end", IntArray({end})},
               {"strides", IntArray({step})},
               {"axes", IntArray({dim})}});
}

Expr Context::Leading(const Expr& expr, const Sizes& from, const Sizes& to) const {
  if (from == to) return expr;
  return Call("strided_slice", {expr},
              {{"begin", IntArray(Sizes(to.size(), 0))},
               {"end", IntArray(to)},
               {"strides", IntArray(Sizes(to.size(), 1))},
               {"axes", ffi::Any(nullptr)}});
}

Expr Context::Concatenate(const std::vector<Expr>& parts, int64_t dim) const {
  if (parts.size() == 1) return parts[0];
  const relay::Tuple tuple(ffi::Array<Expr>(parts.begin(), parts.end()));
  return Call("concatenate", {tuple}, {{"axis", dim}});
}

Expr Context::Full(const at::Scalar& value, const Sizes& shape, ScalarType dtype) const {
  const Expr scalar = Constant(value, dtype);
  if (shape.empty()) return scalar;
  return Call("full", {scalar}, {{"shape", IntArray(shape)}, {"dtype", DtypeName(dtype)}});
}

}  // namespace torch_tvm::convert
