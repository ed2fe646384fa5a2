// The elementwise functions of two tensors: their list, their arguments and their kernel.
#pragma once

#include <cstdint>

#include "kernel.h"

namespace bninv {

// F(name, number, expression of x and y). Their numbers are in golden data: add at the end.
#define BNINV_BINARY_FUNCTIONS(F)                   \
  F(pow, kPow, pow(x, y))                           \
  F(fmod, kFmod, fmod(x, y))                        \
  F(remainder, kRemainder, remainder(x, y))         \
  F(floor_divide, kFloorDivide, floor_divide(x, y)) \
  F(trunc_divide, kTruncDivide, trunc_divide(x, y)) \
  F(atan2, kAtan2, atan2(x, y))                     \
  F(hypot, kHypot, hypot(x, y))

enum class BinaryFunction : int64_t {
#define BNINV_NUMBER(name, number, ...) number,
  BNINV_BINARY_FUNCTIONS(BNINV_NUMBER)
#undef BNINV_NUMBER
};

// By a function's number: its name.
inline constexpr const char* kBinaryNames[] = {
#define BNINV_NAME(name, ...) #name,
    BNINV_BINARY_FUNCTIONS(BNINV_NAME)
#undef BNINV_NAME
};

struct BinaryArgs {
  DType dtype;
  const void* input;
  const void* other;
  void* output;
  BinaryFunction function;
  // 1, or 0 for an operand that is one number for all.
  int64_t input_step, other_step;
  int64_t elements;
};

BNINV_DECLARE_KERNEL(binary, BinaryArgs)

}  // namespace bninv
