// conv2d with few channels a group, under R1: a vector holds neighbouring output channels, of one
// group or of several, so that narrow groups still fill it.
//
// A task is a block of output pixels times a block of output channels. Per tile of kPixels pixels the
// taps' addresses are found once and used for every vector of the block; nothing is packed but the
// block's weights (panel rows are a power of two apart: in place they would fall into few cache sets).
#include "kernels.h"
#include "scratch.h"
#include "vec.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

constexpr int kPixels = 6;

// How the lanes of a vector find their input: all in one group; several whole groups whose inputs are
// one vector too; anything else.
enum class Lanes { kOneGroup, kWholeGroups, kAny };

struct Groups {
  int64_t in, out;  // channels per group
  Lanes lanes;
};

inline Groups groups_of(const Conv2dArgs& args) {
  const int64_t in = args.channels / args.groups, out = args.out_channels / args.groups;
  if (out % kWidth == 0) return {in, out, Lanes::kOneGroup};
  if (in == out && kWidth % out == 0) return {in, out, Lanes::kWholeGroups};
  return {in, out, Lanes::kAny};
}

#if BNINV_VEC_WIDTH > 1
// Lane l takes channel c of its group: the group's first lane plus c.
inline VecInt first_lanes(int64_t out) {
  int32_t lanes[kWidth];
  for (int l = 0; l < kWidth; ++l) lanes[l] = static_cast<int32_t>(l / out * out);
  VecInt indices(0);
  memcpy(&indices.v, lanes, sizeof(lanes));
  return indices;
}
#endif

// Totals of kPixels x kVectors vectors of channels from `channel` on; `weights` are the block's packed
// rows, `width` floats apart, already moved to `channel`.
template <int kVectors, Lanes kLanes>
inline void chains(const Conv2dArgs& args, const Groups& groups, const float* const* pixels,
                   const float* weights, int64_t width, int64_t channel,
                   Vec (&totals)[kPixels][kVectors]) {
  const int64_t terms = args.kernel_h * args.kernel_w * groups.in;
  const int64_t first_input = channel / groups.out * groups.in;
  for (auto& row : totals)
    for (Vec& total : row) total = Vec::zero();
  for (int64_t segment = 0; segment < terms; segment += kSegment) {
    const int64_t end = min64(segment + kSegment, terms);
    Vec sums[kPixels][kVectors];
    for (auto& row : sums)
      for (Vec& sum : row) sum = Vec::zero();
    for (int64_t k = segment; k < end;) {
      const float* const* tap = pixels + k / groups.in * kPixels;
      int64_t c = k % groups.in;
      const int64_t run = min64(groups.in - c, end - k);
#if BNINV_VEC_WIDTH > 1
      if constexpr (kLanes == Lanes::kWholeGroups) {
        const VecInt lanes = first_lanes(groups.out);
        Vec inputs[kPixels];
#pragma GCC unroll 8
        for (int i = 0; i < kPixels; ++i) inputs[i] = Vec::load(tap[i] + first_input);
        for (const int64_t last = c + run; c < last; ++c, ++k) {
          const VecInt lane = lanes + VecInt(static_cast<int32_t>(c));
          const Vec weight = Vec::load(weights + k * width);
#pragma GCC unroll 8
          for (int i = 0; i < kPixels; ++i)
            sums[i][0] = fma(permute(inputs[i], lane), weight, sums[i][0]);
        }
        continue;
      }
#endif
      for (const int64_t last = c + run; c < last; ++c, ++k) {
        Vec weight[kVectors];
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) weight[j] = Vec::load(weights + k * width + j * kWidth);
#pragma GCC unroll 8
        for (int i = 0; i < kPixels; ++i) {
          Vec input;
          if constexpr (kLanes == Lanes::kAny) {
            float lanes[kWidth];
            for (int l = 0; l < kWidth; ++l) {
              // Lanes beyond the last channel have weights of +0 and are not stored.
              const int64_t o = min64(channel + l, args.out_channels - 1);
              lanes[l] = tap[i][o / groups.out * groups.in + c];
            }
            input = Vec::load(lanes);
          } else {
            input = Vec(tap[i][first_input + c]);
          }
#pragma GCC unroll 4
          for (int j = 0; j < kVectors; ++j) sums[i][j] = fma(input, weight[j], sums[i][j]);
        }
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kPixels; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) totals[i][j] = totals[i][j] + sums[i][j];
  }
}

template <int kVectors, Lanes kLanes>
void pixels_times_channels(const Conv2dArgs& args, const Groups& groups, const float* const* pixels,
                           const float* weights, int64_t width, int64_t channel, int64_t count,
                           float* const* outputs, int64_t rows) {
  Vec totals[kPixels][kVectors];
  chains<kVectors, kLanes>(args, groups, pixels, weights, width, channel, totals);
  if (args.out_stride_c == 1 && count == kVectors * kWidth) {
    for (int64_t i = 0; i < rows; ++i)
      for (int j = 0; j < kVectors; ++j) {
        const int64_t o = channel + j * kWidth;
        Vec total = totals[i][j];
        if (args.bias != nullptr) total = total + Vec::load(args.bias + o);
        total.store(outputs[i] + o);
      }
    return;
  }
  for (int64_t i = 0; i < rows; ++i) {
    float lanes[kVectors * kWidth];
    for (int j = 0; j < kVectors; ++j) totals[i][j].store(lanes + j * kWidth);
    for (int64_t l = 0; l < count; ++l) {
      const int64_t o = channel + l;
      outputs[i][o * args.out_stride_c] = args.bias != nullptr ? lanes[l] + args.bias[o] : lanes[l];
    }
  }
}

}  // namespace

void conv2d_grouped(const Conv2dArgs& args, int64_t begin, int64_t end) {
  const Groups groups = groups_of(args);
  const GroupedBlocks blocks = grouped_blocks(args);
  const int64_t taps = args.kernel_h * args.kernel_w, terms = taps * groups.in;
  const int64_t image = args.out_height * args.out_width, rows = args.batch * image;
  constexpr int64_t kWide = kWidth > 1 ? 2 : 1;
  const int64_t width = ceil_div(GroupedBlocks::kChannels, kWidth) * kWidth;
  Scratch<float> weights(terms * width + 1);
  Scratch<float> padding(args.channels + kWidth);
  for (int64_t c = 0; c < args.channels + kWidth; ++c) padding.data[c] = 0.0f;
  Scratch<const float*> pixels(taps * kPixels);
  int64_t packed = -1;

  for (int64_t task = begin; task < end; ++task) {
    const int64_t block = task / blocks.rows;
    const int64_t channel = block * GroupedBlocks::kChannels;
    const int64_t channels = min64(GroupedBlocks::kChannels, args.out_channels - channel);
    if (block != packed) {
      for (int64_t k = 0; k < terms; ++k)
        for (int64_t l = 0; l < width; ++l)
          weights.data[k * width + l] =
              l < channels ? args.weight[k * args.out_channels + channel + l] : 0.0f;
      packed = block;
    }
    const int64_t first = task % blocks.rows * GroupedBlocks::kRows;
    const int64_t last = min64(first + GroupedBlocks::kRows, rows);
    for (int64_t row = first; row < last; row += kPixels) {
      const int64_t count = min64(kPixels, last - row);
      float* outputs[kPixels];
      for (int64_t i = 0; i < kPixels; ++i) {
        // A tile's missing pixels repeat its last one and are not stored.
        const int64_t pixel = row + min64(i, count - 1);
        const int64_t n = pixel / image, oh = pixel % image / args.out_width;
        const int64_t ow = pixel % args.out_width;
        outputs[i] =
            args.output + n * args.out_stride_n + oh * args.out_stride_h + ow * args.out_stride_w;
        for (int64_t r = 0, k = i; r < args.kernel_h; ++r)
          for (int64_t s = 0; s < args.kernel_w; ++s, k += kPixels) {
            const int64_t h = oh * args.step_h - args.pad_h + r * args.dilation_h;
            const int64_t w = ow * args.step_w - args.pad_w + s * args.dilation_w;
            const bool inside = h >= 0 && h < args.height && w >= 0 && w < args.width;
            pixels.data[k] =
                inside ? args.input + n * args.stride_n + h * args.stride_h + w * args.stride_w
                       : padding.data;
          }
      }
      const auto call = [&](auto function, int64_t c, int64_t lanes) {
        function(args, groups, pixels.data, weights.data + c, width, channel + c,
                 min64(lanes, channels - c), outputs, count);
      };
      int64_t c = 0;
      if (groups.lanes == Lanes::kOneGroup && groups.out % (kWide * kWidth) == 0)
        for (; c + kWide * kWidth <= channels; c += kWide * kWidth)
          call(pixels_times_channels<kWide, Lanes::kOneGroup>, c, kWide * kWidth);
      for (; c < channels; c += kWidth) {
        // A vector cut off by the block's end would read inputs beyond the last group's.
        if (groups.lanes == Lanes::kOneGroup)
          call(pixels_times_channels<1, Lanes::kOneGroup>, c, kWidth);
        else if (groups.lanes == Lanes::kWholeGroups && c + kWidth <= channels)
          call(pixels_times_channels<1, Lanes::kWholeGroups>, c, kWidth);
        else
          call(pixels_times_channels<1, Lanes::kAny>, c, kWidth);
      }
    }
  }
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
