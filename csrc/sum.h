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
  void* output;  // dense, kept dimensions in order, the last one fastest
  int kept_dims, reduced_dims;
  int64_t kept_sizes[kMaxDims], kept_strides[kMaxDims];
  int64_t reduced_sizes[kMaxDims], reduced_strides[kMaxDims];
  int64_t terms;    // product of reduced_sizes
  int64_t divisor;  // rounded to the arithmetic type; 1 for a sum: x / 1 is x
};

BNINV_DECLARE_KERNEL(sum, ReduceArgs)

}  // namespace bninv
