// What convolutions and linear layers share: how a product is cut into blocks, and what may follow it in
// its kernel.
#pragma once

#include <cstdint>

#include "types.h"

namespace bninv {

// What may follow a product in its kernel: activation(batch_norm(y) + residual), each step rounded to
// the storage type as the separate operators round (docs/numerics.md, R2). Or else, of `scales`, the
// product's own last steps (R1): alpha * y + beta * residual, of which the result alone is rounded so.
struct Epilogue {
  bool scales;
  double alpha, beta;
  bool normalizes;
  Parameter running_mean, running_var, weight, bias;
  double eps;
  const void* residual;  // nullptr: none; the output's strides
  Activation activation;
  double negative_slope;  // leaky_relu's

  bool is_empty() const {
    return !scales && !normalizes && residual == nullptr && activation == Activation::kNone;
  }
};

// Rows x columns x terms of a product under R1, cut into blocks; a task is one block of one group.
struct GemmSchedule {
  int64_t rows, columns, terms;
  int64_t block_rows, block_columns;
  int64_t row_blocks, column_blocks;
};

// Elements from a group to the next, in each of a product's tensors, and from a term of the weight to the
// next. A group is a convolution's, or a sample of bmm's.
struct GroupStrides {
  int64_t input, weight, output, term;
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
  GroupStrides groups;
};

namespace cuda {

// For tests: every product that has such a kernel gets this tile, of tiles(), and that many of R1's
// segments in a block (0: all); a negative tile leaves the choice to the plan again.
void set_plan(int64_t tile, int64_t segments_per_block);
int64_t tiles();

}  // namespace cuda

}  // namespace bninv
