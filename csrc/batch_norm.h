// R2 for one element (or one vector of them), and what may follow it in the same kernel.
#pragma once

#include "arguments.h"
#include "dtypes.h"

namespace bninv {
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
