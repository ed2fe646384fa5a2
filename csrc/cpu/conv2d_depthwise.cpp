// conv2d with one input and one output channel a group, under R1: the terms are the taps, row by row.
#include "../conv2d.h"
#include "depthwise_tile.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

constexpr int kPixels = kDepthwisePixels;

template <typename T>
void depthwise_of(const Conv2dArgs& args, int64_t begin, int64_t end) {
  using A = Arithmetic<T>;
  if (begin == end) return;
  const int64_t channels = args.channels, taps = args.kernel_h * args.kernel_w;
  const Output<T> output(args.epilogue, args.bias, args.output, args.out_stride_c, 0, channels);
  Scratch<T> padding(channels + 1);
  for (int64_t c = 0; c < channels; ++c) padding.data[c] = T{};
  Scratch<const T*> tapped(taps * kPixels);
  Scratch<int64_t> ends(ceil_div(taps, kSegment));
  const int64_t segments = ceil_div(taps, kSegment);
  for (int64_t i = 0; i < segments; ++i) ends.data[i] = min64((i + 1) * kSegment, taps);
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
      DepthwiseTile<T>{tapped.data, ends.data, segments, channels, weight, output, offsets}.all();
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
