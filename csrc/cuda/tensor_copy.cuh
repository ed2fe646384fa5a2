// How a step of a product on tensor cores (tensor_gemm.cuh) is brought to shared memory, 16 bytes of a
// row or of a term's columns at a time. What lies outside of the product, on padding, or in the place of
// the channels that R9 adds to a tap is +0.
#pragma once

#include "../conv2d.h"
#include "gemm.cuh"
#include "tensor_tiling.cuh"

namespace bninv {
namespace cuda {

// A thread copies the same chunk of several rows.
template <typename Tile>
__device__ __forceinline__ int row_of_copy(int i) {
  return static_cast<int>(threadIdx.x) / 8 + i * Tile::kRowStep;
}
__device__ __forceinline__ int row_chunk() { return static_cast<int>(threadIdx.x) % 8; }

// Bytes of a panel's chunk that are of existing columns.
template <typename T>
__device__ __forceinline__ uint4 load_some(const T* p, int count) {
  T lanes[16 / sizeof(T)] = {};
#pragma unroll
  for (int l = 0; l < static_cast<int>(16 / sizeof(T)); ++l)
    if (l < count) lanes[l] = p[l];
  uint4 chunk;
  memcpy(&chunk, lanes, sizeof(chunk));
  return chunk;
}

// ---- Rows ------------------------------------------------------------------------------------------

// A chunk's place in the kernel's window; `c` counts R9's padded channels.
struct ChunkTap {
  int r, s, c;

  __device__ __forceinline__ ChunkTap(int term, int channels, int kernel_w) {
    const int tap = term / channels;
    r = tap / kernel_w, s = tap % kernel_w, c = term % channels;
  }
  // The number of taps gone by.
  __device__ __forceinline__ int advance(int terms, int channels, int kernel_w) {
    int taps = 0;
    for (c += terms; c >= channels; c -= channels, ++taps)
      if (++s == kernel_w) s = 0, ++r;
    return taps;
  }
};

// A 1 x 1 kernel without padding: a row is one pixel's channels. Places in the input are counted in
// chunks, which 32 bits hold: the host makes sure.
template <typename T, typename Tile>
class ChunkPoints {
 public:
  __device__ __forceinline__ ChunkPoints(const Conv2dArgs& args, const Block& block)
      : rows_(0), left_(block.last - block.first - row_chunk() * Tile::kChunk) {
    const int64_t channel =
        block.group * args.plan.groups.input + block.first + row_chunk() * Tile::kChunk;
    next_ = static_cast<const T*>(args.input) + channel;
#pragma unroll
    for (int i = 0; i < Tile::kRowCopies; ++i) {
      const int64_t row = block.row + row_of_copy<Tile>(i);
      chunks_[i] = 0;
      if (row >= args.gemm.rows) continue;
      rows_ |= 1u << i;
      const Pixel at = pixel_of(args, row);
      chunks_[i] = static_cast<int>((at.n * args.stride_n + at.h * args.step_h * args.stride_h +
                                     at.w * args.step_w * args.stride_w) /
                                    Tile::kChunk);
    }
  }

  __device__ __forceinline__ void start(uint32_t stage) {
#pragma unroll
    for (int i = 0; i < Tile::kRowCopies; ++i)
      copy_chunk(stage + Tile::row_at(row_of_copy<Tile>(i), row_chunk()),
                 next_ + static_cast<int64_t>(chunks_[i]) * Tile::kChunk,
                 left_ > 0 && (rows_ >> i & 1) != 0);
    next_ += Tile::kDepth;
    left_ -= Tile::kDepth;
  }
  __device__ __forceinline__ void land(uint32_t) const {}

 private:
  const T* next_;
  unsigned rows_;
  int left_;  // terms, from this thread's first on
  int chunks_[Tile::kRowCopies];
};

// A window of at most kTensorTaps taps: which of them lie on the input is a bit each.
template <typename T, typename Tile>
class ChunkWindows {
 public:
  __device__ __forceinline__ ChunkWindows(const Conv2dArgs& args, const Block& block)
      : args_(args),
        tap_(block.first + row_chunk() * Tile::kChunk, args.plan.group_channels,
             static_cast<int>(args.kernel_w)),
        index_(tap_.r * static_cast<int>(args.kernel_w) + tap_.s),
        down_(static_cast<int>(args.dilation_h * args.stride_h / Tile::kChunk)),
        right_(static_cast<int>(args.dilation_w * args.stride_w / Tile::kChunk)) {
#pragma unroll
    for (int i = 0; i < Tile::kRowCopies; ++i) {
      const int64_t row = block.row + row_of_copy<Tile>(i);
      chunks_[i] = 0, taps_[i] = 0;
      if (row >= args.gemm.rows) continue;
      const Pixel at = pixel_of(args, row);
      const int top = static_cast<int>(at.h * args.step_h - args.pad_h);
      const int left = static_cast<int>(at.w * args.step_w - args.pad_w);
      chunks_[i] = static_cast<int>((at.n * args.stride_n + top * args.stride_h +
                                     left * args.stride_w + block.group * args.plan.groups.input) /
                                    Tile::kChunk);
      const int kernel_w = static_cast<int>(args.kernel_w);
      unsigned line = 0;
      for (int s = 0; s < kernel_w; ++s) {
        const int w = left + s * static_cast<int>(args.dilation_w);
        line |= (static_cast<unsigned>(w) < static_cast<unsigned>(args.width) ? 1u : 0u) << s;
      }
      for (int r = 0; r < static_cast<int>(args.kernel_h); ++r) {
        const int h = top + r * static_cast<int>(args.dilation_h);
        if (static_cast<unsigned>(h) < static_cast<unsigned>(args.height))
          taps_[i] |= line << (r * kernel_w);
      }
    }
  }

  __device__ __forceinline__ void start(uint32_t stage) {
    const int tap = tap_.r * down_ + tap_.s * right_ + tap_.c / Tile::kChunk;
    const unsigned bit = index_ < kTensorTaps ? 1u << index_ : 0;  // beyond the last term: none
#pragma unroll
    for (int i = 0; i < Tile::kRowCopies; ++i)
      copy_chunk(stage + Tile::row_at(row_of_copy<Tile>(i), row_chunk()),
                 static_cast<const T*>(args_.input) +
                     static_cast<int64_t>(chunks_[i] + tap) * Tile::kChunk,
                 (taps_[i] & bit) != 0);
    index_ +=
        tap_.advance(Tile::kDepth, args_.plan.group_channels, static_cast<int>(args_.kernel_w));
  }
  __device__ __forceinline__ void land(uint32_t) const {}

 private:
  const Conv2dArgs& args_;
  ChunkTap tap_;
  int index_, down_, right_;
  int chunks_[Tile::kRowCopies];  // of a window's corner
  unsigned taps_[Tile::kRowCopies];
};

// Any window, any alignment, any count of channels: a stem's three. Where a chunk cannot be copied as it
// lies, its elements are loaded one by one, and wait in registers while the step before is multiplied.
template <typename T, typename Tile>
class ChunkElements {
 public:
  __device__ __forceinline__ ChunkElements(const Conv2dArgs& args, const Block& block)
      : args_(args),
        padded_((args.plan.group_channels + Tile::kChunk - 1) / Tile::kChunk * Tile::kChunk),
        tap_(block.first + row_chunk() * Tile::kChunk, padded_, static_cast<int>(args.kernel_w)) {
#pragma unroll
    for (int i = 0; i < Tile::kRowCopies; ++i) {
      const int64_t row = block.row + row_of_copy<Tile>(i);
      corner_[i] = static_cast<const T*>(args.input);
      top_[i] = left_[i] = INT32_MIN / 2;  // no window reaches the input from there
      if (row >= args.gemm.rows) continue;
      const Pixel at = pixel_of(args, row);
      top_[i] = static_cast<int>(at.h * args.step_h - args.pad_h);
      left_[i] = static_cast<int>(at.w * args.step_w - args.pad_w);
      corner_[i] += at.n * args.stride_n + top_[i] * args.stride_h + left_[i] * args.stride_w +
                    block.group * args.plan.groups.input;
    }
  }

  __device__ __forceinline__ void start(uint32_t stage) {
    const int64_t offset = tap_.r * args_.dilation_h * args_.stride_h +
                           tap_.s * args_.dilation_w * args_.stride_w + tap_.c;
    const bool any = tap_.r < static_cast<int>(args_.kernel_h);  // else beyond the last term
    const int count = args_.plan.group_channels - tap_.c;
#pragma unroll
    for (int i = 0; i < Tile::kRowCopies; ++i) {
      const int h = top_[i] + tap_.r * static_cast<int>(args_.dilation_h);
      const int w = left_[i] + tap_.s * static_cast<int>(args_.dilation_w);
      const bool inside = any && static_cast<unsigned>(h) < static_cast<unsigned>(args_.height) &&
                          static_cast<unsigned>(w) < static_cast<unsigned>(args_.width);
      if (args_.plan.whole_copies)
        copy_chunk(stage + Tile::row_at(row_of_copy<Tile>(i), row_chunk()), corner_[i] + offset,
                   inside);
      else
        held_[i] = load_some(corner_[i] + offset, inside ? count : 0);
    }
    tap_.advance(Tile::kDepth, padded_, static_cast<int>(args_.kernel_w));
  }
  __device__ __forceinline__ void land(uint32_t stage) const {
    if (args_.plan.whole_copies) return;
#pragma unroll
    for (int i = 0; i < Tile::kRowCopies; ++i)
      store_chunk(stage + Tile::row_at(row_of_copy<Tile>(i), row_chunk()), held_[i]);
  }

 private:
  const Conv2dArgs& args_;
  int padded_;
  ChunkTap tap_;
  const T* corner_[Tile::kRowCopies];
  int top_[Tile::kRowCopies], left_[Tile::kRowCopies];
  uint4 held_[Tile::kRowCopies];
};

// ---- The panel -------------------------------------------------------------------------------------

// A thread copies the same columns of several terms.
template <typename Tile>
__device__ __forceinline__ int term_of_copy(int i) {
  return static_cast<int>(threadIdx.x) / Tile::kPanelChunks + i * Tile::kPanelStep;
}
template <typename Tile>
__device__ __forceinline__ int panel_chunk() {
  return static_cast<int>(threadIdx.x) % Tile::kPanelChunks;
}

// Of whole chunks, and without channels that R9 adds: terms are the panel's rows.
template <typename T, typename Tile>
class WholePanel {
 public:
  __device__ __forceinline__ WholePanel(const Conv2dArgs& args, const Block& block)
      : stride_(args.plan.groups.term), left_(block.last - block.first - term_of_copy<Tile>(0)) {
    const int64_t column = block.column + panel_chunk<Tile>() * Tile::kChunk;
    if (column >= args.gemm.columns) left_ = 0;
    next_ = static_cast<const T*>(args.weight) + (block.first + term_of_copy<Tile>(0)) * stride_ +
            block.group * args.plan.groups.weight + column;
  }

  __device__ __forceinline__ void start(uint32_t stage) {
#pragma unroll
    for (int i = 0; i < Tile::kPanelCopies; ++i)
      copy_chunk(stage + Tile::panel_at(term_of_copy<Tile>(i), panel_chunk<Tile>()),
                 next_ + i * Tile::kPanelStep * stride_, i * Tile::kPanelStep < left_);
    next_ += Tile::kDepth * stride_;
    left_ -= Tile::kDepth;
  }
  __device__ __forceinline__ void land(uint32_t) const {}

 private:
  int64_t stride_;
  int left_;  // terms, from this thread's first on
  const T* next_;
};

// Any panel.
template <typename T, typename Tile>
class ElementPanel {
 public:
  __device__ __forceinline__ ElementPanel(const Conv2dArgs& args, const Block& block)
      : args_(args),
        padded_((args.plan.group_channels + Tile::kChunk - 1) / Tile::kChunk * Tile::kChunk),
        term_(block.first + term_of_copy<Tile>(0)),
        last_(block.last) {
    const int64_t column = block.column + panel_chunk<Tile>() * Tile::kChunk;
    const int64_t left = args.gemm.columns - column;
    columns_ = left < 0 ? 0 : left < Tile::kChunk ? static_cast<int>(left) : Tile::kChunk;
    first_ = static_cast<const T*>(args.weight) + block.group * args.plan.groups.weight + column;
  }

  __device__ __forceinline__ void start(uint32_t stage) {
#pragma unroll
    for (int i = 0; i < Tile::kPanelCopies; ++i) {
      const int term = term_ + i * Tile::kPanelStep, tap = term / padded_, c = term % padded_;
      const bool exists = term < last_ && c < args_.plan.group_channels;
      const T* from =
          first_ + (int64_t{tap} * args_.plan.group_channels + c) * args_.plan.groups.term;
      if (args_.plan.whole_panel)
        copy_chunk(stage + Tile::panel_at(term_of_copy<Tile>(i), panel_chunk<Tile>()), from,
                   exists && columns_ > 0);
      else
        held_[i] = load_some(from, exists ? columns_ : 0);
    }
    term_ += Tile::kDepth;
  }
  __device__ __forceinline__ void land(uint32_t stage) const {
    if (args_.plan.whole_panel) return;
#pragma unroll
    for (int i = 0; i < Tile::kPanelCopies; ++i)
      store_chunk(stage + Tile::panel_at(term_of_copy<Tile>(i), panel_chunk<Tile>()), held_[i]);
  }

 private:
  const Conv2dArgs& args_;
  int padded_, term_, last_, columns_;
  const T* first_;
  uint4 held_[Tile::kPanelCopies];
};

}  // namespace cuda
}  // namespace bninv
