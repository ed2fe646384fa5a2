// What the blocks of a product on tensor cores (tensor_gemm.cuh) are made of: which outputs a warp and a
// lane own, and what is where in shared memory.
#pragma once

#include "tensor_core.cuh"
#include "tensor_plan.h"
#include "tiling.cuh"

namespace bninv {
namespace cuda {

template <typename T, int kTile>
struct TensorTiling {
  static constexpr TensorTileShape kShape = kTensorTileShapes[kTile];
  static constexpr bool kTf32 = sizeof(T) == 4;
  static constexpr int kRows = kShape.rows, kColumns = kShape.columns;
  static constexpr int kThreads = kShape.threads(), kStages = kShape.stages;
  // A warp's outputs in tiles of one instruction, 16 x 8.
  static constexpr int kRowTiles = kShape.warp_rows / 16, kColumnTiles = kShape.warp_columns / 8;

  // Copies are of 16 bytes. A step's terms of a row are 128 of them, in 8 chunks; a segment is kSteps.
  static constexpr int kChunk = 16 / sizeof(T), kDepth = 8 * kChunk;
  static constexpr int kSteps = static_cast<int>(kSegment) / kDepth;
  static constexpr int kPanelChunks = kColumns / kChunk;  // of a term
  static constexpr int kRowCopies = kRows * 8 / kThreads, kRowStep = kThreads / 8;
  static constexpr int kPanelCopies = kDepth * kPanelChunks / kThreads;
  static constexpr int kPanelStep = kThreads / kPanelChunks;

  // Rows of TF32 columns have 8 more, so that a warp's loads of 4 terms lie in all banks.
  static constexpr int kPanelPitch = kColumns * sizeof(T) + (kTf32 ? 32 : 0);
  static constexpr int kPanel = kRows * 128;  // behind the rows
  static constexpr int kStageBytes = kPanel + kDepth * kPanelPitch;
  // After the main loop: totals, then the residual.
  static constexpr int kTotalsPitch = kColumns + (kTf32 ? 4 : 8);
  static constexpr int kResidual = kRows * kTotalsPitch * 4;
  static constexpr int kLoopBytes = kStages * kStageBytes;
  static constexpr int kEndBytes = kResidual + kRows * kColumns * sizeof(T);
  static constexpr int kSharedBytes = kLoopBytes > kEndBytes ? kLoopBytes : kEndBytes;

  static_assert(kSharedBytes == kShape.shared_bytes(sizeof(T)), "the plan counts with it");
  static_assert(kRowCopies * kRowStep == kRows && kPanelCopies * kPanelStep == kDepth);
  static_assert(kRowCopies <= 32 && kStageBytes % 128 == 0 && kSegment % kDepth == 0);
  static_assert(kColumnTiles == 2 || kColumnTiles == 4);

  // Where a stage holds 16 bytes of a row. Chunks of neighbouring rows are permuted, so that eight rows'
  // lie in different banks.
  static __device__ __forceinline__ int row_at(int row, int chunk) {
    return row * 128 + ((chunk ^ (row & 7)) << 4);
  }
  // The same for the columns of a term, of which 128 bytes may hold two.
  static __device__ __forceinline__ int panel_at(int term, int chunk) {
    if constexpr (kTf32) return kPanel + term * kPanelPitch + chunk * 16;
    static_assert(kTf32 || kPanelChunks == 8 || kPanelChunks == 4);
    constexpr int kTerms = kTf32 ? 1 : 8 / kPanelChunks;  // in 128 bytes
    const int line = term / kTerms, slot = term % kTerms * kPanelChunks + chunk;
    return kPanel + line * 128 + ((slot ^ (kTerms == 1 ? line & 7 : line & 3)) << 4);
  }

  // A warp's first output, and a lane's place among its outputs.
  static __device__ __forceinline__ int warp_row() {
    return static_cast<int>(threadIdx.x) / 32 / (kColumns / kShape.warp_columns) * kShape.warp_rows;
  }
  static __device__ __forceinline__ int warp_column() {
    return static_cast<int>(threadIdx.x) / 32 % (kColumns / kShape.warp_columns) *
           kShape.warp_columns;
  }
  static __device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x) % 32; }
};

}  // namespace cuda
}  // namespace bninv
