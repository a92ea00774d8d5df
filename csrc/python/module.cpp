// The Python face of the core; the only file that knows Python.
#include <torch/csrc/jit/python/pybind_utils.h>
#include <torch/version.h>

#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "core/options.h"
#include "core/stats.h"
#include "jit/eager.h"
#include "jit/group.h"
#include "jit/merge.h"
#include "jit/pass.h"
#include "python/convert.h"
#include "runtime/executor.h"

namespace torch_tvm {
namespace {

namespace py = pybind11;

// torch's JIT headers promise no ABI between versions: running against another one would crash
// later.
void CheckTorchVersion() {
  const auto running = py::module_::import("torch").attr("__version__").cast<std::string>();
  const std::string plain = running.substr(0, running.find('+'));
  if (plain == TORCH_VERSION) return;
  throw py::import_error("torch_tvm was built against torch " TORCH_VERSION ", but torch " +
                         running +
                         " is installed: install torch==" TORCH_VERSION " or rebuild torch_tvm");
}

py::dict OptionsToDict() {
  py::dict result;
  VisitOptions(GetOptions(), [&](const char* name, const auto& field) { result[name] = field; });
  return result;
}

void SetOptionsFromDict(const py::dict& values) {
  Options options = GetOptions();
  size_t known = 0;
  VisitOptions(options, [&](const char* name, auto& field) {
    if (!values.contains(name)) return;
    ++known;
    using Field = std::decay_t<decltype(field)>;
    try {
      field = values[name].cast<Field>();
    } catch (const py::cast_error&) {
      throw py::type_error(std::string("option ") + name + " cannot be " +
                           py::repr(values[name]).cast<std::string>());
    }
  });
  if (known != values.size()) {
    std::string names;
    VisitOptions(options, [&](const char* name, auto&) { names += std::string(" ") + name; });
    throw py::type_error("unknown option among " + py::repr(values).cast<std::string>() +
                         "; the options are" + names);
  }
  SetOptions(options);
}

py::dict KernelTimes() {
  py::dict plans;
  for (const auto& [plan, kernels] : Stats::Get().Kernels()) {
    py::dict times;
    for (const auto& [name, time] : kernels) {
      py::dict entry;
      entry["calls"] = time.calls;
      entry["seconds"] = static_cast<double>(time.nanoseconds) * 1e-9;
      times[py::str(name)] = entry;
    }
    plans[py::str(plan)] = times;
  }
  return plans;
}

py::list Trials() {
  py::list trials;
  for (const Stats::Trial& trial : Stats::Get().Trials()) {
    py::dict entry;
    entry["group"] = trial.group;
    entry["plan_seconds"] = static_cast<double>(trial.plan_nanoseconds) * 1e-9;
    entry["interpreter_seconds"] = static_cast<double>(trial.interpreter_nanoseconds) * 1e-9;
    entry["kept"] = trial.dropped ? "interpreter" : "plan";
    entry["reason"] = trial.dropped ? "the interpreter was faster" : "the plan was not slower";
    trials.append(entry);
  }
  return trials;
}

py::dict SymbolicPlans() {
  py::list plans;
  for (const Stats::SymbolicPlan& plan : Stats::Get().SymbolicPlans()) {
    py::dict entry;
    entry["group"] = plan.group;
    entry["bounds"] = plan.bounds;
    entry["values"] = plan.values;
    plans.append(entry);
  }
  py::dict result;
  result["plans"] = plans;
  result["refusals"] = Stats::Get().SymbolicRefusals();
  return result;
}

py::dict StatsToDict() {
  runtime::SweepBindings();
  const Stats& stats = Stats::Get();
  py::dict result;
  result["groups"] = stats.groups.load();
  result["compiled"] = stats.compiled.load();
  result["cache_hits"] = stats.cache_hits.load();
  result["fallbacks"] = stats.fallbacks.load();
  result["fallback_reasons"] = stats.FallbackReasons();
  result["packed"] = stats.packed.load();
  result["packed_bytes"] = stats.packed_bytes.load();
  result["compile_seconds"] = static_cast<double>(stats.compile_nanoseconds.load()) * 1e-9;
  result["kernels"] = KernelTimes();
  result["guard"] = Trials();
  result["symbolic"] = SymbolicPlans();
  return result;
}

void BindCore(py::module_& module) {
  module.def("set_options", &SetOptionsFromDict);
  module.def("get_options", &OptionsToDict);
  module.def("set_enabled", &SetEnabled);
  module.def("is_enabled", &IsEnabled);
  module.def("stats", &StatsToDict);
  module.def("reset_stats", [] { Stats::Get().Reset(); });
  module.def("clear_cache", [] {
    jit::ClearGroups();
    runtime::ReleaseMemory();
  });
  module.def("define_operators", &jit::DefineEagerOperators);
}

using GraphPtr = std::shared_ptr<torch::jit::Graph>;

// Groups also inside what other passes made (differentiable graphs and the like).
void CollectGroups(torch::jit::Block* block, std::vector<GraphPtr>* subgraphs) {
  for (torch::jit::Node* node : block->nodes()) {
    for (auto* inner : node->blocks()) CollectGroups(inner, subgraphs);
    if (!node->hasAttribute(torch::jit::attr::Subgraph)) continue;
    const GraphPtr subgraph = node->g(torch::jit::attr::Subgraph);
    if (node->kind() == jit::GroupSymbol()) {
      subgraphs->push_back(subgraph);
    } else {
      CollectGroups(subgraph->block(), subgraphs);
    }
  }
}

// For tests and for looking at what the pass did.
void BindInspection(py::module_& module) {
  module.def("fuse_graph", [](GraphPtr graph) { jit::FuseGroups(graph); });
  module.def("group_subgraphs", [](const GraphPtr& graph) {
    std::vector<GraphPtr> subgraphs;
    CollectGroups(graph->block(), &subgraphs);
    return subgraphs;
  });
}

}  // namespace
}  // namespace torch_tvm

PYBIND11_MODULE(_C, module) {
  module.doc() = "C++ core of torch_tvm";
  torch_tvm::CheckTorchVersion();
  torch_tvm::BindCore(module);
  torch_tvm::BindConvert(module);
  torch_tvm::BindInspection(module);
  torch_tvm::jit::DefineEagerOperators();
}
