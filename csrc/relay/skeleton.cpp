#include "relay/skeleton.h"

#include <algorithm>
#include <bit>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "relay/visit.h"

namespace torch_tvm::relay {
namespace {

// Writes expressions down in the order in which they are first needed; without recursion, because
// functions may be thousands of calls deep.
class Writer {
 public:
  Skeleton Run(const Function& function) {
    for (const Var& param : function->params) {
      Number(param.get());
      Type(param->type_annotation);
    }
    std::vector<std::pair<Expr, bool>> stack = {{function->body, false}};
    while (!stack.empty()) {
      const auto [expr, expanded] = stack.back();
      if (numbers_.count(expr.get()) != 0) {
        stack.pop_back();
      } else if (expanded) {
        stack.pop_back();
        Node(expr);
      } else {
        stack.back().second = true;
        std::vector<Expr> operands;
        VisitOperands(expr, [&](const Expr& operand) { operands.push_back(operand); });
        for (auto operand = operands.rbegin(); operand != operands.rend(); ++operand) {
          stack.emplace_back(*operand, false);
        }
      }
    }
    Put('r');
    Bits(numbers_.at(function->body.get()));
    return std::move(skeleton_);
  }

 private:
  void Put(char tag) { skeleton_.form.push_back(tag); }
  void Bits(int64_t value) {
    skeleton_.form.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void Text(std::string_view text) {
    Bits(static_cast<int64_t>(text.size()));
    skeleton_.form.append(text);
  }
  void Size(int64_t size) {
    Put('#');
    skeleton_.sizes.push_back(size);
  }
  void Dtype(DLDataType dtype) { Bits(dtype.code | dtype.bits << 8 | dtype.lanes << 16); }

  void Number(const ffi::Object* node) { numbers_.emplace(node, numbers_.size()); }

  // What is not known here is equal to nothing but itself.
  void Unknown(const ffi::Object* object) {
    Put('?');
    Bits(reinterpret_cast<intptr_t>(object));
  }

  // Converters make nothing else: no data types, and nothing that is kept in references.
  static bool IsKnown(const Expr& expr) {
    const auto* function = expr.as<FunctionObj>();
    if (function != nullptr) return function->type_params.empty();
    return expr.as<CallObj>() || expr.as<TupleObj>() || expr.as<TupleGetItemObj>() ||
           expr.as<IfObj>() || expr.as<LetObj>();
  }

  void Node(const Expr& expr) {
    Put('e');
    if (const auto* var = expr.as<VarObj>()) {
      Put('v');
      Type(var->type_annotation);
    } else if (const auto* constant = expr.as<ConstantObj>()) {
      Tensor(constant->data);
    } else if (const auto* op = expr.as<OpObj>()) {
      Put('o');
      Text({op->name.data(), op->name.size()});
    } else if (!IsKnown(expr)) {
      Unknown(expr.get());
    } else {
      Put('c');
      Bits(expr->type_index());
      Bound(expr);
      VisitOperands(expr, [&](const Expr& operand) { Bits(numbers_.at(operand.get())); });
      Bits(-1);
      if (const auto* call = expr.as<CallObj>()) Value(call->attrs);
      if (const auto* function = expr.as<FunctionObj>()) {
        Value(function->attrs);
        Type(function->ret_type);
      }
      if (const auto* item = expr.as<TupleGetItemObj>()) Bits(item->index);
    }
    Number(expr.get());
  }

  // The variables that an expression binds; those that nothing has used yet are new here.
  void Bound(const Expr& expr) {
    const auto bind = [&](const Var& var) {
      if (numbers_.count(var.get()) == 0) Node(var);
      Bits(numbers_.at(var.get()));
    };
    if (const auto* let = expr.as<LetObj>()) bind(let->var);
    if (const auto* function = expr.as<FunctionObj>()) {
      Bits(static_cast<int64_t>(function->params.size()));
      for (const Var& param : function->params) bind(param);
    }
  }

  void Tensor(const ffi::Tensor& tensor) {
    Put('t');
    Dtype(tensor.dtype());
    Bits(tensor.ndim());
    for (const int64_t size : tensor.shape()) Bits(size);
    const char* data = static_cast<const char*>(tensor.data_ptr()) + tensor.byte_offset();
    const DLDataType dtype = tensor.dtype();
    if (tensor.numel() == 1 && dtype.code == kDLInt && dtype.bits == 64) {
      return Size(*reinterpret_cast<const int64_t*>(data));
    }
    if (tensor.numel() == 1 && dtype.code == kDLInt && dtype.bits == 32) {
      return Size(*reinterpret_cast<const int32_t*>(data));
    }
    Text({data, ffi::GetDataSize(tensor.numel(), dtype)});
  }

  void Type(const ffi::Optional<relay::Type>& type) {
    if (!type) return Put('n');
    if (const auto* tuple = (*type).as<TupleTypeObj>()) {
      Put('(');
      Bits(static_cast<int64_t>(tuple->fields.size()));
      for (const relay::Type& field : tuple->fields) Type(field);
      return;
    }
    const auto* tensor = (*type).as<TensorTypeObj>();
    if (tensor == nullptr) return Unknown((*type).get());
    Put('T');
    Dtype(tensor->dtype);
    Bits(static_cast<int64_t>(tensor->shape.size()));
    for (const int64_t size : tensor->shape) Size(size);
  }

  void Value(const ffi::Any& value) {
    if (value == nullptr) return Put('n');
    if (value.type_index() == ffi::TypeIndex::kTVMFFIBool) {
      return Put(value.cast<bool>() ? '1' : '0');
    }
    if (value.type_index() == ffi::TypeIndex::kTVMFFIInt) return Size(value.cast<int64_t>());
    if (value.type_index() == ffi::TypeIndex::kTVMFFIFloat) {
      Put('f');
      return Bits(std::bit_cast<int64_t>(value.cast<double>()));
    }
    if (value.type_index() == ffi::TypeIndex::kTVMFFIDataType) {
      Put('d');
      return Dtype(value.cast<DLDataType>());
    }
    if (const auto text = value.as<ffi::String>()) {
      Put('s');
      return Text({text->data(), text->size()});
    }
    if (const auto array = value.as<ffi::Array<ffi::Any>>()) {
      Put('[');
      Bits(static_cast<int64_t>(array->size()));
      for (const ffi::Any& item : *array) Value(item);
      return;
    }
    if (const auto map = value.as<ffi::Map<ffi::String, ffi::Any>>()) return Attributes(*map);
    if (const auto* box = value.as<BoxIntObj>()) {
      Put('b');
      return Size(box->value);
    }
    Unknown(value.as<ffi::Object>());
  }

  void Attributes(const ffi::Map<ffi::String, ffi::Any>& attrs) {
    std::vector<std::pair<std::string, ffi::Any>> sorted;
    for (const auto& [name, value] : attrs) sorted.emplace_back(std::string(name), value);
    std::sort(sorted.begin(), sorted.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    Put('{');
    Bits(static_cast<int64_t>(sorted.size()));
    for (const auto& [name, value] : sorted) {
      Text(name);
      Value(value);
    }
  }

  Skeleton skeleton_;
  std::unordered_map<const ffi::Object*, int64_t> numbers_;
};

}  // namespace

Skeleton SkeletonOf(const Function& function) { return Writer().Run(function); }

}  // namespace torch_tvm::relay
