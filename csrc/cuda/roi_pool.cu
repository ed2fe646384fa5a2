// R10's bins of whole pixels: a thread computes the maximum of one bin of a channel, or where it lies, or the
// mean by R3.
#include "../dtypes.h"
#include "device.cuh"
#include "lane_sum.cuh"
#include "roi_places.cuh"

namespace bninv {
namespace cuda {
namespace {

// The greatest of a bin's pixels, the first of equal ones, and where in its image; -1 where there is none.
template <typename A>
struct Greatest {
  A best = roi_lowest<A>();
  int64_t place = -1;

  template <typename Pixel>
  __device__ __forceinline__ Greatest(const RoiArgs& args, const RoiRange& rows,
                                      const RoiRange& columns, const Pixel& pixel) {
    for (int64_t h = rows.first; h < rows.last; ++h)
      for (int64_t w = columns.first; w < columns.last; ++w) {
        const A value = pixel(h, w);
        if (value > best) best = value, place = h * args.width + w;
      }
  }
};

struct Maximum {
  template <typename T>
  using Output = T;
  static constexpr bool kIsMean = false;
  template <typename T>
  static __device__ __forceinline__ T nothing() {
    return narrow<T>(roi_nothing<Arithmetic<T>>());
  }
  template <typename T, typename Pixel>
  static __device__ __forceinline__ T of(const RoiArgs& args, const RoiRange& rows,
                                         const RoiRange& columns, const Pixel& pixel) {
    using A = Arithmetic<T>;
    if (rows.count() * columns.count() == 0) return narrow<T>(A(0));
    return narrow<T>(Greatest<A>(args, rows, columns, pixel).best);
  }
};

struct Place {
  template <typename T>
  using Output = int32_t;
  static constexpr bool kIsMean = false;
  template <typename T>
  static __device__ __forceinline__ int32_t nothing() {
    return -1;
  }
  template <typename T, typename Pixel>
  static __device__ __forceinline__ int32_t of(const RoiArgs& args, const RoiRange& rows,
                                               const RoiRange& columns, const Pixel& pixel) {
    return static_cast<int32_t>(Greatest<Arithmetic<T>>(args, rows, columns, pixel).place);
  }
};

struct Mean {
  template <typename T>
  using Output = T;
  static constexpr bool kIsMean = true;
  template <typename T>
  static __device__ __forceinline__ T nothing() {
    return narrow<T>(roi_nothing<Arithmetic<T>>());
  }
  template <typename T, typename Pixel>
  static __device__ __forceinline__ T of(const RoiArgs&, const RoiRange& rows,
                                         const RoiRange& columns, const Pixel& pixel) {
    using A = Arithmetic<T>;
    const int64_t width = columns.count(), count = rows.count() * width;
    if (count == 0) return narrow<T>(A(0));
    const A total = thread_sum<A>(
        count, [&](int64_t k) { return pixel(rows.first + k / width, columns.first + k % width); },
        [](A lane, A x) { return lane + x; });
    return narrow<T>(total / static_cast<A>(count));
  }
};

template <typename T, typename Of>
__global__ void __launch_bounds__(RoiPlaces::kThreads)
    pool_bins(const RoiArgs args, const RoiPlaces places) {
  const RoiPlace place(args, places);
  if (!place.exists) return;
  auto* output =
      static_cast<typename Of::template Output<T>*>(args.output) + place.output_offset(args);
  const RoiWindows<T> windows(args, Roi<T>(args, place.roi), Of::kIsMean);
  if (!windows.exists) {
    *output = Of::template nothing<T>();
    return;
  }
  const T* image = static_cast<const T*>(args.input) + place.input_offset(args, windows.index);
  *output = Of::template of<T>(
      args, windows.rows.pixels(place.i), windows.columns.pixels(place.j),
      [&](int64_t h, int64_t w) { return widen(image[h * args.stride_h + w * args.stride_w]); });
}

template <typename Of>
void pool(const char* op, const RoiArgs& args, void* stream) {
  const RoiPlaces places(op, args);
  with_type(args.dtype, [&](auto type) {
    launch(places.launch(op, stream), pool_bins<typename decltype(type)::Type, Of>, args, places);
  });
}

}  // namespace

void roi_pool(const RoiArgs& args, void* stream) { pool<Maximum>("roi_pool", args, stream); }

void roi_pool_argmax(const RoiArgs& args, void* stream) {
  pool<Place>("roi_pool_argmax", args, stream);
}

void ps_roi_pool(const RoiArgs& args, void* stream) { pool<Mean>("ps_roi_pool", args, stream); }

}  // namespace cuda
}  // namespace bninv
