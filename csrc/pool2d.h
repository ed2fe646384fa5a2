// 2-d pooling's arguments, kernels and windows.
#pragma once

#include "kernel.h"
#include "numerics.h"

namespace bninv {

// Windows over the two spatial dimensions of a channels_last tensor. Task: one output pixel row.
struct Pool2dArgs {
  DType dtype;
  const void* input;  // channels dense; the other strides are free
  int64_t batch, channels, height, width;
  int64_t stride_n, stride_h, stride_w;
  void* output;  // channels_last, dense
  int64_t out_height, out_width;
  int64_t kernel_h, kernel_w, step_h, step_w, pad_h, pad_w, dilation_h, dilation_w;
  bool adaptive;           // windows by PyTorch's adaptive rule; kernel, step, pad unused
  bool count_include_pad;  // average only
  int64_t divisor;         // average only; 0: the window's own count
};

BNINV_DECLARE_KERNEL(avg_pool2d, Pool2dArgs)
BNINV_DECLARE_KERNEL(max_pool2d, Pool2dArgs)

namespace BNINV_LEVEL {

// One window along one dimension: the elements first, first + step, ... below last, and how many the
// window would hold if padding counted.
struct Window {
  int64_t first, last, step, padded_count;

  // How many elements there are.
  BNINV_INLINE int64_t count() const { return last > first ? (last - first - 1) / step + 1 : 0; }
};

BNINV_INLINE Window window(const Pool2dArgs& args, bool vertical, int64_t index) {
  const int64_t size = vertical ? args.height : args.width;
  const int64_t out_size = vertical ? args.out_height : args.out_width;
  if (args.adaptive) {
    const int64_t first = index * size / out_size;
    const int64_t last = ((index + 1) * size + out_size - 1) / out_size;
    return {first, last, 1, last - first};
  }
  const int64_t kernel = vertical ? args.kernel_h : args.kernel_w;
  const int64_t pad = vertical ? args.pad_h : args.pad_w;
  const int64_t dilation = vertical ? args.dilation_h : args.dilation_w;
  int64_t first = index * (vertical ? args.step_h : args.step_w) - pad;
  const int64_t end = first + (kernel - 1) * dilation + 1;
  const int64_t last = end < size + pad ? end : size + pad;
  const int64_t padded_count = last - first;
  if (first < 0) first += (-first + dilation - 1) / dilation * dilation;
  return {first, last < size ? last : size, dilation, padded_count};
}

// What the sum over a window is divided by, as PyTorch documents it.
BNINV_INLINE int64_t average_divisor(const Pool2dArgs& args, const Window& rows,
                                     const Window& columns) {
  if (args.divisor != 0) return args.divisor;
  if (args.count_include_pad) return rows.padded_count * columns.padded_count;
  return (rows.last - rows.first) * (columns.last - columns.first);
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
