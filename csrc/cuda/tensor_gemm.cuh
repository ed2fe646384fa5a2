// The tiled product of R9 that conv2d and linear share.
//
// A block owns a tile of outputs, a warp a part of it. It walks the terms segment by segment; in a
// segment each output is one chain of mma.sync from +0, one of R9's groups of terms an instruction, and
// the finished chain is added to the output's total, both in registers. Where outputs are too few to
// fill the GPU, blocks share them as in gemm.cuh: sums of segments go to the workspace, and add_segments
// adds them from left to right. So neither the tile nor the split can be told from the result.
#pragma once

#include "../conv2d.h"
#include "tensor_copy.cuh"

namespace bninv {
namespace cuda {

// A warp's outputs, in tiles of 16 x 8.
template <typename T, typename Tile>
struct TensorSums {
  float sums[Tile::kRowTiles][Tile::kColumnTiles][4];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < Tile::kRowTiles; ++i)
#pragma unroll
      for (int j = 0; j < Tile::kColumnTiles; ++j)
#pragma unroll
        for (int l = 0; l < 4; ++l) sums[i][j][l] = 0;
  }

  __device__ __forceinline__ void add(const TensorSums& segment) {
#pragma unroll
    for (int i = 0; i < Tile::kRowTiles; ++i)
#pragma unroll
      for (int j = 0; j < Tile::kColumnTiles; ++j)
#pragma unroll
        for (int l = 0; l < 4; ++l) sums[i][j][l] = sums[i][j][l] + segment.sums[i][j][l];
  }

  // The terms of one step, in order; `first`: from +0. What lies beyond the last term is +0 * +0, which
  // changes no sum (R9).
  __device__ __forceinline__ void multiply(uint32_t stage, bool first) {
    const int lane = Tile::lane();
    const uint32_t rows = stage + Tile::row_at(Tile::warp_row() + lane % 16, lane / 16);
#pragma unroll
    for (int group = 0; group < 4; ++group) {
      uint32_t a[Tile::kRowTiles][4], b[Tile::kColumnTiles][2];
#pragma unroll
      for (int i = 0; i < Tile::kRowTiles; ++i) {
        load_matrices(a[i], (rows ^ group << 5) + i * 16 * 128);
        if constexpr (Tile::kTf32)
#pragma unroll
          for (int l = 0; l < 4; ++l) a[i][l] = rounded_to_tf32(a[i][l]);
      }
      load_columns(b, stage, group);
#pragma unroll
      for (int i = 0; i < Tile::kRowTiles; ++i)
#pragma unroll
        for (int j = 0; j < Tile::kColumnTiles; ++j)
          tensor_multiply<T>(sums[i][j], a[i], b[j][0], b[j][1], first && group == 0);
    }
  }

  // Calls body(row, column, run) for neighbouring outputs of a row, counted from the block's first.
  template <typename Body>
  __device__ __forceinline__ void each_run(const Body& body) const {
    const int g = Tile::lane() / 4, t = Tile::lane() % 4;
#pragma unroll
    for (int i = 0; i < Tile::kRowTiles; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = Tile::warp_row() + i * 16 + h * 8 + g;
        if constexpr (Tile::kTf32) {
#pragma unroll
          for (int l = 0; l < 2; ++l) {
            Elements<float, Tile::kColumnTiles> run;
#pragma unroll
            for (int j = 0; j < Tile::kColumnTiles; ++j) run.lane[j] = sums[i][j][h * 2 + l];
            body(row, Tile::warp_column() + (t * 2 + l) * Tile::kColumnTiles, run);
          }
        } else {
#pragma unroll
          for (int j = 0; j < Tile::kColumnTiles; ++j)
            body(row, Tile::warp_column() + j * 8 + t * 2,
                 Elements<float, 2>{{sums[i][j][h * 2], sums[i][j][h * 2 + 1]}});
        }
      }
  }

 private:
  // Half types are transposed on their way. Of TF32 a lane reads the columns of all its tiles at once:
  // column g of tile j is the warp's column g * kColumnTiles + j.
  static __device__ __forceinline__ void load_columns(uint32_t (&b)[Tile::kColumnTiles][2],
                                                      uint32_t stage, int group) {
    const int lane = Tile::lane();
    if constexpr (Tile::kTf32) {
      const uint32_t columns = stage + Tile::kPanel + (group * 8 + lane % 4) * Tile::kPanelPitch +
                               (Tile::warp_column() + lane / 4 * Tile::kColumnTiles) * 4;
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        uint32_t words[Tile::kColumnTiles];
        load_words(words, columns + h * 4 * Tile::kPanelPitch);
#pragma unroll
        for (int j = 0; j < Tile::kColumnTiles; ++j) b[j][h] = rounded_to_tf32(words[j]);
      }
    } else {
      const uint32_t columns =
          stage + Tile::panel_at(lane % 16, Tile::warp_column() / 8 + lane / 16);
#pragma unroll
      for (int j = 0; j < Tile::kColumnTiles; j += 2) {
        uint32_t words[4];
        load_matrices_transposed(words, (columns ^ j << 4) + group * 16 * Tile::kPanelPitch);
        b[j][0] = words[0], b[j][1] = words[1], b[j + 1][0] = words[2], b[j + 1][1] = words[3];
      }
    }
  }
};

// One segment's sums as they are; the workspace's rows hold a multiple of four columns.
template <typename T, typename Tile>
__device__ __forceinline__ void write_tensor_segment(const Conv2dArgs& args, int segment,
                                                     const TensorSums<T, Tile>& sums) {
  const GemmSchedule& gemm = args.gemm;
  const Block block = block_of<Tile>(gemm, args.plan);
  const int64_t width = (gemm.columns + 3) / 4 * 4;
  float* to = static_cast<float*>(args.workspace) +
              (static_cast<int64_t>(block.segment + segment) * args.groups + block.group) *
                  gemm.rows * width;
  sums.each_run([&](int row, int column, const auto& run) {
    if (block.row + row < gemm.rows && block.column + column < width)
      *reinterpret_cast<std::decay_t<decltype(run)>*>(to + (block.row + row) * width +
                                                      block.column + column) = run;
  });
}

// Totals go through shared memory, so that neighbouring threads store neighbouring channels; a thread
// finishes four channels of several pixels. The residual is copied while the totals are written.
template <typename T, typename Tile>
__device__ __forceinline__ void finish_tensor_tile(const Conv2dArgs& args,
                                                   const TensorSums<T, Tile>& totals) {
  constexpr int kQuads = Tile::kColumns / 4, kRowStep = Tile::kThreads / kQuads;
  using Four = Elements<T, 4>;
  const GemmSchedule& gemm = args.gemm;
  const Block block = block_of<Tile>(gemm, args.plan);
  float* memory = reinterpret_cast<float*>(tensor_memory());
  auto* residuals = reinterpret_cast<Four*>(tensor_memory() + Tile::kResidual);

  const int quad = static_cast<int>(threadIdx.x) % kQuads;
  const int first = static_cast<int>(threadIdx.x) / kQuads;
  const Channels channels(args, block.group, block.column + quad * 4);
  const bool whole = channels.whole(args);
  const bool copied = whole && args.epilogue.residual != nullptr;
  const int64_t stride = args.out_stride_c;
  const int64_t rows = gemm.rows - block.row < Tile::kRows ? gemm.rows - block.row : Tile::kRows;
  if (copied)
#pragma unroll 1
    for (int row = first; row < rows; row += kRowStep)
      copy_async<sizeof(Four)>(residuals + row * kQuads + quad,
                               static_cast<const T*>(args.epilogue.residual) +
                                   output_offset(args, block.row + row) + channels.offset);
  copy_async_commit();
  totals.each_run([&](int row, int column, const auto& run) {
    *reinterpret_cast<std::decay_t<decltype(run)>*>(memory + row * Tile::kTotalsPitch + column) =
        run;
  });
  copy_async_wait<0>();
  __syncthreads();
  if (channels.count == 0) return;
  const ChannelEpilogue<T, 4> epilogue(args.epilogue, args.bias, channels.first, channels.count);
#pragma unroll 1
  for (int row = first; row < rows; row += kRowStep) {
    const int64_t at = output_offset(args, block.row + row) + channels.offset;
    Four residual{};
    if (copied)
      residual = residuals[row * kQuads + quad];
    else if (args.epilogue.residual != nullptr)
      residual = load_elements<T, 4>(static_cast<const T*>(args.epilogue.residual) + at, stride,
                                     channels.count, whole);
    const auto four =
        *reinterpret_cast<const Elements<float, 4>*>(memory + row * Tile::kTotalsPitch + quad * 4);
    store_elements<T, 4>(static_cast<T*>(args.output) + at, stride, channels.count, whole,
                         epilogue(four.lane, residual));
  }
}

// R9 over a tile of outputs: see above.
template <typename T, typename Tile, typename Rows, typename Panel>
__device__ __forceinline__ void multiply_tensor_tile(const Conv2dArgs& args) {
  const Block block = block_of<Tile>(args.gemm, args.plan);
  Rows rows(args, block);
  Panel panel(args, block);
  const int steps = (block.last - block.first + Tile::kDepth - 1) / Tile::kDepth;
  const bool split = args.plan.workspace_bytes > 0;
  const uint32_t memory = tensor_address(), end = memory + Tile::kLoopBytes;

  TensorSums<T, Tile> totals, sums;
  totals.clear();
  sums.clear();
  // kStages - 1 steps are under way while one is multiplied.
  uint32_t write = memory, read = memory;
#pragma unroll
  for (int step = 0; step < Tile::kStages - 1; ++step) {
    if (step < steps) {
      rows.start(write), panel.start(write);
      rows.land(write), panel.land(write);
    }
    copy_async_commit();
    write += Tile::kStageBytes;
  }
  for (int step = 0, segment = 0; step < steps; ++segment) {
#pragma unroll
    for (int u = 0; u < Tile::kSteps; ++u) {
      if (u > 0 && step >= steps) break;
      copy_async_wait<Tile::kStages - 2>();
      // Behind it everybody's copies of this step are there, and nobody reads the stage before it.
      __syncthreads();
      const bool more = step + Tile::kStages - 1 < steps;
      if (more) rows.start(write), panel.start(write);
      copy_async_commit();
      sums.multiply(read, u == 0);
      if (more) rows.land(write), panel.land(write);
      write = write + Tile::kStageBytes == end ? memory : write + Tile::kStageBytes;
      read = read + Tile::kStageBytes == end ? memory : read + Tile::kStageBytes;
      ++step;
    }
    if (split)
      write_tensor_segment(args, segment, sums);
    else
      totals.add(sums);
  }
  if (split) return;
  copy_async_wait<0>();
  __syncthreads();  // nobody reads the last stage
  finish_tensor_tile(args, totals);
}

}  // namespace cuda
}  // namespace bninv
