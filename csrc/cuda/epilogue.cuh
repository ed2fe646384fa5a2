// What follows a product's total, for neighbouring channels of one output pixel: bias, batch_norm,
// residual, activation. Each step but the last rounds to the storage type where a separate operator would
// have stored its result (docs/numerics.md, "Fusion").
#pragma once

#include "../activation.h"
#include "../batch_norm.h"
#include "../product.h"
#include "device.cuh"

namespace bninv {
namespace cuda {

// kCount neighbouring elements, moved as one access where `whole` says that all are there and aligned.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount < 16 ? sizeof(T) * kCount : 16) Elements {
  T lane[kCount];
};

template <typename T, int kCount>
__device__ __forceinline__ Elements<T, kCount> load_elements(const T* p, int64_t stride, int count,
                                                             bool whole) {
  if (whole) return *reinterpret_cast<const Elements<T, kCount>*>(p);
  Elements<T, kCount> values{};
#pragma unroll
  for (int l = 0; l < kCount; ++l)
    if (l < count) values.lane[l] = p[l * stride];
  return values;
}

template <typename T, int kCount>
__device__ __forceinline__ void store_elements(T* p, int64_t stride, int count, bool whole,
                                               const Elements<T, kCount>& values) {
  if (whole) {
    *reinterpret_cast<Elements<T, kCount>*>(p) = values;
    return;
  }
#pragma unroll
  for (int l = 0; l < kCount; ++l)
    if (l < count) p[l * stride] = values.lane[l];
}

// The parameters of channels c, ..., c + count - 1, read once for all the pixels that follow.
template <typename T, int kCount>
class ChannelEpilogue {
 public:
  using A = Arithmetic<T>;

  __device__ __forceinline__ ChannelEpilogue(const Epilogue& args, const void* bias, int64_t c,
                                             int count)
      : args_(args), has_bias_(bias != nullptr) {
#pragma unroll
    for (int l = 0; l < kCount; ++l) {
      const bool exists = l < count;
      bias_[l] = exists && has_bias_ ? widen(static_cast<const T*>(bias)[c + l]) : A(0);
      norm_[l] = exists && args.normalizes ? batch_norm_channel<T>(args, c + l)
                                           : BatchNormChannel<A>{0, 0, 0};
    }
  }

  // `residual` is ignored where there is none.
  __device__ __forceinline__ Elements<T, kCount> operator()(
      const A (&totals)[kCount], const Elements<T, kCount>& residual) const {
    Elements<T, kCount> result;
    A y[kCount];
#pragma unroll
    for (int l = 0; l < kCount; ++l) {
      y[l] = has_bias_ ? totals[l] + bias_[l] : totals[l];
      if (args_.scales) {
        y[l] = static_cast<A>(args_.alpha) * y[l];
        if (args_.residual != nullptr)
          y[l] = y[l] + static_cast<A>(args_.beta) * widen(residual.lane[l]);
        continue;
      }
      if (args_.normalizes)
        y[l] = normalize(rounded<T>(y[l]), norm_[l].mean, norm_[l].scale, norm_[l].bias);
      if (args_.residual != nullptr) y[l] = rounded<T>(y[l]) + widen(residual.lane[l]);
    }
    if (args_.activation != Activation::kNone) {
      const A slope = static_cast<A>(args_.negative_slope);
#pragma unroll
      for (int l = 0; l < kCount; ++l)
        y[l] = activate_any(args_.activation, rounded<T>(y[l]), slope);
    }
#pragma unroll
    for (int l = 0; l < kCount; ++l) result.lane[l] = narrow<T>(y[l]);
    return result;
  }

 private:
  const Epilogue& args_;
  bool has_bias_;
  A bias_[kCount];
  BatchNormChannel<A> norm_[kCount];
};

}  // namespace cuda
}  // namespace bninv
