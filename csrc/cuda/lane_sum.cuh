// R3 on CUDA: the contract's 32 lanes are those of a warp, or the leaves of a tree that one thread
// walks. `term(k)` is term k of the sum in the arithmetic type A, `add(lane, x)` what a term does to its
// lane (normalization.h). Lanes that no term reached are +0, and no lane is ever -0: adding them changes
// nothing, so both forms add all 32.
#pragma once

#include "../normalization.h"
#include "device.cuh"

namespace bninv {
namespace cuda {

constexpr unsigned kWholeWarp = 0xffffffff;
static_assert(kSumLanes == 32, "a warp holds the lanes of a sum");

// The last steps of R3; the sum is valid in lane 0 alone. A sum of fewer terms than lanes may have
// `lanes` neighbouring threads, a power of two: the lanes beyond would add +0.
template <typename A>
__device__ __forceinline__ A fold_warp(A lane, int lanes = kSumLanes) {
#pragma unroll
  for (int h = lanes / 2; h > 0; h /= 2) lane = lane + __shfl_down_sync(kWholeWarp, lane, h);
  return lane;
}

// Lanes `lane`, lane + 32 / kLanes, ... of one segment: terms first + lane, first + lane + 32, ... below
// `last`, and so on. They start as the caller has set them.
template <int kLanes, typename A, typename Term, typename Add>
__device__ __forceinline__ void lanes_of_segment(int64_t first, int64_t last, int lane,
                                                 const Term& term, const Add& add,
                                                 A (&lanes)[kLanes]) {
  // Loads of several terms are under way at once; those of a lane are added one after another.
  constexpr int kAhead = 8;
  constexpr int kApart = kSumLanes / kLanes;
  int64_t k = first + lane;
  A values[kAhead];
  for (; k + (kAhead - 1) * kApart < last; k += kAhead * kApart) {
#pragma unroll
    for (int u = 0; u < kAhead; ++u) values[u] = term(k + u * kApart);
#pragma unroll
    for (int u = 0; u < kAhead; ++u) lanes[u % kLanes] = add(lanes[u % kLanes], values[u]);
  }
#pragma unroll
  for (int u = 0; u < kAhead; ++u)
    if (k + u * kApart < last) values[u] = term(k + u * kApart);
#pragma unroll
  for (int u = 0; u < kAhead; ++u)
    if (k + u * kApart < last) lanes[u % kLanes] = add(lanes[u % kLanes], values[u]);
}

// The lane `lane` of one segment.
template <typename A, typename Term, typename Add>
__device__ __forceinline__ A lane_of_segment(int64_t first, int64_t last, int lane,
                                             const Term& term, const Add& add) {
  A sum[1] = {0};
  lanes_of_segment(first, last, lane, term, add, sum);
  return sum[0];
}

// One sum by the calling warp, all of whose threads must be here; valid in every lane.
template <typename A, typename Term, typename Add>
__device__ __forceinline__ A warp_sum(int64_t terms, const Term& term, const Add& add) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  A total = 0;
  for (int64_t first = 0; first < terms; first += kSumSegment) {
    const int64_t last = first + kSumSegment < terms ? first + kSumSegment : terms;
    total = total + fold_warp(lane_of_segment<A>(first, last, lane, term, add));
  }
  return __shfl_sync(kWholeWarp, total, 0);
}

// The tree below lane `kLane`, whose next fold is of distance kStep / 2: lanes kLane, kLane + kStep, ...
template <typename A, int kLane, int kStep, typename Term, typename Add>
__device__ __forceinline__ A tree_of_segment(int64_t first, int64_t last, const Term& term,
                                             const Add& add) {
  if constexpr (kStep == kSumLanes) {
    A sum = 0;
    for (int64_t k = first + kLane; k < last; k += kSumLanes) sum = add(sum, term(k));
    return sum;
  } else {
    const A low = tree_of_segment<A, kLane, 2 * kStep>(first, last, term, add);
    if (first + kLane + kStep >= last) return low;
    return low + tree_of_segment<A, kLane + kStep, 2 * kStep>(first, last, term, add);
  }
}

// One sum by one thread, in registers: a tree walked depth first holds at most six partial sums.
template <typename A, typename Term, typename Add>
__device__ __forceinline__ A thread_sum(int64_t terms, const Term& term, const Add& add) {
  A total = 0;
  for (int64_t first = 0; first < terms; first += kSumSegment) {
    const int64_t last = first + kSumSegment < terms ? first + kSumSegment : terms;
    total = total + tree_of_segment<A, 0, 1>(first, last, term, add);
  }
  return total;
}

}  // namespace cuda
}  // namespace bninv
