// 3-d average pooling under R3 and exact max pooling over channels_last_3d tensors. A block owns some
// neighbouring channels of one output voxel and deals the terms of each window to its rows (column_sum).
#include "../dtypes.h"
#include "../pool3d.h"
#include "column_sum.cuh"
#include "device.cuh"
#include "divide.cuh"
#include "launch.cuh"

namespace bninv {
namespace cuda {
namespace {

// Output voxels are counted line by line, plane by plane, sample by sample.
struct Voxels {
  Divider across;  // blocks of a voxel
  Divider out_width, out_height, out_depth;
};

struct Average {
  template <typename A>
  static __device__ __forceinline__ A identity() {
    return 0;
  }
  template <typename A>
  __device__ __forceinline__ A operator()(A a, A b) const {
    return a + b;
  }
  template <typename A>
  static __device__ __forceinline__ A result(A total, int64_t divisor) {
    return total / static_cast<A>(divisor);
  }
};

struct Maximum {
  template <typename A>
  static __device__ __forceinline__ A identity() {
    return -static_cast<A>(__builtin_inff());
  }
  template <typename A>
  __device__ __forceinline__ A operator()(A a, A b) const {
    return maximum(a, b);
  }
  template <typename A>
  static __device__ __forceinline__ A result(A largest, int64_t) {
    return largest;
  }
};

// A block owns 2^shift neighbouring channels of one output voxel.
template <typename T, int kLanes, typename Pool>
__global__ void __launch_bounds__(kColumnThreads)
    pool_volume(const Pool3dArgs args, const Voxels voxels, const int shift) {
  using A = Arithmetic<T>;
  int64_t rest = blockIdx.x;
  const int64_t channel =
      (voxels.across.divide(rest) << shift) + (threadIdx.x & ((1u << shift) - 1));
  const int64_t voxel = rest;
  const bool exists = channel < args.channels;
  const Window columns = window(args, false, voxels.out_width.divide(rest));
  const Window rows = window(args, true, voxels.out_height.divide(rest));
  const Window planes = planes_of(args, voxels.out_depth.divide(rest));
  // Threads beyond the last channel repeat it, with all barriers, and store nothing.
  const T* first = static_cast<const T*>(args.input) + rest * args.stride_n +
                   planes.first * args.stride_d + rows.first * args.stride_h +
                   columns.first * args.stride_w + (exists ? channel : args.channels - 1);
  const Divider of_columns(columns.count()), of_rows(rows.count());
  const auto term = [&](int64_t k) {
    const int64_t w = of_columns.divide(k), h = of_rows.divide(k);
    return widen(first[k * planes.step * args.stride_d + h * rows.step * args.stride_h +
                       w * columns.step * args.stride_w]);
  };
  const int64_t terms = planes.count() * rows.count() * columns.count();
  const A total = column_sum<kLanes>(terms, shift, term, Pool::template identity<A>(), Pool{});
  if (exists && threadIdx.x >> shift == 0)
    static_cast<T*>(args.output)[voxel * args.channels + channel] =
        narrow<T>(Pool::result(total, average_divisor(args, planes, rows, columns)));
}

// The most elements that a window can hold.
int64_t most_terms(const Pool3dArgs& args) {
  const auto most = [&](int64_t kernel, int64_t size, int64_t out_size) {
    // Adaptive windows are at most two longer than the quotient.
    return min64(args.adaptive ? size / out_size + 2 : kernel, size);
  };
  return most(args.kernel_d, args.depth, args.out_depth) *
         most(args.kernel_h, args.height, args.out_height) *
         most(args.kernel_w, args.width, args.out_width);
}

template <typename T, typename Pool>
void launch_pool(const char* op, const Pool3dArgs& args, void* stream) {
  const int64_t voxels = args.batch * args.out_depth * args.out_height * args.out_width;
  const int64_t terms = most_terms(args);
  check_divisions(op, terms, max64(args.width, args.height));
  const ColumnBlocks blocks = column_blocks(voxels, args.channels, terms, op);
  const int64_t count = voxels * blocks.across;
  check_divisions(
      op, count,
      max64(max64(blocks.across, args.out_width), max64(args.out_height, args.out_depth)));
  const Voxels dividers{Divider(blocks.across), Divider(args.out_width), Divider(args.out_height),
                        Divider(args.out_depth)};
  const Launch how{op, count, kColumnThreads, 0, stream};
  if (blocks.lanes == 4) return launch(how, pool_volume<T, 4, Pool>, args, dividers, blocks.shift);
  launch(how, pool_volume<T, 1, Pool>, args, dividers, blocks.shift);
}

}  // namespace

void avg_pool3d(const Pool3dArgs& args, void* stream) {
  with_type(args.dtype, [&](auto type) {
    launch_pool<typename decltype(type)::Type, Average>("avg_pool3d", args, stream);
  });
}

void max_pool3d(const Pool3dArgs& args, void* stream) {
  with_type(args.dtype, [&](auto type) {
    launch_pool<typename decltype(type)::Type, Maximum>("max_pool3d", args, stream);
  });
}

}  // namespace cuda
}  // namespace bninv
