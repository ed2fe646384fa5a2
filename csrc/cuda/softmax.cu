// softmax and log_softmax under R4 over outer x terms x inner elements. Rows are kept in registers or
// shared memory where they fit; beyond, an exponential is computed again rather than stored: the same
// expression gives the same bits, and a cache gives its argument.
#include "block_sum.cuh"
#include "column_tile.cuh"
// These first: they name the namespace of what follows.
#include "../dtypes.h"
#include "../functions.h"
#include "../softmax.h"
#include "launch.cuh"

namespace bninv {
namespace cuda {
namespace {

// What no maximum notices.
constexpr float kLeast = -detail::kInfinity;

// maximum() over a warp, valid in every lane; in which order cannot be told from the result.
template <typename A>
__device__ __forceinline__ A warp_maximum(A x) {
#pragma unroll
  for (int h = 16; h > 0; h /= 2) x = maximum(x, __shfl_xor_sync(kWholeWarp, x, h));
  return x;
}

// A row's maximum and, once the sum is known, the sum or its logarithm.
template <typename A>
struct Row {
  A greatest, divisor;

  __device__ __forceinline__ A exponential(A x) const { return exp(A(x - greatest)); }
  __device__ __forceinline__ void finish(A total, bool logarithm) {
    divisor = logarithm ? log(total) : total;
  }
  __device__ __forceinline__ A result(A x, bool logarithm) const {
    return logarithm ? (x - greatest) - divisor : exponential(x) / divisor;
  }
};

// ---- Dense rows in registers ---------------------------------------------------------------------

// Four rows a block, as in layer_norm.cu.
constexpr int kRowWarps = 4;
constexpr int kMostItems = 32;

// A warp owns a row of at most 32 kItems terms. A thread is the contract's lane of its number and holds
// that lane's terms, in order: first x, then exp(x - m), or x - m for the logarithm.
template <typename T, int kItems>
__global__ void __launch_bounds__(kRowWarps * 32) softmax_in_registers(const SoftmaxArgs args) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int terms = static_cast<int>(args.terms);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kRowWarps;
  for (int64_t r = static_cast<int64_t>(blockIdx.x) * kRowWarps + threadIdx.x / 32; r < args.outer;
       r += step) {
    const T* __restrict__ x = static_cast<const T*>(args.input) + r * terms;
    T* __restrict__ y = static_cast<T*>(args.output) + r * terms;
    Arithmetic<T> value[kItems];
#pragma unroll
    for (int u = 0; u < kItems; ++u)
      value[u] = u * 32 + lane < terms ? widen(x[u * 32 + lane]) : Arithmetic<T>(kLeast);
    Arithmetic<T> greatest = value[0];
#pragma unroll
    for (int u = 1; u < kItems; ++u) greatest = maximum(greatest, value[u]);
    Row<Arithmetic<T>> row;
    row.greatest = warp_maximum(greatest);
    Arithmetic<T> total = 0;
#pragma unroll
    for (int u = 0; u < kItems; ++u) {
      if (u * 32 + lane >= terms) continue;
      const Arithmetic<T> e = row.exponential(value[u]);
      total = total + e;
      value[u] = args.log ? value[u] - row.greatest : e;
    }
    row.finish(__shfl_sync(kWholeWarp, fold_warp(total), 0), args.log);
#pragma unroll
    for (int u = 0; u < kItems; ++u)
      if (u * 32 + lane < terms)
        y[u * 32 + lane] = narrow<T>(args.log ? value[u] - row.divisor : value[u] / row.divisor);
  }
}

// ---- Longer dense rows ---------------------------------------------------------------------------

constexpr int kWarps = 8;
// The exponentials of rows up to here stay in shared memory: 32 KB.
template <typename A>
constexpr int64_t kStagedTerms = 32768 / sizeof(A);

// A block owns a row: all threads look for the maximum and compute exponentials, the warps sum them
// segment by segment.
template <typename T>
__global__ void __launch_bounds__(kWarps * 32)
    softmax_by_block(const SoftmaxArgs args, const bool staged) {
  using A = Arithmetic<T>;
  constexpr int kThreads = kWarps * 32;
  A* parts = dynamic_shared<A>();
  A* memory = parts + kWarps;
  const int64_t terms = args.terms;
  const T* x = static_cast<const T*>(args.input) + blockIdx.x * terms;
  T* y = static_cast<T*>(args.output) + blockIdx.x * terms;

  A greatest = kLeast;
#pragma unroll 4
  for (int64_t k = threadIdx.x; k < terms; k += kThreads) {
    const A value = widen(x[k]);
    if (staged) memory[k] = value;
    greatest = maximum(greatest, value);
  }
  greatest = warp_maximum(greatest);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = greatest;
  __syncthreads();
  Row<Arithmetic<T>> row;
  row.greatest = parts[0];
#pragma unroll
  for (int w = 1; w < kWarps; ++w) row.greatest = maximum(row.greatest, parts[w]);
  if (staged)  // each thread what it put there
    for (int64_t k = threadIdx.x; k < terms; k += kThreads) memory[k] = row.exponential(memory[k]);
  __syncthreads();  // the exponentials are there, and the maxima have been read

  if (staged)
    row.finish(block_sum<A, kWarps>(
                   terms, [=](int64_t k) { return memory[k]; }, AddTerm{}, parts),
               args.log);
  else
    row.finish(
        block_sum<A, kWarps>(
            terms, [=](int64_t k) { return row.exponential(widen(x[k])); }, AddTerm{}, parts),
        args.log);
  if (staged && !args.log) {
    for (int64_t k = threadIdx.x; k < terms; k += kThreads)
      y[k] = narrow<T>(memory[k] / row.divisor);
  } else {
    for (int64_t k = threadIdx.x; k < terms; k += kThreads)
      y[k] = narrow<T>(row.result(widen(x[k]), args.log));
  }
}

// ---- Rows side by side ---------------------------------------------------------------------------

// Two blocks of them on a multiprocessor: with fewer registers for each thread ptxas spills on 10.0.
constexpr int kColumnThreads = 256;

// A thread owns a column, neighbours are neighbours in memory: for few terms, or columns enough to fill
// the device. It walks R3's tree depth first (thread_sum).
template <typename T>
__global__ void __launch_bounds__(kColumnThreads, 2) softmax_by_thread(const SoftmaxArgs args) {
  const int64_t columns = args.outer * args.inner, inner = args.inner, terms = args.terms;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kColumnThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kColumnThreads + threadIdx.x; i < columns;
       i += step) {
    const int64_t start = i / inner * terms * inner + i % inner;
    const T* x = static_cast<const T*>(args.input) + start;
    T* y = static_cast<T*>(args.output) + start;
    Row<Arithmetic<T>> row;
    row.greatest = kLeast;
#pragma unroll 4
    for (int64_t k = 0; k < terms; ++k) row.greatest = maximum(row.greatest, widen(x[k * inner]));
    const auto term = [=](int64_t k) { return row.exponential(widen(x[k * inner])); };
    row.finish(thread_sum<Arithmetic<T>>(terms, term, AddTerm{}), args.log);
#pragma unroll 4
    for (int64_t k = 0; k < terms; ++k)
      y[k * inner] = narrow<T>(row.result(widen(x[k * inner]), args.log));
  }
}

constexpr int kTileWarps = 16;

// A block owns up to kTileWarps neighbouring columns of one outer index, a warp's worth of threads a
// column and segment: for many terms of few columns. column_tile.cuh says who takes which terms.
template <typename T>
__global__ void __launch_bounds__(kTileWarps * 32)
    softmax_by_tile(const SoftmaxArgs args, const ColumnTile tile) {
  using A = Arithmetic<T>;
  const int64_t inner = args.inner, terms = args.terms;
  const int64_t tiles = (inner + tile.width - 1) / tile.width;
  const int64_t column = blockIdx.x % tiles * tile.width + tile.column();
  const bool exists = column < inner;
  // A thread without a column reads none.
  const int64_t start = blockIdx.x / tiles * terms * inner + column, end = exists ? terms : 0;
  const T* x = static_cast<const T*>(args.input) + start;
  T* y = static_cast<T*>(args.output) + start;
  A* memory = dynamic_shared<A>();

  A greatest = kLeast;
#pragma unroll 4
  for (int64_t k = tile.row(); k < end; k += tile.rows())
    greatest = maximum(greatest, widen(x[k * inner]));
  const A* parts =
      fold_columns(tile, greatest, [](A value) { return warp_maximum(value); }, memory);
  Row<Arithmetic<T>> row;
  row.greatest = parts[tile.column()];
  for (int s = 1; s < tile.slots; ++s)
    row.greatest = maximum(row.greatest, parts[s * tile.width + tile.column()]);
  const auto term = [=](int64_t k) { return row.exponential(widen(x[k * inner])); };
  row.finish(tile_sum<A>(tile, terms, exists, term, AddTerm{}, memory), args.log);
#pragma unroll 4
  for (int64_t k = tile.row(); k < end; k += tile.rows())
    y[k * inner] = narrow<T>(row.result(widen(x[k * inner]), args.log));
}

// ---- Launching -----------------------------------------------------------------------------------

// Many waves, so that an uneven end costs little; a grid has its limit.
int64_t blocks_for(int64_t wanted) {
  return min64(wanted, multiprocessors("softmax") * int64_t{256});
}

template <typename T, int kItems>
void launch_in_registers(const SoftmaxArgs& args, void* stream) {
  launch({"softmax", blocks_for(ceil_div(args.outer, kRowWarps)), kRowWarps * 32, 0, stream},
         softmax_in_registers<T, kItems>, args);
}

template <typename T>
void launch_rows(const SoftmaxArgs& args, void* stream) {
  if (args.terms <= 4 * 32) return launch_in_registers<T, 4>(args, stream);
  if (args.terms <= 16 * 32) return launch_in_registers<T, 16>(args, stream);
  if (args.terms <= kMostItems * 32) return launch_in_registers<T, kMostItems>(args, stream);
  const bool staged = args.terms <= kStagedTerms<Arithmetic<T>>;
  const int64_t shared = kWarps + (staged ? args.terms : 0);
  launch({"softmax", args.outer, kWarps * 32, static_cast<size_t>(shared) * sizeof(Arithmetic<T>),
          stream},
         softmax_by_block<T>, args, staged);
}

template <typename T>
void launch_columns(const SoftmaxArgs& args, void* stream) {
  const int64_t columns = args.outer * args.inner;
  // Two blocks of them for every multiprocessor, or too few terms for more threads to pay.
  const int64_t enough = multiprocessors("softmax") * int64_t{2 * kColumnThreads};
  if (args.terms <= 32 || columns >= enough) {
    launch({"softmax", blocks_for(ceil_div(columns, kColumnThreads)), kColumnThreads, 0, stream},
           softmax_by_thread<T>, args);
    return;
  }
  const int64_t tiles = ceil_div(args.inner, kTileWarps), width = ceil_div(args.inner, tiles);
  const int64_t slots = min64(kTileWarps / width, ceil_div(args.terms, kSumSegment));
  const ColumnTile tile{static_cast<int>(width), static_cast<int>(slots)};
  const int warps = static_cast<int>(width * slots);
  launch({"softmax", args.outer * tiles, warps * 32,
          static_cast<size_t>(column_memory(warps)) * sizeof(Arithmetic<T>), stream},
         softmax_by_tile<T>, args, tile);
}

template <typename T>
void launch_dtype(const SoftmaxArgs& args, void* stream) {
  if (args.inner == 1)
    launch_rows<T>(args, stream);
  else
    launch_columns<T>(args, stream);
}

}  // namespace

void softmax(const SoftmaxArgs& args, void* stream) {
  with_type(args.dtype,
            [&](auto type) { launch_dtype<typename decltype(type)::Type>(args, stream); });
}

}  // namespace cuda
}  // namespace bninv
