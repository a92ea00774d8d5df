// Messages to the user through Python's logging (logger "torch_tvm"), without knowing Python: the
// package registers the global function "torch_tvm.log"(level, message).
#pragma once

#include <string>

namespace torch_tvm {

// Numbers as Python's logging has them.
enum class LogLevel : int { kDebug = 10, kInfo = 20, kWarning = 30 };

// Must be called without a lock held: handlers run Python.
void Log(LogLevel level, const std::string& message);

}  // namespace torch_tvm
