// Transposed convolutions, and conv3d where its groups are too narrow for a tile of a product, under R1:
// each thread gathers the terms of its own outputs.
#include "../conv3d.h"
#include "device.cuh"
#include "divide.cuh"
#include "epilogue.cuh"
#include "launch.cuh"

namespace bninv {
namespace cuda {
namespace {

constexpr int kThreads = 128;
// Neighbouring outputs along the width, of one phase of the stride: they share their taps.
constexpr int kPixels = 4;

// How outputs are counted: channels fastest, then the voxels of a phase line by line, then the samples,
// then the phases of a transposed convolution's stride. Every phase is counted as long as the first.
struct Places {
  int phases_d, phases_h, phases_w;
  Divider vectors, columns, rows, planes, batch, across, down;
  int64_t threads;

  Places(const Conv3dArgs& args, int64_t vectors_of_voxel)
      : phases_d(phases(args, args.step_d, args.out_depth)),
        phases_h(phases(args, args.step_h, args.out_height)),
        phases_w(phases(args, args.step_w, args.out_width)),
        vectors(vectors_of_voxel),
        columns(ceil_div(ceil_div(args.out_width, phases_w), kPixels)),
        rows(ceil_div(args.out_height, phases_h)),
        planes(ceil_div(args.out_depth, phases_d)),
        batch(args.batch),
        across(phases_w),
        down(phases_h) {
    threads = vectors.divisor * columns.divisor * rows.divisor * planes.divisor * args.batch *
              phases_w * phases_h * phases_d;
    for (const Divider* divider : {&vectors, &columns, &rows, &planes, &batch, &across, &down})
      check_divisions("conv3d", threads, divider->divisor);
  }

  static int phases(const Conv3dArgs& args, int64_t step, int64_t size) {
    return args.transposed ? static_cast<int>(min64(step, size)) : 1;
  }
};

// Which input tap `tap` brings to output `at`; false: none, by the stride's gaps.
template <bool kTransposed>
__device__ __forceinline__ bool source_of(int64_t at, int64_t step, int64_t pad, int64_t dilation,
                                          int tap, int64_t& source) {
  if constexpr (kTransposed) {
    const int64_t reach = at + pad - tap * dilation;
    source = reach / step;
    return reach >= 0 ? source * step == reach : false;
  } else {
    source = at * step - pad + tap * dilation;
    return true;
  }
}

// A thread owns kVector output channels of kPixels outputs: 4 where all is aligned and no four channels
// belong to two groups, else 1. Terms are R1's, a chain of 128 values of k at a time: a tap on padding is
// +0; one that a transposed convolution lacks is none, whatever its weight is.
template <typename T, int kVector, bool kDepthwise, bool kTransposed>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 8 ? 2 : 4)
    conv3d_direct(const Conv3dArgs args, const Places places) {
  using A = Arithmetic<T>;
  using Vector = Elements<T, kVector>;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= places.threads) return;
  int64_t rest = i;
  const int64_t o = places.vectors.divide(rest) * kVector;
  const int64_t column = places.columns.divide(rest) * kPixels;
  int64_t oh = places.rows.divide(rest) * places.phases_h;
  int64_t od = places.planes.divide(rest) * places.phases_d;
  const int64_t n = places.batch.divide(rest);
  const int64_t ow = column * places.phases_w + places.across.divide(rest);
  oh += places.down.divide(rest);
  od += rest;
  if (od >= args.out_depth || oh >= args.out_height || ow >= args.out_width) return;

  const int group = kDepthwise ? kVector : static_cast<int>(args.channels / args.groups);
  const int64_t first = kDepthwise ? o : o / (args.out_channels / args.groups) * group;
  const T* sample = static_cast<const T*>(args.input) + n * args.stride_n + first;
  // From one of the thread's outputs to the next: in the output, and in the input.
  const int64_t apart = places.phases_w, input_apart = kTransposed ? 1 : args.step_w;

  A totals[kPixels][kVector], sums[kPixels][kVector];
#pragma unroll
  for (int p = 0; p < kPixels; ++p)
#pragma unroll
    for (int l = 0; l < kVector; ++l) totals[p][l] = sums[p][l] = 0;
  int64_t segment_end = kSegment;
  const auto finish_segment = [&] {
#pragma unroll
    for (int p = 0; p < kPixels; ++p)
#pragma unroll
      for (int l = 0; l < kVector; ++l) {
        totals[p][l] = totals[p][l] + sums[p][l];
        sums[p][l] = 0;
      }
  };
  const int kernel_h = static_cast<int>(args.kernel_h), kernel_w = static_cast<int>(args.kernel_w);

  for (int t = 0; t < static_cast<int>(args.kernel_d); ++t) {
    int64_t d;
    if (!source_of<kTransposed>(od, args.step_d, args.pad_d, args.dilation_d, t, d)) continue;
    const bool in_depth = d >= 0 && d < args.depth;
    for (int r = 0; r < kernel_h; ++r) {
      int64_t h;
      if (!source_of<kTransposed>(oh, args.step_h, args.pad_h, args.dilation_h, r, h)) continue;
      const bool in_height = in_depth && h >= 0 && h < args.height;
      if (kTransposed && !in_height) continue;
      for (int s = 0; s < kernel_w; ++s) {
        int64_t w = 0;
        bool exists[kPixels];
        if constexpr (kTransposed) {
          // The first output's tap may lie before the input, where the next one's does not.
          const int64_t reach = ow + args.pad_w - s * args.dilation_w;
          w = reach / args.step_w;
          if (w * args.step_w != reach) continue;
        } else {
          source_of<false>(ow, args.step_w, args.pad_w, args.dilation_w, s, w);
        }
#pragma unroll
        for (int p = 0; p < kPixels; ++p) {
          const int64_t at = w + p * input_apart;
          exists[p] = in_height && at >= 0 && at < args.width && ow + p * apart < args.out_width;
        }
        const T* tap = sample + d * args.stride_d + h * args.stride_h + w * args.stride_w;
        const int64_t place = (static_cast<int64_t>(t) * kernel_h + r) * kernel_w + s;
        int64_t k = kDepthwise ? place : place * group;
        const T* weight = static_cast<const T*>(args.weight) + k * args.out_channels + o;
        for (int c = 0; c < group; c += kVector, k += kVector) {
          if (k >= segment_end) {
            finish_segment();
            segment_end = (k / kSegment + 1) * kSegment;
          }
          Vector x[kPixels];
#pragma unroll
          for (int p = 0; p < kPixels; ++p) {
            x[p] = Vector{};
            if (exists[p])
              x[p] = *reinterpret_cast<const Vector*>(tap + p * input_apart * args.stride_w + c);
          }
          constexpr int kTerms = kDepthwise ? 1 : kVector;
#pragma unroll
          for (int l = 0; l < kTerms; ++l) {
            const Vector b = *reinterpret_cast<const Vector*>(weight);
            weight += args.out_channels;
#pragma unroll
            for (int p = 0; p < kPixels; ++p) {
              if (kTransposed && !exists[p]) continue;
#pragma unroll
              for (int j = 0; j < kVector; ++j)
                sums[p][j] =
                    fma(widen(x[p].lane[kDepthwise ? j : l]), widen(b.lane[j]), sums[p][j]);
            }
          }
        }
      }
    }
  }
  finish_segment();

  const ChannelEpilogue<T, kVector> epilogue(args.epilogue, args.bias, o, kVector);
  const int64_t base = n * args.out_stride_n + od * args.out_stride_d + oh * args.out_stride_h +
                       o * args.out_stride_c;
#pragma unroll
  for (int p = 0; p < kPixels; ++p) {
    if (ow + p * apart >= args.out_width) break;
    store_elements<T, kVector>(
        static_cast<T*>(args.output) + base + (ow + p * apart) * args.out_stride_w,
        args.out_stride_c, kVector, args.plan.whole_output, epilogue(totals[p], Vector{}));
  }
}

template <typename T, int kVector, bool kDepthwise>
void launch_direct(const Conv3dArgs& args, void* stream) {
  const Places places(args, args.out_channels / kVector);
  const Launch how{args.transposed ? "conv_transpose3d" : "conv3d",
                   ceil_div(places.threads, kThreads), kThreads, 0, stream};
  if (args.transposed)
    return launch(how, conv3d_direct<T, kVector, kDepthwise, true>, args, places);
  launch(how, conv3d_direct<T, kVector, kDepthwise, false>, args, places);
}

template <bool kDepthwise>
void launch_dtype(const Conv3dArgs& args, bool in_fours, void* stream) {
  with_type(args.dtype, [&](auto type) {
    using T = typename decltype(type)::Type;
    if (in_fours)
      launch_direct<T, 4, kDepthwise>(args, stream);
    else
      launch_direct<T, 1, kDepthwise>(args, stream);
  });
}

}  // namespace

void conv3d_depthwise(const Conv3dArgs& args, void* stream) {
  launch_dtype<true>(args, args.plan.whole_depthwise, stream);
}

void conv3d_direct(const Conv3dArgs& args, void* stream) {
  launch_dtype<false>(args, args.plan.whole_copies, stream);
}

}  // namespace cuda
}  // namespace bninv
