// The register-blocked product of R1 that convolution and linear share.
//
// A block owns block_rows x block_columns outputs. It walks the terms segment by segment; within a
// segment each tile of kTileRows x kTileVectors vectors is one fma chain a term, started at +0, and
// the finished chain is added to the block's running totals: R1's order, whatever the blocking.
// A rows are packed to kSegment dense terms each, so a tile addresses them from one pointer; B comes
// packed to the tile's width where several tiles use it (panel rows are a power of two apart: read in
// place they would fall into few cache sets), else straight from the panel.
#pragma once

#include "kernels.h"
#include "scratch.h"
#include "vec.h"

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
constexpr int kTileColumns = kTileVectors * kWidth;

// totals[i][j] += fma chain over `length` terms of a[i][k] * b[k][j].
template <int kRows, int kVectors>
__attribute__((noinline)) void tile(const float* __restrict a, const float* __restrict b,
                                    int64_t b_stride, int64_t length, float* __restrict totals,
                                    int64_t totals_stride) {
  Vec sums[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) sums[i][j] = Vec::zero();
#pragma GCC unroll 2
  for (int64_t k = 0; k < length; ++k) {
    Vec columns[kVectors];
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) columns[j] = Vec::load(b + k * b_stride + j * kWidth);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const Vec term(a[i * kSegment + k]);
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) sums[i][j] = fma(term, columns[j], sums[i][j]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) {
      float* total = totals + i * totals_stride + j * kWidth;
      (Vec::load(total) + sums[i][j]).store(total);
    }
}

using Tile = void (*)(const float*, const float*, int64_t, int64_t, float*, int64_t);

template <int kVectors>
inline Tile tile_of(int64_t rows) {
  static constexpr Tile kTiles[] = {
      nullptr,
      tile<1, kVectors>,
      tile<2, kVectors>,
      tile<3, kVectors>,
      tile<4, kVectors>,
#if BNINV_VEC_WIDTH >= 8
      tile<5, kVectors>,
      tile<6, kVectors>,
#endif
#if BNINV_VEC_WIDTH == 16
      tile<7, kVectors>,
      tile<8, kVectors>,
      tile<9, kVectors>,
      tile<10, kVectors>,
      tile<11, kVectors>,
      tile<12, kVectors>,
      tile<13, kVectors>,
      tile<14, kVectors>,
#endif
  };
  return kTiles[rows];
}

// Copies `length` terms x `columns` of a panel to rows of `width` floats, the rest of each row +0.
inline void pack_columns(const float* panel, int64_t panel_stride, int64_t length, int64_t columns,
                         int64_t width, float* packed) {
  if (columns == kTileColumns && width == kTileColumns) {
    for (int64_t k = 0; k < length; ++k) {
      const float* row = panel + k * panel_stride;
      // The next tile's columns lie one tile further in every row: ask for them now.
      __builtin_prefetch(row + kTileColumns);
      for (int j = 0; j < kTileVectors; ++j)
        Vec::load(row + j * kWidth).store(packed + k * kTileColumns + j * kWidth);
    }
    return;
  }
  for (int64_t k = 0; k < length; ++k)
    for (int64_t j = 0; j < width; ++j)
      packed[k * width + j] = j < columns ? panel[k * panel_stride + j] : 0.0f;
}

// One block of outputs: rows [row, row + rows), columns [column, column + columns) of a product.
//   pack_row(row, k, length, destination) writes the row's terms [k, k + length);
//   store_row(row, totals) takes the row's finished `columns` totals.
// `scratch` holds gemm_scratch(schedule) floats.
template <typename PackRow, typename StoreRow>
inline void gemm_block(int64_t row, int64_t rows, int64_t columns, int64_t terms,
                       const float* panel, int64_t panel_stride, float* scratch,
                       const PackRow& pack_row, const StoreRow& store_row) {
  const int64_t totals_stride = ceil_div(columns, kTileColumns) * kTileColumns;
  float* totals = scratch;
  float* packed_rows = totals + rows * totals_stride;
  float* packed_columns = packed_rows + rows * kSegment;
  for (int64_t i = 0; i < rows * totals_stride; ++i) totals[i] = 0.0f;

  // Rows are dealt evenly, so that no tile is left with too few chains to hide the fma's latency.
  const int64_t row_tiles = ceil_div(rows, kTileRows);
  const bool pack = row_tiles > 2;
  for (int64_t k = 0; k < terms; k += kSegment) {
    const int64_t length = min64(kSegment, terms - k);
    for (int64_t i = 0; i < rows; ++i) pack_row(row + i, k, length, packed_rows + i * kSegment);
    const float* segment = panel + k * panel_stride;
    int64_t j = 0;
    if constexpr (kWidth > 1) {
      // One row: four times the columns at once keep as many chains in flight.
      if (rows == 1)
        for (; j + 4 * kTileColumns <= columns; j += 4 * kTileColumns)
          tile<1, 4 * kTileVectors>(packed_rows, segment + j, panel_stride, length, totals + j,
                                    totals_stride);
    }
    for (; j < columns; j += kTileColumns) {
      const int64_t count = min64(kTileColumns, columns - j);
      const bool narrow = kTileVectors > 1 && count <= kWidth;
      const int64_t width = narrow ? kWidth : kTileColumns;
      const float* b = segment + j;
      int64_t b_stride = panel_stride;
      if (pack || count < width) {
        pack_columns(b, panel_stride, length, count, width, packed_columns);
        b = packed_columns;
        b_stride = width;
      }
      for (int64_t t = 0, i = 0; t < row_tiles; ++t) {
        const int64_t next = rows * (t + 1) / row_tiles;
        const Tile multiply = narrow ? tile_of<1>(next - i) : tile_of<kTileVectors>(next - i);
        multiply(packed_rows + i * kSegment, b, b_stride, length, totals + i * totals_stride + j,
                 totals_stride);
        i = next;
      }
    }
  }
  for (int64_t i = 0; i < rows; ++i) store_row(row + i, totals + i * totals_stride);
}

inline int64_t gemm_scratch(const GemmSchedule& gemm) {
  const int64_t totals = gemm.block_rows * (gemm.block_columns + kTileColumns);
  return totals + gemm.block_rows * kSegment + kSegment * kTileColumns;
}

// totals + bias, one addition each, to a dense row.
inline void store_dense(const float* totals, const float* bias, int64_t columns, float* output) {
  int64_t j = 0;
  for (; j + kWidth <= columns; j += kWidth) {
    Vec value = Vec::load(totals + j);
    if (bias != nullptr) value = value + Vec::load(bias + j);
    value.store(output + j);
  }
  for (; j < columns; ++j) output[j] = bias != nullptr ? totals[j] + bias[j] : totals[j];
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
