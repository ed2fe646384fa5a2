// Suppression of overlapping boxes: arguments and kernels, and R11's expressions.
#pragma once

#include "kernel.h"
#include "numerics.h"

namespace bninv {

struct NmsArgs {
  DType dtype;        // of boxes and scores
  const void* boxes;  // x1, y1, x2, y2
  int64_t count, box_stride, side_stride;
  double threshold;

  // CPU: the boxes of one class after those of another, each class in R11's order. A task is a class,
  // [class_begin[t], class_begin[t + 1]) of `members`.
  const int64_t* members;
  const int64_t* class_begin;
  uint8_t* is_kept;  // by box

  // CUDA
  const void* scores;
  int64_t score_stride;
  const int64_t* classes;  // nullptr: all are of one
  int64_t class_stride;
  void* workspace;
  int64_t* result;  // indices of the kept boxes; the last of count + 1 elements: how many they are
};

// CUDA: a bit for each box, in words; and what the kernels keep between them.
inline constexpr int kNmsWord = 64;
inline int64_t nms_words(int64_t count) { return (count + kNmsWord - 1) / kNmsWord; }
inline int64_t nms_workspace_bytes(int64_t count) {
  return 8 * (count + nms_words(count) + count * nms_words(count));
}

BNINV_DECLARE_KERNEL(nms, NmsArgs)

namespace BNINV_LEVEL {

// Rises as scores fall: NaN first, zeros of both signs equal. By integers, which no processor flushes.
BNINV_INLINE uint64_t score_key(float score) {
  const int32_t bits = to_bits(score), magnitude = bits & INT32_MAX;
  if (magnitude > 0x7f800000) return 0;
  const int32_t rank = bits < 0 ? -magnitude : magnitude;
  return static_cast<uint32_t>(INT32_MAX) - static_cast<uint32_t>(rank);
}
BNINV_INLINE uint64_t score_key(double score) {
  const int64_t bits = to_bits(score), magnitude = bits & INT64_MAX;
  if (magnitude > 0x7ff0000000000000) return 0;
  const int64_t rank = bits < 0 ? -magnitude : magnitude;
  return static_cast<uint64_t>(INT64_MAX) - static_cast<uint64_t>(rank);
}

// The greatest A that is not greater than `x`: an A is greater than both or than neither.
template <typename A>
BNINV_INLINE A rounded_down(double x) {
  const A nearest = static_cast<A>(x);
  if (!(static_cast<double>(nearest) > x)) return nearest;
  return from_bits(nearest > A(0) ? to_bits(nearest) - 1 : to_bits(nearest) + 1);
}

// R11's greater and lesser: the first, unless the second is beyond it. So NaN stays where it is the
// first, and is never taken where it is the second.
template <typename V>
BNINV_INLINE V greater_of(V a, V b) {
  return select(b > a, b, a);
}
template <typename V>
BNINV_INLINE V lesser_of(V a, V b) {
  return select(b < a, b, a);
}

template <typename V>
struct Box {
  V x1, y1, x2, y2, area;

  BNINV_INLINE Box(V left, V top, V right, V bottom)
      : Box(left, top, right, bottom, (right - left) * (bottom - top)) {}
  BNINV_INLINE Box(V left, V top, V right, V bottom, V area_of_these)
      : x1(left), y1(top), x2(right), y2(bottom), area(area_of_these) {}
};

template <typename V>
BNINV_INLINE V intersection(const Box<V>& kept, const Box<V>& later) {
  const V zero(0.0f);
  const V w = greater_of(zero, lesser_of(kept.x2, later.x2) - greater_of(kept.x1, later.x1));
  const V h = greater_of(zero, lesser_of(kept.y2, later.y2) - greater_of(kept.y1, later.y1));
  return w * h;
}

template <typename V>
BNINV_INLINE V intersection_over_union(V intersection, V kept_area, V later_area) {
  return intersection / ((kept_area + later_area) - intersection);
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
