// The tiled product of R1 that conv2d and linear share.
//
// A block owns a tile of outputs. It walks the terms segment by segment; in a segment each output is one
// fma chain in a register, started at +0, and the finished chain is added to the output's total in shared
// memory: R1's order, whatever the tile. Where outputs are too few to fill the GPU, blocks share them:
// each does some of the segments and writes their sums, one by one, to a workspace, and add_segments adds
// them from left to right. So neither the tile nor the split can be told from the result.
//
// Totals are in shared memory because both accumulators of an 8 x 8 thread tile would not fit the
// registers; they are touched once in 128 terms, each thread its own. A `Source` brings the rows of A
// (conv2d.cu; a linear layer is a convolution of single pixels); they are kept as rows of terms, which
// 16-byte copies can fill and several terms of which a thread reads at once.
#pragma once

#include "../conv2d.h"
#include "tile_copy.cuh"

namespace bninv {
namespace cuda {

// ---- Multiplying ---------------------------------------------------------------------------------

template <typename Tile>
struct Accumulators {
  using A = typename Tile::A;
  // Terms of a row that are read at once: with eight rows, four would cost 32 registers.
  static constexpr int kTerms = Tile::kThreadRows > 4 ? 2 : 4;
  A sums[Tile::kThreadRows][Tile::kThreadColumns];

  static __device__ __forceinline__ int row() {
    constexpr int kWarpsAcross = Tile::kColumns / Tile::kWarpColumns;
    const unsigned thread = Tile::thread();
    return thread / 32 / kWarpsAcross * Tile::kWarpRows + thread % 2 + thread % 32 / 16 * 2;
  }
  static __device__ __forceinline__ int column() {
    constexpr int kWarpsAcross = Tile::kColumns / Tile::kWarpColumns;
    const unsigned thread = Tile::thread();
    return thread / 32 % kWarpsAcross * Tile::kWarpColumns + thread % 16 / 2 * 4;
  }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i)
#pragma unroll
      for (int j = 0; j < Tile::kThreadColumns; ++j) sums[i][j] = 0;
  }

  // One step of every chain for each term of a stage, in order. Terms beyond the last are +0 * +0,
  // which cannot be told from none (R1).
  __device__ __forceinline__ void multiply(const typename Tile::Stage& stage) {
    const A* rows = &stage.rows[row()][0];
    const A* panel = &stage.panel[0][column()];
#pragma unroll
    for (int k = 0; k < Tile::kDepth; k += kTerms) {
      Elements<A, kTerms> a[Tile::kThreadRows];
#pragma unroll
      for (int i = 0; i < Tile::kThreadRows; ++i) {
        const A* terms = rows + i * Tile::kLaneRows * (Tile::kDepth + 4) + k;
        if constexpr (kTerms == 2)
          load_shared_pair(terms, a[i].lane[0], a[i].lane[1]);
        else
          a[i] = *reinterpret_cast<const Elements<A, kTerms>*>(terms);
      }
#pragma unroll
      for (int l = 0; l < kTerms; ++l) {
        Elements<A, 4> b[Tile::kQuads];
#pragma unroll
        for (int q = 0; q < Tile::kQuads; ++q)
          b[q] = *reinterpret_cast<const Elements<A, 4>*>(panel + (k + l) * Tile::kColumns +
                                                          q * Tile::kLaneColumns * 4);
#pragma unroll
        for (int i = 0; i < Tile::kThreadRows; ++i)
#pragma unroll
          for (int j = 0; j < Tile::kThreadColumns; ++j)
            sums[i][j] = fma(a[i].lane[l], b[j / 4].lane[j % 4], sums[i][j]);
      }
    }
  }

  // The finished chains join the totals, which are this thread's own: no barrier.
  __device__ __forceinline__ void add_to(typename Tile::Shared& shared, bool first) const {
    const unsigned thread = Tile::thread();
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i)
#pragma unroll
      for (int q = 0; q < Tile::kQuads; ++q) {
        auto* slot = reinterpret_cast<Elements<A, 4>*>(shared.totals[i * Tile::kQuads + q][thread]);
        Elements<A, 4> total{};
        if (!first) total = *slot;
#pragma unroll
        for (int l = 0; l < 4; ++l) total.lane[l] = total.lane[l] + sums[i][q * 4 + l];
        *slot = total;
      }
  }
};

// ---- The kernel ----------------------------------------------------------------------------------

// An output pixel's place in the batch.
struct Pixel {
  int64_t n;
  int h, w;
};

__device__ __forceinline__ Pixel pixel_of(const Conv2dArgs& args, int64_t row) {
  if (row <= INT32_MAX) {  // a 64-bit division is a hundred instructions
    const uint32_t i = static_cast<uint32_t>(row), width = static_cast<uint32_t>(args.out_width);
    const uint32_t line = i / width, height = static_cast<uint32_t>(args.out_height);
    return {line / height, static_cast<int>(line % height), static_cast<int>(i % width)};
  }
  const int64_t line = row / args.out_width;
  return {line / args.out_height, static_cast<int>(line % args.out_height),
          static_cast<int>(row % args.out_width)};
}

__device__ __forceinline__ int64_t output_offset(const Conv2dArgs& args, int64_t row) {
  if (args.plan.dense_rows) return row * args.out_stride_w;
  const Pixel at = pixel_of(args, row);
  return at.n * args.out_stride_n + at.h * args.out_stride_h + at.w * args.out_stride_w;
}

// Where four neighbouring output channels of a group lie: elements from a pixel's first on, and the
// channel's number over all groups.
struct Channels {
  int64_t offset, first;
  int count;  // that exist

  __device__ __forceinline__ Channels(const Conv2dArgs& args, int64_t group, int64_t column)
      : offset(group * args.plan.groups.output + column * args.out_stride_c),
        first(group * args.gemm.columns + column) {
    const int64_t left = args.gemm.columns - column;
    count = left < 0 ? 0 : left < 4 ? static_cast<int>(left) : 4;
  }
  __device__ __forceinline__ bool whole(const Conv2dArgs& args) const {
    return count == 4 && first % 4 == 0 && args.plan.whole_output;
  }
};

// Totals of four channels of one pixel: the epilogue, then one rounding.
template <typename T>
__device__ __forceinline__ void finish_row(const Conv2dArgs& args,
                                           const ChannelEpilogue<T, 4>& epilogue,
                                           const Arithmetic<T> (&totals)[4], int64_t row,
                                           const Channels& channels) {
  const int64_t stride = args.out_stride_c;
  const int64_t at = output_offset(args, row) + channels.offset;
  const bool whole = channels.whole(args);
  Elements<T, 4> residual{};
  if (args.epilogue.residual != nullptr)
    residual = load_elements<T, 4>(static_cast<const T*>(args.epilogue.residual) + at, stride,
                                   channels.count, whole);
  store_elements<T, 4>(static_cast<T*>(args.output) + at, stride, channels.count, whole,
                       epilogue(totals, residual));
}

// One segment's sums as they are; the workspace's rows hold a multiple of four columns. A sum of -0 has
// become +0, which no total can tell.
template <typename Tile>
__device__ __forceinline__ void write_segment(const Conv2dArgs& args, int segment,
                                              const typename Tile::Shared& shared) {
  using A = typename Tile::A;
  const GemmSchedule& gemm = args.gemm;
  const Block block = block_of<Tile>(gemm, args.plan);
  const int64_t quads = (gemm.columns + 3) / 4;
  auto* sums = static_cast<Elements<A, 4>*>(args.workspace) +
               (static_cast<int64_t>(block.segment + segment) * args.groups + block.group) *
                   gemm.rows * quads;
#pragma unroll 1
  for (int q = 0; q < Tile::kQuads; ++q) {
    const int64_t column = block.column + Accumulators<Tile>::column() + q * Tile::kLaneColumns * 4;
    if (column >= gemm.columns) break;
#pragma unroll 1
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      const int64_t row = block.row + Accumulators<Tile>::row() + i * Tile::kLaneRows;
      if (row >= gemm.rows) break;
      sums[row * quads + column / 4] = *reinterpret_cast<const Elements<A, 4>*>(
          shared.totals[i * Tile::kQuads + q][Tile::thread()]);
    }
  }
}

// R1 over a tile of outputs: see above. `kWhole`: copies of four elements are aligned and never straddle
// a tap or an edge.
template <typename T, typename Tile, typename Source, bool kWhole>
__device__ __forceinline__ void multiply_tile(const Conv2dArgs& args) {
  auto& shared = *dynamic_shared<typename Tile::Shared>();
  const GemmSchedule& gemm = args.gemm;
  // For what comes after the main loop, the block's place is found again.
  const Block first_look = block_of<Tile>(gemm, args.plan);
  Source rows(args, first_look);
  PanelSource<T, Tile, kWhole> panel(args, first_look);
  const int steps = (first_look.last - first_look.first + Tile::kDepth - 1) / Tile::kDepth;
  constexpr int kStepsOfSegment = kSegment / Tile::kDepth;
  const bool split = args.plan.workspace_bytes > 0;

  Accumulators<Tile> sums;
  sums.clear();
  const auto start = [&](int step) {
    rows.start(shared, step % Tile::kStages);
    panel.start(shared, step % Tile::kStages);
  };
  const auto land = [&](int step) {
    copy_async_wait<0>();
    rows.land(shared, step % Tile::kStages);
    panel.land(shared, step % Tile::kStages);
  };
  const auto multiply = [&](int step) {
    sums.multiply(shared.stages[step % Tile::kStages]);
    if ((step + 1) % kStepsOfSegment != 0 && step + 1 < steps) return;
    const int segment = step / kStepsOfSegment;
    sums.add_to(shared, split || segment == 0);
    if (split) write_segment<Tile>(args, segment, shared);
    sums.clear();
  };

  if constexpr (Tile::kAsync) {
    // kStages - 1 steps are under way while one is multiplied.
#pragma unroll
    for (int step = 0; step < Tile::kStages - 1; ++step) {
      if (step < steps) start(step);
      copy_async_commit();
    }
    for (int step = 0; step < steps; ++step) {
      copy_async_wait<Tile::kStages - 2>();
      // Behind it everybody's copies of this step are there, and nobody reads the stage before it.
      __syncthreads();
      if (step + Tile::kStages - 1 < steps) start(step + Tile::kStages - 1);
      copy_async_commit();
      multiply(step);
    }
    copy_async_wait<0>();
  } else {
    if (steps > 0) {
      start(0);
      copy_async_commit();
      land(0);
    }
    for (int step = 0; step < steps; ++step) {
      __syncthreads();
      if (step + 1 < steps) start(step + 1);
      copy_async_commit();
      multiply(step);
      // The other stage was read last before the barrier above.
      if (step + 1 < steps) land(step + 1);
    }
  }
  if (split) return;

  const Block block = block_of<Tile>(gemm, args.plan);
  if (steps == 0) sums.add_to(shared, true);  // no terms: +0
  // One row after another: the code of all activations is large, and totals are in memory anyway.
#pragma unroll 1
  for (int q = 0; q < Tile::kQuads; ++q) {
    const int64_t column = block.column + sums.column() + q * Tile::kLaneColumns * 4;
    if (column >= gemm.columns) break;
    const Channels channels(args, block.group, column);
    const ChannelEpilogue<T, 4> epilogue(args.epilogue, args.bias, channels.first, channels.count);
#pragma unroll 1
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      const int64_t row = block.row + sums.row() + i * Tile::kLaneRows;
      if (row >= gemm.rows) break;
      finish_row<T>(args, epilogue, shared.totals[i * Tile::kQuads + q][Tile::thread()], row,
                    channels);
    }
  }
}

// R1's total from the sums of its segments, left to right; a thread owns four columns of a row.
constexpr int kAddThreads = 128;

template <typename T>
__global__ void __launch_bounds__(kAddThreads) add_segments(const Conv2dArgs args) {
  using A = Arithmetic<T>;
  const GemmSchedule& gemm = args.gemm;
  const int64_t quads = (gemm.columns + 3) / 4;
  const int64_t segments = (gemm.terms + kSegment - 1) / kSegment;
  const int64_t all = args.groups * gemm.rows * quads;  // of four columns, in one segment
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kAddThreads + threadIdx.x;
  if (i >= all) return;
  const auto* sums = static_cast<const Elements<A, 4>*>(args.workspace) + i;
  A totals[4] = {0, 0, 0, 0};
#pragma unroll 4
  for (int64_t s = 0; s < segments; ++s) {
    const Elements<A, 4> sum = sums[s * all];
#pragma unroll
    for (int l = 0; l < 4; ++l) totals[l] = totals[l] + sum.lane[l];
  }
  const Channels channels(args, i / quads / gemm.rows, i % quads * 4);
  finish_row<T>(args,
                ChannelEpilogue<T, 4>(args.epilogue, args.bias, channels.first, channels.count),
                totals, i / quads % gemm.rows, channels);
}

}  // namespace cuda
}  // namespace bninv
