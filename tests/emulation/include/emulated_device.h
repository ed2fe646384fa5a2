// The helpers of csrc/cuda/device.cuh on the host; included there, where each is described.
//
// An asynchronous copy lands at its wait. From its start until then the destination is poisoned, and
// must be left alone, as must the source: so a kernel that reads too early, or starts the copy while
// others still read what lay there, is found out in any order of threads.
#pragma once

#include <source_location>

#include "emulation/shared_memory.h"

namespace bninv {
namespace cuda {

inline unsigned block_index() { return blockIdx.x; }
inline unsigned thread_index() { return threadIdx.x; }

inline void load_shared_pair(const float* p, float& a, float& b,
                             std::source_location where = std::source_location::current()) {
  emulation::check_aligned(p, 8, "load_shared_pair", where);
  a = p[0], b = p[1];
}

template <typename T>
T& static_shared(std::source_location where = std::source_location::current()) {
  static_assert(alignof(T) <= 16);
  static emulation::StaticShared slot;  // its address stands for T
  return *static_cast<T*>(emulation::static_shared(slot, sizeof(T), where));
}

template <typename T>
T* dynamic_shared() {
  static_assert(alignof(T) <= 16);
  return static_cast<T*>(emulation::dynamic_shared());
}

inline uint4 load16(const void* p, std::source_location where = std::source_location::current()) {
  emulation::check_aligned(p, 16, "load16", where);
  uint4 value;
  memcpy(&value, p, sizeof(value));
  return value;
}

inline void store16(void* p, uint4 value,
                    std::source_location where = std::source_location::current()) {
  emulation::check_aligned(p, 16, "store16", where);
  memcpy(p, &value, sizeof(value));
}

template <int kBytes>
void copy_async(void* shared, const void* global, bool exists = true,
                std::source_location where = std::source_location::current()) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  alignas(16) static const unsigned char zeros[16] = {};
  emulation::copy_async(shared, exists ? global : zeros, kBytes, __CUDA_ARCH__ >= 800, where);
}

inline void copy_async_commit() { emulation::copy_async_commit(); }

template <int kPending>
void copy_async_wait(std::source_location where = std::source_location::current()) {
  static_assert(kPending >= 0);
  emulation::copy_async_wait(kPending, where);
}

}  // namespace cuda
}  // namespace bninv
