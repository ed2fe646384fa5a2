// R8: a thread computes one output element, all its chains in order. Weights follow from sizes alone and
// are computed where they are used: that costs a thread less than a table would cost a call.
#include "../dtypes.h"
#include "../resample.h"
#include "device.cuh"
#include "output_places.cuh"

namespace bninv {
namespace cuda {
namespace {

// kTaps: of every element along the width and the height, where they are a constant; else 0.
template <typename T, int kTaps>
__global__ void __launch_bounds__(OutputPlaces::kThreads)
    resample_elements(const ResampleArgs args, const OutputPlaces places) {
  using A = Arithmetic<T>;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * OutputPlaces::kThreads + threadIdx.x;
  if (i >= places.outputs) return;
  // Neighbouring threads take neighbouring elements of memory: channels or columns.
  int64_t n = i, c = 0;
  if (args.channels_last) c = places.channels.divide(n);
  const int64_t ow = places.width.divide(n);
  const int64_t oh = places.height.divide(n);
  const int64_t od = places.depth.divide(n);
  if (!args.channels_last) c = places.channels.divide(n);
  const T* input = static_cast<const T*>(args.input) + n * args.stride_n + c * args.stride_c;

  const ResampleAxis<A> depth(args, 0), height(args, 1), width(args, 2);
  const ResampleTaps<A> planes(depth, od), rows(height, oh), columns(width, ow);
  constexpr int kKept = kTaps > 0 ? kTaps : 1;
  A weights[kKept];
  int64_t offsets[kKept];
  if (kTaps > 0) {
#pragma unroll
    for (int k = 0; k < kKept; ++k) {
      const bool exists = k < columns.count;
      weights[k] = exists ? columns.weight(k) : A(0);
      offsets[k] = columns.index(k) * args.stride[2];
    }
  }
  const auto row = [&](const T* p) {
    if (width.copied) return widen(p[columns.first * args.stride[2]]);
    A total = 0;
    if (kTaps > 0) {
#pragma unroll
      for (int k = 0; k < kKept; ++k) total = fma(weights[k], widen(p[offsets[k]]), total);
    } else {
      for (int64_t k = 0; k < columns.count; ++k)
        total = fma(columns.weight(k), widen(p[columns.index(k) * args.stride[2]]), total);
    }
    return total;
  };
  const auto plane = [&](const T* p) {
    if (height.copied) return row(p + rows.first * args.stride[1]);
    A total = 0;
    for (int64_t k = 0; k < rows.count; ++k)
      total = fma(rows.weight(k), row(p + rows.index(k) * args.stride[1]), total);
    return total;
  };
  A value = 0;
  if (depth.copied) {
    value = plane(input + planes.first * args.stride[0]);
  } else {
    for (int64_t k = 0; k < planes.count; ++k)
      value = fma(planes.weight(k), plane(input + planes.index(k) * args.stride[0]), value);
  }
  static_cast<T*>(args.output)[i] = narrow<T>(value);
}

template <typename T>
void launch_resample(const ResampleArgs& args, void* stream) {
  constexpr const char* kOp = "resample";
  const OutputPlaces places(kOp, args.batch, args.channels, args.out_size);
  const Launch how = places.launch(kOp, stream);
  if (args.antialias) return launch(how, resample_elements<T, 0>, args, places);
  if (args.interpolation == Interpolation::kCubic)
    return launch(how, resample_elements<T, 4>, args, places);
  launch(how, resample_elements<T, 2>, args, places);
}

}  // namespace

void resample(const ResampleArgs& args, void* stream) {
  with_type(args.dtype,
            [&](auto type) { launch_resample<typename decltype(type)::Type>(args, stream); });
}

}  // namespace cuda
}  // namespace bninv
