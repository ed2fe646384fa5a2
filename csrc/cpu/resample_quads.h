// Images resampled by two taps in each dimension, without a row kept in between.
#pragma once

#include "resample_taps.h"

namespace bninv {
namespace BNINV_LEVEL {

// Images in channels_last by two taps a dimension: the four pixels of an output pixel are read where they
// lie, which costs less than keeping rows. Two output rows between the same input rows are done at once.
template <typename T>
class PixelQuads {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  static constexpr int kCount = Lanes<T>::kCount;

 public:
  explicit PixelQuads(const ResampleArgs& args) : args_(args), height_(args, 1), width_(args, 2) {}

  // Whether an output row lies between the same input rows as the next one.
  bool is_paired(int64_t oh) const {
    return oh + 1 < args_.out_size[1] && height_.index(oh)[0] == height_.index(oh + 1)[0];
  }

  // `channels` of each pixel of kRows output rows from `oh` on.
  template <int kRows>
  void resample(const T* input, int64_t oh, int64_t channels, T* output) const {
    const T* above = input + height_.index(oh)[0] * args_.stride[1];
    const T* below = input + height_.index(oh)[1] * args_.stride[1];
    const int64_t pitch = args_.out_size[2] * args_.channels;
    A upper[kRows], lower[kRows];
    for (int r = 0; r < kRows; ++r)
      upper[r] = height_.weight(oh + r)[0], lower[r] = height_.weight(oh + r)[1];
    for (int64_t ow = 0; ow < args_.out_size[2]; ++ow, output += args_.channels) {
      const int64_t left = width_.index(ow)[0] * args_.stride[2];
      const int64_t right = width_.index(ow)[1] * args_.stride[2];
      const T *a = above + left, *b = above + right, *c = below + left, *d = below + right;
      const A nearer = width_.weight(ow)[0], farther = width_.weight(ow)[1];
      const auto step = [&]<typename W>(W zero, W p, W q, W r, W s, const auto& write) {
        const W top = fma(W(farther), q, fma(W(nearer), p, zero));
        const W bottom = fma(W(farther), s, fma(W(nearer), r, zero));
        for (int row = 0; row < kRows; ++row)
          write(row * pitch, fma(W(lower[row]), bottom, fma(W(upper[row]), top, zero)));
      };
      const auto vector = [&](int64_t i) {
        step(V(0.0f), load(a + i), load(b + i), load(c + i), load(d + i),
             [&](int64_t row, V value) { store(output + row + i, value); });
      };
      int64_t i = 0;
      for (; i + kCount <= channels; i += kCount) vector(i);
      if (i < channels && channels >= kCount) {
        vector(channels - kCount);
        continue;
      }
      for (; i < channels; ++i)
        step(A(0), widen(a[i]), widen(b[i]), widen(c[i]), widen(d[i]),
             [&](int64_t row, A value) { output[row + i] = narrow<T>(value); });
    }
  }

 private:
  const ResampleArgs& args_;
  AxisTable<A> height_, width_;
};

}  // namespace BNINV_LEVEL
}  // namespace bninv
