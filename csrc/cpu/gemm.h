// The register-blocked product of R1 that convolution and linear share.
//
// A block owns block_rows x block_columns outputs. It walks the terms segment by segment; within a
// segment each tile of kTileRows x kTileVectors vectors is one fma chain a term, started at +0, and
// the finished chain is added to the block's running totals: R1's order, whatever the blocking.
// A rows are packed to kSegment dense terms each, so a tile addresses them from one pointer; B comes
// packed to the tile's width where several tiles use it (panel rows are a power of two apart: read in
// place they would fall into few cache sets), else straight from the panel.
//
// T is the storage type. Packing widens to the arithmetic type A, so that there is one set of tiles for
// binary32 and one for binary64; a single row, for which packing would not pay, widens as it loads.
#pragma once

#include "kernels.h"
#include "scratch.h"
#include "vec_dtypes.h"

namespace bninv {
namespace BNINV_LEVEL {

// As many chains as the registers hold: rows x vectors accumulators, the vectors of B, one of A.
#if BNINV_VEC_WIDTH == 16
constexpr int kTileRows = 14, kTileVectors = 2;
#elif BNINV_VEC_WIDTH == 8
constexpr int kTileRows = 6, kTileVectors = 2;
#else
constexpr int kTileRows = 4, kTileVectors = 2;
#endif
template <typename A>
inline constexpr int kTileColumns = kTileVectors * Lanes<A>::kCount;

// totals[i][j] += fma chain over `length` terms of a[i][k] * b[k][j]; B is of type T.
template <typename T, int kRows, int kVectors>
__attribute__((noinline)) void tile(const Arithmetic<T>* __restrict a, const T* __restrict b,
                                    int64_t b_stride, int64_t length,
                                    Arithmetic<T>* __restrict totals, int64_t totals_stride) {
  using V = typename Lanes<T>::Value;
  constexpr int kCount = Lanes<T>::kCount;
  V sums[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) sums[i][j] = V(0);
#pragma GCC unroll 2
  for (int64_t k = 0; k < length; ++k) {
    V columns[kVectors];
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) columns[j] = load(b + k * b_stride + j * kCount);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const V term(a[i * kSegment + k]);
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) sums[i][j] = fma(term, columns[j], sums[i][j]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) {
      Arithmetic<T>* total = totals + i * totals_stride + j * kCount;
      store(total, load(total) + sums[i][j]);
    }
}

template <typename A>
using Tile = void (*)(const A*, const A*, int64_t, int64_t, A*, int64_t);

template <typename A, int kVectors>
inline Tile<A> tile_of(int64_t rows) {
  static constexpr Tile<A> kTiles[] = {
      nullptr,
      tile<A, 1, kVectors>,
      tile<A, 2, kVectors>,
      tile<A, 3, kVectors>,
      tile<A, 4, kVectors>,
#if BNINV_VEC_WIDTH >= 8
      tile<A, 5, kVectors>,
      tile<A, 6, kVectors>,
#endif
#if BNINV_VEC_WIDTH == 16
      tile<A, 7, kVectors>,
      tile<A, 8, kVectors>,
      tile<A, 9, kVectors>,
      tile<A, 10, kVectors>,
      tile<A, 11, kVectors>,
      tile<A, 12, kVectors>,
      tile<A, 13, kVectors>,
      tile<A, 14, kVectors>,
#endif
  };
  return kTiles[rows];
}

// Copies `length` terms x `columns` of a panel to rows of `width` elements, the rest of each row +0.
template <typename T, typename A>
inline void pack_columns(const T* panel, int64_t panel_stride, int64_t length, int64_t columns,
                         int64_t width, A* packed) {
  if (columns == kTileColumns<A> && width == kTileColumns<A>) {
    for (int64_t k = 0; k < length; ++k) {
      const T* row = panel + k * panel_stride;
      // The next tile's columns lie one tile further in every row: ask for them now.
      __builtin_prefetch(row + kTileColumns<A>);
      widen_run(row, kTileColumns<A>, packed + k * kTileColumns<A>);
    }
    return;
  }
  for (int64_t k = 0; k < length; ++k) {
    widen_run(panel + k * panel_stride, columns, packed + k * width);
    for (int64_t j = columns; j < width; ++j) packed[k * width + j] = 0;
  }
}

// One block of outputs: rows [row, row + rows), columns [column, column + columns) of a product.
//   pack_row(row, k, length, destination) writes the row's terms [k, k + length);
//   store_row(row, totals) takes the row's finished `columns` totals.
// `scratch` holds gemm_scratch<T>(schedule) elements.
template <typename T, typename PackRow, typename StoreRow>
inline void gemm_block(int64_t row, int64_t rows, int64_t columns, int64_t terms, const T* panel,
                       int64_t panel_stride, Arithmetic<T>* scratch, const PackRow& pack_row,
                       const StoreRow& store_row) {
  using A = Arithmetic<T>;
  constexpr bool kInPlace = std::is_same_v<T, A>;
  const int64_t totals_stride = ceil_div(columns, kTileColumns<A>) * kTileColumns<A>;
  A* totals = scratch;
  A* packed_rows = totals + rows * totals_stride;
  A* packed_columns = packed_rows + rows * kSegment;
  for (int64_t i = 0; i < rows * totals_stride; ++i) totals[i] = 0;

  // Rows are dealt evenly, so that no tile is left with too few chains to hide the fma's latency.
  const int64_t row_tiles = ceil_div(rows, kTileRows);
  const bool pack = row_tiles > 2 || !kInPlace;
  for (int64_t k = 0; k < terms; k += kSegment) {
    const int64_t length = min64(kSegment, terms - k);
    for (int64_t i = 0; i < rows; ++i) pack_row(row + i, k, length, packed_rows + i * kSegment);
    const T* segment = panel + k * panel_stride;
    int64_t j = 0;
    if constexpr (kWidth > 1) {
      // One row: four times the columns at once keep as many chains in flight.
      if (rows == 1)
        for (; j + 4 * kTileColumns<A> <= columns; j += 4 * kTileColumns<A>)
          tile<T, 1, 4 * kTileVectors>(packed_rows, segment + j, panel_stride, length, totals + j,
                                       totals_stride);
    }
    for (; j < columns; j += kTileColumns<A>) {
      const int64_t count = min64(kTileColumns<A>, columns - j);
      const bool narrow = kTileVectors > 1 && count <= Lanes<A>::kCount;
      const int64_t width = narrow ? Lanes<A>::kCount : kTileColumns<A>;
      const A* b = packed_columns;
      int64_t b_stride = width;
      if (pack || count < width) {
        pack_columns(segment + j, panel_stride, length, count, width, packed_columns);
      } else if constexpr (kInPlace) {
        b = segment + j;
        b_stride = panel_stride;
      }
      for (int64_t t = 0, i = 0; t < row_tiles; ++t) {
        const int64_t next = rows * (t + 1) / row_tiles;
        const Tile<A> multiply =
            narrow ? tile_of<A, 1>(next - i) : tile_of<A, kTileVectors>(next - i);
        multiply(packed_rows + i * kSegment, b, b_stride, length, totals + i * totals_stride + j,
                 totals_stride);
        i = next;
      }
    }
  }
  for (int64_t i = 0; i < rows; ++i) store_row(row + i, totals + i * totals_stride);
}

template <typename T>
inline int64_t gemm_scratch(const GemmSchedule& gemm) {
  constexpr int64_t kColumns = kTileColumns<Arithmetic<T>>;
  const int64_t totals = gemm.block_rows * (gemm.block_columns + kColumns);
  return totals + gemm.block_rows * kSegment + kSegment * kColumns;
}

// totals + bias, one addition each and then one rounding, to a dense row.
template <typename T>
inline void store_dense(const Arithmetic<T>* totals, const T* bias, int64_t columns, T* output) {
  int64_t j = 0;
  for (; j + Lanes<T>::kCount <= columns; j += Lanes<T>::kCount) {
    auto value = load(totals + j);
    if (bias != nullptr) value = value + load(bias + j);
    store(output + j, value);
  }
  for (; j < columns; ++j)
    output[j] = narrow<T>(bias != nullptr ? totals[j] + widen(bias[j]) : totals[j]);
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
