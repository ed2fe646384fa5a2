// Matrices transposed on their way to where a product's tiles read them, widened as well.
#pragma once

#include "scratch.h"
#include "vec_dtypes.h"

namespace bninv {
namespace BNINV_LEVEL {

// Blocks of kWidth x kWidth are transposed in registers where GCC's vectors can be shuffled, which those
// of NEON, classes of two registers, and single elements cannot.
#if BNINV_VEC_WIDTH > 1 && !defined(BNINV_NEON)

// Lanes 0, W, 1, W + 1, ... of a and b behind each other: their lower halves, or the upper ones.
template <int... kLanes>
BNINV_INLINE FloatLanes lower_interleaved(FloatLanes a, FloatLanes b,
                                          std::integer_sequence<int, kLanes...>) {
  return __builtin_shufflevector(a, b, (kLanes / 2 + kLanes % 2 * kWidth)...);
}
template <int... kLanes>
BNINV_INLINE FloatLanes upper_interleaved(FloatLanes a, FloatLanes b,
                                          std::integer_sequence<int, kLanes...>) {
  return __builtin_shufflevector(a, b, (kWidth / 2 + kLanes / 2 + kLanes % 2 * kWidth)...);
}

// A step moves one bit of the row's number into the lane's; as many as there are bits transpose.
BNINV_INLINE void transpose_block(FloatLanes (&rows)[kWidth]) {
  constexpr std::make_integer_sequence<int, kWidth> kLanes;
#pragma GCC unroll 4
  for (int step = 1; step < kWidth; step *= 2) {
    FloatLanes next[kWidth];
#pragma GCC unroll 8
    for (int i = 0; i < kWidth / 2; ++i) {
      next[2 * i] = lower_interleaved(rows[i], rows[i + kWidth / 2], kLanes);
      next[2 * i + 1] = upper_interleaved(rows[i], rows[i + kWidth / 2], kLanes);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) rows[i] = next[i];
  }
}

// to[j * to_stride + i] = from[i * from_stride + j] for i < rows, j < columns. What `to` has beyond
// `rows`, up to whole vectors, becomes +0.
template <typename T>
__attribute__((noinline)) void transpose(const T* from, int64_t from_stride, int64_t rows,
                                         int64_t columns, float* to, int64_t to_stride) {
  for (int64_t i = 0; i < rows; i += kWidth)
    for (int64_t j = 0; j < columns; j += kWidth) {
      const int64_t high = min64(kWidth, rows - i), wide = min64(kWidth, columns - j);
      const T* block = from + i * from_stride + j;
      float* transposed = to + j * to_stride + i;
      FloatLanes lanes[kWidth];
      if (wide == kWidth) {
#pragma GCC unroll 16
        for (int r = 0; r < kWidth; ++r)
          lanes[r] = r < high ? load(block + r * from_stride).v : FloatLanes{};
        transpose_block(lanes);
#pragma GCC unroll 16
        for (int r = 0; r < kWidth; ++r) Vec(lanes[r]).store(transposed + r * to_stride);
        continue;
      }
      float memory[kWidth][kWidth];
      for (int64_t r = 0; r < kWidth; ++r)
        (r < high ? load_partial(block + r * from_stride, wide) : Vec::zero()).store(memory[r]);
      memcpy(lanes, memory, sizeof(lanes));
      transpose_block(lanes);
      memcpy(memory, lanes, sizeof(lanes));
      for (int64_t r = 0; r < wide; ++r)
        memcpy(transposed + r * to_stride, memory[r], sizeof(memory[r]));
    }
}

#else

template <typename T>
inline void transpose(const T* from, int64_t from_stride, int64_t rows, int64_t columns, float* to,
                      int64_t to_stride) {
  for (int64_t j = 0; j < columns; ++j) {
    for (int64_t i = 0; i < rows; ++i) to[j * to_stride + i] = widen(from[i * from_stride + j]);
    for (int64_t i = rows; i % kWidth != 0; ++i) to[j * to_stride + i] = 0;
  }
}

#endif

inline void transpose(const double* from, int64_t from_stride, int64_t rows, int64_t columns,
                      double* to, int64_t to_stride) {
  for (int64_t j = 0; j < columns; ++j) {
    for (int64_t i = 0; i < rows; ++i) to[j * to_stride + i] = from[i * from_stride + j];
    for (int64_t i = rows; i % kDoubleWidth != 0; ++i) to[j * to_stride + i] = 0;
  }
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
