// Rows into columns, a square of vectors at a time.
#pragma once

#include "scratch.h"
#include "vec_dtypes.h"

namespace bninv {
namespace BNINV_LEVEL {

#if BNINV_VEC_WIDTH > 1 && !defined(BNINV_NEON)
// For the distances h = kWidth / 2, ..., 1 the lanes l ^ h of rows i and i ^ h change places.
template <int kDistance = kWidth / 2>
BNINV_INLINE void transpose_square(Vec (&rows)[kWidth]) {
  if constexpr (kDistance > 0) {
    IntLanes other{}, upper{};
    for (int l = 0; l < kWidth; ++l) other[l] = l ^ kDistance, upper[l] = l & kDistance ? -1 : 0;
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) {
      if (i & kDistance) continue;
      const Vec a = rows[i], b = rows[i + kDistance];
      rows[i] = select(VecInt(upper), permute(b, VecInt(other)), a);
      rows[i + kDistance] = select(VecInt(upper), b, permute(a, VecInt(other)));
    }
    transpose_square<kDistance / 2>(rows);
  }
}
#endif

// packed[k * width + i] = rows[i * stride + k] for k < terms, widened; +0 for i from `count` to `width`.
template <typename T>
inline void pack_transposed(const T* rows, int64_t stride, int64_t count, int64_t terms,
                            int64_t width, Arithmetic<T>* packed) {
  int64_t i = 0;
#if BNINV_VEC_WIDTH > 1 && !defined(BNINV_NEON)
  if constexpr (!std::is_same_v<T, double>) {
    for (; i < width && i < count; i += kWidth) {
      const int64_t some = min64(count - i, kWidth);
      for (int64_t k = 0; k < terms; k += kWidth) {
        const int64_t left = min64(terms - k, kWidth);
        Vec square[kWidth];
#pragma GCC unroll 16
        for (int r = 0; r < kWidth; ++r) {
          const T* row = rows + (i + r) * stride + k;
          square[r] = r >= some ? Vec::zero() : left < kWidth ? load_partial(row, left) : load(row);
        }
        transpose_square(square);
        for (int64_t c = 0; c < left; ++c) store(packed + (k + c) * width + i, square[c]);
      }
    }
  }
#endif
  for (; i < width; ++i)
    for (int64_t k = 0; k < terms; ++k)
      packed[k * width + i] = i < count ? widen(rows[i * stride + k]) : 0;
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
