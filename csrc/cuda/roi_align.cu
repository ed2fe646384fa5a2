// R10's points: a thread computes one output element, all its chains in order. It keeps the chains of the two
// rows that it had last: those of the next point are often the same.
#include "../dtypes.h"
#include "device.cuh"
#include "roi_places.cuh"

namespace bninv {
namespace cuda {
namespace {

template <typename T>
__global__ void __launch_bounds__(RoiPlaces::kThreads)
    align_points(const RoiArgs args, const RoiPlaces places) {
  using A = Arithmetic<T>;
  const RoiPlace place(args, places);
  if (!place.exists) return;
  T* output = static_cast<T*>(args.output) + place.output_offset(args);
  const Roi<T> roi(args, place.roi);
  const RoiPoints<A> rows(args, roi.top, roi.bottom, args.pooled_h, args.height);
  const RoiPoints<A> columns(args, roi.left, roi.right, args.pooled_w, args.width);
  if (roi.index < 0 || !rows.exists || !columns.exists) {
    *output = narrow<T>(roi_nothing<A>());
    return;
  }
  const T* image = static_cast<const T*>(args.input) + place.input_offset(args, roi.index);
  const RoiRange row_points = rows.inside(place.i), column_points = columns.inside(place.j);
  const auto chain = [&](int64_t row) {
    const T* pixels = image + row * args.stride_h;
    A total = 0;
    for (int64_t k = column_points.first; k < column_points.last; ++k) {
      const RoiTaps<A> taps(columns.point(place.j, k), args.width);
      total = fma(A(1) - taps.weight, widen(pixels[taps.before * args.stride_w]), total);
      total = fma(taps.weight, widen(pixels[taps.after * args.stride_w]), total);
    }
    return total;
  };
  int64_t last_before = -1, last_after = -1;
  A before = 0, after = 0, total = 0;
  for (int64_t k = row_points.first; k < row_points.last; ++k) {
    const RoiTaps<A> taps(rows.point(place.i, k), args.height);
    const A first = taps.before == last_before  ? before
                    : taps.before == last_after ? after
                                                : chain(taps.before);
    if (taps.after == taps.before)
      after = first;
    else if (taps.after != last_after)
      after = chain(taps.after);
    before = first, last_before = taps.before, last_after = taps.after;
    total = fma(A(1) - taps.weight, before, total);
    total = fma(taps.weight, after, total);
  }
  *output = narrow<T>(total / static_cast<A>(roi_points(rows.points, columns.points)));
}

}  // namespace

void roi_align(const RoiArgs& args, void* stream) {
  constexpr const char* kOp = "roi_align";
  const RoiPlaces places(kOp, args);
  with_type(args.dtype, [&](auto type) {
    launch(places.launch(kOp, stream), align_points<typename decltype(type)::Type>, args, places);
  });
}

}  // namespace cuda
}  // namespace bninv
