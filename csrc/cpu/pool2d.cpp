// Average pooling under R3 and exact max pooling over channels_last tensors: a vector holds
// neighbouring channels of one output pixel, so every lane is a window of its own.
#include "kernels.h"
#include "scratch.h"
#include "sum_lanes.h"
#include "vec.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

// One window along one dimension: the elements first, first + step, ... below last, and how many the
// window would hold if padding counted.
struct Window {
  int64_t first, last, step, padded_count;
};

inline Window window(const Pool2dArgs& args, bool vertical, int64_t index) {
  const int64_t size = vertical ? args.height : args.width;
  const int64_t out_size = vertical ? args.out_height : args.out_width;
  if (args.adaptive) {
    const int64_t first = index * size / out_size;
    const int64_t last = ceil_div((index + 1) * size, out_size);
    return {first, last, 1, last - first};
  }
  const int64_t kernel = vertical ? args.kernel_h : args.kernel_w;
  const int64_t pad = vertical ? args.pad_h : args.pad_w;
  const int64_t dilation = vertical ? args.dilation_h : args.dilation_w;
  int64_t first = index * (vertical ? args.step_h : args.step_w) - pad;
  const int64_t last = min64(first + (kernel - 1) * dilation + 1, size + pad);
  const int64_t padded_count = last - first;
  if (first < 0) first += ceil_div(-first, dilation) * dilation;
  return {first, min64(last, size), dilation, padded_count};
}

struct Average {
  float divisor;

  template <typename V>
  BNINV_INLINE V operator()(const float* sample, const Pool2dArgs& args, const Window& rows,
                            const Window& columns) const {
    LaneSum<V> sum;
    for (int64_t h = rows.first; h < rows.last; ++h)
      for (int64_t w = columns.first; w < columns.last; ++w)
        sum.push(load<V>(sample + h * args.stride_h + w * args.stride_w));
    return sum.total() / V(divisor);
  }

  template <typename V>
  static BNINV_INLINE V load(const float* p) {
    if constexpr (sizeof(V) == sizeof(float))
      return V(*p);
    else
      return V::load(p);
  }
};

struct Maximum {
  template <typename V>
  BNINV_INLINE V operator()(const float* sample, const Pool2dArgs& args, const Window& rows,
                            const Window& columns) const {
    V largest(-__builtin_inff());
    for (int64_t h = rows.first; h < rows.last; h += rows.step)
      for (int64_t w = columns.first; w < columns.last; w += columns.step)
        largest =
            maximum(largest, Average::load<V>(sample + h * args.stride_h + w * args.stride_w));
    return largest;
  }
};

template <typename PoolOf>
void pool_rows(const Pool2dArgs& args, int64_t begin, int64_t end, const PoolOf& pool_of) {
  for (int64_t task = begin; task < end; ++task) {
    const int64_t n = task / args.out_height;
    const Window rows = window(args, true, task % args.out_height);
    const float* sample = args.input + n * args.stride_n;
    for (int64_t ow = 0; ow < args.out_width; ++ow) {
      const Window columns = window(args, false, ow);
      const auto pool = pool_of(rows, columns);
      float* output = args.output + (task * args.out_width + ow) * args.channels;
      int64_t c = 0;
      for (; c + kWidth <= args.channels; c += kWidth)
        pool.template operator()<Vec>(sample + c, args, rows, columns).store(output + c);
      for (; c < args.channels; ++c)
        output[c] = pool.template operator()<float>(sample + c, args, rows, columns);
    }
  }
}

}  // namespace

void avg_pool2d(const Pool2dArgs& args, int64_t begin, int64_t end) {
  pool_rows(args, begin, end, [&](const Window& rows, const Window& columns) {
    int64_t divisor = args.divisor;
    if (divisor == 0)
      divisor = args.count_include_pad ? rows.padded_count * columns.padded_count
                                       : (rows.last - rows.first) * (columns.last - columns.first);
    return Average{static_cast<float>(divisor)};
  });
}

void max_pool2d(const Pool2dArgs& args, int64_t begin, int64_t end) {
  pool_rows(args, begin, end, [](const Window&, const Window&) { return Maximum{}; });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
