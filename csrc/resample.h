// Resampling's arguments and kernels, and R8 along one dimension: which elements an output element
// takes, and with what weights.
#pragma once

#include "kernel.h"
#include "numerics.h"

namespace bninv {

enum class Interpolation : int32_t { kLinear, kCubic };

// Planes of depth, height and width, in this order, resized; an image has a depth of 1. A task is one
// output row: of a plane, or in channels_last of a block of channels.
struct ResampleArgs {
  DType dtype;
  Interpolation interpolation;
  bool align_corners, antialias;
  const void* input;  // the width dense, or in channels_last the channels; other strides are free
  int64_t batch, channels;
  int64_t size[3], out_size[3];
  double step[3];  // input elements from one output element to the next, in the arithmetic type
  int64_t stride_n, stride_c, stride[3];
  bool channels_last;  // of the output, which is dense
  int64_t block;       // channels of a task in channels_last, else 1; free
  void* output;
};

BNINV_DECLARE_KERNEL(resample, ResampleArgs)

namespace BNINV_LEVEL {

// The step along a dimension; `scale` 0: follows from the sizes.
template <typename A>
BNINV_INLINE A resample_step(int64_t size, int64_t out_size, bool align_corners, double scale) {
  if (align_corners) {
    if (out_size < 2) return 0;
    return static_cast<A>(size - 1) / static_cast<A>(out_size - 1);
  }
  if (scale > 0) return static_cast<A>(1.0 / scale);
  return static_cast<A>(size) / static_cast<A>(out_size);
}

// Rounded toward minus infinity; of numbers below 2^62 in magnitude.
template <typename A>
BNINV_INLINE int64_t floor_of(A x) {
  const int64_t whole = static_cast<int64_t>(x);
  return static_cast<A>(whole) > x ? whole - 1 : whole;
}

template <typename A>
BNINV_INLINE A clamp01(A x) {
  return x < A(0) ? A(0) : x > A(1) ? A(1) : x;
}

// The cubic convolution's kernel at distances up to 1, and from 1 to 2.
template <typename A>
BNINV_INLINE A cubic_near(A x, A a) {
  return ((a + A(2)) * x - (a + A(3))) * x * x + A(1);
}
template <typename A>
BNINV_INLINE A cubic_far(A x, A a) {
  return ((a * x - A(5) * a) * x + A(8) * a) * x - A(4) * a;
}

// Tap k of the four around a point that lies t behind the second one.
template <typename A>
BNINV_INLINE A cubic_weight(A t, int64_t k) {
  constexpr A kSlope = A(-0.75);
  const A before = k < 2 ? t : A(1) - t;
  return k == 1 || k == 2 ? cubic_near(before, kSlope) : cubic_far(before + A(1), kSlope);
}

// R8 along one dimension.
template <typename A>
struct ResampleAxis {
  int64_t size, out_size, taps;  // taps: the most that an output element has
  A step;
  Interpolation interpolation;
  bool align_corners, antialias;
  bool copied;  // the dimension keeps its size: no operation
  A support, inverse;

  BNINV_INLINE ResampleAxis(const ResampleArgs& args, int d)
      : size(args.size[d]),
        out_size(args.out_size[d]),
        taps(1),
        step(static_cast<A>(args.step[d])),
        interpolation(args.interpolation),
        align_corners(args.align_corners),
        antialias(args.antialias),
        copied(false),
        support(0),
        inverse(1) {
    const bool cubic = interpolation == Interpolation::kCubic;
    // Images have no depth to resample, whatever the mode.
    copied = size == out_size && (!cubic || antialias || d == 0);
    if (copied) return;
    taps = cubic ? 4 : 2;
    if (!antialias) return;
    const A half = static_cast<A>(taps) * A(0.5);
    support = step >= A(1) ? half * step : half;
    inverse = step >= A(1) ? A(1) / step : A(1);
    const int64_t whole = static_cast<int64_t>(support);
    taps = 2 * (static_cast<A>(whole) < support ? whole + 1 : whole) + 1;
    if (taps > size) taps = size;
  }
};

// The taps of one output element: `count` neighbours from `first` on, those beyond an edge being the
// element at the edge.
template <typename A>
struct ResampleTaps {
  int64_t first, count, size;
  Interpolation interpolation;
  bool antialias;
  A at;  // how far the point lies behind the tap before it; antialias: its place
  A inverse, total;

  BNINV_INLINE ResampleTaps(const ResampleAxis<A>& axis, int64_t index)
      : first(index),
        count(1),
        size(axis.size),
        interpolation(axis.interpolation),
        antialias(axis.antialias),
        at(0),
        inverse(axis.inverse),
        total(0) {
    if (axis.copied) return;
    if (antialias) {
      at = axis.step * (static_cast<A>(index) + A(0.5));
      first = static_cast<int64_t>(at - axis.support + A(0.5));
      if (first < 0) first = 0;
      int64_t last = static_cast<int64_t>(at + axis.support + A(0.5));
      if (last > size) last = size;
      count = last - first;
      if (count < 0) count = 0;
      if (count > axis.taps) count = axis.taps;
      for (int64_t k = 0; k < count; ++k) total = total + unscaled(k);
      return;
    }
    const bool cubic = interpolation == Interpolation::kCubic;
    A point = axis.step * static_cast<A>(index);
    if (!axis.align_corners) point = axis.step * (static_cast<A>(index) + A(0.5)) - A(0.5);
    if (!cubic && point < A(0)) point = 0;
    int64_t before = floor_of(point);
    if (before > size - 1) before = size - 1;
    at = clamp01(point - static_cast<A>(before));
    first = cubic ? before - 1 : before;
    count = axis.taps;
  }

  BNINV_INLINE int64_t index(int64_t k) const {
    const int64_t i = first + k;
    return i < 0 ? 0 : i < size ? i : size - 1;
  }

  BNINV_INLINE A weight(int64_t k) const {
    if (antialias) return total != A(0) ? unscaled(k) / total : unscaled(k);
    if (interpolation == Interpolation::kCubic) return cubic_weight(at, k);
    return k == 0 ? A(1) - at : at;
  }

 private:
  BNINV_INLINE A unscaled(int64_t k) const {
    A x = (static_cast<A>(first + k) - at + A(0.5)) * inverse;
    if (x < A(0)) x = -x;
    if (interpolation == Interpolation::kLinear) return x < A(1) ? A(1) - x : A(0);
    constexpr A kSlope = A(-0.5);
    return x < A(1) ? cubic_near(x, kSlope) : x < A(2) ? cubic_far(x, kSlope) : A(0);
  }
};

}  // namespace BNINV_LEVEL
}  // namespace bninv
