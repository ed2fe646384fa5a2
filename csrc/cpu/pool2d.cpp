// Average pooling under R3 and exact max pooling over channels_last tensors: a vector holds
// neighbouring channels of one output pixel, so every lane is a window of its own.
#include "../pool2d.h"
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

template <typename T>
struct Average {
  Arithmetic<T> divisor;

  template <typename Of>
  BNINV_INLINE typename Of::V pool(const T* sample, const Pool2dArgs& args, const Window& rows,
                                   const Window& columns) const {
    LaneSum<typename Of::V> sum;
    for (int64_t h = rows.first; h < rows.last; ++h)
      for (int64_t w = columns.first; w < columns.last; ++w)
        sum.push(Of::read(sample + h * args.stride_h + w * args.stride_w));
    return sum.total() / typename Of::V(divisor);
  }
};

template <typename T>
struct Maximum {
  template <typename Of>
  BNINV_INLINE typename Of::V pool(const T* sample, const Pool2dArgs& args, const Window& rows,
                                   const Window& columns) const {
    typename Of::V largest(-__builtin_inff());
    for (int64_t h = rows.first; h < rows.last; h += rows.step)
      for (int64_t w = columns.first; w < columns.last; w += columns.step)
        largest = maximum(largest, Of::read(sample + h * args.stride_h + w * args.stride_w));
    return largest;
  }
};

template <typename T, typename PoolOf>
void pool_rows(const Pool2dArgs& args, int64_t begin, int64_t end, const PoolOf& pool_of) {
  constexpr int kCount = Lanes<T>::kCount;
  const int64_t channels = args.channels;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t n = task / args.out_height;
    const Window rows = window(args, true, task % args.out_height);
    const T* sample = static_cast<const T*>(args.input) + n * args.stride_n;
    for (int64_t ow = 0; ow < args.out_width; ++ow) {
      const Window columns = window(args, false, ow);
      const auto pool = pool_of(rows, columns);
      T* output = static_cast<T*>(args.output) + (task * args.out_width + ow) * channels;
      const auto step = [&](auto of, int64_t c) {
        using Of = decltype(of);
        Of::write(output + c, pool.template pool<Of>(sample + c, args, rows, columns));
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

template <typename T>
void avg_pool2d_of(const Pool2dArgs& args, int64_t begin, int64_t end) {
  pool_rows<T>(args, begin, end, [&](const Window& rows, const Window& columns) {
    const int64_t divisor = average_divisor(args, rows, columns);
    return Average<T>{static_cast<Arithmetic<T>>(divisor)};
  });
}

}  // namespace

void avg_pool2d(const Pool2dArgs& args, int64_t begin, int64_t end) {
  with_type(args.dtype,
            [&](auto type) { avg_pool2d_of<typename decltype(type)::Type>(args, begin, end); });
}

void max_pool2d(const Pool2dArgs& args, int64_t begin, int64_t end) {
  with_type(args.dtype, [&](auto type) {
    using T = typename decltype(type)::Type;
    pool_rows<T>(args, begin, end, [](const Window&, const Window&) { return Maximum<T>{}; });
  });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
