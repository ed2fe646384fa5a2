// Sampling at the points of a grid: arguments and kernels, and R8's taps of a coordinate.
#pragma once

#include "kernel.h"
#include "numerics.h"
#include "resample.h"

namespace bninv {

enum class GridMode : int32_t { kLinear, kNearest, kCubic };
enum class GridPadding : int32_t { kZeros, kBorder, kReflection };

// Images, or volumes of depth, height and width in this order; an image has a depth of 1 and no
// coordinate along it. A task is one output row of all channels.
struct GridSampleArgs {
  DType dtype;  // of input and grid
  GridMode mode;
  GridPadding padding;
  bool align_corners, is_volume;
  const void* input;
  int64_t batch, channels;
  int64_t size[3], out_size[3];
  int64_t stride_n, stride_c, stride[3];
  const void* grid;  // a point's coordinates: along the width, the height, the depth
  int64_t grid_stride_n, grid_stride[3], grid_stride_axis;
  void* output;  // contiguous
};

BNINV_DECLARE_KERNEL(grid_sample, GridSampleArgs)

namespace BNINV_LEVEL {

// x modulo y, exact: 0 <= x, 0 < y < 2^30. By integers, since a library's would be code of its own on each
// device. NaN for an infinite x.
template <typename A>
BNINV_INLINE A remainder_of(A x, int64_t y) {
  if (!(x - x == A(0))) return x - x;
  int halvings = 0;
  for (; x >= A(0x1p62); ++halvings) x = x * A(0.5);
  const int64_t whole = static_cast<int64_t>(x);
  int64_t rest = whole % y;
  for (; halvings > 0; --halvings) rest = 2 * rest % y;
  // Below 2^62 there may be a fraction, which has room behind a smaller whole part.
  return static_cast<A>(rest) + (x - static_cast<A>(whole));
}

// R8's taps of a point along one dimension: where they are, -1 standing for an element of +0 outside.
template <typename A>
struct GridTaps {
  static constexpr int kMost = 4;
  int64_t index[kMost];
  A weight[kMost];

  static BNINV_INLINE int count(GridMode mode) {
    return mode == GridMode::kNearest ? 1 : mode == GridMode::kLinear ? 2 : 4;
  }

  BNINV_INLINE GridTaps(const GridSampleArgs& args, int d, A coordinate) {
    const int64_t size = args.size[d];
    const A elements = static_cast<A>(size);
    A point = args.align_corners ? (coordinate + A(1)) / A(2) * static_cast<A>(size - 1)
                                 : ((coordinate + A(1)) * elements - A(1)) / A(2);
    if (args.mode != GridMode::kCubic) point = padded(args, size, point);
    const A before = whole(point);
    const A t = point - before;
    if (args.mode == GridMode::kNearest) {
      // Halves go to the even side.
      const bool is_odd = before / A(2) != whole(before / A(2));
      index[0] = within(size, t > A(0.5) || (t == A(0.5) && is_odd) ? before + A(1) : before);
      weight[0] = 1;
    } else if (args.mode == GridMode::kLinear) {
      index[0] = within(size, before), index[1] = within(size, before + A(1));
      weight[0] = A(1) - t, weight[1] = t;
    } else {
      for (int k = 0; k < kMost; ++k) {
        index[k] = within(size, padded(args, size, before + static_cast<A>(k - 1)));
        weight[k] = cubic_weight(t, k);
      }
    }
  }

 private:
  // Rounded toward minus infinity. Numbers without a fraction, NaN and infinities stay.
  static BNINV_INLINE A whole(A x) {
    const bool has_fraction = x > A(-0x1p60) && x < A(0x1p60);
    return has_fraction ? static_cast<A>(floor_of(x)) : x;
  }
  static BNINV_INLINE int64_t within(int64_t size, A x) {
    return x >= A(0) && x < static_cast<A>(size) ? static_cast<int64_t>(x) : -1;
  }
  // NaN goes to the first element: it is not above 0.
  static BNINV_INLINE A clipped(int64_t size, A x) {
    const A last = static_cast<A>(size - 1);
    return x > A(0) ? (x < last ? x : last) : A(0);
  }
  static BNINV_INLINE A padded(const GridSampleArgs& args, int64_t size, A x) {
    if (args.padding == GridPadding::kZeros) return x;
    if (args.padding == GridPadding::kBorder) return clipped(size, x);
    // Mirrored at the centers of the outer elements, or at their edges.
    const A low = args.align_corners ? A(0) : A(-0.5);
    const A span = static_cast<A>(args.align_corners ? size - 1 : size);
    if (span == A(0)) return 0;
    const A distance = x - low < A(0) ? -(x - low) : x - low;
    const A place = remainder_of(distance, 2 * (args.align_corners ? size - 1 : size));
    return clipped(size, (place > span ? A(2) * span - place : place) + low);
  }
};

}  // namespace BNINV_LEVEL
}  // namespace bninv
