// R3 for sums that lie side by side in memory: a block's threads are columns, one for each of several
// neighbouring sums, times rows, among which the 32 lanes of each sum are dealt.
#pragma once

#include "device.cuh"
#include "lane_sum.cuh"
#include "launch.cuh"

namespace bninv {
namespace cuda {

constexpr int kColumnThreads = 256;

template <typename A>
struct ColumnPartials {
  A value[kColumnThreads];
};

// The sum of the calling thread's column by a whole block of kColumnThreads, all of which must be here
// with the same `terms`; valid in row 0. There are 2^shift columns. `combine` is what adds, terms and
// partial sums alike, and starts from `identity`: R0's maximum may take the sum's place.
//
// Row y holds the kLanes lanes y, y + 32 / kLanes, ... and folds these by itself; rows are folded
// through shared memory. Where there are fewer rows than 32 / kLanes there are as few terms, and where
// there are more the others hold +0, which changes nothing.
template <int kLanes, typename A, typename Term, typename Combine>
__device__ __forceinline__ A column_sum(int64_t terms, int shift, const Term& term, A identity,
                                        const Combine& combine) {
  A* partial = static_shared<ColumnPartials<A>>().value;
  const int thread = static_cast<int>(threadIdx.x);
  const int row = thread >> shift;
  A total = identity;
  for (int64_t first = 0; first < terms; first += kSumSegment) {
    const int64_t last = first + kSumSegment < terms ? first + kSumSegment : terms;
    A lanes[kLanes];
#pragma unroll
    for (int i = 0; i < kLanes; ++i) lanes[i] = identity;
    lanes_of_segment(first, row < kSumLanes / kLanes ? last : first, row, term, combine, lanes);
#pragma unroll
    for (int h = kLanes / 2; h > 0; h /= 2)
#pragma unroll
      for (int i = 0; i < h; ++i) lanes[i] = combine(lanes[i], lanes[i + h]);
    partial[thread] = lanes[0];
    for (int h = (kColumnThreads >> shift) / 2; h > 0; h /= 2) {
      __syncthreads();
      if (row < h) partial[thread] = combine(partial[thread], partial[thread + (h << shift)]);
    }
    total = combine(total, partial[thread]);
    // Row 1 goes on to write what row 0 has just read.
    if (last < terms) __syncthreads();
  }
  return total;
}

// The shape of a block of columns, and how many blocks cover a row of them.
struct ColumnBlocks {
  int lanes;  // kLanes: 4 or 1
  int shift;
  int64_t across;
};

// For `rows` rows of `columns` sums each, of up to `terms` terms. 32 columns are whole sectors of
// memory in every dtype, and 4 lanes a thread need few steps between threads. A lane a thread is for
// few terms, and for few columns: blocks are narrower then, and there are more of them.
inline ColumnBlocks column_blocks(int64_t rows, int64_t columns, int64_t terms, const char* op) {
  constexpr int kWide = 5;
  const int64_t wide = ceil_div(columns, int64_t{1} << kWide);
  if (terms > 8 && rows * wide >= 2 * multiprocessors(op)) return {4, kWide, wide};
  // The least number of rows that there may be, hence the most columns.
  int shift = 8;
  while (shift > 3 && (kColumnThreads >> shift) < terms) --shift;
  while (shift > 3 && (int64_t{1} << (shift - 1)) >= columns) --shift;
  return {1, shift, ceil_div(columns, int64_t{1} << shift)};
}

}  // namespace cuda
}  // namespace bninv
