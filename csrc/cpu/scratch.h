// Scratch memory and small integer helpers of the kernels.
#pragma once

#include <cstdint>
#include <new>

#include "../numerics.h"

namespace bninv {
namespace BNINV_LEVEL {

BNINV_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
BNINV_INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
BNINV_INLINE int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

// `count` elements, 64-byte aligned. Throws std::bad_alloc, which parallel_for hands to the caller.
template <typename T>
struct Scratch {
  T* data;
  explicit Scratch(int64_t count)
      : data(static_cast<T*>(
            ::operator new(static_cast<size_t>(count) * sizeof(T), std::align_val_t(64)))) {}
  ~Scratch() { ::operator delete(data, std::align_val_t(64)); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
};

}  // namespace BNINV_LEVEL
}  // namespace bninv
