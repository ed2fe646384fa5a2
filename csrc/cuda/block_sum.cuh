// R3 by a whole block: the segments of one sum by its warps, or the sums of neighbouring columns by
// threads side by side. See lane_sum.cuh for `term` and `add`.
#pragma once

#include "lane_sum.cuh"

namespace bninv {
namespace cuda {

// One sum by the block, all of whose kWarps warps must be here; valid in every thread. A warp owns a
// segment; then every thread adds the segments' sums in their order, from `parts`, shared memory for
// kWarps of them. A warp without a segment gives +0, which no sum notices: none is ever -0.
template <typename A, int kWarps, typename Term, typename Add>
__device__ __forceinline__ A block_sum(int64_t terms, const Term& term, const Add& add, A* parts) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  A total = 0;
  for (int64_t round = 0; round < terms; round += kWarps * kSumSegment) {
    const int64_t first = round + warp * kSumSegment;
    const int64_t last = first + kSumSegment < terms ? first + kSumSegment : terms;
    const A part = fold_warp(lane_of_segment<A>(first, last, lane, term, add));
    if (lane == 0) parts[warp] = part;
    __syncthreads();
#pragma unroll
    for (int w = 0; w < kWarps; ++w) total = total + parts[w];
    __syncthreads();
  }
  return total;
}

}  // namespace cuda
}  // namespace bninv
