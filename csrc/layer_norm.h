// layer_norm's and rms_norm's arguments and kernel.
#pragma once

#include <cstdint>

#include "kernel.h"

namespace bninv {

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

BNINV_DECLARE_KERNEL(layer_norm, LayerNormArgs)

}  // namespace bninv
