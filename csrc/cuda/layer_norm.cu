// layer_norm and rms_norm under R5 over dense rows. Bound by memory: a row's bytes come from it once
// and stay in registers or shared memory for mean, variance and result.
#include "block_sum.cuh"
// block_sum.cuh first: it names the namespace of what follows.
#include "../layer_norm.h"
#include "../parameter.h"
#include "launch.cuh"

namespace bninv {
namespace cuda {
namespace {

// rms_norm has a mean of +0 and no sum to find it by: x - 0 is x, a zero's sign included.
template <typename A>
struct Row {
  A mean, inverse;
};

template <typename T>
__device__ __forceinline__ T result(const LayerNormArgs& args, const Row<Arithmetic<T>>& row,
                                    Arithmetic<T> x, int64_t k) {
  return narrow<T>(standardize(x - row.mean, row.inverse, parameter_at<T>(args.weight, 1, k),
                               parameter_at<T>(args.bias, 0, k)));
}

// ---- Rows in registers ---------------------------------------------------------------------------

// Four rows a block: few enough that the batch of one sample reaches many multiprocessors, and the 16
// blocks that a multiprocessor holds are 64 warps, as many as it can.
constexpr int kRowWarps = 4;
// All of a row's loads are under way at once; 32 binary64 values are 64 registers.
constexpr int kMostItems = 32;

// A warp owns a row of at most 32 kItems terms. A thread is the contract's lane of its number and holds
// that lane's terms, in order.
template <typename T, int kItems>
__global__ void __launch_bounds__(kRowWarps * 32)
    layer_norm_in_registers(const LayerNormArgs args) {
  using A = Arithmetic<T>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int terms = static_cast<int>(args.terms);
  const A count = static_cast<A>(args.terms), eps = static_cast<A>(args.eps);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kRowWarps;
  for (int64_t r = static_cast<int64_t>(blockIdx.x) * kRowWarps + threadIdx.x / 32; r < args.rows;
       r += step) {
    const T* __restrict__ x = static_cast<const T*>(args.input) + r * terms;
    T* __restrict__ y = static_cast<T*>(args.output) + r * terms;
    A value[kItems];
#pragma unroll
    for (int u = 0; u < kItems; ++u) {
      const int k = u * 32 + lane;
      if (k < terms) value[u] = widen(x[k]);
    }
    const auto sum = [&](const auto& add) {
      A total = 0;
#pragma unroll
      for (int u = 0; u < kItems; ++u)
        if (u * 32 + lane < terms) total = add(total, value[u]);
      return __shfl_sync(kWholeWarp, fold_warp(total), 0);
    };
    Row<A> row;
    row.mean = args.subtract_mean ? sum(AddTerm{}) / count : A(0);
    row.inverse = inverse_deviation(sum(AddSquare<A>(row.mean)) / count, eps);
#pragma unroll
    for (int u = 0; u < kItems; ++u) {
      const int k = u * 32 + lane;
      if (k < terms) y[k] = result<T>(args, row, value[u], k);
    }
  }
}

// ---- Longer rows ---------------------------------------------------------------------------------

// A row has more than kMostItems terms a lane; eight warps load it in few steps, and up to eight
// segments are summed at a time.
constexpr int kWarps = 8;
// Rows up to here pass through shared memory: seven of them fit a multiprocessor of the H100, two one of
// the T4. Longer ones have segments for many warps, which read them again from a cache.
constexpr int64_t kStagedBytes = 32 * 1024;

template <typename T>
__device__ __forceinline__ void stage(const T* __restrict__ x, int64_t terms, T* staged) {
  constexpr int kVector = 16 / sizeof(T);
  const bool aligned = reinterpret_cast<uintptr_t>(x) % 16 == 0;
  const int64_t vectors = aligned ? terms / kVector : 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < vectors; i += kWarps * 32) {
    const uint4 bytes = load16(x + i * kVector);
    void* at = staged + i * kVector;
    memcpy(__builtin_assume_aligned(at, 16), &bytes, sizeof(bytes));
  }
#pragma unroll 4
  for (int64_t k = vectors * kVector + threadIdx.x; k < terms; k += kWarps * 32) staged[k] = x[k];
}

// A block owns a row; its warps take the segments, whose sums are added in order.
template <typename T>
__global__ void __launch_bounds__(kWarps * 32)
    layer_norm_by_block(const LayerNormArgs args, const bool staged) {
  using A = Arithmetic<T>;
  A* parts = dynamic_shared<A>();
  const int64_t terms = args.terms;
  const T* source = static_cast<const T*>(args.input) + blockIdx.x * terms;
  T* __restrict__ y = static_cast<T*>(args.output) + blockIdx.x * terms;
  if (staged) {
    T* memory = reinterpret_cast<T*>(parts + kWarps);
    stage(source, terms, memory);
    __syncthreads();
    source = memory;
  }
  const auto term = [&](int64_t k) { return widen(source[k]); };
  const A count = static_cast<A>(terms);
  Row<A> row;
  row.mean =
      args.subtract_mean ? block_sum<A, kWarps>(terms, term, AddTerm{}, parts) / count : A(0);
  row.inverse =
      inverse_deviation(block_sum<A, kWarps>(terms, term, AddSquare<A>(row.mean), parts) / count,
                        static_cast<A>(args.eps));
#pragma unroll 4
  for (int64_t k = threadIdx.x; k < terms; k += kWarps * 32)
    y[k] = result<T>(args, row, term(k), k);
}

// ---- Launching -----------------------------------------------------------------------------------

template <typename T, int kItems>
void launch_in_registers(const LayerNormArgs& args, void* stream) {
  // Many waves, so that an uneven end costs little; a grid has its limit.
  constexpr int64_t kBlocks = 256;
  const int64_t blocks =
      min64(ceil_div(args.rows, kRowWarps), multiprocessors("layer_norm") * kBlocks);
  launch({"layer_norm", blocks, kRowWarps * 32, 0, stream}, layer_norm_in_registers<T, kItems>,
         args);
}

template <typename T>
void launch_by_block(const LayerNormArgs& args, void* stream) {
  const int64_t bytes = args.terms * static_cast<int64_t>(sizeof(T));
  const bool staged = bytes <= kStagedBytes;
  const int64_t shared = kWarps * sizeof(Arithmetic<T>) + (staged ? bytes : 0);
  launch({"layer_norm", args.rows, kWarps * 32, static_cast<size_t>(shared), stream},
         layer_norm_by_block<T>, args, staged);
}

template <typename T>
void launch_dtype(const LayerNormArgs& args, void* stream) {
  if (args.terms <= 8 * 32) return launch_in_registers<T, 8>(args, stream);
  if (args.terms <= 16 * 32) return launch_in_registers<T, 16>(args, stream);
  if (args.terms <= kMostItems * 32) return launch_in_registers<T, kMostItems>(args, stream);
  launch_by_block<T>(args, stream);
}

}  // namespace

void layer_norm(const LayerNormArgs& args, void* stream) {
  with_type(args.dtype,
            [&](auto type) { launch_dtype<typename decltype(type)::Type>(args, stream); });
}

}  // namespace cuda
}  // namespace bninv
