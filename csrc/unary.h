// The elementwise functions of one tensor: their list, their arguments and their kernel.
#pragma once

#include <cstdint>

#include "kernel.h"

namespace bninv {

// Every one of them, as activations.h explains. Those here no other operator has in its kernel; from
// sin on they are binary64's in either format. Their numbers are in golden data: add at the end.
#define BNINV_FUNCTIONS(F)       \
  BNINV_ACTIVATIONS(F)           \
  F(sin, kSin, PLAIN, sin(x))    \
  F(cos, kCos, PLAIN, cos(x))    \
  F(tan, kTan, PLAIN, tan(x))    \
  F(atan, kAtan, PLAIN, atan(x)) \
  F(sinh, kSinh, PLAIN, sinh(x)) \
  F(cosh, kCosh, PLAIN, cosh(x))

enum class Function : int64_t {
  kNone,
#define BNINV_NUMBER(name, number, ...) number,
  BNINV_FUNCTIONS(BNINV_NUMBER)
#undef BNINV_NUMBER
};

#define BNINV_COUNT(...) +1
inline constexpr int64_t kFunctions = 0 BNINV_FUNCTIONS(BNINV_COUNT);
#undef BNINV_COUNT
// By a function's number: its name.
inline constexpr const char* kFunctionNames[] = {"none",
#define BNINV_NAME(name, ...) #name,
                                                 BNINV_FUNCTIONS(BNINV_NAME)
#undef BNINV_NAME
};

// The activations come first, under their own numbers.
constexpr Function as_function(Activation activation) { return static_cast<Function>(activation); }

// What the functions with parameters have at most: leaky_relu one, softplus two, elu three.
inline constexpr int kUnaryParameters = 3;

struct UnaryArgs {
  DType dtype;
  const void* input;
  void* output;  // may be the input
  Function function;
  double parameters[kUnaryParameters];  // rounded to the arithmetic type by the kernel
  int64_t elements;
};

BNINV_DECLARE_KERNEL(unary, UnaryArgs)

}  // namespace bninv
