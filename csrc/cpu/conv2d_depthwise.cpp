// conv2d with one input and one output channel a group, under R1: the terms are the taps, row by row.
// A vector holds neighbouring channels of one output pixel, so every lane is a chain of its own. Some
// neighbouring pixels share each vector of weights, and their chains hide each other's latency.
#include "../conv2d.h"
#include "epilogue.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

constexpr int kPixels = 4;

// All channels of kPixels output pixels.
template <typename T>
struct Tile {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  static constexpr int kCount = Lanes<T>::kCount;
  const T* const* taps;  // kPixels a tap
  int64_t count, channels;
  const A* weight;  // widened: it serves every pixel
  const Output<T>& output;
  const int64_t* offsets;  // a pixel each

  // Channels [c, c + kVectors * kCount).
  template <int kVectors>
  BNINV_INLINE void vectors(int64_t c) const {
    V totals[kPixels][kVectors];
    for (auto& row : totals)
      for (V& total : row) total = V(0);
    for (int64_t first = 0; first < count; first += kSegment) {
      const int64_t last = min64(first + kSegment, count);
      V sums[kPixels][kVectors];
      for (auto& row : sums)
        for (V& sum : row) sum = V(0);
      for (int64_t k = first; k < last; ++k) {
        V weights[kVectors];
#pragma GCC unroll 2
        for (int j = 0; j < kVectors; ++j)
          weights[j] = load(weight + k * channels + c + j * kCount);
#pragma GCC unroll 4
        for (int i = 0; i < kPixels; ++i)
#pragma GCC unroll 2
          for (int j = 0; j < kVectors; ++j)
            sums[i][j] = fma(load(taps[k * kPixels + i] + c + j * kCount), weights[j], sums[i][j]);
      }
#pragma GCC unroll 4
      for (int i = 0; i < kPixels; ++i)
#pragma GCC unroll 2
        for (int j = 0; j < kVectors; ++j) totals[i][j] = totals[i][j] + sums[i][j];
    }
    output.store_tile(totals, c, kVectors * kCount, offsets);
  }

  // Channel c of pixel i.
  BNINV_INLINE A one(int64_t i, int64_t c) const {
    A total = 0;
    for (int64_t first = 0; first < count; first += kSegment) {
      const int64_t last = min64(first + kSegment, count);
      A sum = 0;
      for (int64_t k = first; k < last; ++k)
        sum = fma(widen(taps[k * kPixels + i][c]), weight[k * channels + c], sum);
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
    for (int64_t i = 0; i < kPixels; ++i) {
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

template <typename T>
void depthwise_of(const Conv2dArgs& args, int64_t begin, int64_t end) {
  using A = Arithmetic<T>;
  if (begin == end) return;
  const int64_t channels = args.channels, taps = args.kernel_h * args.kernel_w;
  const Output<T> output(args.epilogue, args.bias, args.output, args.out_stride_c, 0, channels);
  Scratch<T> padding(channels + 1);
  for (int64_t c = 0; c < channels; ++c) padding.data[c] = T{};
  Scratch<const T*> tapped(taps * kPixels);
  Scratch<A> copy(std::is_same_v<T, A> ? 1 : taps * channels);
  const A* weight = widened_panel(static_cast<const T*>(args.weight), taps * channels, copy.data);

  for (int64_t task = begin; task < end; ++task) {
    const int64_t n = task / args.out_height, oh = task % args.out_height;
    const T* sample = static_cast<const T*>(args.input) + n * args.stride_n;
    const int64_t row = n * args.out_stride_n + oh * args.out_stride_h;
    for (int64_t first = 0; first < args.out_width; first += kPixels) {
      const int64_t count = min64(kPixels, args.out_width - first);
      int64_t offsets[kPixels];
      for (int64_t i = 0; i < kPixels; ++i) {
        // A tile's missing pixels repeat its last one.
        const int64_t ow = first + min64(i, count - 1);
        offsets[i] = row + ow * args.out_stride_w;
        for (int64_t r = 0, k = i; r < args.kernel_h; ++r)
          for (int64_t s = 0; s < args.kernel_w; ++s, k += kPixels) {
            const int64_t h = oh * args.step_h - args.pad_h + r * args.dilation_h;
            const int64_t w = ow * args.step_w - args.pad_w + s * args.dilation_w;
            const bool inside = h >= 0 && h < args.height && w >= 0 && w < args.width;
            tapped.data[k] = inside ? sample + h * args.stride_h + w * args.stride_w : padding.data;
          }
      }
      Tile<T>{tapped.data, taps, channels, weight, output, offsets}.all();
    }
  }
}

}  // namespace

void conv2d_depthwise(const Conv2dArgs& args, int64_t begin, int64_t end) {
  with_type(args.dtype,
            [&](auto type) { depthwise_of<typename decltype(type)::Type>(args, begin, end); });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
