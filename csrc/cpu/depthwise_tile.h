// A tile of a depthwise convolution under R1: kDepthwisePixels output pixels, all channels. A vector holds
// neighbouring channels of one pixel, so every lane is a chain of its own. Some neighbouring pixels share
// each vector of weights, and their chains hide each other's latency.
#pragma once

#include "epilogue.h"

namespace bninv {
namespace BNINV_LEVEL {

constexpr int kDepthwisePixels = 4;

// All channels of kDepthwisePixels output pixels.
template <typename T>
struct DepthwiseTile {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  static constexpr int kCount = Lanes<T>::kCount;
  const T* const* taps;  // kDepthwisePixels a tap
  const int64_t* ends;   // a segment each: the number of taps up to its end
  int64_t segments, channels;
  const A* weight;  // widened: it serves every pixel
  const Output<T>& output;
  const int64_t* offsets;  // a pixel each

  // Channels [c, c + kVectors * kCount).
  template <int kVectors>
  BNINV_INLINE void vectors(int64_t c) const {
    V totals[kDepthwisePixels][kVectors];
    for (auto& row : totals)
      for (V& total : row) total = V(0);
    for (int64_t segment = 0, k = 0; segment < segments; ++segment) {
      const int64_t last = ends[segment];
      V sums[kDepthwisePixels][kVectors];
      for (auto& row : sums)
        for (V& sum : row) sum = V(0);
      for (; k < last; ++k) {
        V weights[kVectors];
#pragma GCC unroll 2
        for (int j = 0; j < kVectors; ++j)
          weights[j] = load(weight + k * channels + c + j * kCount);
#pragma GCC unroll 4
        for (int i = 0; i < kDepthwisePixels; ++i)
#pragma GCC unroll 2
          for (int j = 0; j < kVectors; ++j)
            sums[i][j] =
                fma(load(taps[k * kDepthwisePixels + i] + c + j * kCount), weights[j], sums[i][j]);
      }
#pragma GCC unroll 4
      for (int i = 0; i < kDepthwisePixels; ++i)
#pragma GCC unroll 2
        for (int j = 0; j < kVectors; ++j) totals[i][j] = totals[i][j] + sums[i][j];
    }
    output.store_tile(totals, c, kVectors * kCount, offsets);
  }

  // Channel c of pixel i.
  BNINV_INLINE A one(int64_t i, int64_t c) const {
    A total = 0;
    for (int64_t segment = 0, k = 0; segment < segments; ++segment) {
      A sum = 0;
      for (; k < ends[segment]; ++k)
        sum = fma(widen(taps[k * kDepthwisePixels + i][c]), weight[k * channels + c], sum);
      total = total + sum;
    }
    return total;
  }

  BNINV_INLINE void all() const {
    constexpr int kVectors = 2;
    int64_t c = 0;
    for (; c + kVectors * kCount <= channels; c += kVectors * kCount) vectors<kVectors>(c);
    for (; c + kCount <= channels; c += kCount) vectors<1>(c);
    if (c == channels) return;
    // The last channels: a vector that repeats some of the one before it, with equal bits.
    if (channels >= kCount) return vectors<1>(channels - kCount);
    for (int64_t i = 0; i < kDepthwisePixels; ++i) {
      A totals[kCount] = {};
      for (c = 0; c < channels; ++c) totals[c] = one(i, c);
      output.store_row(totals, 0, channels, offsets[i]);
    }
  }
};

// The panel in the arithmetic type: itself, or a copy that is made once for all of a range's pixels.
template <typename T>
const Arithmetic<T>* widened_panel(const T* panel, int64_t count, Arithmetic<T>* copy) {
  if constexpr (std::is_same_v<T, Arithmetic<T>>) {
    return panel;
  } else {
    widen_run(panel, count, copy);
    return copy;
  }
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
