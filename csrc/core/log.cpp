#include "core/log.h"

#include <c10/util/Exception.h>
#include <tvm/ffi/tvm_ffi.h>

namespace torch_tvm {

void Log(LogLevel level, const std::string& message) {
  const auto log = tvm::ffi::Function::GetGlobal("torch_tvm.log");
  if (log) {
    (*log)(static_cast<int>(level), message);
  } else if (level >= LogLevel::kWarning) {
    TORCH_WARN("torch_tvm: ", message);
  }
}

}  // namespace torch_tvm
