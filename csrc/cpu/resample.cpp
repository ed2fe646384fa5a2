// R8: chains of fma over an output element's taps, columns first, then rows, then planes. A row of the
// input is resampled along the width once and kept for the output rows that share it, as long as they
// belong to one task range; every lane of a vector is an output element of its own.
#include "../resample.h"
#include "scratch.h"
#include "vec_dtypes.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

// R8's taps of every output element along one dimension.
template <typename A>
struct AxisTable {
  ResampleAxis<A> axis;
  Scratch<int64_t> counts, indices;  // of output element i from i * taps on
  Scratch<A> weights;

  AxisTable(const ResampleArgs& args, int d)
      : axis(args, d),
        counts(axis.out_size),
        indices(axis.out_size * axis.taps),
        weights(axis.out_size * axis.taps) {
    for (int64_t i = 0; i < axis.out_size; ++i) {
      const ResampleTaps<A> taps(axis, i);
      counts.data[i] = taps.count;
      for (int64_t k = 0; k < taps.count; ++k) {
        indices.data[i * axis.taps + k] = taps.index(k);
        weights.data[i * axis.taps + k] = taps.weight(k);
      }
    }
  }
  const int64_t* index(int64_t i) const { return indices.data + i * axis.taps; }
  const A* weight(int64_t i) const { return weights.data + i * axis.taps; }
};

// Calls `body` with the number of taps as a constant where it is one of the common ones, else as 0.
template <int kTaps>
struct TapConstant {
  static constexpr int kCount = kTaps;
};
template <typename Body>
BNINV_INLINE void with_taps(int64_t count, const Body& body) {
  if (count == 2) return body(TapConstant<2>{});
  if (count == 4) return body(TapConstant<4>{});
  body(TapConstant<0>{});
}

// The chain over `count` taps, of which value(k) gives an element or a vector.
template <typename V, int kCount, typename A, typename Value>
BNINV_INLINE V chain(const A* weights, int64_t count, const Value& value) {
  V total(0.0f);
  const int64_t last = kCount > 0 ? kCount : count;
#pragma GCC unroll 4
  for (int64_t k = 0; k < last; ++k) total = fma(V(weights[k]), value(k), total);
  return total;
}

// Lanes for `permute`: a vector's integers have no other way in than a vector's bits.
BNINV_INLINE auto lane_numbers(const int32_t* p) {
  return to_bits(load(reinterpret_cast<const float*>(p)));
}

// Rows whose elements are dense, resampled along the width a vector of outputs at a time. Where the
// taps of a vector's outputs lie within one vector of the input, as they do when an image grows, they
// are picked out of that one.
template <typename T>
class DenseRows {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  static constexpr int kCount = Lanes<T>::kCount;

 public:
  explicit DenseRows(const ResampleArgs& args)
      : table_(args, 2),
        size_(args.size[2]),
        vectors_(ceil_div(args.out_size[2], kCount)),
        taps_(table_.axis.taps),
        source_(size_ + kCount),
        weights_(vectors_ * taps_ * kCount),
        counts_(vectors_ * kCount),
        lanes_(vectors_ * taps_ * kCount),
        firsts_(vectors_),
        near_(vectors_),
        whole_(vectors_) {
    for (int64_t i = 0; i < kCount; ++i) source_.data[size_ + i] = 0;
    for (int64_t v = 0; v < vectors_; ++v) add_vector(v);
  }

  // `resampled` has room for whole vectors.
  void resample(const T* row, A* resampled) const {
    if (table_.axis.copied) return widen_run(row, size_, resampled);
    widen_run(row, size_, source_.data);
    with_taps(taps_, [&](auto taps) {
      for (int64_t v = 0; v < vectors_; ++v)
        store(resampled + v * kCount, vector<decltype(taps)::kCount>(v));
    });
  }

 private:
  void add_vector(int64_t v) {
    const int64_t out_size = table_.axis.out_size;
    int64_t first = size_, last = 0;
    whole_.data[v] = 1;
    for (int64_t l = 0; l < kCount; ++l) {
      // Lanes beyond the row's end repeat its last element.
      const int64_t i = min64(v * kCount + l, out_size - 1), count = table_.counts.data[i];
      counts_.data[v * kCount + l] = static_cast<A>(count);
      if (count < taps_) whole_.data[v] = 0;
      for (int64_t k = 0; k < taps_; ++k) {
        const int64_t place = (v * taps_ + k) * kCount + l;
        const bool exists = k < count;
        const int64_t index = exists ? table_.index(i)[k] : count > 0 ? table_.index(i)[0] : 0;
        weights_.data[place] = exists ? table_.weight(i)[k] : A(0);
        lanes_.data[place] = static_cast<int32_t>(index);
        first = min64(first, index), last = max64(last, index);
      }
    }
    firsts_.data[v] = first;
    near_.data[v] = last - first < kCount;
    for (int64_t i = v * taps_ * kCount; i < (v + 1) * taps_ * kCount; ++i)
      lanes_.data[i] -= static_cast<int32_t>(first);
  }

  template <int kTaps>
  BNINV_INLINE V vector(int64_t v) const {
    const int64_t taps = kTaps > 0 ? kTaps : taps_;
    const A* source = source_.data + firsts_.data[v];
    const A* weights = weights_.data + v * taps * kCount;
    const int32_t* lanes = lanes_.data + v * taps * kCount;
    V total(0.0f);
    if constexpr (kCount == kWidth && kWidth > 1) {
      if (near_.data[v] && whole_.data[v]) {
        const V values = load(source);
#pragma GCC unroll 4
        for (int64_t k = 0; k < taps; ++k)
          total = fma(load(weights + k * kCount), permute(values, lane_numbers(lanes + k * kCount)),
                      total);
        return total;
      }
    }
    for (int64_t k = 0; k < taps; ++k) {
      A values[kCount];
      for (int l = 0; l < kCount; ++l) values[l] = source[lanes[k * kCount + l]];
      const V longer = fma(load(weights + k * kCount), load(values), total);
      // A tap that an output does not have is no term.
      total = whole_.data[v]
                  ? longer
                  : select(load(counts_.data + v * kCount) > V(static_cast<A>(k)), longer, total);
    }
    return total;
  }

  AxisTable<A> table_;
  int64_t size_, vectors_, taps_;
  Scratch<A> source_, weights_, counts_;  // of each vector: weights tap by tap
  Scratch<int32_t> lanes_;                // likewise, counted from the vector's first element
  Scratch<int64_t> firsts_;
  Scratch<uint8_t> near_, whole_;  // whether its taps fit one vector; whether all have as many
};

// Rows of pixels whose channels are dense: each pixel's chain runs over vectors of channels.
template <typename T>
class PixelRows {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  static constexpr int kCount = Lanes<T>::kCount;

 public:
  explicit PixelRows(const ResampleArgs& args) : table_(args, 2), stride_(args.stride[2]) {}

  // `channels` of each output pixel, side by side.
  void resample(const T* row, int64_t channels, A* resampled) const {
    const int64_t out_size = table_.axis.out_size;
    if (table_.axis.copied) {
      for (int64_t i = 0; i < out_size; ++i)
        widen_run(row + i * stride_, channels, resampled + i * channels);
      return;
    }
    // With antialias there are as many at most.
    with_taps(table_.axis.antialias ? 0 : table_.axis.taps, [&](auto taps) {
      for (int64_t i = 0; i < out_size; ++i)
        pixel<decltype(taps)::kCount>(row, i, channels, resampled + i * channels);
    });
  }

 private:
  template <int kTaps>
  BNINV_INLINE void pixel(const T* row, int64_t i, int64_t channels, A* resampled) const {
    const int64_t count = table_.counts.data[i];
    const int64_t* indices = table_.index(i);
    const A* weights = table_.weight(i);
    const auto step = [&](int64_t c) {
      const V total = chain<V, kTaps>(
          weights, count, [&](int64_t k) { return load(row + indices[k] * stride_ + c); });
      store(resampled + c, total);
    };
    int64_t c = 0;
    for (; c + kCount <= channels; c += kCount) step(c);
    if (c < channels && channels >= kCount) return step(channels - kCount);
    for (; c < channels; ++c)
      resampled[c] = chain<A, kTaps>(
          weights, count, [&](int64_t k) { return widen(row[indices[k] * stride_ + c]); });
  }

  AxisTable<A> table_;
  int64_t stride_;
};

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

// Images in channels_last by two taps a dimension: the four pixels of an output pixel are read where they
// lie, which costs less than keeping rows. Two output rows between the same input rows are done at once.
template <typename T>
class PixelQuads {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  static constexpr int kCount = Lanes<T>::kCount;

 public:
  explicit PixelQuads(const ResampleArgs& args) : args_(args), height_(args, 1), width_(args, 2) {}

  // Whether an output row lies between the same input rows as the next one.
  bool is_paired(int64_t oh) const {
    return oh + 1 < args_.out_size[1] && height_.index(oh)[0] == height_.index(oh + 1)[0];
  }

  // `channels` of each pixel of kRows output rows from `oh` on.
  template <int kRows>
  void resample(const T* input, int64_t oh, int64_t channels, T* output) const {
    const T* above = input + height_.index(oh)[0] * args_.stride[1];
    const T* below = input + height_.index(oh)[1] * args_.stride[1];
    const int64_t pitch = args_.out_size[2] * args_.channels;
    A upper[kRows], lower[kRows];
    for (int r = 0; r < kRows; ++r)
      upper[r] = height_.weight(oh + r)[0], lower[r] = height_.weight(oh + r)[1];
    for (int64_t ow = 0; ow < args_.out_size[2]; ++ow, output += args_.channels) {
      const int64_t left = width_.index(ow)[0] * args_.stride[2];
      const int64_t right = width_.index(ow)[1] * args_.stride[2];
      const T *a = above + left, *b = above + right, *c = below + left, *d = below + right;
      const A nearer = width_.weight(ow)[0], farther = width_.weight(ow)[1];
      const auto step = [&]<typename W>(W zero, W p, W q, W r, W s, const auto& write) {
        const W top = fma(W(farther), q, fma(W(nearer), p, zero));
        const W bottom = fma(W(farther), s, fma(W(nearer), r, zero));
        for (int row = 0; row < kRows; ++row)
          write(row * pitch, fma(W(lower[row]), bottom, fma(W(upper[row]), top, zero)));
      };
      const auto vector = [&](int64_t i) {
        step(V(0.0f), load(a + i), load(b + i), load(c + i), load(d + i),
             [&](int64_t row, V value) { store(output + row + i, value); });
      };
      int64_t i = 0;
      for (; i + kCount <= channels; i += kCount) vector(i);
      if (i < channels && channels >= kCount) {
        vector(channels - kCount);
        continue;
      }
      for (; i < channels; ++i)
        step(A(0), widen(a[i]), widen(b[i]), widen(c[i]), widen(d[i]),
             [&](int64_t row, A value) { output[row + i] = narrow<T>(value); });
    }
  }

 private:
  const ResampleArgs& args_;
  AxisTable<A> height_, width_;
};

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
