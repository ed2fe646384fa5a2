// The tile shapes of a product on CUDA, and which of them a problem gets. Host code; nothing here can
// change a bit (docs/numerics.md, R1): it may look at the whole problem, the batch included.
#pragma once

#include <cstdint>

#include "../arguments.h"
#include "../numerics.h"

namespace bninv {
namespace cuda {

// A block owns rows x columns outputs, a thread thread_rows x thread_columns of them. Terms come in
// tiles of `depth`, which divides R1's segment, `stages` of them in shared memory at a time.
struct TileShape {
  int rows, columns, thread_rows, thread_columns, depth, stages;
  // The part of a multiprocessor's FMA rate that the main loop reaches when enough blocks are there:
  // estimated from loads of shared memory per fma (benchmarks/results/cuda_speed.md).
  double efficiency;

  constexpr int threads() const { return rows / thread_rows * (columns / thread_columns); }
  // A row of A has 4 elements more, so that the rows a warp reads at once lie in other banks.
  constexpr int stage_elements() const { return rows * (depth + 4) + depth * columns; }
  constexpr int64_t shared_bytes(int element) const {
    return int64_t{element} * (stages * stage_elements() + rows * columns);
  }
};

enum Tile { kTile128x128, kTile128x64, kTile64x64, kTile128x32, kTile32x32, kTiles };

inline constexpr TileShape kTileShapes[kTiles] = {
    {128, 128, 8, 8, 16, 2, 0.85},  // of at most 99 KB a block, none: Ampere's and Ada's small chips
    {128, 64, 8, 8, 8, 2, 0.8},     // two of these share 100 KB
    {64, 64, 8, 4, 16, 3, 0.65},    // and the others need no more than 48 KB
    {128, 32, 8, 4, 16, 2, 0.65},  {32, 32, 4, 4, 16, 4, 0.45},
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
  int element_bytes;  // of the arithmetic type
  bool whole_copies;
  int64_t taps;

  bool has_kernel(int tile) const {
    return kernel_exists(tile, whole_copies, element_bytes) &&
           (tile != kTile128x128 || taps <= kFewTaps);
  }
};

struct DeviceLimits {
  int multiprocessors;
  int64_t shared_per_block, shared_per_multiprocessor;
};

// What a plan takes, in multiples of the time in which a multiprocessor does one fma a lane.
inline double cost(const Product& product, const TileShape& shape, const TilePlan& plan,
                   const DeviceLimits& device) {
  // Blocks side by side share the FMA units: what counts is how evenly the blocks fill the device.
  const int64_t waves = (plan.blocks + device.multiprocessors - 1) / device.multiprocessors;
  const int64_t own = plan.segments_per_block * kSegment < product.terms
                          ? plan.segments_per_block * kSegment
                          : product.terms;
  // A multiprocessor with few warps waits: two fill half of its pipelines.
  const int64_t resident = waves < 1 ? 1 : waves;
  const double warps = static_cast<double>(shape.threads() / 32) * static_cast<double>(resident);
  const double filled = warps < 8 ? 0.25 + 0.75 * warps / 8 : 1;
  // Filling the stages and the epilogue cost about 64 terms' time.
  const double block = static_cast<double>(own + 64) * shape.rows * shape.columns;
  double total = static_cast<double>(waves) * block / (shape.efficiency * filled);
  if (plan.workspace_bytes > 0) {
    // Written once and read once at about 16 bytes a multiprocessor and cycle of 128 fma, and a launch.
    total += 2.0 * static_cast<double>(plan.workspace_bytes) * 8 / device.multiprocessors + 5e5;
  }
  return total;
}

inline TilePlan plan_of(const Product& product, int tile, int64_t segments_per_block) {
  const TileShape& shape = kTileShapes[tile];
  const auto pieces = [](int64_t size, int64_t piece) { return (size + piece - 1) / piece; };
  const int64_t segments = pieces(product.terms, kSegment);
  TilePlan plan{};
  plan.tile = tile;
  plan.segments_per_block = segments_per_block;
  const int64_t parts = segments == 0 ? 1 : pieces(segments, segments_per_block);
  plan.blocks = product.groups * pieces(product.rows, shape.rows) *
                pieces(product.columns, shape.columns) * parts;
  if (parts > 1)
    plan.workspace_bytes = segments * product.groups * product.rows *
                           (pieces(product.columns, 4) * 4) * product.element_bytes;
  return plan;
}

// The cheapest plan. A workspace is bounded: a split pays where outputs are few.
inline TilePlan choose_plan(const Product& product, const DeviceLimits& device) {
  constexpr int64_t kMaxWorkspace = int64_t{32} << 20;
  const int64_t segments = (product.terms + kSegment - 1) / kSegment;
  TilePlan best{};
  double least = -1;
  for (int tile = 0; tile < kTiles; ++tile) {
    const TileShape& shape = kTileShapes[tile];
    if (!product.has_kernel(tile)) continue;
    if (shape.shared_bytes(product.element_bytes) > device.shared_per_block) continue;
    for (int64_t own = segments < 1 ? 1 : segments; own >= 1; own = own > 1 ? (own + 1) / 2 : 0) {
      const TilePlan plan = plan_of(product, tile, own);
      if (plan.workspace_bytes > kMaxWorkspace) break;
      const double now = cost(product, shape, plan, device);
      if (least < 0 || now < least) least = now, best = plan;
    }
  }
  return best;
}

}  // namespace cuda
}  // namespace bninv
