// The tile shapes of a product on CUDA, and which of them a problem gets. Host code; nothing here can
// change a bit (docs/numerics.md, R1): it may look at the whole problem, the batch included.
#pragma once

#include <cstdint>

#include "../numerics.h"
#include "../product.h"

namespace bninv {
namespace cuda {

// A block owns rows x columns outputs, a thread thread_rows x thread_columns of them. Terms come in
// tiles of `depth`, which divides R1's segment, `stages` of them in shared memory at a time.
struct TileShape {
  int rows, columns, thread_rows, thread_columns, depth, stages;
  // fmas in the main loop by all its instructions, segments' ends included, on compute capability 9.0:
  // the mean of points' and windows' (benchmarks/results/cuda_kernels.md).
  double fma_share;

  constexpr int threads() const { return rows / thread_rows * (columns / thread_columns); }
  // A row of A has 4 elements more, so that the rows a warp reads at once lie in other banks.
  constexpr int stage_elements() const { return rows * (depth + 4) + depth * columns; }
  // Of a block, for elements of that arithmetic and storage type: half types have two stages, and what
  // they are widened from.
  constexpr int64_t shared_bytes(int element, int storage) const {
    const bool widened = storage < element;
    return int64_t{element} * ((widened ? 2 : stages) * stage_elements() + rows * columns) +
           (widened ? int64_t{storage} * depth * (rows + columns) : 0);
  }
};

enum Tile { kTile128x128, kTile128x64, kTile64x64, kTile128x32, kTile32x32, kTiles };

inline constexpr TileShape kTileShapes[kTiles] = {
    {128, 128, 8, 8, 16, 2, 0.83},  // of at most 99 KB a block, none: Ampere's and Ada's small chips
    {128, 64, 8, 8, 8, 2, 0.79},    // two of these, in binary32, share 100 KB
    {64, 64, 8, 4, 16, 3, 0.74},    // and the others need no more than 48 KB
    {128, 32, 8, 4, 16, 2, 0.73},  {32, 32, 4, 4, 16, 4, 0.67},
};

// The largest tile keeps a window's taps as bits of a register.
constexpr int kFewTaps = 32;

// Of copies of single elements, and of binary64, there are fewer kernels.
constexpr bool kernel_exists(int tile, bool whole_copies, int element_bytes) {
  if (element_bytes > 4) return tile == kTile32x32 && !whole_copies;
  return whole_copies || tile == kTile64x64 || tile == kTile32x32;
}

// A product as the plan sees it; `groups` of them are alike.
struct Product {
  int64_t rows, columns, terms, groups;
  int element_bytes, storage_bytes;  // of the arithmetic type, and in memory
  bool whole_copies;
  int64_t taps;

  int64_t shared_bytes(int tile) const {
    return kTileShapes[tile].shared_bytes(element_bytes, storage_bytes);
  }
};

struct DeviceLimits {
  int multiprocessors;
  int64_t shared_per_block, shared_per_multiprocessor;
};

inline bool has_kernel(const Product& product, int tile, const DeviceLimits& device) {
  return kernel_exists(tile, product.whole_copies, product.element_bytes) &&
         (tile != kTile128x128 || product.taps <= kFewTaps) &&
         product.shared_bytes(tile) <= device.shared_per_block;
}

// What a plan takes, in cycles: the longest of what must be issued, waited for, and read through the L2.
// Measured on an H100 (benchmarks/bench_tiles.py: every tile and split of 64 layers at batch 32 and 1), the
// plan so chosen takes 1.3 % more than the fastest of each layer. Constants fitted to half of the layers
// choose no better for the other half (2.2 % a layer against 2.1): these stay.
inline double cost(const Product& product, const TileShape& shape, const TilePlan& plan,
                   const DeviceLimits& device) {
  // Assumed: cycles until a block's first terms are there, and between two launches; cycles
  // for which a warp alone waits when it reads terms, two at a time or, of four rows, four; instructions
  // before the main loop, and for each output after it or, where it goes to the workspace, in it; bytes
  // a cycle that a multiprocessor gets from the L2 (fewer than there: a doubt speaks for larger tiles).
  constexpr double kFirstLoads = 1400, kLaunch = 3000, kWait = 36, kL2 = 18;
  constexpr double kSetup = 600, kFinish = 30, kStore = 5;
  constexpr int kSchedulers = 4, kResidentThreads = 512;  // by registers: conv2d.cu's launch bounds
  const auto pieces = [](int64_t size, int64_t piece) { return (size + piece - 1) / piece; };
  const double element = product.element_bytes;

  const int64_t segment_terms = plan.segments_per_block * kSegment;
  const auto own =
      static_cast<double>(segment_terms < product.terms ? segment_terms : product.terms);
  const bool split = plan.workspace_bytes > 0;
  const double outputs = shape.thread_rows * shape.thread_columns;
  const double issue = outputs / shape.fma_share;  // a warp's instructions for a term
  const double around =
      kSetup + outputs * (split ? kStore * static_cast<double>(plan.segments_per_block) : kFinish);
  // Whole blocks and whole warps: the busiest multiprocessor's busiest scheduler.
  const int64_t blocks = pieces(plan.blocks, device.multiprocessors);
  const int64_t warps = pieces(blocks * (shape.threads() / 32), kSchedulers);
  const double issued = static_cast<double>(warps) * (own * issue + around) + kFirstLoads;
  // Blocks for which there is no room take turns.
  const double wait = kWait / (shape.thread_rows > 4 ? 2 : 4);
  const int64_t by_shared =
      device.shared_per_multiprocessor / (product.shared_bytes(plan.tile) + 1024);  // reserved
  const int64_t by_registers = kResidentThreads / shape.threads();
  const int64_t resident = by_shared < 1 ? 1 : by_shared < by_registers ? by_shared : by_registers;
  const double waited =
      static_cast<double>(pieces(blocks, resident)) * (own * (issue + wait) + around + kFirstLoads);
  const double l2 = kL2 * device.multiprocessors;
  const double read =
      static_cast<double>(plan.blocks * (shape.rows + shape.columns)) * own * element / l2;
  double total = issued > waited ? issued : waited;
  total = total > read ? total : read;
  // Sums of segments are written once and read once, by a launch of its own.
  if (split) total += kLaunch + 2.0 * static_cast<double>(plan.workspace_bytes) / l2;
  return total;
}

// `tile` is of rows x columns outputs.
inline TilePlan plan_of(const Product& product, int rows, int columns, int tile,
                        int64_t segments_per_block) {
  const auto pieces = [](int64_t size, int64_t piece) { return (size + piece - 1) / piece; };
  const int64_t segments = pieces(product.terms, kSegment);
  TilePlan plan{};
  plan.tile = tile;
  plan.segments_per_block = segments_per_block;
  const int64_t parts = segments == 0 ? 1 : pieces(segments, segments_per_block);
  plan.blocks =
      product.groups * pieces(product.rows, rows) * pieces(product.columns, columns) * parts;
  if (parts > 1)
    plan.workspace_bytes = segments * product.groups * product.rows *
                           (pieces(product.columns, 4) * 4) * product.element_bytes;
  return plan;
}

inline TilePlan plan_of(const Product& product, int tile, int64_t segments_per_block) {
  const TileShape& shape = kTileShapes[tile];
  return plan_of(product, shape.rows, shape.columns, tile, segments_per_block);
}

// The cheapest plan. A workspace is bounded: a split pays where outputs are few.
inline TilePlan choose_plan(const Product& product, const DeviceLimits& device) {
  constexpr int64_t kMaxWorkspace = int64_t{32} << 20;
  const int64_t segments = (product.terms + kSegment - 1) / kSegment;
  TilePlan best{};
  double least = -1;
  for (int tile = 0; tile < kTiles; ++tile) {
    if (!has_kernel(product, tile, device)) continue;
    for (int64_t own = segments < 1 ? 1 : segments; own >= 1; own = own > 1 ? (own + 1) / 2 : 0) {
      const TilePlan plan = plan_of(product, tile, own);
      if (plan.workspace_bytes > kMaxWorkspace) break;
      const double now = cost(product, kTileShapes[tile], plan, device);
      if (least < 0 || now < least) least = now, best = plan;
    }
  }
  return best;
}

}  // namespace cuda
}  // namespace bninv
