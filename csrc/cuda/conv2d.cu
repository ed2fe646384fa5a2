// conv2d under R1, as an implicit product: rows are output pixels, columns a group's output channels,
// terms the taps row by row with the channels fastest. Nothing is copied out before: each block gathers
// the pixels of its tile, and a tap on padding is a term of +0.
#include "gemm.cuh"
// gemm.cuh first: it names the namespace of what follows.
#include "../conv2d.h"
#include "launch.cuh"

#include <type_traits>

namespace bninv {
namespace cuda {
namespace {

// ---- Where the rows of a tile come from ----------------------------------------------------------

// A 1 x 1 kernel without padding, and linear layers: a row is one pixel's channels.
template <typename T, typename Tile>
class PointSource {
 public:
  __device__ __forceinline__ PointSource(const Conv2dArgs& args, const Block& block)
      : terms_(block.last - block.first - copy_term<Tile>()) {
    const int64_t channel = block.group * args.plan.groups.input + block.first + copy_term<Tile>();
#pragma unroll
    for (int i = 0; i < Tile::kRowCopies; ++i) {
      const int64_t row = block.row + copy_row<Tile>(i);
      next_[i] = nullptr;
      if (row >= args.gemm.rows) continue;
      const Pixel at = pixel_of(args, row);
      next_[i] = static_cast<const T*>(args.input) + at.n * args.stride_n +
                 at.h * args.step_h * args.stride_h + at.w * args.step_w * args.stride_w + channel;
    }
  }

  __device__ __forceinline__ void start(typename Tile::Shared& shared, int stage) {
#pragma unroll
    for (int i = 0; i < Tile::kRowCopies; ++i) {
      copies_[i].start(
          &shared.stages[stage].rows[copy_row<Tile>(i)][copy_term<Tile>()], shared.slot(i),
          [&](int) { return next_[i]; }, [&](int) { return terms_ > 0 && next_[i] != nullptr; },
          true);
      if (next_[i] != nullptr) next_[i] += Tile::kDepth;
    }
    terms_ -= Tile::kDepth;
  }

  __device__ __forceinline__ void land(typename Tile::Shared& shared, int stage) const {
#pragma unroll
    for (int i = 0; i < Tile::kRowCopies; ++i)
      copies_[i].land(&shared.stages[stage].rows[copy_row<Tile>(i)][copy_term<Tile>()],
                      shared.slot(i));
  }

 private:
  const T* next_[Tile::kRowCopies];
  int terms_;
  Copy<T, Tile, true> copies_[Tile::kRowCopies];
};

// A term's place in the kernel's window.
struct Tap {
  int r, s, c;

  __device__ __forceinline__ void advance(int terms, int channels, int kernel_w) {
    for (c += terms; c >= channels; c -= channels)
      if (++s == kernel_w) s = 0, ++r;
  }
};

// Which taps of one output pixel's window lie on the input. Of no pixel: none.
struct Corner {
  // A place that no window reaches from: the host refuses sizes that come near it.
  int top = INT32_MIN / 2, left = INT32_MIN / 2;

  __device__ __forceinline__ void place(const Conv2dArgs&, int t, int l) { top = t, left = l; }
  __device__ __forceinline__ bool holds(const Conv2dArgs& args, const Tap& tap) const {
    if (tap.r >= static_cast<int>(args.kernel_h)) return false;  // beyond the last term
    const int h = top + tap.r * static_cast<int>(args.dilation_h);
    const int w = left + tap.s * static_cast<int>(args.dilation_w);
    return static_cast<unsigned>(h) < static_cast<unsigned>(args.height) &&
           static_cast<unsigned>(w) < static_cast<unsigned>(args.width);
  }
};

// The same for at most 32 taps, in one register: the largest tile has none to spare.
struct TapMask {
  unsigned taps = 0;

  __device__ __forceinline__ void place(const Conv2dArgs& args, int top, int left) {
    const Corner corner{top, left};
    unsigned bit = 1;
    for (int r = 0; r < static_cast<int>(args.kernel_h); ++r)
      for (int s = 0; s < static_cast<int>(args.kernel_w); ++s, bit <<= 1)
        if (corner.holds(args, {r, s, 0})) taps |= bit;
  }
  __device__ __forceinline__ bool holds(const Conv2dArgs& args, const Tap& tap) const {
    const int index = tap.r * static_cast<int>(args.kernel_w) + tap.s;
    return index < kFewTaps && (taps >> index & 1) != 0;  // beyond the last term there are none
  }
};

// Any window. kWhole: four terms are channels of one tap; else each is looked up by itself, which a stem
// with three channels needs, and so does any count of channels that four does not divide.
template <typename T, typename Tile, bool kWhole>
class WindowSource {
 public:
  __device__ __forceinline__ WindowSource(const Conv2dArgs& args, const Block& block)
      : args_(args) {
    const int channels = args.plan.group_channels;
    const int first = block.first + copy_term<Tile>();
    const int tap = first / channels, kernel_w = static_cast<int>(args.kernel_w);
    tap_ = {tap / kernel_w, tap % kernel_w, first % channels};
#pragma unroll
    for (int i = 0; i < Tile::kRowCopies; ++i) {
      const int64_t row = block.row + copy_row<Tile>(i);
      sample_[i] = static_cast<const T*>(args.input);
      if (row >= args.gemm.rows) continue;
      const Pixel at = pixel_of(args, row);
      const int top = static_cast<int>(at.h * args.step_h - args.pad_h);
      const int left = static_cast<int>(at.w * args.step_w - args.pad_w);
      sample_[i] += at.n * args.stride_n + top * args.stride_h + left * args.stride_w +
                    block.group * args.plan.groups.input;
      windows_[i].place(args, top, left);
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
      offsets[l] = tap.r * args_.dilation_h * args_.stride_h +
                   tap.s * args_.dilation_w * args_.stride_w + tap.c;
      if (l + 1 < kTaps)
        tap.advance(1, args_.plan.group_channels, static_cast<int>(args_.kernel_w));
    }
#pragma unroll
    for (int i = 0; i < Tile::kRowCopies; ++i)
      copies_[i].start(
          &shared.stages[stage].rows[copy_row<Tile>(i)][copy_term<Tile>()], shared.slot(i),
          [&](int l) { return sample_[i] + offsets[kWhole ? 0 : l]; },
          [&](int l) { return windows_[i].holds(args_, taps[kWhole ? 0 : l]); }, kWhole);
    tap_.advance(Tile::kDepth, args_.plan.group_channels, static_cast<int>(args_.kernel_w));
  }

  __device__ __forceinline__ void land(typename Tile::Shared& shared, int stage) const {
#pragma unroll
    for (int i = 0; i < Tile::kRowCopies; ++i)
      copies_[i].land(&shared.stages[stage].rows[copy_row<Tile>(i)][copy_term<Tile>()],
                      shared.slot(i));
  }

 private:
  const Conv2dArgs& args_;
  Tap tap_;
  const T* sample_[Tile::kRowCopies];
  std::conditional_t<Tile::kTight, TapMask, Corner> windows_[Tile::kRowCopies];
  Copy<T, Tile, kWhole> copies_[Tile::kRowCopies];
};

// ---- Kernels -------------------------------------------------------------------------------------

enum class Gather { kPoints, kWindows, kElements };

template <typename T, typename Tile, Gather kGather>
struct SourceOf {
  using Type = WindowSource<T, Tile, kGather == Gather::kWindows>;
};
template <typename T, typename Tile>
struct SourceOf<T, Tile, Gather::kPoints> {
  using Type = PointSource<T, Tile>;
};

// At most 128 registers a thread: 512 threads a multiprocessor, as shared memory allows. A tile of
// 8 x 8 chains a thread, with the addresses of a window, wants a few more; its chains hide latency with
// fewer warps.
template <int kTile>
constexpr int kMinBlocks = kTile == kTile128x64 ? 3 : 512 / kTileShapes[kTile].threads();

template <typename T, int kTile, Gather kGather>
__global__ void __launch_bounds__(kTileShapes[kTile].threads(), kMinBlocks<kTile>)
    conv2d_tile(const Conv2dArgs args) {
  using Tile = Tiling<T, kTile>;
  multiply_tile<T, Tile, typename SourceOf<T, Tile, kGather>::Type, kGather != Gather::kElements>(
      args);
}

// ---- Launching -----------------------------------------------------------------------------------

template <typename T, int kTile, Gather kGather>
void launch_tile(const Conv2dArgs& args, void* stream) {
  using Tile = Tiling<T, kTile>;
  launch({"conv2d", args.plan.blocks, Tile::kThreads, sizeof(typename Tile::Shared), stream},
         conv2d_tile<T, kTile, kGather>, args);
}

template <typename T, Gather kGather, int kTile = 0>
void launch_plan(const Conv2dArgs& args, void* stream) {
  if constexpr (kTile < kTiles) {
    if constexpr (kernel_exists(kTile, kGather != Gather::kElements, sizeof(Arithmetic<T>)))
      if (args.plan.tile == kTile) return launch_tile<T, kTile, kGather>(args, stream);
    launch_plan<T, kGather, kTile + 1>(args, stream);
  }
}

template <typename T>
void launch_dtype(const Conv2dArgs& args, void* stream) {
  const bool points =
      args.kernel_h == 1 && args.kernel_w == 1 && args.pad_h == 0 && args.pad_w == 0;
  if constexpr (sizeof(T) <= sizeof(float)) {
    if (args.plan.whole_copies && points)
      launch_plan<T, Gather::kPoints>(args, stream);
    else if (args.plan.whole_copies)
      launch_plan<T, Gather::kWindows>(args, stream);
    else
      launch_plan<T, Gather::kElements>(args, stream);
  } else {
    launch_plan<T, Gather::kElements>(args, stream);
  }
  if (args.plan.workspace_bytes == 0) return;
  const int64_t quads = args.groups * args.gemm.rows * ((args.gemm.columns + 3) / 4);
  launch({"conv2d", (quads + kAddThreads - 1) / kAddThreads, kAddThreads, 0, stream},
         add_segments<T>, args);
}

}  // namespace

void conv2d(const Conv2dArgs& args, void* stream) {
  with_type(args.dtype,
            [&](auto type) { launch_dtype<typename decltype(type)::Type>(args, stream); });
}

}  // namespace cuda
}  // namespace bninv
