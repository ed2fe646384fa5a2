// What a block of attention (attention.cu) is made of: who owns which scores and outputs, and how shared
// memory is filled.
#pragma once

#include "../attention.h"
#include "epilogue.cuh"

namespace bninv {
namespace cuda {

// A warp owns kRows queries. Its thread l has the scores of keys l, l + 32, l + 64 and l + 96 of a block,
// which are R3's lane l, and the output's columns l, l + 32, ...: kColumns of them. kLong: rows of query
// and key have more than one of R1's segments.
template <typename T, int kOutputs, bool kLongRows>
struct AttentionTile {
  using A = Arithmetic<T>;
  static constexpr int kWarps = 8, kThreads = kWarps * 32;
  static constexpr int kRows = sizeof(A) == 8 ? 4 : 8;  // of a warp
  static constexpr int kQueries = kWarps * kRows;
  static constexpr int kKeys = static_cast<int>(kKeyBlock), kKeysOfThread = kKeys / 32;
  static constexpr int kColumns = kOutputs * 32;
  static constexpr bool kLong = kLongRows;
  // Of a multiprocessor: with registers for two of them all but the largest do.
  static constexpr int kBlocks = kLong ? 1 : 2;
  // Terms of query and key, and keys of a value, that are in shared memory at a time. Rows of terms are
  // four elements apart, so that the rows that a warp reads at once lie in other banks.
  static constexpr int kDepth = sizeof(A) == 8 ? 8 : 16, kDepthStride = kDepth + 16 / sizeof(A);
  static constexpr int kValueKeys = sizeof(A) == 8 ? 8 : 16;

  struct Stage {
    A queries[kQueries][kDepthStride];
    A keys[kKeys][kDepthStride];
  };
  // Weights take the place of terms, once the scores are there.
  union First {
    Stage stages[2];
    A weights[kQueries][kKeys];
  };
  struct Shared {
    First first;
    A values[2][kValueKeys][kColumns];
  };
  static_assert(sizeof(Shared) <= 64 * 1024, "compute capability 7.5 has no more");
  static_assert(kSegment % kDepth == 0 && kKeys % kValueKeys == 0);
};

// Four neighbours from global to shared memory, widened; `count` of them exist, the others are +0.
// `whole`: four are there together, aligned, or none. They have arrived after copy_async_wait.
template <typename T>
__device__ __forceinline__ void stage_quad(Arithmetic<T>* shared, const T* global, int64_t count,
                                           bool whole) {
  if constexpr (sizeof(T) >= 4) {
    if (whole) {
#pragma unroll
      for (int l = 0; l < 4; l += 16 / sizeof(T)) copy_async<16>(shared + l, global + l, count > 0);
    } else {
#pragma unroll
      for (int l = 0; l < 4; ++l) copy_async<sizeof(T)>(shared + l, global + l, l < count);
    }
  } else {
    Elements<T, 4> narrow{};
    if (whole) {
      if (count > 0) narrow = *reinterpret_cast<const Elements<T, 4>*>(global);
    } else {
#pragma unroll
      for (int l = 0; l < 4; ++l)
        if (l < count) narrow.lane[l] = global[l];
    }
    Elements<float, 4> wide;
#pragma unroll
    for (int l = 0; l < 4; ++l) wide.lane[l] = widen(narrow.lane[l]);
    *reinterpret_cast<Elements<float, 4>*>(shared) = wide;
  }
}

// rows x columns elements of a tensor whose rows are `stride` apart, from `first` on, into rows of
// kStride; only the first `rows` x `columns` exist.
template <int kThreads, int kRows, int kColumns, int kStride, typename T>
__device__ __forceinline__ void stage_rows(Arithmetic<T>* shared, const T* first, int64_t stride,
                                           int64_t rows, int64_t columns, bool whole) {
  constexpr int kQuads = kColumns / 4;
#pragma unroll
  for (int start = 0; start < kRows * kQuads; start += kThreads) {
    const int i = start + static_cast<int>(threadIdx.x);
    if (kRows * kQuads % kThreads != 0 && i >= kRows * kQuads) break;
    const int row = i / kQuads, column = i % kQuads * 4;
    const int64_t count = row < rows ? columns - column : 0;
    stage_quad(shared + row * kStride + column, first + row * stride + column, count, whole);
  }
}

}  // namespace cuda
}  // namespace bninv
