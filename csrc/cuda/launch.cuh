// The one way a kernel is launched, on a GPU and under tests/emulation alike.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace bninv {
namespace cuda {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

// Throws for anything but success, naming what was tried. The error is taken off CUDA's record, so that
// it does not surface again in somebody else's call.
inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();
  throw std::runtime_error(std::string("bninv.") + what + ": CUDA error " +
                           cudaGetErrorName(status) + ": " + cudaGetErrorString(status));
}

struct Launch {
  const char* name;  // for messages: the operator
  int64_t blocks;    // along x, the only dimension that reaches 2^31 - 1
  int threads;
  size_t shared_bytes;  // dynamic shared memory
  void* stream;
};

// More than this must be asked for, and is then limited by the architecture.
constexpr size_t kPlainSharedBytes = 48 * 1024;

template <typename... Parameters, typename... Arguments>
void launch(const Launch& how, void (*kernel)(Parameters...), const Arguments&... arguments) {
  if (how.blocks == 0) return;
  if (how.blocks < 0 || how.blocks > INT32_MAX)
    throw std::runtime_error(std::string("bninv.") + how.name + ": " + std::to_string(how.blocks) +
                             " blocks do not fit a grid");
  if (how.shared_bytes > kPlainSharedBytes)
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(how.shared_bytes)),
          how.name);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(how.blocks));
  config.blockDim = dim3(static_cast<unsigned>(how.threads));
  config.dynamicSmemBytes = how.shared_bytes;
  config.stream = static_cast<cudaStream_t>(how.stream);
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), how.name);
}

// Multiprocessors of the current device: what a grid is sized by. Bits never depend on it.
inline int multiprocessors(const char* op) {
  int device = 0, count = 0;
  check(cudaGetDevice(&device), op);
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), op);
  return count;
}

}  // namespace cuda
}  // namespace bninv
