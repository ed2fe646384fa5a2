// What kernels use of CUDA beyond C++: shared memory, wide accesses, asynchronous copies, rounding.
// tests/emulation gives the same names on the host.
#pragma once

#include <cstdint>
#include <cstring>

#include "../numerics.h"
#include "half.cuh"

#if defined(BNINV_EMULATION)
#include "emulated_device.h"
#else

namespace bninv {
namespace cuda {

// blockIdx.x, read anew at each call: what follows from it need not be kept in registers in between.
__device__ __forceinline__ unsigned block_index() {
  unsigned index;
  asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(index));
  return index;
}

// threadIdx.x, likewise.
__device__ __forceinline__ unsigned thread_index() {
  unsigned index;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
  return index;
}

// Two neighbours in shared memory, aligned to 8 bytes. As one access of its own: of several the compiler
// would make larger ones, whose results take registers that a tile of 8 x 8 chains does not have.
__device__ __forceinline__ void load_shared_pair(const float* p, float& a, float& b) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(p));
  asm volatile("ld.volatile.shared.v2.f32 {%0, %1}, [%2];"
               : "=f"(a), "=f"(b)
               : "r"(address)
               : "memory");
}

// Shared memory of a block, one object for each type T: at most 48 KB in all.
template <typename T>
__device__ __forceinline__ T& static_shared() {
  __shared__ alignas(16) unsigned char memory[sizeof(T)];
  return *reinterpret_cast<T*>(memory);
}

// Shared memory whose size the launch gives.
template <typename T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ uint4 bninv_dynamic_shared[];
  return reinterpret_cast<T*>(bninv_dynamic_shared);
}

// Sixteen bytes of global memory at once; `p` is aligned to them.
__device__ __forceinline__ uint4 load16(const void* p) { return *static_cast<const uint4*>(p); }
__device__ __forceinline__ void store16(void* p, uint4 value) {
  // Written out: the compiler splits a plain store where it chose the parts one by one.
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(p)),
               "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w)
               : "memory");
}

// 4, 8 or 16 bytes from global to shared memory, both aligned to as many; zeros where `exists` is false,
// and `global` is then not read. They are there for this thread after the copy_async_wait that covers
// them, and for others after a barrier that follows it.
template <int kBytes>
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool exists = true) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
#if __CUDA_ARCH__ >= 800
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  const int bytes = exists ? kBytes : 0;  // the rest is filled with zeros
  if constexpr (kBytes == 16)             // past L1: the tile is read once
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global),
                 "r"(bytes)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(address), "l"(global),
                 "n"(kBytes), "r"(bytes)
                 : "memory");
#else
  if (exists)
    memcpy(__builtin_assume_aligned(shared, kBytes), __builtin_assume_aligned(global, kBytes),
           kBytes);
  else
    memset(__builtin_assume_aligned(shared, kBytes), 0, kBytes);
#endif
}

// Closes a group of this thread's copies.
__device__ __forceinline__ void copy_async_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most the kPending youngest groups of this thread are under way.
template <int kPending>
__device__ __forceinline__ void copy_async_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

}  // namespace cuda
}  // namespace bninv

#endif
