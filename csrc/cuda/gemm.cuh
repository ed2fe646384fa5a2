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

#include "device.cuh"
// device.cuh first: it names the namespace of what follows.
#include "epilogue.cuh"
#include "gemm_plan.h"

#include <type_traits>

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

// ---- Filling a stage -----------------------------------------------------------------------------

// Four elements on their way to a stage. Of binary32 and binary64 they are copied there asynchronously.
// Half types must be widened on the way: they wait in shared memory of this thread's own (kSlot, where
// four are always copied together), or in registers, until `land`.
template <typename T, typename Tile, bool kSlot>
struct Copy {
  using A = Arithmetic<T>;
  Elements<T, 4> held;  // unused otherwise, and then in no register

  // `address(l)` of element l is used where `exists(l)`; else it is +0. `whole`: the four are there
  // together, aligned, or not at all.
  template <typename Address, typename Exists>
  __device__ __forceinline__ void start(A* stage, void* slot, const Address& address,
                                        const Exists& exists, bool whole) {
    if constexpr (Tile::kAsync) {
      if (whole) {
#pragma unroll
        for (int l = 0; l < 4; l += 16 / sizeof(T))
          copy_async<16>(stage + l, address(0) + l, exists(0));
      } else {
#pragma unroll
        for (int l = 0; l < 4; ++l) copy_async<sizeof(T)>(stage + l, address(l), exists(l));
      }
    } else if constexpr (kSlot) {
      copy_async<sizeof(held)>(slot, address(0), exists(0));
    } else {
      held = Elements<T, 4>{};
      if (whole) {
        if (exists(0)) held = *reinterpret_cast<const Elements<T, 4>*>(address(0));
      } else {
#pragma unroll
        for (int l = 0; l < 4; ++l)
          if (exists(l)) held.lane[l] = *address(l);
      }
    }
  }

  // After the wait for what was started.
  __device__ __forceinline__ void land(A* stage, const void* slot) const {
    if constexpr (!Tile::kAsync) {
      const Elements<T, 4> narrow = kSlot ? *static_cast<const Elements<T, 4>*>(slot) : held;
      Elements<A, 4> wide;
#pragma unroll
      for (int l = 0; l < 4; ++l) wide.lane[l] = widen(narrow.lane[l]);
      *reinterpret_cast<Elements<A, 4>*>(stage) = wide;
    }
  }
};

// The panel's part of a stage: terms x columns, columns dense. What lies outside is +0. A tile of single
// elements may have a panel of whole copies all the same: a stem's.
template <typename T, typename Tile, bool kWhole>
class PanelSource {
 public:
  using A = Arithmetic<T>;

  __device__ __forceinline__ PanelSource(const Conv2dArgs& args, const Block& block)
      : stride_(args.out_channels),
        whole_(kWhole || args.plan.whole_panel),
        terms_(block.last - block.first - row()) {
    const int64_t column = block.column + quad() * 4;
    const int64_t left = args.gemm.columns - column;
    columns_ = left < 0 ? 0 : left < 4 ? static_cast<int>(left) : 4;
    if (columns_ == 0) terms_ = 0;
    next_ = static_cast<const T*>(args.weight) + (block.first + row()) * stride_ +
            block.group * args.gemm.columns + column;
  }

  // Starts the copies of the next kDepth terms.
  __device__ __forceinline__ void start(typename Tile::Shared& shared, int stage) {
#pragma unroll
    for (int i = 0; i < Tile::kPanelCopies; ++i) {
      const int step = i * Tile::kPanelStep;
      const bool inside = step < terms_;
      copies_[i].start(
          &shared.stages[stage].panel[row() + step][quad() * 4], shared.slot(Tile::kRowCopies + i),
          [&](int l) { return next_ + step * stride_ + l; },
          [&](int l) { return inside && (whole_ || l < columns_); }, whole_);
    }
    terms_ -= Tile::kDepth;
    next_ += Tile::kDepth * stride_;
  }

  __device__ __forceinline__ void land(typename Tile::Shared& shared, int stage) const {
#pragma unroll
    for (int i = 0; i < Tile::kPanelCopies; ++i)
      copies_[i].land(&shared.stages[stage].panel[row() + i * Tile::kPanelStep][quad() * 4],
                      shared.slot(Tile::kRowCopies + i));
  }

 private:
  static __device__ __forceinline__ int row() { return Tile::thread() / (Tile::kColumns / 4); }
  static __device__ __forceinline__ int quad() { return Tile::thread() % (Tile::kColumns / 4); }

  int64_t stride_;
  bool whole_;
  int terms_, columns_;  // that are left, from this thread's first on
  const T* next_;
  Copy<T, Tile, kWhole> copies_[Tile::kPanelCopies];
};

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

// Totals of four channels of one pixel: the epilogue, then one rounding.
template <typename T>
__device__ __forceinline__ void finish_row(const Conv2dArgs& args,
                                           const ChannelEpilogue<T, 4>& epilogue,
                                           const Arithmetic<T> (&totals)[4], int64_t row,
                                           int64_t channel, int count) {
  const int64_t stride = args.out_stride_c;
  const int64_t at = output_offset(args, row) + channel * stride;
  const bool whole = count == 4 && channel % 4 == 0 && args.plan.whole_output;
  Elements<T, 4> residual{};
  if (args.epilogue.residual != nullptr)
    residual = load_elements<T, 4>(static_cast<const T*>(args.epilogue.residual) + at, stride,
                                   count, whole);
  store_elements<T, 4>(static_cast<T*>(args.output) + at, stride, count, whole,
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
    const int count = gemm.columns - column < 4 ? static_cast<int>(gemm.columns - column) : 4;
    const int64_t channel = block.group * gemm.columns + column;
    const ChannelEpilogue<T, 4> epilogue(args.epilogue, args.bias, channel, count);
#pragma unroll 1
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      const int64_t row = block.row + sums.row() + i * Tile::kLaneRows;
      if (row >= gemm.rows) break;
      finish_row<T>(args, epilogue, shared.totals[i * Tile::kQuads + q][Tile::thread()], row,
                    channel, count);
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
  const int64_t column = i % quads * 4, row = i / quads % gemm.rows;
  const int64_t channel = i / quads / gemm.rows * gemm.columns + column;
  const int count = gemm.columns - column < 4 ? static_cast<int>(gemm.columns - column) : 4;
  finish_row<T>(args, ChannelEpilogue<T, 4>(args.epilogue, args.bias, channel, count), totals, row,
                channel, count);
}

}  // namespace cuda
}  // namespace bninv
