// Programs as JSON graphs. tvm-ffi's reader and writer recurse and overflow a thread's 8 MiB at
// about 1,500 nested calls; here they run on a stack that is large enough for the program.
#include <pthread.h>
#include <tvm/ffi/extra/json.h>
#include <tvm/ffi/extra/serialization.h>

#include <algorithm>
#include <exception>
#include <functional>
#include <unordered_set>
#include <utility>
#include <vector>

#include "relay/module.h"
#include "relay/visit.h"

namespace torch_tvm::relay {
namespace {

// Generous: about 5 KiB a node were measured, of 3 nodes a call. Pages that are not touched cost
// nothing.
constexpr size_t kStackPerNode = 16 << 10;
constexpr size_t kMinStack = 16 << 20;
constexpr size_t kMaxStack = size_t{64} << 30;

void RunOnLargeStack(size_t nodes, std::function<void()> work) {
  struct Task {
    std::function<void()> work;
    std::exception_ptr error;
  } task{std::move(work), nullptr};
  auto run = [](void* argument) -> void* {
    auto* task = static_cast<Task*>(argument);
    try {
      task->work();
    } catch (...) {
      task->error = std::current_exception();
    }
    return nullptr;
  };
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, std::clamp(nodes * kStackPerNode, kMinStack, kMaxStack));
  pthread_t thread;
  int error = pthread_create(&thread, &attributes, run, &task);
  pthread_attr_destroy(&attributes);
  if (error) {
    TVM_FFI_THROW(MemoryError) << "no stack for the JSON of a program of " << nodes << " nodes";
  }
  pthread_join(thread, nullptr);
  if (task.error) std::rethrow_exception(task.error);
}

size_t CountNodes(const ffi::ObjectRef& root) {
  std::vector<Expr> stack;
  if (auto expr = root.as<Expr>()) stack.push_back(*expr);
  if (const auto* module = root.as<IRModuleObj>()) {
    for (const auto& [name, function] : module->functions) stack.push_back(function);
  }
  std::unordered_set<const ffi::Object*> seen;
  while (!stack.empty()) {
    Expr expr = stack.back();
    stack.pop_back();
    if (!seen.insert(expr.get()).second) continue;
    VisitOperands(expr, [&stack](const Expr& operand) { stack.push_back(operand); });
  }
  return seen.size();
}

ffi::String SaveJSON(const ffi::ObjectRef& node) {
  ffi::String text;
  RunOnLargeStack(CountNodes(node), [&] { text = ffi::json::Stringify(ffi::ToJSONGraph(node)); });
  return text;
}

ffi::Any LoadJSON(const ffi::String& text) {
  ffi::Any graph = ffi::json::Parse(text);
  size_t nodes = 0;
  if (auto object = graph.as<ffi::json::Object>()) {
    auto found = object->find(ffi::String("nodes"));
    if (found != object->end()) {
      if (auto list = (*found).second.as<ffi::json::Array>()) nodes = list->size();
    }
  }
  ffi::Any result;
  RunOnLargeStack(nodes, [&] { result = ffi::FromJSONGraph(graph); });
  return result;
}

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() {
  tvm::ffi::reflection::GlobalDef()
      .def("torch_tvm.relay.save_json", &SaveJSON)
      .def("torch_tvm.relay.load_json", &LoadJSON);
}

}  // namespace torch_tvm::relay
