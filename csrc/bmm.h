// bmm's arguments and kernels: a product under R1, or R9, for each sample of a batch.
#pragma once

#include <cstdint>

#include "kernel.h"
#include "product.h"

namespace bninv {

// A batch of matrices: what lies between two samples, two rows and two columns. Any of them may be 0.
// A batch may be one of groups of samples, such as an image's heads: `group` lies between those.
struct MatrixStrides {
  int64_t sample, row, column;
  int64_t group = 0;

  int64_t of(int64_t i, int64_t samples) const {
    return i / samples * group + i % samples * sample;
  }
};

// Operands and output are of `dtype`.
struct BmmArgs {
  DType dtype;
  Precision precision;
  int64_t batch;
  int64_t samples;    // in a group; CUDA's kernel has one group
  const void* input;  // samples of rows x terms
  MatrixStrides input_strides;
  const void* mat2;  // samples of terms x columns
  MatrixStrides mat2_strides;
  void* output;       // samples of rows x columns, dense
  GemmSchedule gemm;  // of one sample
  Epilogue epilogue;
  // CUDA's, which wants the last dimension of both operands dense.
  TilePlan plan;
  void* workspace;
};

// A task is one block of one sample.
BNINV_DECLARE_KERNEL(bmm, BmmArgs)

namespace cuda {

// Fills in args.plan, as those of conv2d.h.
void plan_bmm(BmmArgs& args);

}  // namespace cuda

}  // namespace bninv
