// The two memory orders of group_norm.cu: how a block sums its channels, and how it goes over them.
#pragma once

#include "column_tile.cuh"
// column_tile.cuh first: it names the namespace of what follows.
#include "../group_norm.h"
#include "../parameter.h"

namespace bninv {
namespace cuda {

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

  // A channel of one pixel is one term, added to the +0 of its lane: a thread each.
  template <typename AddOf>
  __device__ __forceinline__ void take_pixel(const Owned<T>& own, int64_t first, int count,
                                             const AddOf& add_of) const {
    for (int at = threadIdx.x; at < count; at += blockDim.x)
      own.sums[at] = add_of(first + at)(A(0), widen(own.x[first + at]));
  }

  template <typename AddOf>
  __device__ __forceinline__ void sum(const Owned<T>& own, int64_t first, int count,
                                      const AddOf& add_of) const {
    if (own.pixels == 1) return take_pixel(own, first, count, add_of);
    for (int begin = 0; begin < count; begin += tile.width) {
      const int at = begin + tile.column();
      const bool exists = at < count;
      const int64_t c = first + (exists ? at : 0);
      const T* x = own.x + c;
      const int64_t step = stride;
      const auto term = [=](int64_t k) { return widen(x[k * step]); };
      const A total = tile_sum<A>(tile, own.pixels, exists, term, add_of(c), own.memory);
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

}  // namespace cuda
}  // namespace bninv
