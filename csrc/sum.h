// sum's and mean's arguments and kernel (R3).
#pragma once

#include <cstdint>

#include "kernel.h"

namespace bninv {

// Sums over the reduced dimensions (at least one) for each index of the kept ones (at least one).
// A task is kTaskOutputs neighbours, or fewer, along the last kept dimension.
struct ReduceArgs {
  static constexpr int kMaxDims = 16;
  static constexpr int64_t kTaskOutputs = 64;
  DType dtype;
  const void* input;
  void* output;
  int kept_dims, reduced_dims;
  int64_t kept_sizes[kMaxDims], kept_strides[kMaxDims];
  int64_t reduced_sizes[kMaxDims], reduced_strides[kMaxDims];
  // The output's, of the kept dimensions. On a GPU it is dense, the last one fastest.
  int64_t output_strides[kMaxDims];
  int64_t terms;    // product of reduced_sizes
  int64_t divisor;  // rounded to the arithmetic type; 1 for a sum: x / 1 is x
};

// Makes the output dense, the last kept dimension fastest.
inline void set_dense_output(ReduceArgs& args) {
  int64_t stride = 1;
  for (int d = args.kept_dims - 1; d >= 0; stride *= args.kept_sizes[d--])
    args.output_strides[d] = stride;
}

BNINV_DECLARE_KERNEL(sum, ReduceArgs)

}  // namespace bninv
