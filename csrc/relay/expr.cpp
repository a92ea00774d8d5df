#include "relay/expr.h"

#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "relay/builder.h"
#include "relay/op_table.h"

namespace torch_tvm::relay {
namespace {

using Attrs = ffi::Map<ffi::String, ffi::Any>;

void CheckCall(const Op& op, const ffi::Array<Expr>& args) {
  const OpInfo& info = GetOpInfo(op->name);
  if (info.num_inputs < 0 || args.size() == static_cast<size_t>(info.num_inputs)) return;
  std::string names;
  for (const std::string& arg : info.args) names += (names.empty() ? "" : ", ") + arg;
  TVM_FFI_THROW(ValueError) << info.name << ": expected " << info.num_inputs << " operand"
                            << (info.num_inputs == 1 ? "" : "s") << " (" << names << "), got "
                            << args.size();
}

}  // namespace

void ExprObj::Release(ffi::ObjectRef operand) {
  thread_local std::vector<ffi::ObjectRef>* pending = nullptr;
  if (pending) {
    pending->push_back(std::move(operand));
    return;
  }
  std::vector<ffi::ObjectRef> queue = {std::move(operand)};
  pending = &queue;
  while (!queue.empty()) {
    ffi::ObjectRef last = std::move(queue.back());
    queue.pop_back();
  }
  pending = nullptr;
}

VarObj::VarObj(ffi::String name, ffi::Optional<Type> annotation, ffi::Optional<Span> where)
    : name_hint(std::move(name)), type_annotation(std::move(annotation)) {
  span = std::move(where);
}

ConstantObj::ConstantObj(ffi::Tensor tensor, ffi::Optional<Span> where)
    : data(MakeContiguous(std::move(tensor))) {
  span = std::move(where);
}

GlobalVarObj::GlobalVarObj(ffi::String name, ffi::Optional<Span> where)
    : name_hint(std::move(name)) {
  span = std::move(where);
}

CallObj::CallObj(Expr callee, ffi::Array<Expr> operands, Attrs attributes,
                 ffi::Optional<Span> where)
    : op(std::move(callee)), args(std::move(operands)), attrs(std::move(attributes)) {
  span = std::move(where);
  if (auto called = op.as<Op>()) {
    CheckCall(*called, args);
    attrs = CompleteAttrs(GetOpInfo((*called)->name), attrs);
  }
}

TupleObj::TupleObj(ffi::Array<Expr> items, ffi::Optional<Span> where) : fields(std::move(items)) {
  span = std::move(where);
}

TupleGetItemObj::TupleGetItemObj(Expr source, int64_t position, ffi::Optional<Span> where)
    : tuple(std::move(source)), index(position) {
  span = std::move(where);
  const auto* fields = tuple.as<TupleObj>();
  if (index < 0 || (fields && index >= static_cast<int64_t>(fields->fields.size()))) {
    TVM_FFI_THROW(ValueError) << "TupleGetItem: index " << index << " is not a field of the tuple"
                              << (fields ? ", which has " + std::to_string(fields->fields.size())
                                         : std::string());
  }
}

LetObj::LetObj(Var variable, Expr bound, Expr rest, ffi::Optional<Span> where)
    : var(std::move(variable)), value(std::move(bound)), body(std::move(rest)) {
  span = std::move(where);
}

IfObj::IfObj(Expr condition, Expr then_value, Expr else_value, ffi::Optional<Span> where)
    : cond(std::move(condition)),
      true_branch(std::move(then_value)),
      false_branch(std::move(else_value)) {
  span = std::move(where);
}

FunctionObj::FunctionObj(ffi::Array<Var> parameters, Expr result, ffi::Optional<Type> type,
                         Attrs attributes, ffi::Optional<Span> where,
                         ffi::Array<TypeVar> type_parameters)
    : params(std::move(parameters)),
      body(std::move(result)),
      ret_type(std::move(type)),
      attrs(std::move(attributes)),
      type_params(std::move(type_parameters)) {
  span = std::move(where);
  std::set<const VarObj*> seen;
  for (const Var& param : params) {
    if (!seen.insert(param.get()).second) {
      TVM_FFI_THROW(ValueError) << "Function: variable '" << param->name_hint
                                << "' is a parameter twice";
    }
  }
}

RefCreateObj::RefCreateObj(Expr initial, ffi::Optional<Span> where) : value(std::move(initial)) {
  span = std::move(where);
}

RefReadObj::RefReadObj(Expr cell, ffi::Optional<Span> where) : ref(std::move(cell)) {
  span = std::move(where);
}

RefWriteObj::RefWriteObj(Expr cell, Expr next, ffi::Optional<Span> where)
    : ref(std::move(cell)), value(std::move(next)) {
  span = std::move(where);
}

Span::Span(ffi::String source_name, int64_t line, int64_t column, int64_t end_line,
           int64_t end_column)
    : ffi::ObjectRef(
          ffi::make_object<SpanObj>(std::move(source_name), line, column, end_line, end_column)) {}
Var::Var(ffi::String name_hint, ffi::Optional<Type> type_annotation, ffi::Optional<Span> span)
    : Expr(ffi::make_object<VarObj>(std::move(name_hint), std::move(type_annotation),
                                    std::move(span))) {}
Constant::Constant(ffi::Tensor data, ffi::Optional<Span> span)
    : Expr(ffi::make_object<ConstantObj>(std::move(data), std::move(span))) {}
GlobalVar::GlobalVar(ffi::String name_hint, ffi::Optional<Span> span)
    : Expr(ffi::make_object<GlobalVarObj>(std::move(name_hint), std::move(span))) {}
Call::Call(Expr op, ffi::Array<Expr> args, Attrs attrs, ffi::Optional<Span> span)
    : Expr(ffi::make_object<CallObj>(std::move(op), std::move(args), std::move(attrs),
                                     std::move(span))) {}
Tuple::Tuple(ffi::Array<Expr> fields, ffi::Optional<Span> span)
    : Expr(ffi::make_object<TupleObj>(std::move(fields), std::move(span))) {}
TupleGetItem::TupleGetItem(Expr tuple, int64_t index, ffi::Optional<Span> span)
    : Expr(ffi::make_object<TupleGetItemObj>(std::move(tuple), index, std::move(span))) {}
Let::Let(Var var, Expr value, Expr body, ffi::Optional<Span> span)
    : Expr(ffi::make_object<LetObj>(std::move(var), std::move(value), std::move(body),
                                    std::move(span))) {}
If::If(Expr cond, Expr true_branch, Expr false_branch, ffi::Optional<Span> span)
    : Expr(ffi::make_object<IfObj>(std::move(cond), std::move(true_branch), std::move(false_branch),
                                   std::move(span))) {}
Function::Function(ffi::Array<Var> params, Expr body, ffi::Optional<Type> ret_type, Attrs attrs,
                   ffi::Optional<Span> span, ffi::Array<TypeVar> type_params)
    : Expr(ffi::make_object<FunctionObj>(std::move(params), std::move(body), std::move(ret_type),
                                         std::move(attrs), std::move(span),
                                         std::move(type_params))) {}
RefCreate::RefCreate(Expr value, ffi::Optional<Span> span)
    : Expr(ffi::make_object<RefCreateObj>(std::move(value), std::move(span))) {}
RefRead::RefRead(Expr ref, ffi::Optional<Span> span)
    : Expr(ffi::make_object<RefReadObj>(std::move(ref), std::move(span))) {}
RefWrite::RefWrite(Expr ref, Expr value, ffi::Optional<Span> span)
    : Expr(ffi::make_object<RefWriteObj>(std::move(ref), std::move(value), std::move(span))) {}
BoxInt::BoxInt(int64_t value) : ffi::ObjectRef(ffi::make_object<BoxIntObj>(value)) {}

TensorType Constant::tensor_type() const {
  const DLTensor* tensor = get()->data.GetDLTensorPtr();
  ffi::Array<int64_t> shape(tensor->shape, tensor->shape + tensor->ndim);
  return TensorType(std::move(shape), tensor->dtype);
}

Op Op::Get(const ffi::String& name) {
  static std::mutex mutex;
  static auto& made = *new std::map<std::string, Op>();  // leaked: outlives every user
  GetOpInfo(name);
  std::lock_guard<std::mutex> guard(mutex);
  auto found = made.find(name);
  if (found == made.end()) {
    found = made.emplace(name, Op(ffi::make_object<OpObj>(name))).first;
  }
  return found->second;
}

}  // namespace torch_tvm::relay
