#include "jit/eager.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/library.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "convert/registry.h"
#include "jit/group.h"
#include "jit/merge.h"

namespace torch_tvm::jit {
namespace {

using c10::FunctionSchema;
using c10::IValue;
using torch::jit::Graph;

bool IsTensorList(const IValue& value) { return value.isTensorList(); }

// One operator, and the groups of its calls: a list of n tensors becomes n inputs, so that there is
// one group for each combination of list lengths.
class EagerOperator {
 public:
  explicit EagerOperator(FunctionSchema schema) : schema_(std::move(schema)) {}

  void Run(Stack& stack) {
    const auto arguments = torch::jit::last(stack, schema_.arguments().size());
    std::vector<int64_t> lengths;
    std::vector<IValue> inputs;
    for (const IValue& argument : arguments) {
      lengths.push_back(IsTensorList(argument) ? argument.toListRef().size() : -1);
      if (!IsTensorList(argument)) {
        inputs.push_back(argument);
        continue;
      }
      const auto elements = argument.toListRef();
      inputs.insert(inputs.end(), elements.begin(), elements.end());
    }
    const auto group = GroupFor(lengths);
    group->Run(inputs);
    torch::jit::drop(stack, arguments.size());
    std::move(inputs.begin(), inputs.end(), std::back_inserter(stack));
  }

 private:
  std::shared_ptr<Group> GroupFor(const std::vector<int64_t>& lengths) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto& group = groups_[lengths];
    if (!group) group = MakeGroup(lengths);
    return group;
  }

  std::shared_ptr<Group> MakeGroup(const std::vector<int64_t>& lengths) const {
    auto graph = std::make_shared<Graph>();
    std::vector<torch::jit::Value*> arguments;
    for (size_t i = 0; i < lengths.size(); ++i) {
      const auto& argument = schema_.arguments()[i];
      if (lengths[i] < 0) {
        arguments.push_back(graph->addInput(argument.name())->setType(argument.type()));
        continue;
      }
      std::vector<torch::jit::Value*> elements;
      for (int64_t k = 0; k < lengths[i]; ++k) elements.push_back(graph->addInput());
      arguments.push_back(
          graph->insertNode(graph->createList(c10::TensorType::get(), elements))->output());
    }
    const auto symbol = c10::Symbol::fromQualString(schema_.name());
    auto* node = graph->insertNode(graph->create(symbol, arguments, schema_.returns().size()));
    for (size_t i = 0; i < schema_.returns().size(); ++i) {
      graph->registerOutput(node->outputs()[i]->setType(schema_.returns()[i].type()));
    }
    Source source;
    source.name = std::string("tvm::") + symbol.toUnqualString();
    source.kinds.resize(graph->inputs().size(), convert::InputKind::kRuntime);
    source.subgraph = std::move(graph);
    return Group::Share(std::move(source));
  }

  const FunctionSchema schema_;
  std::mutex mutex_;
  std::map<std::vector<int64_t>, std::shared_ptr<Group>> groups_;
};

class EagerKernel : public c10::OperatorKernel {
 public:
  explicit EagerKernel(FunctionSchema schema) : operator_(std::move(schema)) {}
  void operator()(const c10::OperatorHandle&, c10::DispatchKeySet, Stack* stack) {
    operator_.Run(*stack);
  }

 private:
  EagerOperator operator_;
};

// The results of groups never alias their inputs, whatever the original says.
std::vector<c10::Argument> WithoutAliases(const std::vector<c10::Argument>& arguments) {
  std::vector<c10::Argument> plain;
  for (const auto& argument : arguments) {
    plain.emplace_back(argument.name(), argument.type(), argument.real_type(), argument.N(),
                       argument.default_value(), argument.kwarg_only());
  }
  return plain;
}

bool CanReturn(const FunctionSchema& schema) {
  return std::all_of(schema.returns().begin(), schema.returns().end(), [](const auto& result) {
    return result.type()->isSubtypeOf(*c10::TensorType::get());
  });
}

class Definitions {
 public:
  static Definitions& Get() {
    static auto* definitions = new Definitions;  // leaked, with the library fragment that it holds
    return *definitions;
  }

  void Update() {
    std::lock_guard<std::mutex> lock(mutex_);
    auto& dispatcher = c10::Dispatcher::singleton();
    for (const auto& name : dispatcher.getAllOpNames()) {
      // Quantised operators have the names of others, and take objects.
      if (name.getNamespace() == "tvm" || name.getNamespace() == "quantized") continue;
      const auto handle = dispatcher.findSchema(name);
      if (!handle || !convert::Registry::Global().Find(handle->schema())) continue;
      Define(handle->schema());
    }
  }

 private:
  void Define(const FunctionSchema& schema) {
    if (schema.is_mutable() || !CanReturn(schema)) return;
    const std::string plain_name = schema.name().substr(schema.name().find("::") + 2);
    const c10::OperatorName name("tvm::" + plain_name, schema.overload_name());
    if (!defined_.insert(toString(name)).second) return;
    library_.def(FunctionSchema(name.name, name.overload_name, WithoutAliases(schema.arguments()),
                                WithoutAliases(schema.returns())));
    const std::string full =
        plain_name + (name.overload_name.empty() ? "" : "." + name.overload_name);
    library_.impl(full.c_str(),
                  torch::CppFunction::makeFromBoxedFunctor(std::make_unique<EagerKernel>(schema)));
  }

  std::mutex mutex_;
  std::set<std::string> defined_;
  torch::Library library_{torch::Library::FRAGMENT, "tvm", std::nullopt, __FILE__, __LINE__};
};

}  // namespace

void DefineEagerOperators() { Definitions::Get().Update(); }

}  // namespace torch_tvm::jit
