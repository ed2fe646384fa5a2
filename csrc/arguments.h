// What the kernels are given: raw pointers, sizes and strides in elements, no torch. The CPU's and the
// GPU's kernel of an operator take the same structure.
#pragma once

#include <cstdint>

#include "types.h"

namespace bninv {

// Elements of a parameter with one value a channel, dense; nullptr: there is none.
struct Parameter {
  const void* data;
  DType dtype;
};

// y = activation(batch_norm(x) + residual) over `outer` x `channels` x `inner` elements, dense in that
// order: inner is 1 for channels_last, outer the batch for contiguous tensors. Everything but the
// parameters is of `dtype`.
struct BatchNormArgs {
  DType dtype;
  const void* input;
  const void* residual;  // nullptr: none
  void* output;
  Parameter running_mean, running_var, weight, bias;
  double eps;  // rounded to the arithmetic type before it is used
  Activation activation;
  double negative_slope;  // leaky_relu's
  int64_t outer, channels, inner;
};

// What may follow a product in its kernel: activation(batch_norm(y) + residual), each step rounded to
// the storage type as the separate operators round (docs/numerics.md, R2).
struct Epilogue {
  bool normalizes;
  Parameter running_mean, running_var, weight, bias;
  double eps;
  const void* residual;  // nullptr: none; the output's strides
  Activation activation;
  double negative_slope;  // leaky_relu's

  bool is_empty() const {
    return !normalizes && residual == nullptr && activation == Activation::kNone;
  }
};

// How a CUDA kernel cuts a product into blocks. Free under the contract: no bit depends on it.
struct TilePlan {
  int tile;                    // which shape, of cuda/gemm_plan.h's
  int64_t segments_per_block;  // R1's segments that one block adds up
  int64_t blocks;
  // Where several blocks share an output: their segments' sums, one row a segment. 0: not needed.
  int64_t workspace_bytes;
  int group_channels;  // input channels of a group, at least 1
  bool whole_copies;  // four neighbouring channels of input and weight are always there and aligned
  bool whole_panel;   // those of the weight are
  bool whole_depthwise;  // the same for each output channel's own input channel
  bool whole_output;     // so are four neighbouring elements of the output, and of the residual
  bool dense_rows;       // the output's pixels are evenly spaced in memory
};

// Rows x columns x terms of a product under R1, cut into blocks; a task is one block of one group.
struct GemmSchedule {
  int64_t rows, columns, terms;
  int64_t block_rows, block_columns;
  int64_t row_blocks, column_blocks;
};

// Input, weight, bias and output are of `dtype`, here and in the structures below.
struct LinearArgs {
  DType dtype;
  Precision precision;  // of a linear layer in R9's reach
  const void* input;    // rows x terms, rows `input_stride` apart, terms dense
  int64_t input_stride;
  const void* weight;  // panel: terms x columns, dense
  const void* bias;    // nullptr: none
  void* output;        // rows x columns, dense
  GemmSchedule gemm;
  Epilogue epilogue;
  // CUDA's.
  TilePlan plan;
  void* workspace;
};

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

// Sums over the reduced dimensions (at least one) for each index of the kept ones (at least one).
// A task is kTaskOutputs neighbours, or fewer, along the last kept dimension.
struct ReduceArgs {
  static constexpr int kMaxDims = 16;
  static constexpr int64_t kTaskOutputs = 64;
  DType dtype;
  const void* input;
  void* output;  // dense, kept dimensions in order, the last one fastest
  int kept_dims, reduced_dims;
  int64_t kept_sizes[kMaxDims], kept_strides[kMaxDims];
  int64_t reduced_sizes[kMaxDims], reduced_strides[kMaxDims];
  int64_t terms;    // product of reduced_sizes
  int64_t divisor;  // rounded to the arithmetic type; 1 for a sum: x / 1 is x
};

// R5 over dense rows of `terms` elements; weight and bias have one value a term. Task: one row.
struct LayerNormArgs {
  DType dtype;
  const void* input;
  void* output;
  Parameter weight, bias;
  double eps;          // rounded to the arithmetic type before it is used
  bool subtract_mean;  // false: rms_norm
  int64_t rows, terms;
};

// R5 over the groups of channels of dense samples, in the order batch, channels, pixels or, in
// channels_last, batch, pixels, channels.
struct GroupNormArgs {
  DType dtype;
  const void* input;
  void* output;
  Parameter weight, bias;  // one value a channel
  double eps;              // rounded to the arithmetic type before it is used
  bool channels_last;
  int64_t batch, channels, groups, pixels;
  int64_t together;
};

// A task is `together` groups of one sample, the last of a sample perhaps fewer.
inline int64_t group_norm_tasks(const GroupNormArgs& a) {
  return a.batch * ((a.groups + a.together - 1) / a.together);
}

// R4 over outer x terms x inner elements, dense in that order, for each outer and inner index.
// A task is one row of terms where inner is 1, else kTaskInner neighbours, or fewer, of one outer index.
struct SoftmaxArgs {
  static constexpr int64_t kTaskInner = 64;
  DType dtype;
  const void* input;
  void* output;
  bool log;
  int64_t outer, terms, inner;
};
inline int64_t softmax_tasks(const SoftmaxArgs& a) {
  if (a.inner == 1) return a.outer;
  return a.outer * ((a.inner + SoftmaxArgs::kTaskInner - 1) / SoftmaxArgs::kTaskInner);
}

struct UnaryArgs {
  DType dtype;
  const void* input;
  void* output;  // may be the input
  Activation function;
  double negative_slope;  // leaky_relu's
  int64_t elements;
};

}  // namespace bninv
