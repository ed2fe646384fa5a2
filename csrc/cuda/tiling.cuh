// What the blocks of a tiled product (gemm.cuh) are made of: who owns which outputs and terms, what is
// copied by whom, and what is where in shared memory.
#pragma once

#include <type_traits>
#include "device.cuh"

#include "epilogue.cuh"
#include "gemm_plan.h"

namespace bninv {
namespace cuda {

template <typename T, int kTile>
struct Tiling {
  using A = Arithmetic<T>;
  static constexpr TileShape kShape = kTileShapes[kTile];
  static constexpr int kRows = kShape.rows, kColumns = kShape.columns;
  static constexpr int kThreadRows = kShape.thread_rows, kThreadColumns = kShape.thread_columns;
  static constexpr int kDepth = kShape.depth, kThreads = kShape.threads();
  // The largest tile has no registers to spare: addresses that follow from a thread's index are computed
  // anew for each step, and a window is a few bits.
  static constexpr bool kTight = kTile == kTile128x128;
  // Half types are widened between two stages, which take turns.
  static constexpr bool kAsync = sizeof(T) == sizeof(A);
  static constexpr int kStages = kAsync ? kShape.stages : 2;

  static __device__ __forceinline__ unsigned thread() {
    if constexpr (kTight) return thread_index();
    return threadIdx.x;
  }

  // A warp's 32 threads are 4 x 8. A thread's rows are 4 apart; its columns come in fours, 32 apart.
  // Threads t and t ^ 1 share their columns, t and t ^ 2 their rows: where a warp's threads read in such
  // pairs, shared memory delivers a wide access in half the cycles (known of compute capability 7.x).
  static constexpr int kLaneRows = 4, kLaneColumns = 8;
  static constexpr int kWarpRows = kLaneRows * kThreadRows;
  static constexpr int kWarpColumns = kLaneColumns * kThreadColumns;
  static constexpr int kQuads = kThreadColumns / 4;
  // Copies are of four neighbouring elements; a thread's are of the same terms in several rows.
  static constexpr int kRowCopies = kRows * kDepth / 4 / kThreads;
  static constexpr int kRowStep = kThreads / (kDepth / 4);
  static constexpr int kPanelCopies = kColumns * kDepth / 4 / kThreads;
  static constexpr int kPanelStep = kThreads / (kColumns / 4);

  static_assert(kRows % kWarpRows == 0 && kColumns % kWarpColumns == 0);
  static_assert(kSegment % kDepth == 0 && kDepth % 4 == 0 && kThreads % 32 == 0);
  static_assert(kRowCopies * kRowStep == kRows && kPanelCopies * kPanelStep == kDepth);

  struct Stage {
    A rows[kRows][kDepth + 4];
    A panel[kDepth][kColumns];
  };
  // A thread's copies of half types before they are widened: first those of rows, then the panel's.
  struct Slots {
    Elements<T, 4> slots[kRowCopies + kPanelCopies][kThreads];
    __device__ __forceinline__ void* slot(int copy) { return &slots[copy][thread()]; }
  };
  struct NoSlots {
    __device__ __forceinline__ void* slot(int) { return nullptr; }
  };
  struct Shared : std::conditional_t<kAsync, NoSlots, Slots> {
    Stage stages[kStages];
    A totals[kThreadRows * kQuads][kThreads][4];
  };
  static_assert(sizeof(Shared) == kShape.shared_bytes(sizeof(A), sizeof(T)),
                "the plan counts with it");
};

// What a block works on.
struct Block {
  int group, segment;   // the first of its segments
  int64_t row, column;  // its first output
  int first, last;      // its terms
};

// Neighbouring blocks are of the same rows, which they then find in the L2 cache.
template <typename Tile>
__device__ __forceinline__ Block block_of(const GemmSchedule& gemm, const TilePlan& plan) {
  // Each of these divides the number of blocks, which fits 31 bits.
  const auto columns = static_cast<unsigned>((gemm.columns + Tile::kColumns - 1) / Tile::kColumns);
  const auto rows = static_cast<unsigned>((gemm.rows + Tile::kRows - 1) / Tile::kRows);
  const auto segments = static_cast<unsigned>((gemm.terms + kSegment - 1) / kSegment);
  const auto own = static_cast<unsigned>(plan.segments_per_block);
  const unsigned parts = segments == 0 ? 1 : (segments + own - 1) / own;
  unsigned i = block_index();
  Block block;
  block.column = static_cast<int64_t>(i % columns) * Tile::kColumns, i /= columns;
  block.row = static_cast<int64_t>(i % rows) * Tile::kRows, i /= rows;
  block.segment = static_cast<int>(i % parts * own);
  block.group = static_cast<int>(i / parts);
  constexpr int kTerms = static_cast<int>(kSegment);
  const int terms = static_cast<int>(gemm.terms);
  block.first = block.segment * kTerms;
  // Not first + own * kTerms: that may be beyond 2^31.
  block.last = (terms - block.first) / kTerms >= static_cast<int>(own)
                   ? block.first + static_cast<int>(own) * kTerms
                   : terms;
  return block;
}

}  // namespace cuda
}  // namespace bninv
