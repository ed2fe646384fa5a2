// Every elementwise function of one tensor, once (R6). From this list follow its number, its kernels at
// every level and on the GPU, its operator and its name: a new one is a line here, its expression in
// functions.h, and a function in bninv/operators/elementwise.py.
//
//   F(name, number, operator, expression)
//
// operator: PLAIN is `name(Tensor input)`; OWN has a function of its own in ops/unary.cpp.
// expression: of `x` and of `parameter[]`, where there are any: of the arithmetic type V or a vector of it.
#pragma once

// These may follow another operator in its kernel. Their numbers are in golden data: add at the end.
#define BNINV_EPILOGUE_ACTIVATIONS(F)                         \
  F(relu, kRelu, PLAIN, relu(x))                              \
  F(relu6, kRelu6, PLAIN, relu6(x))                           \
  F(silu, kSilu, PLAIN, silu(x))                              \
  F(hardswish, kHardswish, PLAIN, hardswish(x))               \
  F(leaky_relu, kLeakyRelu, OWN, leaky_relu(x, parameter[0])) \
  F(sigmoid, kSigmoid, PLAIN, sigmoid(x))                     \
  F(hardsigmoid, kHardsigmoid, PLAIN, hardsigmoid(x))         \
  F(gelu, kGelu, OWN, gelu(x))                                \
  F(gelu_tanh, kGeluTanh, OWN, gelu_tanh(x))                  \
  F(tanh, kTanh, PLAIN, tanh(x))

#define BNINV_ACTIVATIONS(F)                                           \
  BNINV_EPILOGUE_ACTIVATIONS(F)                                        \
  F(sqrt, kSqrt, PLAIN, sqrt(x))                                       \
  F(rsqrt, kRsqrt, PLAIN, V(1) / sqrt(x))                              \
  F(mish, kMish, PLAIN, mish(x))                                       \
  F(exp, kExp, PLAIN, exp(x))                                          \
  F(exp2, kExp2, PLAIN, exp2(x))                                       \
  F(expm1, kExpm1, PLAIN, expm1(x))                                    \
  F(log, kLog, PLAIN, log(x))                                          \
  F(log1p, kLog1p, PLAIN, log1p(x))                                    \
  F(log2, kLog2, PLAIN, log2(x))                                       \
  F(log10, kLog10, PLAIN, log10(x))                                    \
  F(erf, kErf, PLAIN, erf(x))                                          \
  F(logsigmoid, kLogsigmoid, PLAIN, logsigmoid(x))                     \
  F(softplus, kSoftplus, OWN, softplus(x, parameter[0], parameter[1])) \
  F(elu, kElu, OWN, elu(x, parameter[0], parameter[1], parameter[2]))
