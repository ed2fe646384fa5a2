// The taps of a deformable convolution: arguments and kernels, and R1's elements between pixels.
#pragma once

#include "dtypes.h"
#include "kernel.h"
#include "numerics.h"
#include "resample.h"

namespace bninv {

// What each output pixel's taps find, side by side in an image of out_height * kernel_h rows and
// out_width * kernel_w columns: a convolution whose stride is its kernel's size then is the product.
struct DeformTapsArgs {
  DType dtype;        // of all tensors
  const void* input;  // channels dense
  int64_t batch, channels, height, width;
  int64_t stride_n, stride_h, stride_w;
  const void* offset;  // of each group, tap and pixel: down, right
  int64_t offset_stride_n, offset_stride_c, offset_stride_h, offset_stride_w;
  const void* mask;  // of each group, tap and pixel; nullptr: none
  int64_t mask_stride_n, mask_stride_c, mask_stride_h, mask_stride_w;
  int64_t offset_groups;
  int64_t out_height, out_width, kernel_h, kernel_w;
  int64_t step_h, step_w, pad_h, pad_w, dilation_h, dilation_w;
  void* output;  // dense, channels last
};

BNINV_DECLARE_KERNEL(deform_taps, DeformTapsArgs)

namespace BNINV_LEVEL {

// The four pixels about a place: where they are, -1 standing for +0 outside, and their weights.
template <typename A>
struct DeformTap {
  int64_t row[2], column[2];
  A row_weight[2], column_weight[2];

  BNINV_INLINE DeformTap(const DeformTapsArgs& args, A y, A x) {
    const bool is_outside = y <= A(-1) || y >= static_cast<A>(args.height) || x <= A(-1) ||
                            x >= static_cast<A>(args.width);
    find(is_outside, y, args.height, row, row_weight);
    find(is_outside, x, args.width, column, column_weight);
  }

 private:
  static BNINV_INLINE void find(bool is_outside, A place, int64_t size, int64_t (&index)[2],
                                A (&weight)[2]) {
    const bool has_pixels = !is_outside && place == place;
    const int64_t before = has_pixels ? floor_of(place) : -2;
    const A t = place - static_cast<A>(before);  // NaN of a NaN
    weight[0] = is_outside ? A(0) : A(1) - t;
    weight[1] = is_outside ? A(0) : t;
    for (int k = 0; k < 2; ++k) index[k] = before + k >= 0 && before + k < size ? before + k : -1;
  }
};

// Tap (r, s) of an output pixel in a group of channels, by the element there of `offset` and `mask`.
template <typename T>
struct DeformPlace {
  DeformTap<Arithmetic<T>> tap;
  Arithmetic<T> mask;

  BNINV_INLINE DeformPlace(const DeformTapsArgs& a, int64_t n, int64_t oy, int64_t ox, int64_t r,
                           int64_t s, int64_t group)
      : tap(a,
            moved(a, a.step_h * oy - a.pad_h + a.dilation_h * r, 0, n, oy, ox,
                  number(a, r, s, group)),
            moved(a, a.step_w * ox - a.pad_w + a.dilation_w * s, 1, n, oy, ox,
                  number(a, r, s, group))),
        mask(1) {
    if (a.mask != nullptr)
      mask = widen(static_cast<const T*>(
          a.mask)[n * a.mask_stride_n + number(a, r, s, group) * a.mask_stride_c +
                  oy * a.mask_stride_h + ox * a.mask_stride_w]);
  }

 private:
  static BNINV_INLINE int64_t number(const DeformTapsArgs& a, int64_t r, int64_t s, int64_t group) {
    return (group * a.kernel_h + r) * a.kernel_w + s;
  }
  static BNINV_INLINE Arithmetic<T> moved(const DeformTapsArgs& a, int64_t place, int64_t axis,
                                          int64_t n, int64_t oy, int64_t ox, int64_t tap) {
    const T offset = static_cast<const T*>(
        a.offset)[n * a.offset_stride_n + (2 * tap + axis) * a.offset_stride_c +
                  oy * a.offset_stride_h + ox * a.offset_stride_w];
    return static_cast<Arithmetic<T>>(place) + widen(offset);
  }
};

}  // namespace BNINV_LEVEL
}  // namespace bninv
