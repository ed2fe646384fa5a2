// Regions of images: arguments and kernels, and R10's points and bins of a region along one dimension.
#pragma once

#include "dtypes.h"
#include "kernel.h"
#include "resample.h"

namespace bninv {

// Each region of `rois` gives `pooled_h` x `pooled_w` bins of each output channel. Output channel c of bin b
// is read from the input's channel at c * channel_step + b * bin_step. A task is a block of channels of one
// region.
struct RoiArgs {
  DType dtype;  // of input and boxes
  const void* input;
  int64_t batch, channels, height, width;  // channels: the output's
  int64_t stride_n, stride_h, stride_w, channel_step, bin_step;
  const void* boxes;  // a region's index, x1, y1, x2, y2
  int64_t rois, box_stride, box_stride_axis;
  double scale;
  int64_t pooled_h, pooled_w;
  bool aligned;            // roi_align alone
  int64_t sampling_ratio;  // roi_align alone; 0: as many points as R10 gives a bin
  int64_t block;           // channels of a task
  void* output;            // contiguous
};

BNINV_DECLARE_KERNEL(roi_align, RoiArgs)
BNINV_DECLARE_KERNEL(roi_pool, RoiArgs)
BNINV_DECLARE_KERNEL(roi_pool_argmax, RoiArgs)
BNINV_DECLARE_KERNEL(ps_roi_pool, RoiArgs)

namespace BNINV_LEVEL {

// A region's image, -1 where there is none of that index, and its corners in the input's pixels.
template <typename T>
struct Roi {
  using A = Arithmetic<T>;
  int64_t index;
  A top, left, bottom, right;

  BNINV_INLINE Roi(const RoiArgs& args, int64_t k) {
    const T* box = static_cast<const T*>(args.boxes) + k * args.box_stride;
    const A scale = static_cast<A>(args.scale);
    const A image = widen(box[0]);
    index = image > A(-1) && image < static_cast<A>(args.batch) ? static_cast<int64_t>(image)
                                                                : int64_t{-1};
    left = widen(box[args.box_stride_axis]) * scale;
    top = widen(box[2 * args.box_stride_axis]) * scale;
    right = widen(box[3 * args.box_stride_axis]) * scale;
    bottom = widen(box[4 * args.box_stride_axis]) * scale;
  }
};

template <typename A>
BNINV_INLINE bool is_finite(A x) {
  return x - x == A(0);
}

// Points `first` to `last - 1` of a bin lie inside of the input.
struct RoiRange {
  int64_t first, last;
  BNINV_INLINE int64_t count() const { return last > first ? last - first : 0; }
};

// What a point reads along one dimension.
template <typename A>
struct RoiTaps {
  int64_t before, after;
  A weight;  // of the second; the first has the rest

  BNINV_INLINE RoiTaps(A point, int64_t size) {
    const A held = point > A(0) ? point : A(0);
    before = static_cast<int64_t>(held);
    after = before + 1;
    weight = held - static_cast<A>(before);
    if (before >= size - 1) before = after = size - 1, weight = A(0);
  }
};

// roi_align's points along one dimension.
template <typename A>
struct RoiPoints {
  static constexpr int64_t kMost = int64_t{1} << 30;  // points of a bin
  int64_t size, points;
  A start, bin;
  bool exists;  // all of its numbers are finite

  BNINV_INLINE RoiPoints(const RoiArgs& args, A low, A high, int64_t pooled, int64_t input_size)
      : size(input_size) {
    const A offset = args.aligned ? A(0.5) : A(0);
    start = low - offset;
    A length = (high - offset) - start;
    exists = is_finite(start) && is_finite(length);
    if (!args.aligned && length < A(1)) length = 1;
    bin = length / static_cast<A>(pooled);
    points = args.sampling_ratio > 0 ? args.sampling_ratio : rounded_up(bin);
  }

  BNINV_INLINE A point(int64_t i, int64_t k) const {
    return (start + static_cast<A>(i) * bin) +
           (static_cast<A>(k) + A(0.5)) * bin / static_cast<A>(points);
  }

  // Rounding is monotone, and so are the points of a bin: those inside are neighbours.
  BNINV_INLINE RoiRange inside(int64_t i) const {
    const A length = static_cast<A>(size);
    const auto is_before = [&](int64_t k) {
      return bin < A(0) ? point(i, k) > length : point(i, k) < A(-1);
    };
    const auto is_behind = [&](int64_t k) {
      return bin < A(0) ? point(i, k) < A(-1) : point(i, k) > length;
    };
    if (points == 0 || (!is_before(0) && !is_behind(points - 1))) return {0, points};
    return {first_that(0, points, [&](int64_t k) { return !is_before(k); }),
            first_that(0, points, is_behind)};
  }

 private:
  // The first k of [low, high) of which `holds`, as of all behind it, or high.
  template <typename Holds>
  static BNINV_INLINE int64_t first_that(int64_t low, int64_t high, const Holds& holds) {
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (holds(middle))
        high = middle;
      else
        low = middle + 1;
    }
    return low;
  }
  static BNINV_INLINE int64_t rounded_up(A x) {
    if (!(x > A(0))) return 0;
    if (x >= static_cast<A>(kMost)) return kMost;
    const int64_t whole = static_cast<int64_t>(x);
    return static_cast<A>(whole) < x ? whole + 1 : whole;
  }
};

// What the sum over a bin is divided by.
BNINV_INLINE int64_t roi_points(int64_t rows, int64_t columns) {
  return rows * columns > 1 ? rows * columns : 1;
}

// The bins of roi_pool and ps_roi_pool along one dimension: whole pixels.
template <typename A>
struct RoiBins {
  static constexpr int64_t kFarthest = int64_t{1} << 30;  // a corner is held to that
  int64_t start, limit;
  A bin;
  bool exists;  // the corners are finite

  RoiBins() = default;
  // `beyond`: how many pixels the region reaches behind its end's. No bin has the pixel `most`.
  BNINV_INLINE RoiBins(A low, A high, int64_t pooled, int64_t beyond, int64_t most) : limit(most) {
    exists = is_finite(low) && is_finite(high);
    start = rounded(low);
    const int64_t length = rounded(high) - start + beyond;
    bin = static_cast<A>(length > 1 ? length : 1) / static_cast<A>(pooled);
  }

  // Pixels [first, last) of bin i.
  BNINV_INLINE RoiRange pixels(int64_t i) const {
    return {held(floor_of(static_cast<A>(i) * bin) + start),
            held(start - floor_of(-(static_cast<A>(i + 1) * bin)))};
  }

 private:
  BNINV_INLINE int64_t held(int64_t pixel) const {
    return pixel < 0 ? 0 : pixel < limit ? pixel : limit;
  }
  // Halves away from zero. 0 for NaN, of which nothing is read.
  static BNINV_INLINE int64_t rounded(A x) {
    if (x >= static_cast<A>(kFarthest)) return kFarthest;
    if (x <= -static_cast<A>(kFarthest)) return -kFarthest;
    if (x != x) return 0;
    const int64_t whole = static_cast<int64_t>(x);
    const A rest = x - static_cast<A>(whole);
    return rest >= A(0.5) ? whole + 1 : rest <= A(-0.5) ? whole - 1 : whole;
  }
};

// Both dimensions of a region's bins, of whose maximum or mean.
template <typename T>
struct RoiWindows {
  int64_t index;
  RoiBins<Arithmetic<T>> rows, columns;
  bool exists;

  RoiWindows() = default;
  BNINV_INLINE RoiWindows(const RoiArgs& args, const Roi<T>& roi, bool is_mean)
      : index(roi.index),
        rows(roi.top, roi.bottom, args.pooled_h, is_mean ? 0 : 1, args.height - (is_mean ? 1 : 0)),
        columns(roi.left, roi.right, args.pooled_w, is_mean ? 0 : 1,
                args.width - (is_mean ? 1 : 0)),
        exists(index >= 0 && rows.exists && columns.exists) {}
};

// The elements of a region that does not exist.
template <typename A>
BNINV_INLINE A roi_nothing() {
  return static_cast<A>(from_bits(int32_t{0x7fc00000}));
}

// What roi_pool's maximum begins with: the least binary32, in every type.
template <typename A>
BNINV_INLINE A roi_lowest() {
  return -static_cast<A>(0x1.fffffep127f);
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
