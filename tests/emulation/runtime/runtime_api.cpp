#include "emulation/runtime_api.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "emulation/emulation.h"
#include "launch_limits.h"
#include "scheduler.h"

namespace bninv {
namespace emulation {

namespace {

thread_local cudaError_t last_error = cudaSuccess;

cudaError_t record(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

std::mutex allowed_mutex;
std::map<const void*, size_t> allowed_dynamic_bytes;

size_t allowed_for(const void* kernel) {
  const std::lock_guard<std::mutex> lock(allowed_mutex);
  const auto found = allowed_dynamic_bytes.find(kernel);
  return found == allowed_dynamic_bytes.end() ? kPlainSharedBytes : found->second;
}

bool within(dim3 size, unsigned x, unsigned y, unsigned z) {
  return size.x - 1 < x && size.y - 1 < y && size.z - 1 < z;  // 0 wraps round and is refused
}

}  // namespace

// CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
size_t shared_limit(int arch) {
  switch (arch) {
    case 750:
      return 64 * 1024;
    case 800:
    case 870:
      return 163 * 1024;
    case 860:
    case 890:
    case 1200:
      return 99 * 1024;
    case 900:
    case 1000:
      return 227 * 1024;
    default:
      fail("the shared memory of architecture " + std::to_string(arch) + " is not known");
  }
}

cudaError_t check_launch(const cudaLaunchConfig_t& config, const void* kernel) {
  const dim3 block = config.blockDim;
  if (!within(config.gridDim, 0x7fffffff, 65535, 65535) || !within(block, 1024, 1024, 64) ||
      uint64_t{block.x} * block.y * block.z > 1024)
    return cudaErrorInvalidConfiguration;
  if (config.numAttrs != 0) fail("launch attributes are not emulated");
  return config.dynamicSmemBytes > allowed_for(kernel) ? cudaErrorInvalidValue : cudaSuccess;
}

cudaError_t launch(const cudaLaunchConfig_t& config, const Kernel& kernel) {
  return record(scheduler().launch(config, kernel));
}

cudaError_t resident_blocks(int* blocks, int threads, size_t shared_bytes) {
  if (blocks == nullptr || threads < 1 || threads > 1024) return record(cudaErrorInvalidValue);
  const size_t limit = shared_limit(settings().arch), by_threads = 2048 / threads;
  *blocks =
      static_cast<int>(shared_bytes == 0 ? by_threads : std::min(by_threads, limit / shared_bytes));
  return cudaSuccess;
}

}  // namespace emulation
}  // namespace bninv

using bninv::emulation::record;
using bninv::emulation::settings;

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorNoKernelImageForDevice:
      return "cudaErrorNoKernelImageForDevice";
  }
  return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorNoKernelImageForDevice:
      return "no kernel image is available for execution on the device";
  }
  return "unrecognized error code";
}

cudaError_t cudaGetLastError() { return std::exchange(bninv::emulation::last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return bninv::emulation::last_error; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return record(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return record(cudaErrorInvalidDevice);
  const int arch = settings().arch;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = 1024;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = bninv::emulation::kPlainSharedBytes;
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = 32;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = settings().multiprocessors;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = 2048;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = arch / 100;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = arch / 10 % 10;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      // Of which the system takes 1 KB from each block: one block can have all the rest.
      *value = static_cast<int>(bninv::emulation::shared_limit(arch)) + 1024;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(bninv::emulation::shared_limit(arch));
      return cudaSuccess;
  }
  return record(cudaErrorInvalidValue);
}

cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = nullptr;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  *memory = bytes == 0 ? nullptr : aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (*memory == nullptr) return bytes == 0 ? cudaSuccess : record(cudaErrorMemoryAllocation);
  bninv::emulation::poison(*memory, bytes);
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  free(memory);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t) {
  return cudaMemcpy(to, from, bytes, kind);
}
cudaError_t cudaMemset(void* memory, int value, size_t bytes) {
  memset(memory, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t) {
  return cudaMemset(memory, value, bytes);
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
      static_cast<size_t>(value) > bninv::emulation::shared_limit(settings().arch))
    return record(cudaErrorInvalidValue);
  const std::lock_guard<std::mutex> lock(bninv::emulation::allowed_mutex);
  bninv::emulation::allowed_dynamic_bytes[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}
