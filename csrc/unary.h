// The elementwise functions' arguments and kernel; the functions are in activations.h.
#pragma once

#include <cstdint>

#include "kernel.h"

namespace bninv {

struct UnaryArgs {
  DType dtype;
  const void* input;
  void* output;  // may be the input
  Activation function;
  double negative_slope;  // leaky_relu's
  int64_t elements;
};

BNINV_DECLARE_KERNEL(unary, UnaryArgs)

}  // namespace bninv
