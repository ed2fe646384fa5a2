// conv3d under R1, as an implicit product (gemm.cuh): rows are output voxels, columns a group's output
// channels, terms the taps, depth first, with the channels fastest. A tap on padding is a term of +0.
#include "gemm.cuh"
// gemm.cuh first: it names the namespace of what follows.
#include "../conv3d.h"
#include "launch.cuh"

#include <type_traits>

namespace bninv {
namespace cuda {
namespace {

// A term's place in the kernel's window.
struct Tap {
  int t, r, s, c;

  __device__ __forceinline__ void advance(int terms, int channels, int kernel_h, int kernel_w) {
    for (c += terms; c >= channels; c -= channels) {
      if (++s < kernel_w) continue;
      s = 0;
      if (++r == kernel_h) r = 0, ++t;
    }
  }
};

// Which taps of one output's window lie on the input. Of no output: none.
struct Corner {
  // A place that no window reaches from: the host refuses sizes that come near it.
  int front = INT32_MIN / 2, top = INT32_MIN / 2, left = INT32_MIN / 2;

  __device__ __forceinline__ void place(const Conv3dArgs&, const Corner& corner) { *this = corner; }
  __device__ __forceinline__ bool holds(const Conv3dArgs& args, const Tap& tap) const {
    if (tap.t >= static_cast<int>(args.kernel_d)) return false;  // beyond the last term
    const int d = front + tap.t * static_cast<int>(args.dilation_d);
    const int h = top + tap.r * static_cast<int>(args.dilation_h);
    const int w = left + tap.s * static_cast<int>(args.dilation_w);
    return static_cast<unsigned>(d) < static_cast<unsigned>(args.depth) &&
           static_cast<unsigned>(h) < static_cast<unsigned>(args.height) &&
           static_cast<unsigned>(w) < static_cast<unsigned>(args.width);
  }
};

// The same for at most 32 taps, in one register: the largest tile has none to spare.
struct TapMask {
  unsigned taps = 0;

  __device__ __forceinline__ void place(const Conv3dArgs& args, const Corner& corner) {
    unsigned bit = 1;
    for (int t = 0; t < static_cast<int>(args.kernel_d); ++t)
      for (int r = 0; r < static_cast<int>(args.kernel_h); ++r)
        for (int s = 0; s < static_cast<int>(args.kernel_w); ++s, bit <<= 1)
          if (corner.holds(args, {t, r, s, 0})) taps |= bit;
  }
  __device__ __forceinline__ bool holds(const Conv3dArgs& args, const Tap& tap) const {
    const int index =
        (tap.t * static_cast<int>(args.kernel_h) + tap.r) * static_cast<int>(args.kernel_w) + tap.s;
    return index < kFewTaps && (taps >> index & 1) != 0;  // beyond the last term there are none
  }
};

// kWhole: four terms are channels of one tap; else each is looked up by itself.
template <typename T, typename Tile, bool kWhole>
class VolumeSource {
 public:
  // The kernel's arguments are a Conv3dArgs, whose planes of outputs follow each other as rows.
  __device__ __forceinline__ VolumeSource(const Conv2dArgs& product, const Block& block)
      : args_(static_cast<const Conv3dArgs&>(product)) {
    const int channels = args_.plan.group_channels;
    const int first = block.first + copy_term<Tile>();
    tap_ = {0, 0, 0, 0};
    tap_.c = first % channels;
    int tap = first / channels;
    const int kernel_w = static_cast<int>(args_.kernel_w);
    const int kernel_h = static_cast<int>(args_.kernel_h);
    tap_.s = tap % kernel_w, tap /= kernel_w;
    tap_.r = tap % kernel_h, tap_.t = tap / kernel_h;
    const int rows = static_cast<int>(args_.out_height / args_.out_depth);  // of a plane
#pragma unroll
    for (int i = 0; i < Tile::kRowCopies; ++i) {
      const int64_t row = block.row + copy_row<Tile>(i);
      sample_[i] = static_cast<const T*>(args_.input);
      if (row >= args_.gemm.rows) continue;
      const Pixel at = pixel_of(args_, row);
      Corner corner;
      corner.front = static_cast<int>(at.h / rows * args_.step_d - args_.pad_d);
      corner.top = static_cast<int>(at.h % rows * args_.step_h - args_.pad_h);
      corner.left = static_cast<int>(at.w * args_.step_w - args_.pad_w);
      sample_[i] += at.n * args_.stride_n + corner.front * args_.stride_d +
                    corner.top * args_.stride_h + corner.left * args_.stride_w +
                    block.group * channels;
      windows_[i].place(args_, corner);
    }
  }

  __device__ __forceinline__ void start(typename Tile::Shared& shared, int stage) {
    constexpr int kTaps = kWhole ? 1 : 4;
    Tap taps[kTaps];
    int64_t offsets[kTaps];
    Tap tap = tap_;
#pragma unroll
    for (int l = 0; l < kTaps; ++l) {
      taps[l] = tap;
      offsets[l] = tap.t * args_.dilation_d * args_.stride_d +
                   tap.r * args_.dilation_h * args_.stride_h +
                   tap.s * args_.dilation_w * args_.stride_w + tap.c;
      if (l + 1 < kTaps) advance(tap, 1);
    }
#pragma unroll
    for (int i = 0; i < Tile::kRowCopies; ++i)
      copies_[i].start(
          &shared.stages[stage].rows[copy_row<Tile>(i)][copy_term<Tile>()], shared.slot(i),
          [&](int l) { return sample_[i] + offsets[kWhole ? 0 : l]; },
          [&](int l) { return windows_[i].holds(args_, taps[kWhole ? 0 : l]); }, kWhole);
    advance(tap_, Tile::kDepth);
  }

  __device__ __forceinline__ void land(typename Tile::Shared& shared, int stage) const {
#pragma unroll
    for (int i = 0; i < Tile::kRowCopies; ++i)
      copies_[i].land(&shared.stages[stage].rows[copy_row<Tile>(i)][copy_term<Tile>()],
                      shared.slot(i));
  }

 private:
  __device__ __forceinline__ void advance(Tap& tap, int terms) const {
    tap.advance(terms, args_.plan.group_channels, static_cast<int>(args_.kernel_h),
                static_cast<int>(args_.kernel_w));
  }

  const Conv3dArgs& args_;
  Tap tap_;
  const T* sample_[Tile::kRowCopies];
  std::conditional_t<Tile::kTight, TapMask, Corner> windows_[Tile::kRowCopies];
  Copy<T, Tile, kWhole> copies_[Tile::kRowCopies];
};

// As conv2d's: at most 128 registers a thread, and a few more for tiles of 8 x 8 chains a thread.
template <int kTile>
constexpr int kMinBlocks = kTile == kTile128x64 ? 3 : 512 / kTileShapes[kTile].threads();

template <typename T, int kTile, bool kWhole>
__global__ void __launch_bounds__(kTileShapes[kTile].threads(), kMinBlocks<kTile>)
    conv3d_tile(const Conv3dArgs args) {
  using Tile = Tiling<T, kTile>;
  multiply_tile<T, Tile, VolumeSource<T, Tile, kWhole>, kWhole>(args);
}

template <typename T, bool kWhole, int kTile = 0>
void launch_plan(const Conv3dArgs& args, void* stream) {
  if constexpr (kTile < kTiles) {
    if constexpr (kernel_exists(kTile, kWhole, sizeof(Arithmetic<T>))) {
      using Tile = Tiling<T, kTile>;
      if (args.plan.tile == kTile)
        return launch(
            {"conv3d", args.plan.blocks, Tile::kThreads, sizeof(typename Tile::Shared), stream},
            conv3d_tile<T, kTile, kWhole>, args);
    }
    launch_plan<T, kWhole, kTile + 1>(args, stream);
  }
}

template <typename T>
void launch_dtype(const Conv3dArgs& args, void* stream) {
  if constexpr (sizeof(T) <= sizeof(float)) {
    if (args.plan.whole_copies)
      launch_plan<T, true>(args, stream);
    else
      launch_plan<T, false>(args, stream);
  } else {
    launch_plan<T, false>(args, stream);
  }
  if (args.plan.workspace_bytes == 0) return;
  const int64_t quads = args.groups * args.gemm.rows * ((args.gemm.columns + 3) / 4);
  launch({"conv3d", ceil_div(quads, kAddThreads), kAddThreads, 0, stream}, add_segments<T>, args);
}

}  // namespace

void conv3d(const Conv3dArgs& args, void* stream) {
  // Planes of outputs follow each other in memory as rows do: for the product they are more rows.
  Conv3dArgs rows = args;
  rows.out_height = args.out_depth * args.out_height;
  with_type(args.dtype,
            [&](auto type) { launch_dtype<typename decltype(type)::Type>(rows, stream); });
}

}  // namespace cuda
}  // namespace bninv
