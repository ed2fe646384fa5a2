// group_norm under R5; a group of one channel is instance_norm. The sum of a group is R3 over each
// channel's pixels, then R3 over the group's channels. Bound by memory: a block that owns its groups
// alone reads them three times, the second and third time from a cache where they fit one.
#include "column_sum.cuh"
// column_sum.cuh first: it names the namespace of what follows.
#include "../parameter.h"
#include "kernels.h"
#include "launch.cuh"

namespace bninv {
namespace cuda {
namespace {

// At most. Four such blocks are all the threads a multiprocessor holds, at up to 32 registers; with the
// 64 that eight loads under way take, two of them have 32 KB in flight.
constexpr int kWarps = 16;

// What a block owns: neighbouring whole groups of one sample, `channels` channels in all.
template <typename T>
struct Owned {
  using A = Arithmetic<T>;
  const T* x;
  T* y;
  int64_t first_channel, channels, group, pixels;
  int groups;
  // Shared: memory to fold in, a sum for each of up to kSumSegment channels, two values a group.
  A *memory, *sums, *means, *inverses;

  __device__ __forceinline__ int group_of(int64_t c) const {
    return groups == 1 ? 0 : static_cast<int>(c) / static_cast<int>(group);
  }
};

// One channel's values, for the last pass.
template <typename T>
struct Channel {
  using A = Arithmetic<T>;
  A mean, inverse, weight, bias;

  __device__ __forceinline__ Channel(const GroupNormArgs& args, const Owned<T>& own, int64_t c)
      : mean(own.means[own.group_of(c)]),
        inverse(own.inverses[own.group_of(c)]),
        weight(parameter_at<T>(args.weight, 1, own.first_channel + c)),
        bias(parameter_at<T>(args.bias, 0, own.first_channel + c)) {}

  __device__ __forceinline__ T operator()(T x) const {
    return narrow<T>(standardize(widen(x) - mean, inverse, weight, bias));
  }
};

// ---- Contiguous: channels in planes --------------------------------------------------------------

// A warp owns a segment of a channel at a time, lanes along its pixels; the segments of all channels
// are dealt to the warps in order.
template <typename T>
struct Planes {
  using A = Arithmetic<T>;
  int warps;

  __device__ __forceinline__ int warp() const { return static_cast<int>(threadIdx.x) / 32; }
  __device__ __forceinline__ int lane() const { return static_cast<int>(threadIdx.x) % 32; }
  // 31 bits count these, and those of kSumSegment channels in a GPU's memory.
  static __device__ __forceinline__ int segments(int64_t pixels) {
    return static_cast<int>((pixels + kSumSegment - 1) / kSumSegment);
  }

  template <typename AddOf>
  __device__ __forceinline__ A segment_sum(const Owned<T>& own, int64_t c, int segment,
                                           const AddOf& add_of) const {
    const int64_t first = int64_t{segment} * kSumSegment;
    const int64_t last = first + kSumSegment < own.pixels ? first + kSumSegment : own.pixels;
    const T* x = own.x + c * own.pixels;
    const auto term = [=](int64_t k) { return widen(x[k]); };
    return fold_warp(lane_of_segment<A>(first, last, lane(), term, add_of(c)));
  }

  // To own.sums, of the channels from `first` on.
  template <typename AddOf>
  __device__ __forceinline__ void sum(const Owned<T>& own, int64_t first, int count,
                                      const AddOf& add_of) const {
    const int segments = Planes::segments(own.pixels), units = count * segments;
    if (segments == 1) {
      for (int c = warp(); c < count; c += warps) {
        const A total = segment_sum(own, first + c, 0, add_of);
        if (lane() == 0) own.sums[c] = total;
      }
      return;
    }
    // The first thread goes through the segments' sums in their order, channel after channel.
    A total = 0;
    int channel = 0, added = 0;
    for (int unit = 0; unit < units; unit += warps) {
      const int mine = unit + warp();
      if (mine < units) {
        const A part = segment_sum(own, first + mine / segments, mine % segments, add_of);
        if (lane() == 0) own.memory[warp()] = part;
      }
      __syncthreads();
      if (threadIdx.x == 0)
        for (int w = 0; w < warps && unit + w < units; ++w) {
          total = total + own.memory[w];
          if (++added < segments) continue;
          own.sums[channel++] = total;
          total = 0;
          added = 0;
        }
      __syncthreads();
    }
  }

  __device__ __forceinline__ void apply(const GroupNormArgs& args, const Owned<T>& own,
                                        int64_t first, int count) const {
    const int segments = Planes::segments(own.pixels), units = count * segments;
    for (int unit = warp(); unit < units; unit += warps) {
      const int64_t c = first + unit / segments;
      const int64_t begin = unit % segments * kSumSegment;
      const int64_t end = begin + kSumSegment < own.pixels ? begin + kSumSegment : own.pixels;
      const Channel<T> channel(args, own, c);
      const T* __restrict__ x = own.x + c * own.pixels;
      T* __restrict__ y = own.y + c * own.pixels;
#pragma unroll 4
      for (int64_t k = begin + lane(); k < end; k += 32) y[k] = channel(x[k]);
    }
  }
};

// ---- channels_last: channels side by side --------------------------------------------------------

// Threads across neighbouring channels, rows of threads down the pixels, tile after tile of channels.
template <typename T>
struct Interleaved {
  using A = Arithmetic<T>;
  ColumnTile tile;
  int64_t stride;  // from pixel to pixel

  template <typename AddOf>
  __device__ __forceinline__ void sum(const Owned<T>& own, int64_t first, int count,
                                      const AddOf& add_of) const {
    for (int begin = 0; begin < count; begin += tile.width) {
      const int at = begin + tile.column();
      const bool exists = at < count;
      const int64_t c = first + (exists ? at : 0);
      const T* x = own.x + c;
      const int64_t step = stride;
      const auto term = [=](int64_t k) { return widen(x[k * step]); };
      const A total = column_sum<A>(tile, own.pixels, exists, term, add_of(c), own.memory);
      if (exists && tile.row() == 0) own.sums[at] = total;
    }
  }

  __device__ __forceinline__ void apply(const GroupNormArgs& args, const Owned<T>& own,
                                        int64_t first, int count) const {
    for (int at = tile.column(); at < count; at += tile.width) {
      const int64_t c = first + at;
      const Channel<T> channel(args, own, c);
      const T* __restrict__ x = own.x + c;
      T* __restrict__ y = own.y + c;
#pragma unroll 4
      for (int64_t k = tile.row(); k < own.pixels; k += tile.rows())
        y[k * stride] = channel(x[k * stride]);
    }
  }
};

// ---- Either --------------------------------------------------------------------------------------

// Calls body(first, count) for the channels of a block, as many at a time as there is memory for sums.
template <typename T, typename Body>
__device__ __forceinline__ void for_channels(const Owned<T>& own, const Body& body) {
  for (int64_t first = 0; first < own.channels; first += kSumSegment) {
    const int64_t rest = own.channels - first;
    body(first, static_cast<int>(rest < kSumSegment ? rest : kSumSegment));
  }
}

// To values[g] what `finish` makes of the sum of group g. A warp owns a group; channels beyond a segment
// are added as R3 adds segments, and then the block's only group has them.
template <typename T, typename Order, typename AddOf, typename Finish>
__device__ __forceinline__ void reduce_groups(const Owned<T>& own, const Order& order,
                                              const AddOf& add_of, const Finish& finish,
                                              Arithmetic<T>* values) {
  using A = Arithmetic<T>;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  for_channels(own, [&](int64_t first, int count) {
    order.sum(own, first, count, add_of);
    __syncthreads();
    for (int g = warp; g < own.groups; g += warps) {
      const A* sums = own.sums + g * own.group;
      const A part = warp_sum<A>(
          own.group < count ? own.group : count, [=](int64_t k) { return sums[k]; }, AddTerm{});
      if (lane == 0) {
        const A total = first == 0 ? part : values[g] + part;
        values[g] = first + count == own.channels ? finish(total) : total;
      }
    }
    __syncthreads();
  });
}

struct Tiling {
  int64_t together;  // groups that a block owns, the last of a sample perhaps fewer
  int warps;
  ColumnTile columns;  // channels_last
  int64_t channels;    // sums in shared memory
};

template <typename T, bool kChannelsLast>
__global__ void __launch_bounds__(kWarps * 32, 2)
    group_norm_kernel(const GroupNormArgs args, const Tiling tiling) {
  using A = Arithmetic<T>;
  const int64_t blocks = (args.groups + tiling.together - 1) / tiling.together;
  const int64_t sample = blockIdx.x / blocks, first = blockIdx.x % blocks * tiling.together;
  const int64_t rest = args.groups - first;

  Owned<T> own;
  own.group = args.channels / args.groups;
  own.groups = static_cast<int>(rest < tiling.together ? rest : tiling.together);
  own.first_channel = first * own.group;
  own.channels = own.groups * own.group;
  own.pixels = args.pixels;
  const int64_t start =
      sample * args.channels * args.pixels + own.first_channel * (kChannelsLast ? 1 : args.pixels);
  own.x = static_cast<const T*>(args.input) + start;
  own.y = static_cast<T*>(args.output) + start;
  own.memory = dynamic_shared<A>();
  own.sums = own.memory + column_memory(tiling.warps);
  own.means = own.sums + tiling.channels;
  own.inverses = own.means + tiling.together;

  const auto run = [&](const auto& order) {
    const A terms = static_cast<A>(own.group * own.pixels), eps = static_cast<A>(args.eps);
    reduce_groups(
        own, order, [](int64_t) { return AddTerm{}; }, [=](A sum) { return sum / terms; },
        own.means);
    reduce_groups(
        own, order, [&](int64_t c) { return AddSquare<A>(own.means[own.group_of(c)]); },
        [=](A sum) { return inverse_deviation(sum / terms, eps); }, own.inverses);
    for_channels(own, [&](int64_t first, int count) { order.apply(args, own, first, count); });
  };
  if constexpr (kChannelsLast)
    run(Interleaved<T>{tiling.columns, args.channels});
  else
    run(Planes<T>{tiling.warps});
}

// ---- Launching -----------------------------------------------------------------------------------

int64_t clamp(int64_t x, int64_t least, int64_t most) { return x < least ? least : min64(x, most); }

// Small groups share a block until its warps have a segment each, but no multiprocessor is left idle
// for that.
Tiling tile_planes(const GroupNormArgs& args, int64_t group) {
  const int64_t units = group * ceil_div(args.pixels, kSumSegment);
  const int64_t spare = args.batch * args.groups / multiprocessors("group_norm");
  Tiling tiling{};
  tiling.together = clamp(min64(kWarps / units, spare), 1, args.groups);
  tiling.warps = static_cast<int>(min64(tiling.together * units, kWarps));
  return tiling;
}

// Groups side by side until a row of threads reads whole sectors of 32 bytes; where a channel is one
// segment, until there is a column for every warp.
template <typename T>
Tiling tile_interleaved(const GroupNormArgs& args, int64_t group) {
  constexpr int64_t kSector = 32 / sizeof(T);
  const int64_t segments = ceil_div(args.pixels, kSumSegment);
  Tiling tiling{};
  tiling.together = clamp((segments > 1 ? kSector : kWarps) / group, 1, args.groups);
  const int64_t channels = tiling.together * group;
  const int64_t width = ceil_div(channels, ceil_div(channels, kWarps));
  const int64_t slots = clamp(kWarps / width, 1, segments);
  tiling.columns = {static_cast<int>(width), static_cast<int>(slots)};
  tiling.warps = static_cast<int>(width * slots);
  return tiling;
}

template <typename T, bool kChannelsLast>
void launch_order(const GroupNormArgs& args, void* stream) {
  const int64_t group = args.channels / args.groups;
  Tiling tiling = kChannelsLast ? tile_interleaved<T>(args, group) : tile_planes(args, group);
  tiling.channels = min64(tiling.together * group, kSumSegment);
  // 38 KB for the largest groups in binary64.
  const int64_t shared = column_memory(tiling.warps) + tiling.channels + 2 * tiling.together;
  launch({"group_norm", args.batch * ceil_div(args.groups, tiling.together), tiling.warps * 32,
          static_cast<size_t>(shared) * sizeof(Arithmetic<T>), stream},
         group_norm_kernel<T, kChannelsLast>, args, tiling);
}

template <typename T>
void launch_dtype(const GroupNormArgs& args, void* stream) {
  if (args.channels_last)
    launch_order<T, true>(args, stream);
  else
    launch_order<T, false>(args, stream);
}

}  // namespace

void group_norm(const GroupNormArgs& args, void* stream) {
  switch (args.dtype) {
    case DType::kFloat:
      return launch_dtype<float>(args, stream);
    case DType::kDouble:
      return launch_dtype<double>(args, stream);
    case DType::kHalf:
      return launch_dtype<Half>(args, stream);
    case DType::kBFloat16:
      return launch_dtype<BFloat16>(args, stream);
  }
}

}  // namespace cuda
}  // namespace bninv
