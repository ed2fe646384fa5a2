// Every elementwise function of one tensor, once (R6). From this list follow its number, its kernels at
// every level and on the GPU, its operator and its name: a new one is a line here, its expression in
// functions.h, and a function in bninv/operators/elementwise.py.
//
//   F(name, number, domain, operator, expression)
//
// domain: PIECEWISE functions are defined in every dtype; EXPONENTIAL ones not in binary64 yet.
// operator: PLAIN is `name(Tensor input)`; OWN has a function of its own in ops/unary.cpp.
// expression: of `x` and, for leaky_relu, `slope`, both of the arithmetic type V or a vector of it.
#pragma once

// These may follow another operator in its kernel. Their numbers are in golden data: add at the end.
#define BNINV_EPILOGUE_ACTIVATIONS(F)                             \
  F(relu, kRelu, PIECEWISE, PLAIN, relu(x))                       \
  F(relu6, kRelu6, PIECEWISE, PLAIN, relu6(x))                    \
  F(silu, kSilu, EXPONENTIAL, PLAIN, silu(x))                     \
  F(hardswish, kHardswish, PIECEWISE, PLAIN, hardswish(x))        \
  F(leaky_relu, kLeakyRelu, PIECEWISE, OWN, leaky_relu(x, slope)) \
  F(sigmoid, kSigmoid, EXPONENTIAL, PLAIN, sigmoid(x))            \
  F(hardsigmoid, kHardsigmoid, PIECEWISE, PLAIN, hardsigmoid(x))  \
  F(gelu, kGelu, EXPONENTIAL, OWN, gelu(x))                       \
  F(gelu_tanh, kGeluTanh, EXPONENTIAL, OWN, gelu_tanh(x))         \
  F(tanh, kTanh, EXPONENTIAL, PLAIN, tanh(x))

#define BNINV_ACTIVATIONS(F)                         \
  BNINV_EPILOGUE_ACTIVATIONS(F)                      \
  F(sqrt, kSqrt, PIECEWISE, PLAIN, sqrt(x))          \
  F(rsqrt, kRsqrt, PIECEWISE, PLAIN, V(1) / sqrt(x)) \
  F(mish, kMish, EXPONENTIAL, PLAIN, mish(x))
