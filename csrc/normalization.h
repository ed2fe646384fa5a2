// R5 for one element (or one vector of them): what layer_norm, rms_norm, group_norm and instance_norm do
// once the sums are known, and what they add to a lane of R3.
#pragma once

#include "numerics.h"

namespace bninv {
namespace BNINV_LEVEL {

// A term of a sum, and of a sum of squared distances from a mean.
struct AddTerm {
  template <typename V>
  BNINV_INLINE V operator()(V lane, V x) const {
    return lane + x;
  }
};

template <typename V>
struct AddSquare {
  V mean;
  BNINV_INLINE explicit AddSquare(V m) : mean(m) {}
  BNINV_INLINE V operator()(V lane, V x) const {
    const V d = x - mean;
    return fma(d, d, lane);
  }
};

// rms_norm's: there is no mean, so nothing is subtracted.
struct AddOwnSquare {
  template <typename V>
  BNINV_INLINE V operator()(V lane, V x) const {
    return fma(x, x, lane);
  }
};

template <typename A>
BNINV_INLINE A inverse_deviation(A variance, A eps) {
  return A(1) / sqrt(A(variance + eps));
}

template <typename V>
BNINV_INLINE V standardize(V d, V inverse, V weight, V bias) {
  return fma(d * inverse, weight, bias);
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
