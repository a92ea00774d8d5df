#include "relay/structural.h"

#include <tvm/ffi/extra/structural_equal.h>
#include <tvm/ffi/extra/structural_hash.h>

#include <algorithm>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "relay/visit.h"

namespace torch_tvm::relay {
namespace {

// What a node holds besides expressions, and the expressions in a fixed order.
struct Parts {
  ffi::Array<ffi::Any> plain;
  std::vector<Expr> operands;
  std::vector<Var> bound;
};

Parts PartsOf(const Expr& expr) {
  Parts parts;
  VisitOperands(expr, [&parts](const Expr& operand) { parts.operands.push_back(operand); });
  if (const auto* call = expr.as<CallObj>()) {
    parts.plain = {call->attrs};
  } else if (const auto* item = expr.as<TupleGetItemObj>()) {
    parts.plain = {item->index};
  } else if (const auto* let = expr.as<LetObj>()) {
    parts.bound = {let->var};
  } else if (const auto* function = expr.as<FunctionObj>()) {
    parts.plain = {function->attrs, function->ret_type};
    parts.bound = {function->params.begin(), function->params.end()};
  } else if (const auto* constant = expr.as<ConstantObj>()) {
    parts.plain = {constant->data};
  } else if (const auto* global = expr.as<GlobalVarObj>()) {
    parts.plain = {global->name_hint};
  } else if (const auto* op = expr.as<OpObj>()) {
    parts.plain = {op->name};
  }
  return parts;
}

bool IsLeaf(const Expr& expr) {
  return expr.as<ConstantObj>() || expr.as<GlobalVarObj>() || expr.as<OpObj>();
}

// A one-to-one relation that grows.
class Bijection {
 public:
  // Relates a and b; false if either is related to something else already.
  bool Add(const ffi::Object* a, const ffi::Object* b) {
    return forward_.emplace(a, b).first->second == b && backward_.emplace(b, a).first->second == a;
  }
  bool Has(const ffi::Object* a, const ffi::Object* b) const {
    auto found = forward_.find(a);
    return found != forward_.end() && found->second == b;
  }
  bool Touches(const ffi::Object* a, const ffi::Object* b) const {
    return forward_.count(a) || backward_.count(b);
  }

 private:
  std::unordered_map<const ffi::Object*, const ffi::Object*> forward_, backward_;
};

class Comparison {
 public:
  explicit Comparison(bool map_free_vars) : map_free_vars_(map_free_vars) {}

  bool Run(const Expr& lhs, const Expr& rhs) {
    pending_.emplace_back(lhs, rhs);
    while (!pending_.empty()) {
      auto [a, b] = pending_.back();
      pending_.pop_back();
      if (!Step(a, b)) return false;
    }
    return true;
  }

  // Variables are compared last: by then every binder has been seen.
  bool Finish() {
    return std::all_of(vars_.begin(), vars_.end(), [this](const auto& pair) {
      const auto& [a, b] = pair;
      if (bound_.Touches(a.get(), b.get())) return bound_.Has(a.get(), b.get());
      if (!map_free_vars_) return a.same_as(b);
      return SameType(a, b) && free_.Add(a.get(), b.get());
    });
  }

 private:
  static bool SameType(const Var& a, const Var& b) {
    return ffi::StructuralEqual()(a->type_annotation, b->type_annotation);
  }

  bool Step(const Expr& a, const Expr& b) {
    if (a->type_index() != b->type_index()) return false;
    if (auto var = a.as<Var>()) {
      vars_.emplace_back(*var, *b.as<Var>());
      return true;
    }
    if (!IsLeaf(a)) {
      if (nodes_.Has(a.get(), b.get())) return true;
      if (!nodes_.Add(a.get(), b.get())) return false;
    }
    Parts left = PartsOf(a), right = PartsOf(b);
    if (left.operands.size() != right.operands.size() || left.bound.size() != right.bound.size() ||
        !ffi::StructuralEqual()(left.plain, right.plain)) {
      return false;
    }
    for (size_t i = 0; i < left.bound.size(); ++i) {
      const Var &var = left.bound[i], &other = right.bound[i];
      if (!SameType(var, other) || !bound_.Add(var.get(), other.get())) return false;
    }
    for (size_t i = 0; i < left.operands.size(); ++i) {
      pending_.emplace_back(left.operands[i], right.operands[i]);
    }
    return true;
  }

  bool map_free_vars_;
  std::vector<std::pair<Expr, Expr>> pending_;
  std::vector<std::pair<Var, Var>> vars_;
  Bijection nodes_, bound_, free_;
};

class Hasher {
 public:
  explicit Hasher(bool map_free_vars) : map_free_vars_(map_free_vars) {}

  uint64_t Run(const Expr& root) {
    std::vector<std::pair<Expr, bool>> stack = {{root, false}};
    while (!stack.empty()) {
      auto [expr, expanded] = stack.back();
      if (hashes_.count(expr.get())) {
        stack.pop_back();
      } else if (auto var = expr.as<Var>()) {
        hashes_.emplace(expr.get(), VarHash(*var));
        stack.pop_back();
      } else if (expanded) {
        hashes_.emplace(expr.get(), Combined(expr));
        stack.pop_back();
      } else {
        stack.back().second = true;
        Parts parts = PartsOf(expr);
        for (const Var& var : parts.bound) Number(var);
        for (auto operand = parts.operands.rbegin(); operand != parts.operands.rend(); ++operand) {
          stack.emplace_back(*operand, false);
        }
      }
    }
    return hashes_.at(root.get());
  }

 private:
  static void Mix(uint64_t& hash, uint64_t value) {
    hash ^= value + 0x9e3779b97f4a7c15 + (hash << 6) + (hash >> 2);
  }

  void Number(const Var& var) {
    uint64_t hash = ffi::StructuralHash()(var->type_annotation);
    Mix(hash, ++num_vars_);
    hashes_.insert_or_assign(var.get(), hash);
  }

  uint64_t VarHash(const Var& var) {
    if (!map_free_vars_) return reinterpret_cast<uintptr_t>(var.get());
    Number(var);
    return hashes_.at(var.get());
  }

  uint64_t Combined(const Expr& expr) const {
    Parts parts = PartsOf(expr);
    uint64_t hash = ffi::StructuralHash()(parts.plain);
    Mix(hash, std::hash<std::string>()(expr->GetTypeKey()));
    Mix(hash, parts.bound.size());
    for (const Expr& operand : parts.operands) Mix(hash, hashes_.at(operand.get()));
    return hash;
  }

  bool map_free_vars_;
  std::unordered_map<const ffi::Object*, uint64_t> hashes_;
  uint64_t num_vars_ = 0;
};

// The functions of a module, or the expression itself, by name.
std::map<std::string, Expr> Roots(const ffi::ObjectRef& node) {
  if (auto expr = node.as<Expr>()) return {{"", *expr}};
  const auto* module = node.as<IRModuleObj>();
  if (!module) {
    TVM_FFI_THROW(TypeError) << "expected an expression or a module, got " << node.GetTypeKey();
  }
  std::map<std::string, Expr> roots;
  for (const auto& [name, function] : module->functions) roots.emplace(name, function);
  return roots;
}

}  // namespace

bool StructuralEqual(const ffi::ObjectRef& lhs, const ffi::ObjectRef& rhs, bool map_free_vars) {
  if (lhs->type_index() != rhs->type_index()) return false;
  std::map<std::string, Expr> left = Roots(lhs), right = Roots(rhs);
  if (left.size() != right.size()) return false;
  Comparison comparison(map_free_vars);
  for (const auto& [name, expr] : left) {
    auto other = right.find(name);
    if (other == right.end() || !comparison.Run(expr, other->second)) return false;
  }
  return comparison.Finish();
}

int64_t StructuralHash(const ffi::ObjectRef& node, bool map_free_vars) {
  Hasher hasher(map_free_vars);
  uint64_t hash = 0;
  for (const auto& [name, expr] : Roots(node)) {
    hash = hash * 31 + std::hash<std::string>()(name) + hasher.Run(expr);
  }
  return static_cast<int64_t>(hash);
}

TVM_FFI_STATIC_INIT_BLOCK() {
  tvm::ffi::reflection::GlobalDef()
      .def("torch_tvm.relay.structural_equal", &StructuralEqual)
      .def("torch_tvm.relay.structural_hash", &StructuralHash);
}

}  // namespace torch_tvm::relay
