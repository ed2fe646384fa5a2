// Convolutions of groups too narrow for a tile of a product, under R1: each thread gathers the terms of its
// own outputs. Depthwise (a channel of its own for each output channel) is bound by memory; in groups of a
// few channels, neighbouring threads read the same pixels and neighbouring weights.
#include "../conv2d.h"
#include "device.cuh"
#include "epilogue.cuh"
#include "launch.cuh"

namespace bninv {
namespace cuda {
namespace {

constexpr int kThreads = 128;
// Neighbouring pixels of an output row that a thread owns: they share its weights.
constexpr int kPixels = 4;

// Quotient and remainder; the 64-bit division is a hundred instructions.
__device__ __forceinline__ int64_t divide(int64_t& i, int64_t size) {
  int64_t quotient;
  if (i <= INT32_MAX && size <= INT32_MAX)
    quotient = static_cast<uint32_t>(i) / static_cast<uint32_t>(size);
  else
    quotient = i / size;
  i -= quotient * size;
  return quotient;
}

// A thread owns kVector output channels of kPixels pixels: 4 where all is aligned and no four channels
// belong to two groups, else 1. Its terms are R1's: taps row by row, the group's channels fastest, a chain
// of 128 at a time; a tap on padding is +0.
template <typename T, int kVector, bool kDepthwise>
__global__ void __launch_bounds__(kThreads, 4) conv2d_direct(const Conv2dArgs args) {
  using A = Arithmetic<T>;
  using Vector = Elements<T, kVector>;
  const int64_t vectors = args.out_channels / kVector;
  const int64_t columns = (args.out_width + kPixels - 1) / kPixels;
  int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= args.batch * args.out_height * columns * vectors) return;
  int64_t rest = i;
  int64_t line = divide(rest, vectors);
  const int64_t o = rest * kVector;
  int64_t row = divide(line, columns);
  const int64_t ow = line * kPixels;
  const int64_t n = divide(row, args.out_height);
  const int64_t oh = row;

  const int group = kDepthwise ? kVector : static_cast<int>(args.channels / args.groups);
  const int64_t first = kDepthwise ? o : o / (args.out_channels / args.groups) * group;
  const T* sample = static_cast<const T*>(args.input) + n * args.stride_n + first;
  const T* weight = static_cast<const T*>(args.weight) + o;
  const int top = static_cast<int>(oh * args.step_h - args.pad_h);
  const int64_t left = ow * args.step_w - args.pad_w;
  // In 32 bits, which plan_conv2d sees to: four pixels' places are compared at every tap.
  const int height = static_cast<int>(args.height), width = static_cast<int>(args.width);
  int lefts[kPixels];
#pragma unroll
  for (int p = 0; p < kPixels; ++p)
    lefts[p] = ow + p < args.out_width ? static_cast<int>(left + p * args.step_w) : INT32_MIN / 2;
  const int64_t pixel_step = args.step_w * args.stride_w,
                tap_step = args.dilation_w * args.stride_w;

  A totals[kPixels][kVector], sums[kPixels][kVector];
#pragma unroll
  for (int p = 0; p < kPixels; ++p)
#pragma unroll
    for (int l = 0; l < kVector; ++l) totals[p][l] = sums[p][l] = 0;
  int terms = 0;  // of the segment under way
  const auto finish_segment = [&] {
#pragma unroll
    for (int p = 0; p < kPixels; ++p)
#pragma unroll
      for (int l = 0; l < kVector; ++l) {
        totals[p][l] = totals[p][l] + sums[p][l];
        sums[p][l] = 0;
      }
    terms = 0;
  };

  for (int r = 0; r < static_cast<int>(args.kernel_h); ++r) {
    const int h = top + r * static_cast<int>(args.dilation_h);
    const bool in_height = h >= 0 && h < height;
    const T* tap = sample + h * args.stride_h + left * args.stride_w;
    for (int s = 0; s < static_cast<int>(args.kernel_w); ++s, tap += tap_step) {
      bool exists[kPixels];
#pragma unroll
      for (int p = 0; p < kPixels; ++p) {
        const int w = lefts[p] + s * static_cast<int>(args.dilation_w);
        exists[p] = in_height && w >= 0 && w < width;
      }
      for (int c = 0; c < group; c += kVector) {
        Vector x[kPixels];
        const T* pixel = tap + c;
#pragma unroll
        for (int p = 0; p < kPixels; ++p, pixel += pixel_step) {
          x[p] = Vector{};
          if (exists[p]) x[p] = *reinterpret_cast<const Vector*>(pixel);
        }
        if constexpr (kDepthwise) {
          const Vector w = *reinterpret_cast<const Vector*>(weight);
          weight += args.out_channels;
#pragma unroll
          for (int p = 0; p < kPixels; ++p)
#pragma unroll
            for (int l = 0; l < kVector; ++l)
              sums[p][l] = fma(widen(x[p].lane[l]), widen(w.lane[l]), sums[p][l]);
          terms += 1;
        } else {
#pragma unroll
          for (int k = 0; k < kVector; ++k) {
            const Vector w = *reinterpret_cast<const Vector*>(weight);
            weight += args.out_channels;
#pragma unroll
            for (int p = 0; p < kPixels; ++p)
#pragma unroll
              for (int l = 0; l < kVector; ++l)
                sums[p][l] = fma(widen(x[p].lane[k]), widen(w.lane[l]), sums[p][l]);
          }
          terms += kVector;
        }
        if (terms == kSegment) finish_segment();
      }
    }
  }
  // +0 where the last segment was whole: no total is -0, so adding it shows nowhere.
  finish_segment();

  const ChannelEpilogue<T, kVector> epilogue(args.epilogue, args.bias, o, kVector);
  const int64_t base = n * args.out_stride_n + oh * args.out_stride_h + o * args.out_stride_c;
#pragma unroll
  for (int p = 0; p < kPixels; ++p) {
    if (ow + p >= args.out_width) break;
    const int64_t at = base + (ow + p) * args.out_stride_w;
    Vector residual{};
    if (args.epilogue.residual != nullptr)
      residual = load_elements<T, kVector>(static_cast<const T*>(args.epilogue.residual) + at,
                                           args.out_stride_c, kVector, args.plan.whole_output);
    store_elements<T, kVector>(static_cast<T*>(args.output) + at, args.out_stride_c, kVector,
                               args.plan.whole_output, epilogue(totals[p], residual));
  }
}

template <typename T, int kVector, bool kDepthwise>
void launch_direct(const Conv2dArgs& args, void* stream) {
  const int64_t columns = (args.out_width + kPixels - 1) / kPixels;
  const int64_t threads = args.batch * args.out_height * columns * (args.out_channels / kVector);
  launch({"conv2d", (threads + kThreads - 1) / kThreads, kThreads, 0, stream},
         conv2d_direct<T, kVector, kDepthwise>, args);
}

template <bool kDepthwise>
void launch_dtype(const Conv2dArgs& args, bool in_fours, void* stream) {
  with_type(args.dtype, [&](auto type) {
    using T = typename decltype(type)::Type;
    if (in_fours)
      launch_direct<T, 4, kDepthwise>(args, stream);
    else
      launch_direct<T, 1, kDepthwise>(args, stream);
  });
}

}  // namespace

void conv2d_depthwise(const Conv2dArgs& args, void* stream) {
  launch_dtype<true>(args, args.plan.whole_depthwise, stream);
}

void conv2d_grouped(const Conv2dArgs& args, void* stream) {
  launch_dtype<false>(args, args.plan.whole_copies, stream);
}

}  // namespace cuda
}  // namespace bninv
