// From a product's totals to its output: the bias, and what follows in the same operator (R2) while the
// totals are in registers or in the cache.
#pragma once

#include "../activation.h"
#include "../product.h"
#include "channel_table.h"

namespace bninv {
namespace BNINV_LEVEL {

// Vectors of channels, from c on, of each of some pixels that begin `pixels` elements into the output.
// Where nothing but a bias follows:
template <typename T>
struct BiasEnd {
  using V = typename Lanes<T>::Value;
  const T* bias;  // nullptr: none
  T* output;

  template <int kPixels, int kVectors>
  BNINV_INLINE void finish(const V (&totals)[kPixels][kVectors], int64_t c,
                           const int64_t* pixels) const {
    constexpr int kCount = Lanes<T>::kCount;
#pragma GCC unroll 8
    for (int i = 0; i < kPixels; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) {
        V value = totals[i][j];
        if (bias != nullptr) value = value + load(bias + c + j * kCount);
        store(output + pixels[i] + c + j * kCount, value);
      }
  }

  // So few channels of one pixel that they fill no vector.
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
  const T* bias;  // nullptr: none
  bool scales;
  Arithmetic<T> alpha, beta;
  ChannelLanes<T> norm;  // of nullptr: no batch_norm
  int64_t first;         // norm's first channel
  const T* residual;     // nullptr: none
  Activation activation;
  Arithmetic<T> negative_slope;
  T* output;

  template <int kPixels, int kVectors>
  BNINV_INLINE void finish(const V (&totals)[kPixels][kVectors], int64_t c,
                           const int64_t* pixels) const {
    V values[kPixels][kVectors];
    follow<kPixels, kVectors>(totals, values, c, pixels, [](const T* p) { return load(p); });
#pragma GCC unroll 8
    for (int i = 0; i < kPixels; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) store(output + pixels[i] + c + j * kCount, values[i][j]);
  }

  BNINV_INLINE void finish_partial(V total, int64_t count, int64_t c, int64_t pixel) const {
    const V totals[1][1] = {{total}};
    V values[1][1];
    follow<1, 1>(totals, values, c, &pixel, [count](const T* p) { return load_partial(p, count); });
    store_partial(output + pixel + c, values[0][0], count);
  }

 private:
  template <int kPixels, int kVectors, typename Load>
  BNINV_INLINE void follow(const V (&totals)[kPixels][kVectors], V (&values)[kPixels][kVectors],
                           int64_t c, const int64_t* pixels, const Load& elements) const {
    const auto each = [](const auto& step) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j)
#pragma GCC unroll 8
        for (int i = 0; i < kPixels; ++i) step(i, j);
    };
    each([&](int i, int j) { values[i][j] = totals[i][j]; });
    if (bias != nullptr)
      each([&](int i, int j) { values[i][j] = values[i][j] + elements(bias + c + j * kCount); });
    if (scales) {
      each([&](int i, int j) { values[i][j] = V(alpha) * values[i][j]; });
      if (residual == nullptr) return;
      return each([&](int i, int j) {
        values[i][j] = values[i][j] + V(beta) * elements(residual + pixels[i] + c + j * kCount);
      });
    }
    if (norm.means != nullptr)
      each([&](int i, int j) {
        const auto channel = norm(c - first + j * kCount);
        values[i][j] =
            normalize<V>(rounded_lanes<T>(values[i][j]), channel.mean, channel.scale, channel.bias);
      });
    if (residual != nullptr)
      each([&](int i, int j) {
        values[i][j] =
            rounded_lanes<T>(values[i][j]) + elements(residual + pixels[i] + c + j * kCount);
      });
    if (activation == Activation::kNone) return;
    // No rounding before it: that it keeps or makes +0 cannot be told from where it stands.
    if (activation == Activation::kRelu)
      return each([&](int i, int j) { values[i][j] = relu(values[i][j]); });
    with_activation<Activation::kRelu6, kLastEpilogue>(activation, [&](auto function) {
      // A loop over memory of its own: the constants are many, and so would be the copies.
      V memory[kPixels * kVectors];
      each([&](int i, int j) { memory[i * kVectors + j] = rounded_lanes<T>(values[i][j]); });
#pragma GCC unroll 1
      for (int l = 0; l < kPixels * kVectors; ++l)
        memory[l] = activate<decltype(function)::value>(memory[l], V(negative_slope));
      each([&](int i, int j) { values[i][j] = memory[i * kVectors + j]; });
    });
  }
};

// Where a kernel's totals go.
template <typename T>
class Output {
 public:
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  static constexpr int kCount = Lanes<T>::kCount;

  // For channels [first, first + count), which lie `stride` elements apart. Their parameters are read
  // here, once for all pixels. `bias` is the product's; nullptr: none.
  Output(const Epilogue& epilogue, const void* bias, void* output, int64_t stride, int64_t first,
         int64_t count);

  // Stores channels [c, c + count) of each of some pixels that begin `pixels` elements into the output.
  // One that stands there twice has equal totals.
  template <int kPixels, int kVectors>
  BNINV_INLINE void store_tile(const V (&totals)[kPixels][kVectors], int64_t c, int64_t count,
                               const int64_t* pixels) const {
    const bool whole = stride_ == 1 && count == kVectors * kCount;
    if (whole && is_plain_) return BiasEnd<T>{end_.bias, end_.output}.finish(totals, c, pixels);
    if (whole) return end_.finish(totals, c, pixels);
    for (int i = 0; i < kPixels; ++i) {
      A row[kVectors * kCount];
      for (int j = 0; j < kVectors; ++j) store(row + j * kCount, totals[i][j]);
      store_row(row, c, count, pixels[i]);
    }
  }

  // The same for `rows` pixels' totals in memory, `totals_stride` from one to the next, which may be read
  // up to a whole vector. The first begins at `pixel`, each next one `step` further.
  BNINV_INLINE void store_rows(const A* totals, int64_t totals_stride, int64_t rows, int64_t c,
                               int64_t count, int64_t pixel, int64_t step) const {
    const bool whole = stride_ == 1 && count == kTileVectors * kCount;
    if (whole && !is_plain_) return store_tiles(totals, totals_stride, rows, c, pixel, step);
    const BiasEnd<T> end{end_.bias, end_.output};
    for (int64_t i = 0; i < rows; ++i, totals += totals_stride, pixel += step) {
      if (whole)
        end.template finish<1, kTileVectors>({{load(totals), load(totals + kCount)}}, c, &pixel);
      else
        store_row(totals, c, count, pixel);
    }
  }

  // The same for one pixel.
  void store_row(const A* totals, int64_t c, int64_t count, int64_t pixel) const;

 private:
  // Channels that a product's tile finishes at once; others go pixel by pixel.
  static constexpr int kTileVectors = 2;

  void store_tiles(const A* totals, int64_t totals_stride, int64_t rows, int64_t c, int64_t pixel,
                   int64_t step) const;

  EpilogueEnd<T> end_;
  int64_t stride_;
  bool is_plain_;
  ChannelTable<T> table_;
  Scratch<T> dense_;  // a pixel's channels and residual, where they are no neighbours
};

}  // namespace BNINV_LEVEL
}  // namespace bninv
