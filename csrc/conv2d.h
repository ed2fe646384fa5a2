// conv2d's arguments, kernels and tasks (R1, R9).
#pragma once

#include <cstdint>

#include "kernel.h"
#include "product.h"

namespace bninv {

// Input, weight, bias and output are of `dtype`.
struct Conv2dArgs {
  DType dtype;
  Precision precision;  // of a convolution in R9's reach (tensor.h)
  const void* input;    // channels dense; the other strides are free
  int64_t batch, channels, height, width;
  int64_t stride_n, stride_h, stride_w;
  const void*
      weight;        // panel (r, s, c, o): kernel_h * kernel_w * channels_per_group x out_channels
  const void* bias;  // nullptr: none
  void* output;
  int64_t out_channels, out_height, out_width;
  int64_t out_stride_n, out_stride_c, out_stride_h, out_stride_w;
  int64_t kernel_h, kernel_w;
  int64_t step_h, step_w, pad_h, pad_w, dilation_h, dilation_w;
  int64_t groups;
  GemmSchedule gemm;  // rows: output pixels; columns: output channels of one group
  Epilogue epilogue;
  // CUDA's.
  TilePlan plan;
  void* workspace;
};

BNINV_DECLARE_KERNEL(conv2d, Conv2dArgs)
BNINV_DECLARE_KERNEL(conv2d_depthwise, Conv2dArgs)  // each output channel of its own input channel
BNINV_DECLARE_KERNEL(conv2d_grouped, Conv2dArgs)    // groups of a few channels
BNINV_DECLARE_KERNEL(conv2d_tensor, Conv2dArgs)     // R9

namespace cuda {

// Fill in args.plan for the current device, before the kernel; args.workspace must then hold as many
// bytes as it says. The first is for all kernels but the last.
void plan_conv2d(Conv2dArgs& args);
void plan_conv2d_tensor(Conv2dArgs& args);
// The same for groups that do not lie side by side, under either rule.
void plan_groups(Conv2dArgs& args, const GroupStrides& groups);

}  // namespace cuda

// A task of the depthwise kernel is one output row of one sample.
inline int64_t depthwise_tasks(const Conv2dArgs& a) { return a.batch * a.out_height; }

// A task of the grouped kernel is a block of output pixels times a block of output channels; the tasks
// of one channel block follow each other.
struct GroupedBlocks {
  static constexpr int64_t kRows = 48, kChannels = 64;
  int64_t rows, channels;
};

inline GroupedBlocks grouped_blocks(const Conv2dArgs& a) {
  const int64_t rows = a.batch * a.out_height * a.out_width;
  return {(rows + GroupedBlocks::kRows - 1) / GroupedBlocks::kRows,
          (a.out_channels + GroupedBlocks::kChannels - 1) / GroupedBlocks::kChannels};
}

}  // namespace bninv
