#include "relay/structural.h"

#include <tvm/ffi/extra/structural_equal.h>
#include <tvm/ffi/extra/structural_hash.h>

#include <algorithm>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "relay/module.h"
#include "relay/structural_parts.h"
#include "relay/visit.h"

namespace torch_tvm::relay {
namespace {

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

  // Where a variable is bound, its annotation binds the sizes and open types in it that nothing has
  // bound yet.
  bool Run(const Type& lhs, const Type& rhs, bool binds = false) {
    std::vector<std::pair<Type, Type>> pending = {{lhs, rhs}};
    while (!pending.empty()) {
      auto [a, b] = pending.back();
      pending.pop_back();
      if (a->type_index() != b->type_index()) return false;
      if (auto var = a.as<TypeVar>()) {
        type_vars_.emplace_back(*var, *b.as<TypeVar>());
        continue;
      }
      ffi::Array<TypeVar> left = BoundIn(a), right = BoundIn(b);
      std::vector<Type> parts = PartsOf(a), others = PartsOf(b);
      if (!SamePlain(PlainParts(a), PlainParts(b)) || !Bind(left, right) ||
          parts.size() != others.size() || !RunFree(a, b, binds)) {
        return false;
      }
      for (size_t i = 0; i < parts.size(); ++i) pending.emplace_back(parts[i], others[i]);
    }
    return true;
  }

  // Variables are compared last: by then every binder has been seen.
  bool Finish() {
    return std::all_of(vars_.begin(), vars_.end(),
                       [this](const auto& pair) {
                         return SameVar(pair.first, pair.second,
                                        [&] { return SameType(pair.first, pair.second); });
                       }) &&
           // Last, because the variables above may add some.
           std::all_of(type_vars_.begin(), type_vars_.end(),
                       [this](const auto& pair) {
                         return SameVar(pair.first, pair.second,
                                        [&] { return pair.first->kind == pair.second->kind; });
                       }) &&
           std::all_of(free_of_types_.begin(), free_of_types_.end(), [this](const auto& pair) {
             return SameVar(pair.first, pair.second, [] { return true; });
           });
  }

 private:
  template <typename V, typename SameKind>
  bool SameVar(const V& a, const V& b, SameKind same_kind) {
    if (bound_.Touches(a.get(), b.get())) return bound_.Has(a.get(), b.get());
    if (!map_free_vars_) return a.same_as(b);
    return same_kind() && free_.Add(a.get(), b.get());
  }

  // Which variables stand in it is compared apart.
  static bool SamePlain(const ffi::Array<ffi::Any>& a, const ffi::Array<ffi::Any>& b) {
    return ffi::StructuralEqual::Equal(a, b, /*map_free_vars=*/true);
  }

  bool SameType(const Var& a, const Var& b, bool bound = false) {
    if (!a->type_annotation || !b->type_annotation) {
      return !a->type_annotation && !b->type_annotation;
    }
    return Run(*a->type_annotation, *b->type_annotation, bound);
  }

  // Compares sizes that are variables, and open types, whose kinds have been compared.
  bool RunFree(const Type& a, const Type& b, bool bind) {
    std::vector<SizeVar> left = SizeVarsOf(a), right = SizeVarsOf(b);
    std::vector<std::pair<ffi::ObjectRef, ffi::ObjectRef>> pairs;
    for (size_t i = 0; i < left.size(); ++i) pairs.emplace_back(left[i], right[i]);
    if (a.as<IncompleteTypeObj>()) pairs.emplace_back(a, b);
    return std::all_of(pairs.begin(), pairs.end(), [&](const auto& pair) {
      if (bind) return bound_.Add(pair.first.get(), pair.second.get());
      free_of_types_.push_back(pair);
      return true;
    });
  }

  template <typename Vars>
  bool Bind(const Vars& left, const Vars& right) {
    if (left.size() != right.size()) return false;
    for (size_t i = 0; i < left.size(); ++i) {
      if (left[i]->kind != right[i]->kind || !bound_.Add(left[i].get(), right[i].get())) {
        return false;
      }
    }
    return true;
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
        left.types.size() != right.types.size() || left.sizes.size() != right.sizes.size() ||
        !SamePlain(left.plain, right.plain) || !Bind(left.bound_types, right.bound_types)) {
      return false;
    }
    for (size_t i = 0; i < left.sizes.size(); ++i) {
      free_of_types_.emplace_back(left.sizes[i], right.sizes[i]);
    }
    for (size_t i = 0; i < left.types.size(); ++i) {
      if (!Run(left.types[i], right.types[i])) return false;
    }
    for (size_t i = 0; i < left.bound.size(); ++i) {
      const Var &var = left.bound[i], &other = right.bound[i];
      if (!SameType(var, other, true) || !bound_.Add(var.get(), other.get())) return false;
    }
    for (size_t i = 0; i < left.operands.size(); ++i) {
      pending_.emplace_back(left.operands[i], right.operands[i]);
    }
    return true;
  }

  bool map_free_vars_;
  std::vector<std::pair<Expr, Expr>> pending_;
  std::vector<std::pair<Var, Var>> vars_;
  std::vector<std::pair<TypeVar, TypeVar>> type_vars_;
  std::vector<std::pair<ffi::ObjectRef, ffi::ObjectRef>> free_of_types_;
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
        for (const TypeVar& var : parts.bound_types) NumberOf(var);
        for (const Var& var : parts.bound) Number(var);
        for (auto operand = parts.operands.rbegin(); operand != parts.operands.rend(); ++operand) {
          stack.emplace_back(*operand, false);
        }
      }
    }
    return hashes_.at(root.get());
  }

  uint64_t Run(const Type& root, bool binds = false) {
    uint64_t hash = 0;
    std::vector<Type> stack = {root};
    while (!stack.empty()) {
      Type type = stack.back();
      stack.pop_back();
      Mix(hash, std::hash<std::string>()(type->GetTypeKey()));
      if (auto var = type.as<TypeVar>()) {
        Mix(hash, FreeHash(*var));
        continue;
      }
      if (type.as<IncompleteTypeObj>()) Mix(hash, LateHash(type, binds));
      for (const SizeVar& var : SizeVarsOf(type)) Mix(hash, LateHash(var, binds));
      for (const TypeVar& var : BoundIn(type)) NumberOf(var);
      Mix(hash, ffi::StructuralHash()(PlainParts(type)));
      std::vector<Type> parts = PartsOf(type);
      stack.insert(stack.end(), parts.rbegin(), parts.rend());
    }
    return hash;
  }

 private:
  static void Mix(uint64_t& hash, uint64_t value) {
    hash ^= value + 0x9e3779b97f4a7c15 + (hash << 6) + (hash >> 2);
  }

  // Of a variable that nothing may bind.
  uint64_t FreeHash(const ffi::ObjectRef& var) {
    bool free = !map_free_vars_ && !hashes_.count(var.get());
    return free ? reinterpret_cast<uintptr_t>(var.get()) : NumberOf(var);
  }

  // Of a variable that may be bound later, for which comparison waits.
  uint64_t LateHash(const ffi::ObjectRef& var, bool bind) {
    return bind || map_free_vars_ || hashes_.count(var.get()) ? NumberOf(var) : 0;
  }

  // A variable of types is known by when it was seen first.
  uint64_t NumberOf(const ffi::ObjectRef& var) {
    return hashes_.emplace(var.get(), hashes_.count(var.get()) ? 0 : ++num_vars_).first->second;
  }

  void Number(const Var& var) {
    uint64_t hash = var->type_annotation ? Run(*var->type_annotation, true) : 0;
    Mix(hash, ++num_vars_);
    hashes_.insert_or_assign(var.get(), hash);
  }

  uint64_t VarHash(const Var& var) {
    if (!map_free_vars_) return reinterpret_cast<uintptr_t>(var.get());
    Number(var);
    return hashes_.at(var.get());
  }

  uint64_t Combined(const Expr& expr) {
    Parts parts = PartsOf(expr);
    uint64_t hash = ffi::StructuralHash::Hash(parts.plain, /*map_free_vars=*/true);
    for (const SizeVar& var : parts.sizes) Mix(hash, LateHash(var, false));
    Mix(hash, std::hash<std::string>()(expr->GetTypeKey()));
    Mix(hash, parts.bound.size());
    for (const Var& var : parts.bound) Mix(hash, hashes_.at(var.get()));
    Mix(hash, parts.bound_types.size());
    for (const Type& type : parts.types) Mix(hash, Run(type));
    for (const Expr& operand : parts.operands) Mix(hash, hashes_.at(operand.get()));
    return hash;
  }

  bool map_free_vars_;
  std::unordered_map<const ffi::Object*, uint64_t> hashes_;
  uint64_t num_vars_ = 0;
};

// The functions and types of a module, or the expression itself, by name.
struct Roots {
  std::map<std::string, Expr> exprs;
  std::map<std::string, Type> types;
};

Roots RootsOf(const ffi::ObjectRef& node) {
  Roots roots;
  if (auto expr = node.as<Expr>()) {
    roots.exprs.emplace("", *expr);
    return roots;
  }
  const auto* module = node.as<IRModuleObj>();
  if (!module) {
    TVM_FFI_THROW(TypeError) << "expected an expression or a module, got " << node.GetTypeKey();
  }
  for (const auto& [name, function] : module->functions) roots.exprs.emplace(name, function);
  for (const auto& [name, data] : module->type_definitions) roots.types.emplace(name, data);
  return roots;
}

// Compares what stands under the same names.
template <typename Root>
bool RunAll(Comparison& comparison, const std::map<std::string, Root>& left,
            const std::map<std::string, Root>& right) {
  if (left.size() != right.size()) return false;
  return std::all_of(left.begin(), left.end(), [&](const auto& entry) {
    auto other = right.find(entry.first);
    return other != right.end() && comparison.Run(entry.second, other->second);
  });
}

}  // namespace

bool StructuralEqual(const ffi::ObjectRef& lhs, const ffi::ObjectRef& rhs, bool map_free_vars) {
  if (lhs->type_index() != rhs->type_index()) return false;
  Roots left = RootsOf(lhs), right = RootsOf(rhs);
  Comparison comparison(map_free_vars);
  return RunAll(comparison, left.types, right.types) &&
         RunAll(comparison, left.exprs, right.exprs) && comparison.Finish();
}

int64_t StructuralHash(const ffi::ObjectRef& node, bool map_free_vars) {
  Hasher hasher(map_free_vars);
  uint64_t hash = 0;
  Roots roots = RootsOf(node);
  auto add = [&](const auto& entry) {
    hash = hash * 31 + std::hash<std::string>()(entry.first) + hasher.Run(entry.second);
  };
  std::for_each(roots.types.begin(), roots.types.end(), add);
  std::for_each(roots.exprs.begin(), roots.exprs.end(), add);
  return static_cast<int64_t>(hash);
}

TVM_FFI_STATIC_INIT_BLOCK() {
  tvm::ffi::reflection::GlobalDef()
      .def("torch_tvm.relay.structural_equal", &StructuralEqual)
      .def("torch_tvm.relay.structural_hash", &StructuralHash);
}

}  // namespace torch_tvm::relay
