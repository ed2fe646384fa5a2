// Average pooling under R3 and exact max pooling over channels_last tensors: neighbouring threads take
// neighbouring channels of one output pixel.
#include "../pool2d.h"
#include "column_sum.cuh"
#include "device.cuh"
#include "divide.cuh"
#include "launch.cuh"
#include "pack.cuh"

namespace bninv {
namespace cuda {
namespace {

constexpr int kThreads = 256;
// Terms of a window that one thread sums: with more, lanes of R3 go to several threads. Up to here each
// lane has one term at most, and eight partial sums hold them all.
constexpr int kThreadTerms = 16;

// Values of kVector neighbouring channels.
template <typename A, int kVector>
struct Channels {
  A value[kVector];
};

template <typename T, int kVector>
__device__ __forceinline__ Channels<Arithmetic<T>, kVector> load_channels(const T* p) {
  const Pack<T, kVector> pack = load<T, kVector>(p);
  Channels<Arithmetic<T>, kVector> channels;
#pragma unroll
  for (int l = 0; l < kVector; ++l) channels.value[l] = widen(pack.lane[l]);
  return channels;
}

// to = combine(to, from) in every channel.
template <typename A, int kVector, typename Combine>
__device__ __forceinline__ void combine_into(Channels<A, kVector>& to,
                                             const Channels<A, kVector>& from,
                                             const Combine& combine) {
#pragma unroll
  for (int l = 0; l < kVector; ++l) to.value[l] = combine(to.value[l], from.value[l]);
}

// What a launch computes of its arguments once: pixels are counted row by row, sample by sample.
struct Pixels {
  Divider vectors;  // of a pixel: threads, or blocks
  Divider out_width, out_height;
};

// An output pixel's window: its first element in memory, of channel 0, and those that follow it.
template <typename T>
struct Taps {
  Window rows, columns;
  const T* first;
  int64_t row_stride, column_stride;

  __device__ __forceinline__ Taps(const Pool2dArgs& args, const Pixels& pixels, int64_t pixel) {
    columns = window(args, false, pixels.out_width.divide(pixel));
    rows = window(args, true, pixels.out_height.divide(pixel));
    first = static_cast<const T*>(args.input) + pixel * args.stride_n + rows.first * args.stride_h +
            columns.first * args.stride_w;
    row_stride = rows.step * args.stride_h;
    column_stride = columns.step * args.stride_w;
  }
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
  template <typename T>
  static __device__ __forceinline__ Arithmetic<T> result(const Pool2dArgs& args,
                                                         const Taps<T>& taps, Arithmetic<T> total) {
    return total / static_cast<Arithmetic<T>>(average_divisor(args, taps.rows, taps.columns));
  }

  // The sum of at most kThreadTerms elements from `p` on. Lanes are +0 or a single term then; the
  // fold of distance 16 adds +0 alone, and lanes 8 to 15 need not be kept: distance 8 adds them.
  template <typename T, int kVector>
  static __device__ __forceinline__ Channels<Arithmetic<T>, kVector> of_window(const Taps<T>& taps,
                                                                               const T* p) {
    using A = Arithmetic<T>;
    constexpr int kHalf = kThreadTerms / 2;
    const auto columns = static_cast<uint32_t>(taps.columns.count());
    const auto terms = static_cast<int>(taps.rows.count()) * static_cast<int>(columns);
    // k / columns is k * inverse / 2^16 rounded down, both being at most kThreadTerms.
    const uint32_t inverse = columns > 0 ? 65536 / columns + 1 : 0;
    const auto term = [&](uint32_t k) {
      const uint32_t h = k * inverse >> 16, w = k - h * columns;
      return load_channels<T, kVector>(p + h * taps.row_stride + w * taps.column_stride);
    };
    Channels<A, kVector> lanes[kHalf];
#pragma unroll
    for (int k = 0; k < kHalf; ++k) {
      lanes[k] = {};
      if (k < terms) combine_into(lanes[k], term(k), AddTerm{});
    }
    if (terms > kHalf) {
#pragma unroll
      for (int k = 0; k < kHalf; ++k) {
        Channels<A, kVector> other{};
        if (kHalf + k < terms) combine_into(other, term(kHalf + k), AddTerm{});
        combine_into(lanes[k], other, AddTerm{});
      }
    }
#pragma unroll
    for (int h = kHalf / 2; h > 0; h /= 2)
#pragma unroll
      for (int k = 0; k < h; ++k) combine_into(lanes[k], lanes[k + h], AddTerm{});
    return lanes[0];
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
  template <typename T>
  static __device__ __forceinline__ Arithmetic<T> result(const Pool2dArgs&, const Taps<T>&,
                                                         Arithmetic<T> largest) {
    return largest;
  }

  // R0's maximum does not depend on the order: row by row, with several loads under way.
  template <typename T, int kVector>
  static __device__ __forceinline__ Channels<Arithmetic<T>, kVector> of_window(const Taps<T>& taps,
                                                                               const T* p) {
    using A = Arithmetic<T>;
    constexpr int kAhead = 4;
    const int64_t rows = taps.rows.count(), columns = taps.columns.count();
    Channels<A, kVector> largest;
#pragma unroll
    for (int l = 0; l < kVector; ++l) largest.value[l] = identity<A>();
    for (int64_t h = 0; h < rows; ++h, p += taps.row_stride) {
      for (int64_t w = 0; w < columns; w += kAhead) {
        Channels<A, kVector> values[kAhead];
#pragma unroll
        for (int u = 0; u < kAhead; ++u)
          if (w + u < columns)
            values[u] = load_channels<T, kVector>(p + (w + u) * taps.column_stride);
#pragma unroll
        for (int u = 0; u < kAhead; ++u)
          if (w + u < columns) combine_into(largest, values[u], Maximum{});
      }
    }
    return largest;
  }
};

// A thread owns kVector neighbouring channels of one output pixel, 16 bytes where alignment allows
// that, and reads their windows alone. Neighbouring threads own the next channels, then the next pixel
// of the row, whose window overlaps in the caches.
template <typename T, int kVector, typename Pool>
__global__ void __launch_bounds__(kThreads)
    pool_by_thread(const Pool2dArgs args, const Pixels pixels, const int64_t outputs) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= outputs) return;
  int64_t pixel = i;
  const int64_t channel = pixels.vectors.divide(pixel) * kVector;
  const Taps<T> taps(args, pixels, pixel);
  const auto totals = Pool::template of_window<T, kVector>(taps, taps.first + channel);
  Pack<T, kVector> pack;
#pragma unroll
  for (int l = 0; l < kVector; ++l)
    pack.lane[l] = narrow<T>(Pool::template result<T>(args, taps, totals.value[l]));
  store(static_cast<T*>(args.output) + i * kVector, pack);
}

// A block owns 2^shift neighbouring channels of one output pixel and deals the lanes of each window's
// sum to its rows (column_sum): windows of many terms, and few outputs, down to one pixel a sample.
template <typename T, int kLanes, typename Pool>
__global__ void __launch_bounds__(kColumnThreads)
    pool_by_block(const Pool2dArgs args, const Pixels pixels, const int shift) {
  using A = Arithmetic<T>;
  int64_t pixel = blockIdx.x;
  const int64_t channel =
      (pixels.vectors.divide(pixel) << shift) + (threadIdx.x & ((1u << shift) - 1));
  const bool exists = channel < args.channels;
  const Taps<T> taps(args, pixels, pixel);
  // Threads beyond the last channel repeat it, with all barriers, and store nothing.
  const T* p = taps.first + (exists ? channel : args.channels - 1);
  const Divider columns(taps.columns.count());
  const auto term = [&](int64_t k) {
    const int64_t w = columns.divide(k);
    return widen(p[k * taps.row_stride + w * taps.column_stride]);
  };
  const A total = column_sum<kLanes>(taps.rows.count() * columns.divisor, shift, term,
                                     Pool::template identity<A>(), Pool{});
  if (exists && threadIdx.x >> shift == 0)
    static_cast<T*>(args.output)[pixel * args.channels + channel] =
        narrow<T>(Pool::template result<T>(args, taps, total));
}

// ---- Launching -----------------------------------------------------------------------------------

// The most elements that a window can hold.
int64_t most_terms(const Pool2dArgs& args) {
  // Adaptive windows are at most two longer than the quotient.
  const int64_t h = args.adaptive ? args.height / args.out_height + 2 : args.kernel_h;
  const int64_t w = args.adaptive ? args.width / args.out_width + 2 : args.kernel_w;
  return min64(h, args.height) * min64(w, args.width);
}

template <typename T, typename Pool>
void launch_pool(const char* op, const Pool2dArgs& args, void* stream) {
  constexpr int kVector = kWholeVector<T>;
  const int64_t pixels = args.batch * args.out_height * args.out_width;
  const int64_t strides = args.stride_n | args.stride_h | args.stride_w | args.channels;
  const bool aligned = are_aligned(args.input, args.output) && strides % kVector == 0;
  const int64_t vectors = aligned ? args.channels / kVector : args.channels;
  const int64_t outputs = pixels * vectors, terms = most_terms(args);
  check_divisions(op, terms, args.width);
  const auto divided_by = [&](int64_t count) {
    check_divisions(op, outputs, max64(count, max64(args.out_width, args.out_height)));
    return Pixels{Divider(count), Divider(args.out_width), Divider(args.out_height)};
  };

  // Few threads with a chain of loads each would leave most of the GPU waiting.
  const bool few = terms >= 8 && outputs < multiprocessors(op) * int64_t{kThreads / 2};
  if (terms > kThreadTerms || few) {
    const ColumnBlocks blocks = column_blocks(pixels, args.channels, terms, op);
    const Launch how{op, pixels * blocks.across, kColumnThreads, 0, stream};
    const Pixels dividers = divided_by(blocks.across);
    if (blocks.lanes == 4)
      return launch(how, pool_by_block<T, 4, Pool>, args, dividers, blocks.shift);
    return launch(how, pool_by_block<T, 1, Pool>, args, dividers, blocks.shift);
  }
  const Launch how{op, ceil_div(outputs, kThreads), kThreads, 0, stream};
  const Pixels dividers = divided_by(vectors);
  if (aligned) return launch(how, pool_by_thread<T, kVector, Pool>, args, dividers, outputs);
  launch(how, pool_by_thread<T, 1, Pool>, args, dividers, outputs);
}

}  // namespace

void avg_pool2d(const Pool2dArgs& args, void* stream) {
  with_type(args.dtype, [&](auto type) {
    launch_pool<typename decltype(type)::Type, Average>("avg_pool2d", args, stream);
  });
}

void max_pool2d(const Pool2dArgs& args, void* stream) {
  with_type(args.dtype, [&](auto type) {
    launch_pool<typename decltype(type)::Type, Maximum>("max_pool2d", args, stream);
  });
}

}  // namespace cuda
}  // namespace bninv
