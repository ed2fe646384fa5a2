// linear's arguments and kernels (R1).
#pragma once

#include <cstdint>

#include "kernel.h"
#include "product.h"

namespace bninv {

// Input, weight, bias and output are of `dtype`.
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

BNINV_DECLARE_KERNEL(linear, LinearArgs)

namespace cuda {

// Fills in args.plan, as those of conv2d.h.
void plan_linear(LinearArgs& args);

}  // namespace cuda

}  // namespace bninv
