// sum and mean over any dimensions under R3: the terms of one output are the reduced elements in
// row-major order of their logical indices, whatever the strides. Bound by memory: each element is read
// once, neighbours in memory by neighbouring threads.
#include "../dtypes.h"
#include "../sum.h"
#include "column_sum.cuh"
#include "device.cuh"
#include "divide.cuh"
#include "launch.cuh"

namespace bninv {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxWarps = 16;

// The sizes of ReduceArgs, to divide by.
struct Sizes {
  Divider kept[ReduceArgs::kMaxDims], reduced[ReduceArgs::kMaxDims];
};

// Where element `index` lies, in row-major order of the dimensions.
__device__ __forceinline__ int64_t offset_of(const Divider* sizes, const int64_t* strides, int dims,
                                             int64_t index) {
  int64_t offset = 0;
  for (int d = dims - 1; d > 0; --d) offset += sizes[d].divide(index) * strides[d];
  return offset + index * strides[0];
}

// Not inlined: for each of the terms that are loaded ahead it would be most of the code.
__device__ __attribute__((noinline)) int64_t term_offset(const Sizes& sizes, const ReduceArgs& args,
                                                         int64_t k) {
  return offset_of(sizes.reduced, args.reduced_strides, args.reduced_dims, k);
}

// Term k of the output whose first term is at `base`. One dimension is what nearly all reductions
// come to: it needs no division.
template <typename T, bool kOneDim>
struct Terms {
  const ReduceArgs& args;
  const Sizes& sizes;
  const T* base;

  __device__ __forceinline__ Arithmetic<T> operator()(int64_t k) const {
    if constexpr (kOneDim) return widen(base[k * args.reduced_strides[0]]);
    return widen(base[term_offset(sizes, args, k)]);
  }
};

template <typename T, bool kOneDim>
__device__ __forceinline__ Terms<T, kOneDim> terms_of(const ReduceArgs& args, const Sizes& sizes,
                                                      int64_t output) {
  return {args, sizes,
          static_cast<const T*>(args.input) +
              offset_of(sizes.kept, args.kept_strides, args.kept_dims, output)};
}

template <typename T>
__device__ __forceinline__ void store_sum(const ReduceArgs& args, int64_t output,
                                          Arithmetic<T> total) {
  static_cast<T*>(args.output)[output] =
      narrow<T>(total / static_cast<Arithmetic<T>>(args.divisor));
}

// R3 as it is written: a warp's threads are the lanes of one output, whose neighbouring terms are read
// together where they are contiguous; so 8 outputs a block. Of sums of 16 terms and fewer a warp does
// several, `group` lanes (a power of two) for each.
template <typename T, bool kOneDim>
__global__ void __launch_bounds__(kThreads)
    sum_rows(const __grid_constant__ ReduceArgs args, const __grid_constant__ Sizes sizes,
             const int64_t outputs, const int group) {
  using A = Arithmetic<T>;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % group;
  const int64_t output = static_cast<int64_t>(blockIdx.x) * (kThreads / group) + thread / group;
  const bool exists = output < outputs;
  const auto term = terms_of<T, kOneDim>(args, sizes, exists ? output : 0);
  A total = 0;
  for (int64_t first = 0; first < args.terms; first += kSumSegment) {
    const int64_t last = first + kSumSegment < args.terms ? first + kSumSegment : args.terms;
    const A sum = lane_of_segment<A>(first, exists ? last : first, lane, term, AddTerm{});
    total = total + fold_warp(sum, group);
  }
  if (exists && lane == 0) store_sum<T>(args, output, total);
}

// One output a block: its warps do a segment each, whose sums the first thread adds from left to right.
// For few outputs of many terms, of which sum_rows would keep few multiprocessors busy.
template <typename T, bool kOneDim>
__global__ void __launch_bounds__(kMaxWarps * 32)
    sum_segments(const __grid_constant__ ReduceArgs args, const __grid_constant__ Sizes sizes) {
  using A = Arithmetic<T>;
  struct Sums {
    A of_warp[kMaxWarps];
  };
  Sums& sums = static_shared<Sums>();
  const int warps = static_cast<int>(blockDim.x) / 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto term = terms_of<T, kOneDim>(args, sizes, blockIdx.x);
  A total = 0;
  for (int64_t round = 0; round < args.terms; round += warps * kSumSegment) {
    const int64_t first = round + warp * kSumSegment;
    const int64_t last = first + kSumSegment < args.terms ? first + kSumSegment : args.terms;
    const A sum = fold_warp(lane_of_segment<A>(first, last, lane, term, AddTerm{}));
    if (lane == 0) sums.of_warp[warp] = sum;
    __syncthreads();
    if (threadIdx.x == 0)
      for (int w = 0; w < warps && round + w * kSumSegment < args.terms; ++w)
        total = total + sums.of_warp[w];
    __syncthreads();
  }
  if (threadIdx.x == 0) store_sum<T>(args, blockIdx.x, total);
}

// A block owns 2^shift neighbouring outputs, contiguous in the input too (the channels of a mean over
// pixels in channels_last), and deals each sum's lanes to its rows: column_sum.
template <typename T, int kLanes, bool kOneDim>
__global__ void __launch_bounds__(kThreads)
    sum_columns(const __grid_constant__ ReduceArgs args, const __grid_constant__ Sizes sizes,
                const unsigned across, const int shift) {
  using A = Arithmetic<T>;
  const int64_t columns = args.kept_sizes[args.kept_dims - 1];
  const int64_t column =
      (static_cast<int64_t>(blockIdx.x % across) << shift) + (threadIdx.x & ((1u << shift) - 1));
  const bool exists = column < columns;
  // Threads beyond the last column repeat it, with all barriers, and store nothing.
  const int64_t output = blockIdx.x / across * columns + (exists ? column : columns - 1);
  const A total = column_sum<kLanes>(args.terms, shift, terms_of<T, kOneDim>(args, sizes, output),
                                     A(0), AddTerm{});
  if (exists && threadIdx.x >> shift == 0) store_sum<T>(args, output, total);
}

// ---- Launching -----------------------------------------------------------------------------------

int64_t outputs_of(const ReduceArgs& args) {
  int64_t outputs = 1;
  for (int d = 0; d < args.kept_dims; ++d) outputs *= args.kept_sizes[d];
  return outputs;
}

template <typename T, bool kOneDim>
void launch_sum(const ReduceArgs& args, const Sizes& sizes, void* stream) {
  const int64_t columns = args.kept_sizes[args.kept_dims - 1];
  const int64_t outputs = outputs_of(args);
  const bool side_by_side = args.kept_strides[args.kept_dims - 1] == 1 && columns >= 8;
  if (side_by_side && args.reduced_strides[args.reduced_dims - 1] != 1) {
    const int64_t rows = outputs / columns;
    const ColumnBlocks blocks = column_blocks(rows, columns, args.terms, "sum");
    const Launch how{"sum", rows * blocks.across, kColumnThreads, 0, stream};
    const auto across = static_cast<unsigned>(blocks.across);  // fits if the grid does
    if (blocks.lanes == 4)
      return launch(how, sum_columns<T, 4, kOneDim>, args, sizes, across, blocks.shift);
    return launch(how, sum_columns<T, 1, kOneDim>, args, sizes, across, blocks.shift);
  }
  if (args.terms > kSumSegment && outputs < 8 * multiprocessors("sum")) {
    const int64_t warps = min64(ceil_div(args.terms, kSumSegment), kMaxWarps);
    return launch({"sum", outputs, static_cast<int>(warps) * 32, 0, stream},
                  sum_segments<T, kOneDim>, args, sizes);
  }
  int group = 1;
  while (group < args.terms && group < kSumLanes) group *= 2;
  launch({"sum", ceil_div(outputs, kThreads / group), kThreads, 0, stream}, sum_rows<T, kOneDim>,
         args, sizes, outputs, group);
}

}  // namespace

void sum(const ReduceArgs& args, void* stream) {
  Sizes sizes{};
  const auto divide_by = [](Divider* dividers, const int64_t* of, int dims, int64_t most) {
    for (int d = 0; d < dims; ++d) {
      if (d > 0) check_divisions("sum", most, of[d]);
      dividers[d] = Divider(of[d]);
    }
  };
  divide_by(sizes.kept, args.kept_sizes, args.kept_dims, outputs_of(args));
  divide_by(sizes.reduced, args.reduced_sizes, args.reduced_dims, args.terms);
  with_type(args.dtype, [&](auto type) {
    using T = typename decltype(type)::Type;
    if (args.reduced_dims == 1)
      launch_sum<T, true>(args, sizes, stream);
    else
      launch_sum<T, false>(args, sizes, stream);
  });
}

}  // namespace cuda
}  // namespace bninv
