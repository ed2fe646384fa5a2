// The taps of a deformable convolution (R1): a thread computes one element, neighbouring threads
// neighbouring channels of one tap.
#include "../deform_conv2d.h"
#include "../dtypes.h"
#include "device.cuh"
#include "output_places.cuh"

namespace bninv {
namespace cuda {
namespace {

// `places` counts, the fastest first: channels, a tap's column, output columns, a tap's row, output rows.
template <typename T>
__global__ void __launch_bounds__(OutputPlaces::kThreads)
    find_taps(const __grid_constant__ DeformTapsArgs args, const OutputPlaces places,
              const Divider rows, const Divider channels_of_group) {
  using A = Arithmetic<T>;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * OutputPlaces::kThreads + threadIdx.x;
  if (i >= places.outputs) return;
  int64_t n = i;
  const int64_t c = places.width.divide(n);
  const int64_t s = places.height.divide(n);
  const int64_t ox = places.depth.divide(n);
  const int64_t r = places.channels.divide(n);
  const int64_t oy = rows.divide(n);
  const DeformPlace<T> place(args, n, oy, ox, r, s, channels_of_group.quotient(c));
  const T* input = static_cast<const T*>(args.input) + n * args.stride_n + c;
  A total = 0;
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    A row = 0;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int64_t y = place.tap.row[k], x = place.tap.column[j];
      const bool exists = y >= 0 && x >= 0;
      const A value = exists ? widen(input[y * args.stride_h + x * args.stride_w]) : A(0);
      row = fma(place.tap.column_weight[j], value, row);
    }
    total = fma(place.tap.row_weight[k], row, total);
  }
  static_cast<T*>(args.output)[i] = narrow<T>(args.mask == nullptr ? total : total * place.mask);
}

template <typename T>
void launch_taps(const DeformTapsArgs& args, void* stream) {
  constexpr const char* kOp = "deform_conv2d";
  const int64_t size[3] = {args.out_width, args.kernel_w, args.channels};
  const OutputPlaces places(kOp, args.batch * args.out_height, args.kernel_h, size);
  check_divisions(kOp, places.outputs, args.out_height);
  launch(places.launch(kOp, stream), find_taps<T>, args, places, Divider(args.out_height),
         Divider(args.channels / args.offset_groups));
}

}  // namespace

void deform_taps(const DeformTapsArgs& args, void* stream) {
  with_type(args.dtype,
            [&](auto type) { launch_taps<typename decltype(type)::Type>(args, stream); });
}

}  // namespace cuda
}  // namespace bninv
