// Rows of the input resampled along the width: of dense elements, and of pixels of dense channels.
#pragma once

#include "resample_taps.h"

namespace bninv {
namespace BNINV_LEVEL {

// Lanes for `permute`: a vector's integers have no other way in than a vector's bits.
BNINV_INLINE auto lane_numbers(const int32_t* p) {
  return to_bits(load(reinterpret_cast<const float*>(p)));
}

// Rows whose elements are dense, resampled along the width a vector of outputs at a time. Where the
// taps of a vector's outputs lie within one vector of the input, as they do when an image grows, they
// are picked out of that one.
template <typename T>
class DenseRows {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  static constexpr int kCount = Lanes<T>::kCount;

 public:
  explicit DenseRows(const ResampleArgs& args)
      : table_(args, 2),
        size_(args.size[2]),
        vectors_(ceil_div(args.out_size[2], kCount)),
        taps_(table_.axis.taps),
        source_(size_ + kCount),
        weights_(vectors_ * taps_ * kCount),
        counts_(vectors_ * kCount),
        lanes_(vectors_ * taps_ * kCount),
        firsts_(vectors_),
        near_(vectors_),
        whole_(vectors_) {
    for (int64_t i = 0; i < kCount; ++i) source_.data[size_ + i] = 0;
    for (int64_t v = 0; v < vectors_; ++v) add_vector(v);
  }

  // `resampled` has room for whole vectors.
  void resample(const T* row, A* resampled) const {
    if (table_.axis.copied) return widen_run(row, size_, resampled);
    widen_run(row, size_, source_.data);
    with_taps(taps_, [&](auto taps) {
      for (int64_t v = 0; v < vectors_; ++v)
        store(resampled + v * kCount, vector<decltype(taps)::kCount>(v));
    });
  }

 private:
  void add_vector(int64_t v) {
    const int64_t out_size = table_.axis.out_size;
    int64_t first = size_, last = 0;
    whole_.data[v] = 1;
    for (int64_t l = 0; l < kCount; ++l) {
      // Lanes beyond the row's end repeat its last element.
      const int64_t i = min64(v * kCount + l, out_size - 1), count = table_.counts.data[i];
      counts_.data[v * kCount + l] = static_cast<A>(count);
      if (count < taps_) whole_.data[v] = 0;
      for (int64_t k = 0; k < taps_; ++k) {
        const int64_t place = (v * taps_ + k) * kCount + l;
        const bool exists = k < count;
        const int64_t index = exists ? table_.index(i)[k] : count > 0 ? table_.index(i)[0] : 0;
        weights_.data[place] = exists ? table_.weight(i)[k] : A(0);
        lanes_.data[place] = static_cast<int32_t>(index);
        first = min64(first, index), last = max64(last, index);
      }
    }
    firsts_.data[v] = first;
    near_.data[v] = last - first < kCount;
    for (int64_t i = v * taps_ * kCount; i < (v + 1) * taps_ * kCount; ++i)
      lanes_.data[i] -= static_cast<int32_t>(first);
  }

  template <int kTaps>
  BNINV_INLINE V vector(int64_t v) const {
    const int64_t taps = kTaps > 0 ? kTaps : taps_;
    const A* source = source_.data + firsts_.data[v];
    const A* weights = weights_.data + v * taps * kCount;
    const int32_t* lanes = lanes_.data + v * taps * kCount;
    V total(0.0f);
    if constexpr (kCount == kWidth && kWidth > 1) {
      if (near_.data[v] && whole_.data[v]) {
        const V values = load(source);
#pragma GCC unroll 4
        for (int64_t k = 0; k < taps; ++k)
          total = fma(load(weights + k * kCount), permute(values, lane_numbers(lanes + k * kCount)),
                      total);
        return total;
      }
    }
    for (int64_t k = 0; k < taps; ++k) {
      A values[kCount];
      for (int l = 0; l < kCount; ++l) values[l] = source[lanes[k * kCount + l]];
      const V longer = fma(load(weights + k * kCount), load(values), total);
      // A tap that an output does not have is no term.
      total = whole_.data[v]
                  ? longer
                  : select(load(counts_.data + v * kCount) > V(static_cast<A>(k)), longer, total);
    }
    return total;
  }

  AxisTable<A> table_;
  int64_t size_, vectors_, taps_;
  Scratch<A> source_, weights_, counts_;  // of each vector: weights tap by tap
  Scratch<int32_t> lanes_;                // likewise, counted from the vector's first element
  Scratch<int64_t> firsts_;
  Scratch<uint8_t> near_, whole_;  // whether its taps fit one vector; whether all have as many
};

// Rows of pixels whose channels are dense: each pixel's chain runs over vectors of channels.
template <typename T>
class PixelRows {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  static constexpr int kCount = Lanes<T>::kCount;

 public:
  explicit PixelRows(const ResampleArgs& args) : table_(args, 2), stride_(args.stride[2]) {}

  // `channels` of each output pixel, side by side.
  void resample(const T* row, int64_t channels, A* resampled) const {
    const int64_t out_size = table_.axis.out_size;
    if (table_.axis.copied) {
      for (int64_t i = 0; i < out_size; ++i)
        widen_run(row + i * stride_, channels, resampled + i * channels);
      return;
    }
    // With antialias there are as many at most.
    with_taps(table_.axis.antialias ? 0 : table_.axis.taps, [&](auto taps) {
      for (int64_t i = 0; i < out_size; ++i)
        pixel<decltype(taps)::kCount>(row, i, channels, resampled + i * channels);
    });
  }

 private:
  template <int kTaps>
  BNINV_INLINE void pixel(const T* row, int64_t i, int64_t channels, A* resampled) const {
    const int64_t count = table_.counts.data[i];
    const int64_t* indices = table_.index(i);
    const A* weights = table_.weight(i);
    const auto step = [&](int64_t c) {
      const V total = chain<V, kTaps>(
          weights, count, [&](int64_t k) { return load(row + indices[k] * stride_ + c); });
      store(resampled + c, total);
    };
    int64_t c = 0;
    for (; c + kCount <= channels; c += kCount) step(c);
    if (c < channels && channels >= kCount) return step(channels - kCount);
    for (; c < channels; ++c)
      resampled[c] = chain<A, kTaps>(
          weights, count, [&](int64_t k) { return widen(row[indices[k] * stride_ + c]); });
  }

  AxisTable<A> table_;
  int64_t stride_;
};

}  // namespace BNINV_LEVEL
}  // namespace bninv
