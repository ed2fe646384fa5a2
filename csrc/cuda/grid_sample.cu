// R8 at the points of a grid: a thread computes one output element, all its chains in order. Neighbouring
// threads take neighbouring points of one channel.
#include "../dtypes.h"
#include "../grid_sample.h"
#include "device.cuh"
#include "output_places.cuh"

namespace bninv {
namespace cuda {
namespace {

template <typename T, int kTaps>
__global__ void __launch_bounds__(OutputPlaces::kThreads)
    sample_points(const GridSampleArgs args, const OutputPlaces places) {
  using A = Arithmetic<T>;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * OutputPlaces::kThreads + threadIdx.x;
  if (i >= places.outputs) return;
  int64_t n = i;
  const int64_t ow = places.width.divide(n);
  const int64_t oh = places.height.divide(n);
  const int64_t od = places.depth.divide(n);
  const int64_t c = places.channels.divide(n);
  const T* input = static_cast<const T*>(args.input) + n * args.stride_n + c * args.stride_c;
  const T* point = static_cast<const T*>(args.grid) + n * args.grid_stride_n +
                   od * args.grid_stride[0] + oh * args.grid_stride[1] + ow * args.grid_stride[2];
  const GridTaps<A> columns(args, 2, widen(point[0]));
  const GridTaps<A> rows(args, 1, widen(point[args.grid_stride_axis]));
  T* output = static_cast<T*>(args.output) + i;

  if constexpr (kTaps == 1) {
    int64_t depth = 0;
    if (args.is_volume)
      depth = GridTaps<A>(args, 0, widen(point[2 * args.grid_stride_axis])).index[0];
    const bool exists = depth >= 0 && rows.index[0] >= 0 && columns.index[0] >= 0;
    *output = exists ? input[depth * args.stride[0] + rows.index[0] * args.stride[1] +
                             columns.index[0] * args.stride[2]]
                     : T{};
  } else {
    const auto plane = [&](int64_t depth) {
      A total = 0;
#pragma unroll
      for (int r = 0; r < kTaps; ++r) {
        A row = 0;
#pragma unroll
        for (int s = 0; s < kTaps; ++s) {
          const bool exists = depth >= 0 && rows.index[r] >= 0 && columns.index[s] >= 0;
          const A value =
              exists ? widen(input[depth * args.stride[0] + rows.index[r] * args.stride[1] +
                                   columns.index[s] * args.stride[2]])
                     : A(0);
          row = fma(columns.weight[s], value, row);
        }
        total = fma(rows.weight[r], row, total);
      }
      return total;
    };
    A value = 0;
    if (args.is_volume) {
      const GridTaps<A> planes(args, 0, widen(point[2 * args.grid_stride_axis]));
#pragma unroll
      for (int k = 0; k < kTaps; ++k) value = fma(planes.weight[k], plane(planes.index[k]), value);
    } else {
      value = plane(0);
    }
    *output = narrow<T>(value);
  }
}

template <typename T>
void launch_samples(const GridSampleArgs& args, void* stream) {
  constexpr const char* kOp = "grid_sample";
  const OutputPlaces places(kOp, args.batch, args.channels, args.out_size);
  const Launch how = places.launch(kOp, stream);
  if (args.mode == GridMode::kNearest) return launch(how, sample_points<T, 1>, args, places);
  if (args.mode == GridMode::kLinear) return launch(how, sample_points<T, 2>, args, places);
  launch(how, sample_points<T, 4>, args, places);
}

}  // namespace

void grid_sample(const GridSampleArgs& args, void* stream) {
  with_type(args.dtype,
            [&](auto type) { launch_samples<typename decltype(type)::Type>(args, stream); });
}

}  // namespace cuda
}  // namespace bninv
