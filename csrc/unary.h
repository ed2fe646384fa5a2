// The elementwise functions' arguments and kernel; the functions are in activations.h.
#pragma once

#include <cstdint>

#include "kernel.h"

namespace bninv {

// What the functions with parameters have at most: leaky_relu one, softplus two, elu three.
inline constexpr int kUnaryParameters = 3;

struct UnaryArgs {
  DType dtype;
  const void* input;
  void* output;  // may be the input
  Activation function;
  double parameters[kUnaryParameters];  // rounded to the arithmetic type by the kernel
  int64_t elements;
};

BNINV_DECLARE_KERNEL(unary, UnaryArgs)

}  // namespace bninv
