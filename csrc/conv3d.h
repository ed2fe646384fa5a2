// Arguments, kernels and tasks of conv3d and of the transposed convolutions (R1).
#pragma once

#include <cstdint>

#include "conv2d.h"

namespace bninv {

// Along one dimension: outputs that use the same taps of the kernel. Output i lies at
// first + i * step; its taps are tap + j * tap_step, which read the input at
// input + i * input_step + j * tap_reach.
struct ConvLine {
  int64_t first, step, count;
  int64_t tap, tap_step, taps;
  int64_t input, input_step, tap_reach;
};

// Outputs of the same taps in all dimensions: a product without terms that some of them lack. conv3d is
// one region, in which a tap on padding is a term of +0; a transposed convolution has one for each
// phase of its stride, and more along its edges, and no tap of them misses the input.
struct ConvRegion {
  ConvLine d, h, w;
  GemmSchedule gemm;   // rows: voxels of the region, sample by sample
  int64_t first_task;  // of the region's; the next region's follow

  int64_t taps() const { return d.taps * h.taps * w.taps; }
};

// With conv2d's fields for all that has no depth. Channels of the input are dense.
struct Conv3dArgs : Conv2dArgs {
  bool transposed;
  int64_t depth, stride_d;
  int64_t out_depth, out_stride_d;
  int64_t kernel_d, step_d, pad_d, dilation_d;
  const ConvRegion* regions;  // for the CPU
  int64_t region_count;
};

BNINV_DECLARE_KERNEL(conv3d, Conv3dArgs)
BNINV_DECLARE_KERNEL(conv3d_depthwise, Conv3dArgs)  // each output channel of its own input channel

namespace cuda {

// As plan_conv2d.
void plan_conv3d(Conv3dArgs& args);

// Transposed convolutions, and narrow groups; conv3d is the product in tiles.
void conv3d_direct(const Conv3dArgs& args, void* stream);

}  // namespace cuda

}  // namespace bninv
