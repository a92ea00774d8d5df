// Binding of to_relay: TorchScript graphs reach Python through torch's own pybind11 types only.
#include "python/convert.h"

#include <torch/csrc/jit/python/pybind_utils.h>

#include "convert/frontend.h"

namespace torch_tvm {
namespace {

namespace py = pybind11;

// (function, [(op, reason, source), ...]); `self` is a torch._C.ScriptObject or None.
py::tuple ToRelay(const std::shared_ptr<torch::jit::Graph>& graph, const py::object& self,
                  const py::tuple& inputs) {
  const auto parameters = graph->inputs();
  const size_t skipped = self.is_none() ? 0 : 1;
  if (parameters.size() != inputs.size() + skipped) {
    throw py::type_error("expected " + std::to_string(parameters.size() - skipped) +
                         " inputs, got " + std::to_string(inputs.size()));
  }
  std::vector<c10::IValue> values;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto& type = parameters[i + skipped]->type();
    try {
      values.push_back(torch::jit::toIValue(inputs[i], type));
    } catch (const std::exception&) {
      throw py::type_error("input " + std::to_string(i) + ": expected " + type->annotation_str() +
                           ", got " +
                           std::string(py::str(py::type::of(inputs[i]).attr("__name__"))));
    }
  }
  c10::IValue module;
  if (!self.is_none()) module = self.cast<torch::jit::Object>()._ivalue();
  const convert::Export result = convert::ToRelay(graph, module, values);
  py::list problems;
  for (const auto& problem : result.problems) {
    problems.append(py::make_tuple(problem.op, problem.reason, problem.source));
  }
  return py::make_tuple(result.function, problems);
}

}  // namespace

void BindConvert(pybind11::module_& module) { module.def("to_relay", &ToRelay); }

}  // namespace torch_tvm
