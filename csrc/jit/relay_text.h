#pragma once
#include <string>
#include "relay/expr.h"
namespace torch_tvm::jit {
inline std::string RelayText(const relay::Function& function) {
  const auto text = tvm::ffi::Function::GetGlobal("torch_tvm.relay.AsText");
  return text ? std::string((*text)(function, true).cast<tvm::ffi::String>()) : "";
}
}
