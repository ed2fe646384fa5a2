// batch_norm's arguments and kernel; R2 for one element (or one vector of them), and what may follow it in the same kernel.
#pragma once

#include "dtypes.h"
#include "kernel.h"

namespace bninv {

// y = activation(batch_norm(x) + residual) over `outer` x `channels` x `inner` elements, dense in that
// order: inner is 1 for channels_last, outer the batch for contiguous tensors. Everything but the
// parameters is of `dtype`.
struct BatchNormArgs {
  DType dtype;
  const void* input;
  const void* residual;  // nullptr: none
  void* output;
  Parameter running_mean, running_var, weight, bias;
  double eps;  // rounded to the arithmetic type before it is used
  Activation activation;
  double negative_slope;  // leaky_relu's
  int64_t outer, channels, inner;
};

BNINV_DECLARE_KERNEL(batch_norm, BatchNormArgs)

namespace BNINV_LEVEL {

template <typename V>
BNINV_INLINE V batch_norm_scale(V weight, V running_var, V eps) {
  return weight / sqrt(running_var + eps);
}

// One channel's parameters, in the arithmetic type A.
template <typename A>
struct BatchNormChannel {
  A mean, scale, bias;
};

// Read at every call: nothing is cached. A missing weight is 1, a missing bias +0. `args` is
// batch_norm's, or the epilogue of another operator.
template <typename T, typename Args>
BNINV_INLINE BatchNormChannel<Arithmetic<T>> batch_norm_channel(const Args& args, int64_t c) {
  using A = Arithmetic<T>;
  const auto read = [c](const Parameter& parameter, A missing) {
    return parameter.data != nullptr ? element<T>(parameter.data, parameter.dtype, c) : missing;
  };
  const A scale = batch_norm_scale<A>(read(args.weight, 1), read(args.running_var, 0),
                                      static_cast<A>(args.eps));
  return {read(args.running_mean, 0), scale, read(args.bias, 0)};
}

template <typename V>
BNINV_INLINE V normalize(V x, V mean, V scale, V bias) {
  return fma(x - mean, scale, bias);
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
