// The register-blocked product of R1 that convolution and linear share.
//
// A block owns block_rows x block_columns outputs. It walks the terms segment by segment; within a
// segment each tile of kTileRows x kTileVectors vectors is one fma chain a term, started at +0, and
// the finished chain is added to the block's running totals: R1's order, whatever the blocking.
// Rows of A have dense terms: packed, kSegment apart, or where they lie. B comes straight from the panel,
// or packed to the tile's width where many tiles use it.
//
// T is the storage type. Packing widens to the arithmetic type A; a tile that reads the panel widens as
// it loads, so that few rows, whose time is that of reading B, gain from B's being narrow.
#pragma once

#include <type_traits>
#include <utility>

#include "../product.h"
#include "scratch.h"
#include "vec_dtypes.h"

namespace bninv {
namespace BNINV_LEVEL {

// As many chains as the registers hold: rows x vectors accumulators, the vectors of B, one of A.
// So few rows leave room for more vectors, and need them: to have enough chains in flight to hide the
// fma's latency, and to read longer runs of the panel. kRowsOfEight: the rows of a tile of 8 vectors.
#if BNINV_VEC_WIDTH == 16
constexpr int kTileRows = 14, kTileVectors = 2, kRowsOfEight = 2, kRowsOfFour = 6;
#elif BNINV_VEC_WIDTH == 8
constexpr int kTileRows = 6, kTileVectors = 2, kRowsOfEight = 1, kRowsOfFour = 2;
#else
constexpr int kTileRows = 4, kTileVectors = 2, kRowsOfEight = 0, kRowsOfFour = 0;
#endif
template <typename A>
inline constexpr int kTileColumns = kTileVectors * Lanes<A>::kCount;

// A panel's rows lie further apart than the processor's own prefetching follows, unless a tile reads
// long runs of them: ask for this many rows ahead (half as many were slower), into the second level,
// since rows a power of two apart fall into few sets of the first.
constexpr int kPrefetchRows = 32, kLongRun = 512, kCacheLine = 64;

// totals[i][j] += fma chain over `length` terms of a[i][k] * b[k][j]; B is of type T. The first segment
// is added to +0, whatever the totals hold.
template <typename T, int kRows, int kVectors>
__attribute__((noinline)) void tile(const Arithmetic<T>* __restrict a, int64_t a_stride,
                                    const T* __restrict b, int64_t b_stride, int64_t length,
                                    Arithmetic<T>* __restrict totals, int64_t totals_stride,
                                    bool first) {
  using V = typename Lanes<T>::Value;
  constexpr int kCount = Lanes<T>::kCount;
  V sums[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) sums[i][j] = V(0);
  // Two pointers, from which a few registers reach all rows.
  constexpr int kLow = (kRows + 1) / 2;
  const Arithmetic<T>*low = a, *high = a + kLow * a_stride;
  // The rows of the next tile, a line of one at a time: asking for them took a fifth off the time of
  // products as small as attention's.
  constexpr int kLineOfA = kCacheLine / sizeof(Arithmetic<T>);
  const Arithmetic<T>*next = a + kRows * a_stride, *last = next + kRows * a_stride;
#pragma GCC unroll 2
  for (int64_t k = 0; k < length; ++k, ++low, ++high) {
    asm("" : "+r"(low), "+r"(high));  // else a pointer for each row, in memory
    V columns[kVectors];
    const T* row = b + k * b_stride;
    __builtin_prefetch(next, 0, 3);
    next += a_stride;
    if (next == last) next += kLineOfA - kRows * a_stride, last += kLineOfA;
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) columns[j] = load(row + j * kCount);
    // By each line's last element: of a row that no line begins with, the first part came with the
    // columns before these.
    constexpr int kRun = kVectors * kCount, kLine = kCacheLine / sizeof(T);
    if constexpr (kRun * sizeof(T) < kLongRun)
      for (int j = (kRun < kLine ? kRun : kLine) - 1; j < kRun; j += kLine)
        __builtin_prefetch(row + kPrefetchRows * b_stride + j, 0, 2);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const V term(i < kLow ? low[i * a_stride] : high[(i - kLow) * a_stride]);
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) sums[i][j] = fma(term, columns[j], sums[i][j]);
    }
  }
  const auto finish = [&](const auto& former) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) {
        Arithmetic<T>* total = totals + i * totals_stride + j * kCount;
        store(total, former(total) + sums[i][j]);
      }
  };
  if (first) return finish([](const Arithmetic<T>*) { return V(0); });
  finish([](const Arithmetic<T>* total) { return load(total); });
}

template <typename T>
using Tile = void (*)(const Arithmetic<T>*, int64_t, const T*, int64_t, int64_t, Arithmetic<T>*,
                      int64_t, bool);

template <typename T, int kVectors, int... kRowsLessOne>
inline Tile<T> nth_tile(int64_t rows, std::integer_sequence<int, kRowsLessOne...>) {
  static constexpr Tile<T> kTiles[] = {tile<T, kRowsLessOne + 1, kVectors>...};
  return kTiles[rows - 1];
}

// The tile of `rows` rows, which are at most kMaxRows.
template <typename T, int kVectors, int kMaxRows>
inline Tile<T> tile_of(int64_t rows) {
  return nth_tile<T, kVectors>(rows, std::make_integer_sequence<int, kMaxRows>{});
}

// Whether a panel is better packed than read in place by `row_tiles` tiles. Rows a multiple of 1 KiB
// apart fall into few sets of a cache: what one tile has loaded the next one does not find there. The
// rows of a tile of AVX-512 take long enough for that not to matter.
template <typename T>
inline bool packing_pays(int64_t row_tiles, int64_t panel_stride) {
  if (kWidth == 1 && !std::is_same_v<T, Arithmetic<T>>) return row_tiles > 1;  // slow to widen
  const bool conflicts = kWidth < 16 && panel_stride * sizeof(T) % 1024 == 0;
  return row_tiles > (conflicts ? 1 : 4);
}

// Copies `length` terms x `columns` of a panel to rows of `width` elements, the rest of each row +0.
template <typename T, typename A>
inline void pack_columns(const T* panel, int64_t panel_stride, int64_t length, int64_t columns,
                         int64_t width, A* packed) {
  if (columns == kTileColumns<A> && width == kTileColumns<A>) {
    for (int64_t k = 0; k < length; ++k) {
      const T* row = panel + k * panel_stride;
      // The next tile's columns lie one tile further in every row: ask for them now.
      constexpr int64_t kLine = kCacheLine / sizeof(T);
      for (int64_t j = 0; j < kTileColumns<A>; j += kLine)
        __builtin_prefetch(row + kTileColumns<A> + j);
      widen_run(row, kTileColumns<A>, packed + k * kTileColumns<A>);
    }
    return;
  }
  for (int64_t k = 0; k < length; ++k) {
    widen_run(panel + k * panel_stride, columns, packed + k * width);
    for (int64_t j = columns; j < width; ++j) packed[k * width + j] = 0;
  }
}

// The right operand of a block, from its first column on: terms x columns, columns dense. Others have the
// same functions.
template <typename T>
struct DensePanel {
  static constexpr bool kInPlace = true;  // tiles can read `data`
  const T* data;
  int64_t stride;

  // The panel from term k and column j on.
  DensePanel from(int64_t k, int64_t j) const { return {data + k * stride + j, stride}; }
  bool packing_pays(int64_t row_tiles) const {
    return BNINV_LEVEL::packing_pays<T>(row_tiles, stride);
  }
  // Copies `length` terms x `columns` to rows of `width` elements, the rest of each row +0.
  void pack(int64_t length, int64_t columns, int64_t width, Arithmetic<T>* packed) const {
    pack_columns(data, stride, length, columns, width, packed);
  }
};

// Rows of A of the arithmetic type, terms dense.
template <typename A>
struct Rows {
  const A* data;
  int64_t stride;
};

// The terms [0, length) of `rows` rows, `stride` apart from `first` on, where a tile can read them: where
// they lie, or packed.
template <typename T>
inline Rows<Arithmetic<T>> dense_rows(const T* first, int64_t stride, int64_t rows, int64_t length,
                                      Arithmetic<T>* packed) {
  // Rows so far apart fall into few sets of a cache, fewer than a tile has rows.
  constexpr int64_t kConflict = 1024;
  if constexpr (std::is_same_v<T, Arithmetic<T>>)
    if (stride * static_cast<int64_t>(sizeof(T)) % kConflict != 0) return {first, stride};
  for (int64_t i = 0; i < rows; ++i) widen_run(first + i * stride, length, packed + i * kSegment);
  return {packed, kSegment};
}

// Where a block's totals may stand from the first segment on: an output of the arithmetic type that
// nothing follows. nullptr: there is none.
template <typename A>
struct DirectOutput {
  A* data;
  int64_t stride;
};

// A block's outputs and what is packed for them, in `gemm_scratch<T>(schedule)` elements.
template <typename T>
struct GemmBlock {
  using A = Arithmetic<T>;
  int64_t rows, columns;
  A* totals;
  int64_t totals_stride;
  bool is_direct = false;  // totals are the output itself, which has no room beyond its last column
  A *packed_rows, *packed_columns;

  GemmBlock(int64_t of_rows, int64_t of_columns, A* scratch)
      : rows(of_rows),
        columns(of_columns),
        totals(scratch),
        totals_stride(ceil_div(of_columns, kTileColumns<A>) * kTileColumns<A>),
        packed_rows(scratch + rows * totals_stride),
        packed_columns(packed_rows + rows * kSegment) {}

  // The totals of no term.
  void clear() const {
    for (int64_t i = 0; i < rows * totals_stride; ++i) totals[i] = 0;
  }
};

// After a segment that is not the last, nothing is finished.
struct NotYet {
  void operator()(int64_t, int64_t, int64_t, int64_t) const {}
};

// The chains of one segment, of `length` terms: the totals where it is the first, else added to them.
// `panel` begins with the segment's first term. After each tile `finished(row, rows, column, columns)`
// of its outputs: stored here, between two tiles' products, they cost little.
template <typename T, typename Panel, typename Finished = NotYet>
inline void multiply_segment(const GemmBlock<T>& block, const Rows<Arithmetic<T>>& a,
                             const Panel& panel, int64_t length, bool first,
                             const Finished& finished = {}) {
  using A = Arithmetic<T>;
  constexpr int64_t kCount = Lanes<A>::kCount;
  const int64_t rows = block.rows, columns = block.columns, totals_stride = block.totals_stride;
  A* const totals = block.totals;
  A* const packed_columns = block.packed_columns;
  // Rows are dealt evenly, so that no tile is left with too few chains to hide the fma's latency.
  const int64_t row_tiles = ceil_div(rows, kTileRows);
  const bool pack = panel.packing_pays(row_tiles);
  int64_t j = 0;
  if constexpr (Panel::kInPlace) {
    const auto wide_tiles = [&](auto vectors, auto max_rows) {
      constexpr int kVectors = decltype(vectors)::value, kMaxRows = decltype(max_rows)::value;
      constexpr int64_t kColumns = kVectors * kCount;
      if constexpr (kMaxRows > 0)
        for (; rows <= kMaxRows && j + kColumns <= columns; j += kColumns) {
          tile_of<T, kVectors, kMaxRows>(rows)(a.data, a.stride, panel.from(0, j).data,
                                               panel.stride, length, totals + j, totals_stride,
                                               first);
          finished(0, rows, j, kColumns);
        }
    };
    wide_tiles(std::integral_constant<int, 8>{}, std::integral_constant<int, kRowsOfEight>{});
    wide_tiles(std::integral_constant<int, 4>{}, std::integral_constant<int, kRowsOfFour>{});
  }
  for (; j < columns; j += kTileColumns<A>) {
    const bool narrow = kTileVectors > 1 && columns - j <= kCount;
    const int64_t width = narrow ? kCount : kTileColumns<A>;
    if (block.is_direct) j = min64(j, columns - width);
    const int64_t count = min64(width, columns - j);
    const auto multiply = [&](auto of, const auto* b, int64_t b_stride) {
      for (int64_t t = 0, i = 0; t < row_tiles; ++t) {
        const int64_t next = rows * (t + 1) / row_tiles;
        of(next - i)(a.data + i * a.stride, a.stride, b, b_stride, length,
                     totals + i * totals_stride + j, totals_stride, first);
        finished(i, next - i, j, count);
        i = next;
      }
    };
    if constexpr (Panel::kInPlace)
      if (!pack && count == kTileColumns<A>) {
        multiply(tile_of<T, kTileVectors, kTileRows>, panel.from(0, j).data, panel.stride);
        continue;
      }
    panel.from(0, j).pack(length, count, width, packed_columns);
    const A* packed = packed_columns;
    if (narrow)
      multiply(tile_of<A, 1, kTileRows>, packed, width);
    else
      multiply(tile_of<A, kTileVectors, kTileRows>, packed, width);
  }
}

// One block of outputs, rows x columns of a product.
//   pack_rows(rows, k, length, destination) writes the rows' terms [k, k + length), kSegment apart, or
//     does not, and says where they are;
//   store_rows(row, rows, column, columns, totals, stride) takes finished totals, `stride` from a row to
//     the next, where they do not go to `direct`.
template <typename T, typename Panel, typename PackRows, typename StoreRows>
inline void multiply_block(int64_t rows, int64_t columns, int64_t terms, const Panel& panel,
                           Arithmetic<T>* scratch, const PackRows& pack_rows,
                           const StoreRows& store_rows,
                           const DirectOutput<Arithmetic<T>>& direct = {nullptr, 0}) {
  using A = Arithmetic<T>;
  GemmBlock<T> block(rows, columns, scratch);
  // Tiles are of whole vectors. Beyond the last column there is room in scratch memory; in an output the
  // last tile repeats some columns of the one before it, which adding twice would not allow.
  block.is_direct =
      direct.data != nullptr && terms > 0 &&
      (columns % kTileColumns<A> == 0 || (terms <= kSegment && columns >= kTileColumns<A>));
  if (block.is_direct) block.totals = direct.data, block.totals_stride = direct.stride;
  const auto store = [&](int64_t i, int64_t count, int64_t j, int64_t width) {
    store_rows(i, count, j, width, block.totals + i * block.totals_stride + j, block.totals_stride);
  };
  if (terms == 0) {
    block.clear();
    return store(0, rows, 0, columns);
  }
  for (int64_t k = 0; k < terms; k += kSegment) {
    const int64_t length = min64(kSegment, terms - k);
    const Rows<A> a = pack_rows(rows, k, length, block.packed_rows);
    if (k + length < terms || block.is_direct)
      multiply_segment(block, a, panel.from(k, 0), length, k == 0);
    else
      multiply_segment(block, a, panel.from(k, 0), length, k == 0, store);
  }
}

template <typename T>
inline int64_t gemm_scratch(const GemmSchedule& gemm) {
  constexpr int64_t kColumns = kTileColumns<Arithmetic<T>>;
  const int64_t totals = gemm.block_rows * (gemm.block_columns + kColumns);
  return totals + gemm.block_rows * kSegment + kSegment * kColumns;
}

// The columns, counted over all groups, in which tasks [begin, end) have outputs: those of their blocks
// where they share a block of rows, else those of whole groups.
struct ColumnRange {
  int64_t first, count;
};
inline ColumnRange columns_of_tasks(const GemmSchedule& gemm, int64_t begin, int64_t end) {
  const int64_t first_rows = begin / gemm.column_blocks, last_rows = (end - 1) / gemm.column_blocks;
  int64_t first = first_rows / gemm.row_blocks * gemm.columns;
  int64_t last = (last_rows / gemm.row_blocks + 1) * gemm.columns;
  if (first_rows == last_rows) {
    last = min64(last, first + ((end - 1) % gemm.column_blocks + 1) * gemm.block_columns);
    first += begin % gemm.column_blocks * gemm.block_columns;
  }
  return {first, last - first};
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
