// The one way a kernel is launched, on a GPU and under tests/emulation alike.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>

namespace bninv {
namespace cuda {

// Throws for anything but success, naming what was tried. The error is taken off CUDA's record, so that
// it does not surface again in somebody else's call.
inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();
  std::string text = std::string("bninv.") + what + ": CUDA error " + cudaGetErrorName(status) +
                     ": " + cudaGetErrorString(status);
  if (status == cudaErrorNoKernelImageForDevice)
    text +=
        ". The operators were compiled for other GPUs: name this one's compute capability in "
        "TORCH_CUDA_ARCH_LIST and compile them again";
  throw std::runtime_error(text);
}

struct Launch {
  const char* name;  // for messages: the operator
  int64_t blocks;    // along x, the only dimension that reaches 2^31 - 1
  int threads;
  size_t shared_bytes;  // dynamic shared memory
  void* stream;
};

// From here on dynamic shared memory is asked for. A block may have so much unasked, but what CUDA keeps
// of it for itself has grown with the architectures (1 KB from 8.0 on), and asking costs nothing.
constexpr size_t kPlainSharedBytes = 48 * 1024;

// Asks for a kernel's dynamic shared memory, and for as much of the multiprocessor's memory as there is
// in place of its L1, on which the plans' numbers of resident blocks rest. CUDA keeps both for a kernel
// and device, so that only a first launch, or one of more memory, asks.
inline void ask_for_shared_memory(const void* kernel, size_t bytes, const char* what) {
  static std::mutex mutex;
  static std::map<std::pair<int, const void*>, size_t> asked;
  int device = 0;
  check(cudaGetDevice(&device), what);
  const std::lock_guard<std::mutex> lock(mutex);
  const auto [found, first] = asked.try_emplace({device, kernel}, 0);
  if (first)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                               cudaSharedmemCarveoutMaxShared),
          what);
  if (bytes < kPlainSharedBytes || bytes <= found->second) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(bytes)),
        what);
  found->second = bytes;
}

template <typename... Parameters, typename... Arguments>
void launch(const Launch& how, void (*kernel)(Parameters...), const Arguments&... arguments) {
  if (how.blocks == 0) return;
  if (how.blocks < 0 || how.blocks > INT32_MAX)
    throw std::runtime_error(std::string("bninv.") + how.name + ": " + std::to_string(how.blocks) +
                             " blocks do not fit a grid");
  if (how.shared_bytes > 0)
    ask_for_shared_memory(reinterpret_cast<const void*>(kernel), how.shared_bytes, how.name);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(how.blocks));
  config.blockDim = dim3(static_cast<unsigned>(how.threads));
  config.dynamicSmemBytes = how.shared_bytes;
  config.stream = static_cast<cudaStream_t>(how.stream);
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), how.name);
}

// What grids are computed with.
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

// Multiprocessors of the current device: what a grid is sized by. Bits never depend on it.
inline int multiprocessors(const char* op) {
  int device = 0, count = 0;
  check(cudaGetDevice(&device), op);
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), op);
  return count;
}

}  // namespace cuda
}  // namespace bninv
