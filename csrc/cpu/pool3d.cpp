// 3-d average pooling under R3 and exact max pooling over channels_last_3d tensors: a vector holds
// neighbouring channels of one output voxel, so every lane is a window of its own.
#include "../pool3d.h"
#include "sum_lanes.h"
#include "vec_dtypes.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

// A vector of channels, or one channel, in the arithmetic type.
template <typename T>
struct Channels {
  using V = typename Lanes<T>::Value;
  static BNINV_INLINE V read(const T* p) { return load(p); }
  static BNINV_INLINE void write(T* p, V value) { store(p, value); }
};
template <typename T>
struct Channel {
  using V = Arithmetic<T>;
  static BNINV_INLINE V read(const T* p) { return widen(*p); }
  static BNINV_INLINE void write(T* p, V value) { *p = narrow<T>(value); }
};

struct Windows {
  Window planes, rows, columns;

  // Row-major.
  template <typename T, typename Visit>
  BNINV_INLINE void each(const Pool3dArgs& args, const T* sample, const Visit& visit) const {
    for (int64_t d = planes.first; d < planes.last; d += planes.step)
      for (int64_t h = rows.first; h < rows.last; h += rows.step)
        for (int64_t w = columns.first; w < columns.last; w += columns.step)
          visit(sample + d * args.stride_d + h * args.stride_h + w * args.stride_w);
  }
};

struct Average {
  template <typename Of, typename T>
  static BNINV_INLINE typename Of::V pool(const Pool3dArgs& args, const Windows& of,
                                          const T* sample) {
    LaneSum<typename Of::V> sum;
    of.each(args, sample, [&](const T* p) { sum.push(Of::read(p)); });
    const int64_t divisor = average_divisor(args, of.planes, of.rows, of.columns);
    return sum.total() / typename Of::V(static_cast<Arithmetic<T>>(divisor));
  }
};

struct Maximum {
  template <typename Of, typename T>
  static BNINV_INLINE typename Of::V pool(const Pool3dArgs& args, const Windows& of,
                                          const T* sample) {
    typename Of::V largest(-__builtin_inff());
    of.each(args, sample, [&](const T* p) { largest = maximum(largest, Of::read(p)); });
    return largest;
  }
};

template <typename Pool, typename T>
void pool_lines(const Pool3dArgs& args, int64_t begin, int64_t end) {
  constexpr int kCount = Lanes<T>::kCount;
  const int64_t channels = args.channels;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t plane = task / args.out_height, n = plane / args.out_depth;
    Windows of;
    of.planes = planes_of(args, plane % args.out_depth);
    of.rows = window(args, true, task % args.out_height);
    const T* sample = static_cast<const T*>(args.input) + n * args.stride_n;
    for (int64_t ow = 0; ow < args.out_width; ++ow) {
      of.columns = window(args, false, ow);
      T* output = static_cast<T*>(args.output) + (task * args.out_width + ow) * channels;
      const auto step = [&](auto kind, int64_t c) {
        using Of = decltype(kind);
        Of::write(output + c, Pool::template pool<Of>(args, of, sample + c));
      };
      int64_t c = 0;
      for (; c + kCount <= channels; c += kCount) step(Channels<T>{}, c);
      // The last channels: a vector that repeats some of the one before it, with equal bits.
      if (c < channels && channels >= kCount)
        step(Channels<T>{}, channels - kCount);
      else
        for (; c < channels; ++c) step(Channel<T>{}, c);
    }
  }
}

}  // namespace

void avg_pool3d(const Pool3dArgs& args, int64_t begin, int64_t end) {
  with_type(args.dtype, [&](auto type) {
    pool_lines<Average, typename decltype(type)::Type>(args, begin, end);
  });
}

void max_pool3d(const Pool3dArgs& args, int64_t begin, int64_t end) {
  with_type(args.dtype, [&](auto type) {
    pool_lines<Maximum, typename decltype(type)::Type>(args, begin, end);
  });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
