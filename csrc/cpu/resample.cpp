// R8: chains of fma over an output element's taps, columns first, then rows, then planes. A row of the
// input is resampled along the width once and kept for the output rows that share it, as long as they
// belong to one task range; every lane of a vector is an output element of its own.
#include "resample_quads.h"
#include "resample_rows.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

// The rows of one plane, or of one block of channels, that were resampled along the width last.
template <typename T>
class RowCache {
  using A = Arithmetic<T>;
  static constexpr int kRoom = 64;  // elements behind a row that whole vectors may read and write

 public:
  RowCache(int64_t planes, int64_t rows, int64_t length)
      : planes_(planes),
        rows_(rows),
        pitch_(length + kRoom),
        tags_(planes * rows),
        memory_(planes * rows * pitch_) {
    for (int64_t r = 0; r < planes * rows; ++r)
      for (int64_t i = 0; i < kRoom; ++i) memory_.data[(r + 1) * pitch_ - kRoom + i] = 0;
    clear();
  }
  void clear() {
    for (int64_t i = 0; i < planes_ * rows_; ++i) tags_.data[i] = -1;
  }
  // Rows in reach of one output row never share a place: there are as many as it may have taps.
  template <typename Make>
  BNINV_INLINE const A* get(int64_t d, int64_t h, int64_t height, const Make& make) {
    const int64_t place = d % planes_ * rows_ + h % rows_;
    A* row = memory_.data + place * pitch_;
    if (tags_.data[place] != d * height + h) {
      make(row);
      tags_.data[place] = d * height + h;
    }
    return row;
  }

 private:
  int64_t planes_, rows_, pitch_;
  Scratch<int64_t> tags_;
  Scratch<A> memory_;
};

// An output row out of the rows of its taps, plane by plane.
template <typename T>
class Column {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  static constexpr int kCount = Lanes<T>::kCount;

 public:
  Column(const AxisTable<A>& depth, const AxisTable<A>& height)
      : depth_(depth), height_(height), rows_(depth.axis.taps * height.axis.taps) {}

  template <typename Row>
  BNINV_INLINE void place(int64_t od, int64_t oh, const Row& row) {
    od_ = od, oh_ = oh;
    const int64_t count = height_.counts.data[oh];
    for (int64_t kd = 0; kd < depth_.counts.data[od]; ++kd)
      for (int64_t kh = 0; kh < count; ++kh)
        rows_.data[kd * count + kh] = row(depth_.index(od)[kd], height_.index(oh)[kh]);
  }

  // Elements [first, first + count) of the rows.
  void write(int64_t first, int64_t count, T* output) const {
    with_taps(depth_.axis.copied && !height_.axis.copied ? height_.counts.data[oh_] : 0,
              [&](auto taps) {
                constexpr int kTaps = decltype(taps)::kCount;
                int64_t i = 0;
                for (; i + kCount <= count; i += kCount)
                  store(output + i, vector<kTaps>(first + i));
                if (i < count) store_partial(output + i, vector<kTaps>(first + i), count - i);
              });
  }

 private:
  template <int kTaps>
  BNINV_INLINE V vector(int64_t i) const {
    if constexpr (kTaps > 0) return plane<kTaps>(0, i);
    if (depth_.axis.copied) return plane<0>(0, i);
    const int64_t rows = height_.counts.data[oh_];
    return chain<V, 0>(depth_.weight(od_), depth_.counts.data[od_],
                       [&](int64_t kd) { return plane<0>(kd * rows, i); });
  }
  template <int kTaps>
  BNINV_INLINE V plane(int64_t first, int64_t i) const {
    const A* const* rows = rows_.data + first;
    if (kTaps == 0 && height_.axis.copied) return load(rows[0] + i);
    return chain<V, kTaps>(height_.weight(oh_), height_.counts.data[oh_],
                           [&](int64_t k) { return load(rows[k] + i); });
  }

  const AxisTable<A>& depth_;
  const AxisTable<A>& height_;
  Scratch<const A*> rows_;
  int64_t od_ = 0, oh_ = 0;
};

template <typename T>
void resample_dense(const ResampleArgs& args, int64_t begin, int64_t end) {
  using A = Arithmetic<T>;
  const AxisTable<A> depth(args, 0), height(args, 1);
  const DenseRows<T> rows(args);
  RowCache<T> cache(depth.axis.taps, height.axis.taps, args.out_size[2]);
  Column<T> column(depth, height);
  int64_t last = -1;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t oh = task % args.out_size[1], od = task / args.out_size[1] % args.out_size[0];
    const int64_t plane = task / args.out_size[1] / args.out_size[0];
    if (plane != last) cache.clear();
    last = plane;
    const T* input = static_cast<const T*>(args.input) + plane / args.channels * args.stride_n +
                     plane % args.channels * args.stride_c;
    column.place(od, oh, [&](int64_t d, int64_t h) {
      return cache.get(d, h, args.size[1], [&](A* row) {
        rows.resample(input + d * args.stride[0] + h * args.stride[1], row);
      });
    });
    column.write(0, args.out_size[2], static_cast<T*>(args.output) + task * args.out_size[2]);
  }
}

template <typename T>
void resample_channels_last(const ResampleArgs& args, int64_t begin, int64_t end) {
  using A = Arithmetic<T>;
  const AxisTable<A> depth(args, 0), height(args, 1);
  const PixelRows<T> rows(args);
  RowCache<T> cache(depth.axis.taps, height.axis.taps, args.out_size[2] * args.block);
  Column<T> column(depth, height);
  const int64_t blocks = ceil_div(args.channels, args.block);
  int64_t last = -1;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t oh = task % args.out_size[1], od = task / args.out_size[1] % args.out_size[0];
    const int64_t plane = task / args.out_size[1] / args.out_size[0];
    if (plane != last) cache.clear();
    last = plane;
    const int64_t n = plane / blocks, c = plane % blocks * args.block;
    const int64_t channels = min64(args.block, args.channels - c);
    const T* input = static_cast<const T*>(args.input) + n * args.stride_n + c;
    column.place(od, oh, [&](int64_t d, int64_t h) {
      return cache.get(d, h, args.size[1], [&](A* row) {
        rows.resample(input + d * args.stride[0] + h * args.stride[1], channels, row);
      });
    });
    const int64_t row = (n * args.out_size[0] + od) * args.out_size[1] + oh;
    T* output = static_cast<T*>(args.output) + row * args.out_size[2] * args.channels + c;
    if (channels == args.channels) {
      column.write(0, args.out_size[2] * channels, output);
      continue;
    }
    for (int64_t ow = 0; ow < args.out_size[2]; ++ow)
      column.write(ow * channels, channels, output + ow * args.channels);
  }
}

template <typename T>
void resample_quads(const ResampleArgs& args, int64_t begin, int64_t end) {
  const PixelQuads<T> quads(args);
  const int64_t blocks = ceil_div(args.channels, args.block);
  for (int64_t task = begin; task < end;) {
    const int64_t oh = task % args.out_size[1], part = task / args.out_size[1];
    const int64_t n = part / blocks, first = part % blocks * args.block;
    const int64_t channels = min64(args.block, args.channels - first);
    const T* input = static_cast<const T*>(args.input) + n * args.stride_n + first;
    T* output = static_cast<T*>(args.output) +
                (n * args.out_size[1] + oh) * args.out_size[2] * args.channels + first;
    const bool paired = task + 1 < end && quads.is_paired(oh);
    if (paired)
      quads.template resample<2>(input, oh, channels, output);
    else
      quads.template resample<1>(input, oh, channels, output);
    task += paired ? 2 : 1;
  }
}

// Whether every output element has two rows and two columns of taps, and no more.
bool has_four_taps(const ResampleArgs& args) {
  const ResampleAxis<double> height(args, 1), width(args, 2);
  return args.size[0] == 1 && args.out_size[0] == 1 &&
         args.interpolation == Interpolation::kLinear && !args.antialias && !height.copied &&
         !width.copied;
}

}  // namespace

void resample(const ResampleArgs& args, int64_t begin, int64_t end) {
  if (begin >= end) return;
  with_type(args.dtype, [&](auto type) {
    using T = typename decltype(type)::Type;
    if (args.channels_last && has_four_taps(args))
      resample_quads<T>(args, begin, end);
    else if (args.channels_last)
      resample_channels_last<T>(args, begin, end);
    else
      resample_dense<T>(args, begin, end);
  });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
