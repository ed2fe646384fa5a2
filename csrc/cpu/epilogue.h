// From a product's totals to its output: the bias, and what follows in the same operator (R2) while the
// totals are in registers or in the cache.
#pragma once

#include "../activation.h"
#include "channel_table.h"

namespace bninv {
namespace BNINV_LEVEL {

// Both kinds of end have the same two functions, for channels from c on of the pixel that begins `pixel`
// elements into the output: `finish` stores kVectors vectors of them, `finish_partial` so few that they
// fill no vector.

// Nothing but a bias follows.
template <typename T>
struct BiasEnd {
  using V = typename Lanes<T>::Value;
  const T* bias;  // nullptr: none
  T* output;

  template <int kVectors>
  BNINV_INLINE void finish(const V (&totals)[kVectors], int64_t c, int64_t pixel) const {
    constexpr int kCount = Lanes<T>::kCount;
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      V value = totals[j];
      if (bias != nullptr) value = value + load(bias + c + j * kCount);
      store(output + pixel + c + j * kCount, value);
    }
  }

  BNINV_INLINE void finish_partial(V total, int64_t count, int64_t c, int64_t pixel) const {
    if (bias != nullptr) total = total + load_partial(bias + c, count);
    store_partial(output + pixel + c, total, count);
  }
};

// Each step rounds to T where a separate operator would have stored its result.
template <typename T>
struct EpilogueEnd {
  using V = typename Lanes<T>::Value;
  static constexpr int kCount = Lanes<T>::kCount;
  const T* bias;         // nullptr: none
  ChannelLanes<T> norm;  // of nullptr: no batch_norm
  int64_t first;         // norm's first channel
  const T* residual;     // nullptr: none
  Activation activation;
  Arithmetic<T> negative_slope;
  T* output;

  template <int kVectors>
  BNINV_INLINE void finish(const V (&totals)[kVectors], int64_t c, int64_t pixel) const {
    V values[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) values[j] = totals[j];
    follow<kVectors>(values, c, pixel, [](const T* p) { return load(p); });
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) store(output + pixel + c + j * kCount, values[j]);
  }

  BNINV_INLINE void finish_partial(V total, int64_t count, int64_t c, int64_t pixel) const {
    V values[1] = {total};
    follow<1>(values, c, pixel, [count](const T* p) { return load_partial(p, count); });
    store_partial(output + pixel + c, values[0], count);
  }

 private:
  template <int kVectors, typename Load>
  BNINV_INLINE void follow(V (&values)[kVectors], int64_t c, int64_t pixel,
                           const Load& elements) const {
    if (bias != nullptr)
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) values[j] = values[j] + elements(bias + c + j * kCount);
    if (norm.means != nullptr)
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) {
        const auto channel = norm(c - first + j * kCount);
        values[j] =
            normalize<V>(rounded_lanes<T>(values[j]), channel.mean, channel.scale, channel.bias);
      }
    if (residual != nullptr)
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j)
        values[j] = rounded_lanes<T>(values[j]) + elements(residual + pixel + c + j * kCount);
    with_activation<T, Activation::kNone, Activation::kLeakyRelu>(activation, [&](auto function) {
      constexpr Activation kActivation = decltype(function)::value;
      if constexpr (kActivation == Activation::kNone) return;
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) {
        // relu needs no rounding before it: that it keeps or makes +0 cannot be told from where it
        // stands, and the store rounds.
        if constexpr (kActivation != Activation::kRelu) values[j] = rounded_lanes<T>(values[j]);
        values[j] = activate<kActivation>(values[j], V(negative_slope));
      }
    });
  }
};

// Where a kernel's totals go.
template <typename T>
class Output {
 public:
  using A = Arithmetic<T>;

  // For channels [first, first + count), which lie `stride` elements apart. Their parameters are read
  // here, once for all pixels. `bias` is the product's; nullptr: none.
  Output(const Epilogue& epilogue, const void* bias, void* output, int64_t stride, int64_t first,
         int64_t count);

  // `fill(end, pixel)` hands channels [c, c + count) of one pixel to the end, which is of either kind.
  template <typename Fill>
  BNINV_INLINE void with_end(int64_t c, int64_t count, int64_t pixel, const Fill& fill) const {
    if (is_plain_) return fill(BiasEnd<T>{end_.bias, end_.output}, pixel);
    if (stride_ == 1) return fill(end_, pixel);
    // By way of neighbours.
    EpilogueEnd<T> end = end_;
    end.output = dense_.data;
    if (end_.residual != nullptr) {
      T* residual = dense_.data + count;
      for (int64_t j = 0; j < count; ++j) residual[j] = end_.residual[pixel + (c + j) * stride_];
      end.residual = residual;
    }
    fill(end, -c);
    for (int64_t j = 0; j < count; ++j) end_.output[pixel + (c + j) * stride_] = dense_.data[j];
  }

  // The same for totals in memory, which may be read up to a whole vector.
  void store_totals(const A* totals, int64_t c, int64_t count, int64_t pixel) const;

 private:
  EpilogueEnd<T> end_;
  int64_t stride_;
  bool is_plain_;
  ChannelTable<T> table_;
  Scratch<T> dense_;  // a pixel's channels and residual, where they are no neighbours
};

}  // namespace BNINV_LEVEL
}  // namespace bninv
