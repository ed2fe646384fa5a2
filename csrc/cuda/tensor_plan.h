// The tile shapes of a product on tensor cores, and which of them a problem gets. Host code; nothing
// here can change a bit (docs/numerics.md, R9).
#pragma once

#include <cstdint>

#include "gemm_plan.h"

namespace bninv {
namespace cuda {

// A block owns rows x columns outputs, a warp warp_rows x warp_columns of them. Terms come in steps of
// 128 bytes a row, `stages` of them in shared memory at a time.
struct TensorTileShape {
  int rows, columns, warp_rows, warp_columns, stages;
  int blocks;  // that a multiprocessor's registers hold: the launch bounds
  // Cycles of a step on an H100 (experiments/tensor_cores): of a multiprocessor that is full, and until
  // the step's end where a block is alone.
  double full, alone;

  constexpr int threads() const { return rows / warp_rows * (columns / warp_columns) * 32; }
  constexpr int64_t shared_bytes(int element) const {
    const int64_t stage = (rows + columns) * 128 + (element == 4 ? 128 / element * 32 : 0);
    const int64_t totals = int64_t{rows} * (columns + (element == 4 ? 4 : 8)) * 4;
    const int64_t end = totals + int64_t{rows} * columns * element;
    return stages * stage > end ? stages * stage : end;
  }
};

enum TensorTile { kTensor64x64, kTensor64x32, kTensor128x64, kTensorTiles };

inline constexpr TensorTileShape kTensorTileShapes[kTensorTiles] = {
    {64, 64, 32, 32, 3, 4, 372, 480},
    {64, 32, 32, 16, 4, 4, 230, 430},
    {128, 64, 64, 32, 3, 2, 740, 800},
};

// What is not made of whole 16-byte copies has fewer kernels.
constexpr bool tensor_kernel_exists(int tile, bool whole) { return whole || tile != kTensor128x64; }

// How a tile's rows are found: pixels, windows of few taps, both in whole chunks; or anything else.
enum class TensorGather { kPoints, kWindows, kElements };

// A window of at most so many taps keeps which of them lie on the input as bits.
constexpr int kTensorTaps = 32;

// Whether 32 bits count the chunks between any two places that a window reaches.
inline bool is_near(const Conv2dArgs& args, int chunk) {
  const auto reach = [](int64_t size, int64_t pad, int64_t dilation, int64_t kernel) {
    return static_cast<double>(size + 2 * pad + dilation * kernel);
  };
  const double elements = static_cast<double>(args.batch) * static_cast<double>(args.stride_n) +
                          reach(args.height, args.pad_h, args.dilation_h, args.kernel_h) *
                              static_cast<double>(args.stride_h) +
                          reach(args.width, args.pad_w, args.dilation_w, args.kernel_w) *
                              static_cast<double>(args.stride_w) +
                          static_cast<double>(args.channels);
  return elements / chunk < INT32_MAX / 2;
}

// Of a plan whose facts about memory are filled in.
inline TensorGather tensor_gather(const Conv2dArgs& args, int element) {
  if (!args.plan.whole_copies || !args.plan.whole_panel || !is_near(args, 16 / element))
    return TensorGather::kElements;
  if (args.kernel_h == 1 && args.kernel_w == 1 && args.pad_h == 0 && args.pad_w == 0)
    return TensorGather::kPoints;
  return args.kernel_h * args.kernel_w <= kTensorTaps ? TensorGather::kWindows
                                                      : TensorGather::kElements;
}

inline TilePlan tensor_plan_of(const Product& product, int tile, int64_t segments_per_block) {
  const TensorTileShape& shape = kTensorTileShapes[tile];
  return plan_of(product, shape.rows, shape.columns, tile, segments_per_block);
}

// What a plan takes, in cycles of an H100.
inline double tensor_cost(const Product& product, const TilePlan& plan,
                          const DeviceLimits& device) {
  // Of a launch; of a block beside its steps; of the second launch that adds segments, and the bytes a
  // cycle at which sums are written and read.
  constexpr double kLaunch = 3000, kBlock = 1200, kAdd = 5300, kSums = 1200;
  const auto pieces = [](int64_t size, int64_t piece) { return (size + piece - 1) / piece; };
  const TensorTileShape& shape = kTensorTileShapes[plan.tile];
  const int64_t own = plan.segments_per_block * kSegment;
  const auto steps = static_cast<double>(
      pieces(own < product.terms ? own : product.terms, 128 / product.storage_bytes));
  const int64_t blocks = pieces(plan.blocks, device.multiprocessors);
  const int64_t room =
      device.shared_per_multiprocessor / (shape.shared_bytes(product.storage_bytes) + 1024);
  const int64_t resident = room < 1 ? 1 : room < shape.blocks ? room : shape.blocks;
  const double full = static_cast<double>(blocks) * (steps * shape.full + kBlock / 4);
  const double alone =
      static_cast<double>(pieces(blocks, resident)) * (steps * shape.alone + kBlock);
  const double total = kLaunch + (full > alone ? full : alone);
  return plan.workspace_bytes == 0
             ? total
             : total + kAdd + 2.0 * static_cast<double>(plan.workspace_bytes) / kSums;
}

// The cheapest plan. Blocks share outputs only where these alone would leave multiprocessors idle.
inline TilePlan choose_tensor_plan(const Product& product, const DeviceLimits& device) {
  constexpr int64_t kMaxWorkspace = int64_t{32} << 20;
  const int64_t segments = (product.terms + kSegment - 1) / kSegment;
  TilePlan best{};
  double least = -1;
  for (int tile = 0; tile < kTensorTiles; ++tile) {
    if (!tensor_kernel_exists(tile, product.whole_copies)) continue;
    if (kTensorTileShapes[tile].shared_bytes(product.storage_bytes) > device.shared_per_block)
      continue;
    for (int64_t own = segments < 1 ? 1 : segments; own >= 1; own = own > 1 ? (own + 1) / 2 : 0) {
      const TilePlan plan = tensor_plan_of(product, tile, own);
      if (plan.workspace_bytes > kMaxWorkspace) break;
      const double now = tensor_cost(product, plan, device);
      if (least < 0 || now < least) least = now, best = plan;
      if (own == segments && 2 * plan.blocks >= 3 * int64_t{device.multiprocessors}) break;
    }
  }
  return best;
}

}  // namespace cuda
}  // namespace bninv
