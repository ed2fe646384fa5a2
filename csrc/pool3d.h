// 3-d pooling's arguments and kernels: pool2d's with one more dimension, the outermost.
#pragma once

#include "pool2d.h"

namespace bninv {

// channels_last_3d tensors. Task: one output line of voxels.
struct Pool3dArgs : Pool2dArgs {
  int64_t depth, stride_d, out_depth;
  int64_t kernel_d, step_d, pad_d, dilation_d;
};

BNINV_DECLARE_KERNEL(avg_pool3d, Pool3dArgs)
BNINV_DECLARE_KERNEL(max_pool3d, Pool3dArgs)

namespace BNINV_LEVEL {

// The planes of an output's window.
BNINV_INLINE Window planes_of(const Pool3dArgs& args, int64_t index) {
  Pool2dArgs line = args;
  line.height = args.depth, line.out_height = args.out_depth;
  line.kernel_h = args.kernel_d, line.step_h = args.step_d;
  line.pad_h = args.pad_d, line.dilation_h = args.dilation_d;
  return window(line, true, index);
}

BNINV_INLINE int64_t average_divisor(const Pool3dArgs& args, const Window& planes,
                                     const Window& rows, const Window& columns) {
  if (args.divisor != 0) return args.divisor;
  const int64_t area = average_divisor(static_cast<const Pool2dArgs&>(args), rows, columns);
  return area * (args.count_include_pad ? planes.padded_count : planes.last - planes.first);
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
