// conv2d with one input and one output channel a group, under R1: the terms are the taps, row by row.
// A vector holds neighbouring channels of one output pixel, so every lane is a chain of its own.
#include "kernels.h"
#include "scratch.h"
#include "vec.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

// Outputs of channels [c, c + kVectors * kWidth) from the taps' pixels and the panel's rows.
template <int kVectors>
BNINV_INLINE void chains(const float* const* pixels, const float* weight, int64_t channels,
                         int64_t taps, int64_t c, Vec (&totals)[kVectors]) {
  for (int j = 0; j < kVectors; ++j) totals[j] = Vec::zero();
  for (int64_t first = 0; first < taps; first += kSegment) {
    const int64_t last = min64(first + kSegment, taps);
    Vec sums[kVectors];
    for (int j = 0; j < kVectors; ++j) sums[j] = Vec::zero();
    for (int64_t k = first; k < last; ++k)
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j)
        sums[j] = fma(Vec::load(pixels[k] + c + j * kWidth),
                      Vec::load(weight + k * channels + c + j * kWidth), sums[j]);
    for (int j = 0; j < kVectors; ++j) totals[j] = totals[j] + sums[j];
  }
}

inline float chain(const float* const* pixels, const float* weight, int64_t channels, int64_t taps,
                   int64_t c) {
  float total = 0.0f;
  for (int64_t first = 0; first < taps; first += kSegment) {
    const int64_t last = min64(first + kSegment, taps);
    float sum = 0.0f;
    for (int64_t k = first; k < last; ++k) sum = fma(pixels[k][c], weight[k * channels + c], sum);
    total = total + sum;
  }
  return total;
}

}  // namespace

void conv2d_depthwise(const Conv2dArgs& args, int64_t begin, int64_t end) {
  constexpr int kVectors = 4;
  const int64_t channels = args.channels, taps = args.kernel_h * args.kernel_w;
  Scratch<float> padding(channels + 1);
  for (int64_t c = 0; c < channels; ++c) padding.data[c] = 0.0f;
  Scratch<const float*> pixels(taps);
  Scratch<float> row(channels + 1);

  for (int64_t task = begin; task < end; ++task) {
    const int64_t n = task / args.out_height, oh = task % args.out_height;
    for (int64_t ow = 0; ow < args.out_width; ++ow) {
      for (int64_t r = 0, k = 0; r < args.kernel_h; ++r)
        for (int64_t s = 0; s < args.kernel_w; ++s, ++k) {
          const int64_t h = oh * args.step_h - args.pad_h + r * args.dilation_h;
          const int64_t w = ow * args.step_w - args.pad_w + s * args.dilation_w;
          const bool inside = h >= 0 && h < args.height && w >= 0 && w < args.width;
          pixels.data[k] =
              inside ? args.input + n * args.stride_n + h * args.stride_h + w * args.stride_w
                     : padding.data;
        }
      float* output =
          args.output + n * args.out_stride_n + oh * args.out_stride_h + ow * args.out_stride_w;
      float* dense = args.out_stride_c == 1 ? output : row.data;
      int64_t c = 0;
      for (; c + kVectors * kWidth <= channels; c += kVectors * kWidth) {
        Vec totals[kVectors];
        chains<kVectors>(pixels.data, args.weight, channels, taps, c, totals);
        for (int j = 0; j < kVectors; ++j) totals[j].store(dense + c + j * kWidth);
      }
      for (; c + kWidth <= channels; c += kWidth) {
        Vec totals[1];
        chains<1>(pixels.data, args.weight, channels, taps, c, totals);
        totals[0].store(dense + c);
      }
      for (; c < channels; ++c) dense[c] = chain(pixels.data, args.weight, channels, taps, c);
      if (args.bias != nullptr)
        for (c = 0; c < channels; ++c) dense[c] = dense[c] + args.bias[c];
      if (dense != output)
        for (c = 0; c < channels; ++c) output[c * args.out_stride_c] = dense[c];
    }
  }
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
