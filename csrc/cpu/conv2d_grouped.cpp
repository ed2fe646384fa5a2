// conv2d with few channels a group, under R1: a vector holds neighbouring output channels, of one
// group or of several, so that narrow groups still fill it.
//
// A task is a block of output pixels times a block of output channels. Per tile of kPixels pixels the
// taps' addresses are found once and used for every vector of the block; nothing is packed but the
// block's weights (panel rows are a power of two apart: in place they would fall into few cache sets).
#include "../conv2d.h"
#include "epilogue.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

constexpr int kPixels = 6;

// How the lanes of a vector find their input: all in one group; several whole groups whose inputs are
// one vector too; anything else.
enum class Sources { kOneGroup, kWholeGroups, kAny };

struct Groups {
  int64_t in, out;  // channels per group
  Sources sources;
};

template <typename A>
inline Groups groups_of(const Conv2dArgs& args) {
  constexpr int kCount = Lanes<A>::kCount;
  const int64_t in = args.channels / args.groups, out = args.out_channels / args.groups;
  if (out % kCount == 0) return {in, out, Sources::kOneGroup};
  // There is no permutation of doubles.
  if (std::is_same_v<A, float> && in == out && kCount % out == 0)
    return {in, out, Sources::kWholeGroups};
  return {in, out, Sources::kAny};
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

// Channels of one tap of kPixels pixels in the arithmetic type: where they are, or widened copies.
template <typename T>
struct TapRun {
  using A = Arithmetic<T>;
  static constexpr bool kInPlace = std::is_same_v<T, A>;
  A copies[kInPlace ? 1 : kPixels][kInPlace ? 1 : kSegment];
  const A* pixels[kPixels];

  // Spelled out: GCC compiles constructors that it writes itself for the baseline instruction set.
  BNINV_INLINE TapRun(const T* const* tap, int64_t channel, int64_t count) {
    if constexpr (kInPlace) {
      for (int i = 0; i < kPixels; ++i) pixels[i] = tap[i] + channel;
    } else {
      constexpr int kCount = Lanes<T>::kCount;
      for (int i = 0; i < kPixels; ++i) pixels[i] = copies[i];
      int64_t c = 0;
      for (; c + kCount <= count; c += kCount)
#pragma GCC unroll 8
        for (int i = 0; i < kPixels; ++i) store(copies[i] + c, load(tap[i] + channel + c));
      if (c == count) return;
      // Not element by element: GCC would then leave the chains half of AVX-512's registers.
      T last[kCount] = {};
      for (int i = 0; i < kPixels; ++i) {
        for (int64_t l = 0; l < count - c; ++l) last[l] = tap[i][channel + c + l];
        store(copies[i] + c, load(last));
      }
    }
  }
};

// Totals of kPixels x kVectors vectors of channels from `channel` on; `weights` are the block's packed
// rows, `width` elements apart, already moved to `channel`.
template <typename T, int kVectors, Sources kSources>
inline void chains(const Conv2dArgs& args, const Groups& groups, const T* const* pixels,
                   const Arithmetic<T>* weights, int64_t width, int64_t channel,
                   typename Lanes<T>::Value (&totals)[kPixels][kVectors]) {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  constexpr int kCount = Lanes<T>::kCount;
  const int64_t terms = args.kernel_h * args.kernel_w * groups.in;
  const int64_t first_input = channel / groups.out * groups.in;
  // Where each lane's group begins. Lanes beyond the last channel have weights of +0 and are not
  // stored.
  int64_t own_inputs[kCount];
  for (int l = 0; l < kCount; ++l)
    own_inputs[l] = min64(channel + l, args.out_channels - 1) / groups.out * groups.in;
  for (auto& row : totals)
    for (V& total : row) total = V(0);
  for (int64_t segment = 0; segment < terms; segment += kSegment) {
    const int64_t end = min64(segment + kSegment, terms);
    V sums[kPixels][kVectors];
    for (auto& row : sums)
      for (V& sum : row) sum = V(0);
    for (int64_t k = segment; k < end;) {
      const T* const* tap = pixels + k / groups.in * kPixels;
      int64_t c = k % groups.in;
      const int64_t run = min64(groups.in - c, end - k);
#if BNINV_VEC_WIDTH > 1
      if constexpr (kSources == Sources::kWholeGroups) {
        const VecInt lanes = first_lanes(groups.out);
        V inputs[kPixels];
#pragma GCC unroll 8
        for (int i = 0; i < kPixels; ++i) inputs[i] = load(tap[i] + first_input);
        for (const int64_t last = c + run; c < last; ++c, ++k) {
          const VecInt lane = lanes + VecInt(static_cast<int32_t>(c));
          const V weight = load(weights + k * width);
#pragma GCC unroll 8
          for (int i = 0; i < kPixels; ++i)
            sums[i][0] = fma(permute(inputs[i], lane), weight, sums[i][0]);
        }
        continue;
      }
#endif
      // In kAny each lane looks for its own channel.
      const TapRun<T> inputs(tap, first_input + c, kSources == Sources::kAny ? 0 : run);
      for (int64_t at = 0; at < run; ++at, ++c, ++k) {
        V weight[kVectors];
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) weight[j] = load(weights + k * width + j * kCount);
#pragma GCC unroll 8
        for (int i = 0; i < kPixels; ++i) {
          V input;
          if constexpr (kSources != Sources::kAny) {
            input = V(inputs.pixels[i][at]);
          } else {
            A lanes[kCount];
            for (int l = 0; l < kCount; ++l) lanes[l] = widen(tap[i][own_inputs[l] + c]);
            input = load(lanes);
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

template <typename T, int kVectors, Sources kSources>
void pixels_times_channels(const Conv2dArgs& args, const Groups& groups, const T* const* pixels,
                           const Arithmetic<T>* weights, int64_t width, int64_t channel,
                           int64_t count, const Output<T>& output, const int64_t* offsets) {
  typename Lanes<T>::Value totals[kPixels][kVectors];
  chains<T, kVectors, kSources>(args, groups, pixels, weights, width, channel, totals);
  output.store_tile(totals, channel, count, offsets);
}

// A block's weights, widened, in rows of kPackedWidth elements with +0 beyond the last channel.
template <typename T>
struct PackedBlock {
  using A = Arithmetic<T>;
  static constexpr int64_t kPackedWidth =
      (GroupedBlocks::kChannels + Lanes<T>::kCount - 1) / Lanes<T>::kCount * Lanes<T>::kCount;
  const Conv2dArgs& args;
  int64_t terms;
  Scratch<A> memory;

  PackedBlock(const Conv2dArgs& arguments, int64_t count)
      : args(arguments), terms(count), memory(count * kPackedWidth) {}

  void fill(int64_t channel, int64_t channels) {
    for (int64_t k = 0; k < terms; ++k) {
      const T* row = static_cast<const T*>(args.weight) + k * args.out_channels + channel;
      A* packed = memory.data + k * kPackedWidth;
      widen_run(row, channels, packed);
      for (int64_t l = channels; l < kPackedWidth; ++l) packed[l] = 0;
    }
  }
};

template <typename T>
void grouped_of(const Conv2dArgs& args, int64_t begin, int64_t end) {
  using A = Arithmetic<T>;
  constexpr int kCount = Lanes<T>::kCount;
  constexpr int64_t kWide = kCount > 1 ? 2 : 1;
  if (begin == end) return;
  const Groups groups = groups_of<A>(args);
  const GroupedBlocks blocks = grouped_blocks(args);
  const int64_t taps = args.kernel_h * args.kernel_w;
  const int64_t image = args.out_height * args.out_width, rows = args.batch * image;
  PackedBlock<T> weights(args, taps * groups.in);
  const int64_t first_channel = begin / blocks.rows * GroupedBlocks::kChannels;
  const int64_t end_channel =
      min64(((end - 1) / blocks.rows + 1) * GroupedBlocks::kChannels, args.out_channels);
  const Output<T> output(args.epilogue, args.bias, args.output, args.out_stride_c, first_channel,
                         end_channel - first_channel);
  Scratch<T> padding(args.channels + kCount);
  for (int64_t c = 0; c < args.channels + kCount; ++c) padding.data[c] = T{};
  Scratch<const T*> pixels(taps * kPixels);
  int64_t packed = -1;

  for (int64_t task = begin; task < end; ++task) {
    const int64_t block = task / blocks.rows;
    const int64_t channel = block * GroupedBlocks::kChannels;
    const int64_t channels = min64(GroupedBlocks::kChannels, args.out_channels - channel);
    if (block != packed) weights.fill(channel, channels);
    packed = block;
    const int64_t first = task % blocks.rows * GroupedBlocks::kRows;
    const int64_t last = min64(first + GroupedBlocks::kRows, rows);
    for (int64_t row = first; row < last; row += kPixels) {
      const int64_t count = min64(kPixels, last - row);
      int64_t offsets[kPixels];
      for (int64_t i = 0; i < kPixels; ++i) {
        // A tile's missing pixels repeat its last one.
        const int64_t pixel = row + min64(i, count - 1);
        const int64_t n = pixel / image, oh = pixel % image / args.out_width;
        const int64_t ow = pixel % args.out_width;
        const T* sample = static_cast<const T*>(args.input) + n * args.stride_n;
        offsets[i] = n * args.out_stride_n + oh * args.out_stride_h + ow * args.out_stride_w;
        for (int64_t r = 0, k = i; r < args.kernel_h; ++r)
          for (int64_t s = 0; s < args.kernel_w; ++s, k += kPixels) {
            const int64_t h = oh * args.step_h - args.pad_h + r * args.dilation_h;
            const int64_t w = ow * args.step_w - args.pad_w + s * args.dilation_w;
            const bool inside = h >= 0 && h < args.height && w >= 0 && w < args.width;
            pixels.data[k] = inside ? sample + h * args.stride_h + w * args.stride_w : padding.data;
          }
      }
      const auto call = [&](auto function, int64_t c, int64_t lanes) {
        function(args, groups, pixels.data, weights.memory.data + c, PackedBlock<T>::kPackedWidth,
                 channel + c, min64(lanes, channels - c), output, offsets);
      };
      int64_t c = 0;
      if (groups.sources == Sources::kOneGroup && groups.out % (kWide * kCount) == 0)
        for (; c + kWide * kCount <= channels; c += kWide * kCount)
          call(pixels_times_channels<T, kWide, Sources::kOneGroup>, c, kWide * kCount);
      for (; c < channels; c += kCount) {
        // A vector cut off by the block's end would read inputs beyond the last group's.
        if (groups.sources == Sources::kOneGroup) {
          call(pixels_times_channels<T, 1, Sources::kOneGroup>, c, kCount);
          continue;
        }
        if constexpr (std::is_same_v<A, float>)
          if (groups.sources == Sources::kWholeGroups && c + kCount <= channels) {
            call(pixels_times_channels<T, 1, Sources::kWholeGroups>, c, kCount);
            continue;
          }
        call(pixels_times_channels<T, 1, Sources::kAny>, c, kCount);
      }
    }
  }
}

}  // namespace

void conv2d_grouped(const Conv2dArgs& args, int64_t begin, int64_t end) {
  with_type(args.dtype,
            [&](auto type) { grouped_of<typename decltype(type)::Type>(args, begin, end); });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
