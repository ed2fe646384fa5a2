// R3 over columns side by side: a column's terms are a stride apart, its neighbours' lie next to them.
// See lane_sum.cuh for `term` and `add`.
#pragma once

#include "lane_sum.cuh"

namespace bninv {
namespace cuda {

// A block's threads over `width` columns: neighbouring threads have neighbouring columns, so that a
// warp reads whole sectors. 32 rows of threads are the contract's lanes of one segment; the next 32
// those of the next one, `slots` segments at a time. That is a warp for each column and slot.
struct ColumnTile {
  int width, slots;
  __device__ __forceinline__ int column() const { return static_cast<int>(threadIdx.x) % width; }
  __device__ __forceinline__ int row() const { return static_cast<int>(threadIdx.x) / width; }
  __device__ __forceinline__ int rows() const { return 32 * slots; }
};

// Elements of shared memory that the functions below work in: the lanes of a column follow each other,
// 33 places a column, so that neither writing nor reading them meets one bank many times.
constexpr int kColumnPitch = 33;
__host__ __device__ constexpr int column_memory(int warps) { return warps * (kColumnPitch + 1); }

// Every thread gives one lane's value; `fold` brings the 32 of a warp to one in lane 0. The result for
// column c and slot s is at [s * width + c] until the next call.
template <typename A, typename Fold>
__device__ __forceinline__ const A* fold_columns(const ColumnTile& tile, A value, const Fold& fold,
                                                 A* memory) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  A* parts = memory + tile.width * tile.slots * kColumnPitch;
  const int pair = tile.row() / 32 * tile.width + tile.column();
  memory[pair * kColumnPitch + tile.row() % 32] = value;
  __syncthreads();
  // Whoever reads the last call's parts is past that barrier: they may be overwritten.
  const A folded = fold(memory[warp * kColumnPitch + lane]);
  if (lane == 0) parts[warp] = folded;
  __syncthreads();
  return parts;
}

// The sum of each thread's column, which all threads of the block must come for, those without a column
// too (`exists`). A slot without a segment gives +0, which no sum notices: none is ever -0.
template <typename A, typename Term, typename Add>
__device__ __forceinline__ A tile_sum(const ColumnTile& tile, int64_t terms, bool exists,
                                      const Term& term, const Add& add, A* memory) {
  A total = 0;
  for (int64_t round = 0; round < terms; round += tile.slots * kSumSegment) {
    const int64_t first = round + tile.row() / 32 * kSumSegment;
    const int64_t last = first + kSumSegment < terms ? first + kSumSegment : terms;
    A lane = 0;
    if (exists) lane = lane_of_segment<A>(first, last, tile.row() % 32, term, add);
    const A* parts = fold_columns(tile, lane, [](A value) { return fold_warp(value); }, memory);
    for (int s = 0; s < tile.slots; ++s) total = total + parts[s * tile.width + tile.column()];
  }
  return total;
}

}  // namespace cuda
}  // namespace bninv
