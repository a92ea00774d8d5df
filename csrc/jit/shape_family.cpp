#include "jit/shape_family.h"

#include <ATen/record_function.h>
#include <c10/util/Exception.h>
#include <tvm/ffi/error.h>

#include <algorithm>
#include <utility>

#include "core/stats.h"
#include "jit/lowered.h"
#include "runtime/arena.h"

namespace torch_tvm::jit {
namespace {

// A second plan is for sizes that turned out to change, or to change independently, after the
// first.
constexpr int kMostAttempts = 2;
// More tell nothing new about which sizes change together.
constexpr size_t kMostSeen = 64;

}  // namespace

bool ShapeFamily::CompilesAlone(const Sizes& sizes, int64_t max_static_signatures) {
  std::lock_guard lock(mutex_);
  if (std::find(seen_.begin(), seen_.end(), sizes) == seen_.end() && seen_.size() < kMostSeen) {
    seen_.push_back(sizes);
  }
  if (symbolic_ != nullptr || dropped_) return false;
  const auto compiled = static_cast<int64_t>(alone_.size());
  return compiled < max_static_signatures || alone_.count(sizes) != 0;
}

void ShapeFamily::CompiledAlone(const Sizes& sizes) {
  std::lock_guard lock(mutex_);
  alone_.insert(sizes);
}

void ShapeFamily::Drop() {
  std::lock_guard lock(mutex_);
  dropped_ = true;
  refusal_ = "PyTorch's interpreter is faster than the plan for all of them";
}

// Needs the lock.
void ShapeFamily::CompileAnew(const Source& source, c10::ArrayRef<c10::IValue> inputs,
                              const Sizes& sizes) {
  ++attempts_;
  RECORD_FUNCTION("tvm::compile", {});
  std::vector<Sizes> seen = seen_;
  if (std::find(seen.begin(), seen.end(), sizes) == seen.end()) seen.push_back(sizes);
  try {
    symbolic_ = std::make_shared<const SymbolicCompiled>(source, inputs, seen);
    refusal_.clear();
  } catch (const NotSymbolic& refused) {
    refusal_ = refused.what();
  } catch (const tvm::ffi::Error& error) {
    TORCH_CHECK(error.kind() != "KeyboardInterrupt", "interrupted while torch_tvm compiled ",
                source.name);
    refusal_ = error.kind() + ": " + FirstLine(error.message());
  } catch (const c10::Error& error) {
    refusal_ = FirstLine(error.what_without_backtrace());
  } catch (const std::exception& error) {
    refusal_ = FirstLine(error.what());
  }
  runtime::TrimHeap();
  if (!refusal_.empty()) Stats::Get().CountSymbolicRefusal(source.name + ": " + refusal_);
}

std::shared_ptr<const Compiled> ShapeFamily::Get(const Source& source,
                                                 c10::ArrayRef<c10::IValue> inputs,
                                                 const Sizes& sizes, Partitions* partitions) {
  const CompileScope scope;
  auto result = std::make_shared<Compiled>();
  std::unique_lock lock(mutex_);
  if (attempts_ == 0 && !dropped_) CompileAnew(source, inputs, sizes);
  std::string reason = refusal_;
  for (bool last = false; symbolic_ != nullptr && !dropped_; last = true) {
    const auto symbolic = symbolic_;
    lock.unlock();
    try {
      const auto spent = Timed([&] { result->plan = symbolic->At(source, inputs, sizes); });
      result->symbolic = symbolic;
      result->preparation = spent;
      return result;
    } catch (const convert::NotConvertible& refused) {
      Refuse(source, refused, partitions, result.get());
      return result;
    } catch (const NotSymbolic& refused) {
      reason = refused.what();
    } catch (const tvm::ffi::Error& error) {
      reason = error.kind() + ": " + FirstLine(error.message());
    }
    lock.lock();
    if (last || attempts_ >= kMostAttempts || symbolic != symbolic_) break;
    CompileAnew(source, inputs, sizes);
  }
  result->refusals = {source.name +
                      " gets many shapes, and has no plan for all of them: " + reason};
  result->postponed = std::make_unique<std::atomic<int>>(0);
  return result;
}

std::shared_ptr<ShapeFamily> ShapeFamilies::Find(const std::vector<int64_t>& form) {
  std::lock_guard lock(mutex_);
  const auto found = families_.find(form);
  if (found != families_.end()) return found->second;
  if (families_.size() >= kMost) return nullptr;
  return families_.emplace(form, std::make_shared<ShapeFamily>()).first->second;
}

void ShapeFamilies::Clear() {
  std::map<std::vector<int64_t>, std::shared_ptr<ShapeFamily>> dropped;  // plans die after the lock
  std::lock_guard lock(mutex_);
  dropped.swap(families_);
}

}  // namespace torch_tvm::jit
