// Neighbouring elements of memory, moved 16 bytes at a time.
#pragma once

#include "../dtypes.h"
#include "device.cuh"

namespace bninv {
namespace cuda {

// kVector neighbouring elements: 16 bytes, or a single element where alignment does not allow that.
template <typename T, int kVector>
struct Pack {
  T lane[kVector];
};

template <typename T>
constexpr int kWholeVector = 16 / sizeof(T);

template <typename T, int kVector>
__device__ __forceinline__ Pack<T, kVector> load(const T* p) {
  Pack<T, kVector> pack;
  if constexpr (kVector == 1) {
    pack.lane[0] = *p;
  } else {
    static_assert(sizeof(pack) == 16);
    const uint4 bytes = load16(p);
    memcpy(&pack, &bytes, sizeof(pack));
  }
  return pack;
}

template <typename T, int kVector>
__device__ __forceinline__ void store(T* p, const Pack<T, kVector>& pack) {
  if constexpr (kVector == 1) {
    *p = pack.lane[0];
  } else {
    uint4 bytes;
    memcpy(&bytes, &pack, sizeof(pack));
    store16(p, bytes);
  }
}

// Whether all pointers are multiples of 16; a null pointer is.
template <typename... Pointers>
bool are_aligned(const Pointers*... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) | ...) & 15) == 0;
}

}  // namespace cuda
}  // namespace bninv
