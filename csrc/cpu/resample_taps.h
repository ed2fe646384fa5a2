// R8's taps as tables, which follow from sizes alone, and the chain over them.
#pragma once

#include "../resample.h"
#include "scratch.h"
#include "vec_dtypes.h"

namespace bninv {
namespace BNINV_LEVEL {

// R8's taps of every output element along one dimension.
template <typename A>
struct AxisTable {
  ResampleAxis<A> axis;
  Scratch<int64_t> counts, indices;  // of output element i from i * taps on
  Scratch<A> weights;

  AxisTable(const ResampleArgs& args, int d)
      : axis(args, d),
        counts(axis.out_size),
        indices(axis.out_size * axis.taps),
        weights(axis.out_size * axis.taps) {
    for (int64_t i = 0; i < axis.out_size; ++i) {
      const ResampleTaps<A> taps(axis, i);
      counts.data[i] = taps.count;
      for (int64_t k = 0; k < taps.count; ++k) {
        indices.data[i * axis.taps + k] = taps.index(k);
        weights.data[i * axis.taps + k] = taps.weight(k);
      }
    }
  }
  const int64_t* index(int64_t i) const { return indices.data + i * axis.taps; }
  const A* weight(int64_t i) const { return weights.data + i * axis.taps; }
};

// Calls `body` with the number of taps as a constant where it is one of the common ones, else as 0.
template <int kTaps>
struct TapConstant {
  static constexpr int kCount = kTaps;
};
template <typename Body>
BNINV_INLINE void with_taps(int64_t count, const Body& body) {
  if (count == 2) return body(TapConstant<2>{});
  if (count == 4) return body(TapConstant<4>{});
  body(TapConstant<0>{});
}

// The chain over `count` taps, of which value(k) gives an element or a vector.
template <typename V, int kCount, typename A, typename Value>
BNINV_INLINE V chain(const A* weights, int64_t count, const Value& value) {
  V total(0.0f);
  const int64_t last = kCount > 0 ? kCount : count;
#pragma GCC unroll 4
  for (int64_t k = 0; k < last; ++k) total = fma(V(weights[k]), value(k), total);
  return total;
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
