// The options of torch_tvm.enable(), process-wide, as a snapshot that a call may hold for as long
// as it runs.
#pragma once

#include <cstdint>
#include <string>

#include "core/api.h"

namespace torch_tvm {

struct Options {
  int64_t opt_level = 3;          // 0: no fusion, no Winograd ... 3: everything
  bool strict = false;            // raise instead of falling back to the interpreter
  bool debug = false;             // log graphs, Relay and generated code
  bool debug_runtime = false;     // time every kernel
  bool is_training = false;       // weights change between calls: pack them at every call
  bool guard = true;              // drop plans that are slower than PyTorch's interpreter
  std::string winograd = "auto";  // 3x3 convolutions by Winograd's algorithm: off, f2, auto
  int64_t min_group_size = 2;     // operators that a group must have
  int64_t max_signatures =
      32;  // compiled signatures that a group keeps (least recently used go first)
  int64_t max_static_signatures = 4;  // that differ in sizes only, before one plan is made for all
  int64_t device_id = 0;
  std::string device_type = "cpu";
  std::string target;  // TVM target as JSON or tag; empty: this machine's CPU
  std::string host;    // target of host code; empty: as target

  // Number of the option set as far as compiled code depends on it; part of every signature. Set by
  // SetOptions.
  int64_t compile_id = 0;
};

// Calls visit(name, field) for every option that a user sets; the one list of their names.
template <typename OptionsType, typename Visitor>
void VisitOptions(OptionsType& options, Visitor&& visit) {
  visit("opt_level", options.opt_level);
  visit("strict", options.strict);
  visit("debug", options.debug);
  visit("debug_runtime", options.debug_runtime);
  visit("is_training", options.is_training);
  visit("guard", options.guard);
  visit("winograd", options.winograd);
  visit("min_group_size", options.min_group_size);
  visit("max_signatures", options.max_signatures);
  visit("max_static_signatures", options.max_static_signatures);
  visit("device_id", options.device_id);
  visit("device_type", options.device_type);
  visit("target", options.target);
  visit("host", options.host);
}

// The options in force: one atomic load. The reference stays valid for ever and never changes,
// because distinct option sets are kept (their number is bounded by what the program writes down).
TORCH_TVM_API const Options& GetOptions();

// Puts `options` in force; throws c10::ValueError naming an option that is out of range, and then
// changes nothing.
TORCH_TVM_API void SetOptions(const Options& options);

// Whether the pass makes groups and groups run compiled code. Enabling also sets the JIT's number
// of profiled runs to 0, so that the first call is already optimised; disabling restores it.
TORCH_TVM_API bool IsEnabled();
TORCH_TVM_API void SetEnabled(bool enabled);

}  // namespace torch_tvm
