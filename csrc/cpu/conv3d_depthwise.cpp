// conv3d and the transposed convolutions with one input and one output channel a group, under R1: the
// terms are the taps that a region has, in order.
#include "../conv3d.h"
#include "depthwise_tile.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

constexpr int kPixels = kDepthwisePixels;

// A region's taps: their weights, widened and next to each other, and where R1's segments end.
template <typename T>
struct RegionTaps {
  using A = Arithmetic<T>;
  const Conv3dArgs& args;
  int64_t most;  // taps of a kernel
  Scratch<A> weights;
  Scratch<int64_t> ends;
  int64_t segments = 0;

  explicit RegionTaps(const Conv3dArgs& arguments)
      : args(arguments),
        most(args.kernel_d * args.kernel_h * args.kernel_w),
        weights(most * args.channels),
        ends(ceil_div(most, kSegment)) {}

  void fill(const ConvRegion& region) {
    const ConvLine &d = region.d, &h = region.h, &w = region.w;
    int64_t count = 0, segment = -1;
    segments = 0;
    for (int64_t t = 0; t < d.taps; ++t)
      for (int64_t r = 0; r < h.taps; ++r)
        for (int64_t s = 0; s < w.taps; ++s, ++count) {
          const int64_t k =
              ((d.tap + t * d.tap_step) * args.kernel_h + h.tap + r * h.tap_step) * args.kernel_w +
              w.tap + s * w.tap_step;
          widen_run(static_cast<const T*>(args.weight) + k * args.channels, args.channels,
                    weights.data + count * args.channels);
          if (k / kSegment != segment) ends.data[segments++] = count;
          segment = k / kSegment;
          ends.data[segments - 1] = count + 1;
        }
  }
};

template <typename T>
void depthwise_of(const Conv3dArgs& args, int64_t begin, int64_t end) {
  if (begin == end) return;
  const int64_t channels = args.channels;
  const Output<T> output(args.epilogue, args.bias, args.output, args.out_stride_c, 0, channels);
  Scratch<T> padding(channels + 1);
  for (int64_t c = 0; c < channels; ++c) padding.data[c] = T{};
  RegionTaps<T> taps(args);
  Scratch<const T*> tapped(taps.most * kPixels);
  const ConvRegion *region = args.regions, *filled = nullptr;

  for (int64_t task = begin; task < end; ++task) {
    while (region + 1 < args.regions + args.region_count && region[1].first_task <= task) ++region;
    if (region != filled) taps.fill(*region);
    filled = region;
    const ConvLine &planes = region->d, &rows = region->h, &line = region->w;
    int64_t rest = task - region->first_task;
    const int64_t oh = rest % rows.count;
    rest /= rows.count;
    const int64_t od = rest % planes.count, n = rest / planes.count;
    const T* sample = static_cast<const T*>(args.input) + n * args.stride_n;
    const int64_t row = n * args.out_stride_n +
                        (planes.first + od * planes.step) * args.out_stride_d +
                        (rows.first + oh * rows.step) * args.out_stride_h;
    for (int64_t first = 0; first < line.count; first += kPixels) {
      const int64_t count = min64(kPixels, line.count - first);
      int64_t offsets[kPixels];
      for (int64_t i = 0; i < kPixels; ++i) {
        // A tile's missing pixels repeat its last one.
        const int64_t ow = first + min64(i, count - 1);
        offsets[i] = row + (line.first + ow * line.step) * args.out_stride_w;
        int64_t k = i;
        for (int64_t t = 0; t < planes.taps; ++t)
          for (int64_t r = 0; r < rows.taps; ++r)
            for (int64_t s = 0; s < line.taps; ++s, k += kPixels) {
              const int64_t d = planes.input + od * planes.input_step + t * planes.tap_reach;
              const int64_t h = rows.input + oh * rows.input_step + r * rows.tap_reach;
              const int64_t w = line.input + ow * line.input_step + s * line.tap_reach;
              const bool inside =
                  d >= 0 && d < args.depth && h >= 0 && h < args.height && w >= 0 && w < args.width;
              tapped.data[k] =
                  inside ? sample + d * args.stride_d + h * args.stride_h + w * args.stride_w
                         : padding.data;
            }
      }
      DepthwiseTile<T>{tapped.data,       taps.ends.data, taps.segments, channels,
                       taps.weights.data, output,         offsets}
          .all();
    }
  }
}

}  // namespace

void conv3d_depthwise(const Conv3dArgs& args, int64_t begin, int64_t end) {
  with_type(args.dtype,
            [&](auto type) { depthwise_of<typename decltype(type)::Type>(args, begin, end); });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
