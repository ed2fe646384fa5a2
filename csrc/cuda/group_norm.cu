// group_norm under R5; a group of one channel is instance_norm. The sum of a group is R3 over each
// channel's pixels, then R3 over the group's channels. Bound by memory: a block that owns its groups
// alone reads them three times, the second and third time from a cache where they fit one.
#include "group_norm_orders.cuh"
// group_norm_orders.cuh first: it names the namespace of what follows.
#include "../group_norm.h"
#include "launch.cuh"

namespace bninv {
namespace cuda {
namespace {

// At most. Four such blocks are all the threads a multiprocessor holds, at up to 32 registers; with the
// 64 that eight loads under way take, two of them have 32 KB in flight.
constexpr int kWarps = 16;

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

// Groups side by side until a row of threads reads whole sectors of 32 bytes; until there is a column
// for every warp where a channel has no second segment to give it, and the device is full.
template <typename T>
Tiling tile_interleaved(const GroupNormArgs& args, int64_t group) {
  constexpr int64_t kSector = 32 / sizeof(T);
  const int64_t segments = ceil_div(args.pixels, kSumSegment);
  const bool full = args.batch * args.channels / kWarps >= multiprocessors("group_norm");
  Tiling tiling{};
  tiling.together = clamp((segments == 1 && full ? kWarps : kSector) / group, 1, args.groups);
  const int64_t channels = tiling.together * group;
  const int64_t width = ceil_div(channels, ceil_div(channels, kWarps));
  const int64_t slots = clamp(kWarps / width, 1, segments);
  tiling.columns = {static_cast<int>(width), static_cast<int>(slots)};
  tiling.warps = static_cast<int>(width * slots);
  return tiling;
}

// One pixel: no sums but those over channels, one column a thread.
Tiling tile_points(const GroupNormArgs& args, int64_t group) {
  constexpr int64_t kThreads = 256;
  Tiling tiling{};
  tiling.together = clamp(kThreads / group, 1, args.groups);
  tiling.warps = static_cast<int>(ceil_div(min64(tiling.together * group, kThreads), 32));
  tiling.columns = {tiling.warps * 32, 1};
  return tiling;
}

template <typename T, bool kChannelsLast>
void launch_order(const GroupNormArgs& args, void* stream) {
  const int64_t group = args.channels / args.groups;
  Tiling tiling = !kChannelsLast     ? tile_planes(args, group)
                  : args.pixels == 1 ? tile_points(args, group)
                                     : tile_interleaved<T>(args, group);
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
  with_type(args.dtype,
            [&](auto type) { launch_dtype<typename decltype(type)::Type>(args, stream); });
}

}  // namespace cuda
}  // namespace bninv
