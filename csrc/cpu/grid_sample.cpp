// R8 at the points of a grid: chains of fma over a point's taps, columns first, then rows, then planes. The
// taps of a row of points are found once and serve all channels; a vector holds neighbouring points.
#include "../grid_sample.h"
#include "scratch.h"
#include "vec_dtypes.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

template <typename T>
class GridRow {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  static constexpr int kCount = Lanes<T>::kCount;

 public:
  explicit GridRow(const GridSampleArgs& args)
      : args_(args),
        taps_(GridTaps<A>::count(args.mode)),
        planes_(args.is_volume ? taps_ : 1),
        length_(ceil_div(args.out_size[2], kCount) * kCount),
        offsets_(planes_ * taps_ * taps_ * length_),
        weights_(3 * taps_ * length_) {}

  // Finds the taps of the points of one row.
  void place(int64_t n, int64_t od, int64_t oh) {
    const T* row = static_cast<const T*>(args_.grid) + n * args_.grid_stride_n +
                   od * args_.grid_stride[0] + oh * args_.grid_stride[1];
    for (int64_t i = 0; i < length_; ++i) {
      // Lanes beyond the row's end repeat its last point.
      const T* point = row + min64(i, args_.out_size[2] - 1) * args_.grid_stride[2];
      const auto taps = [&](int d) {
        return GridTaps<A>(args_, d, widen(point[(2 - d) * args_.grid_stride_axis]));
      };
      const GridTaps<A> columns = taps(2), rows = taps(1);
      for (int k = 0; k < taps_; ++k) {
        weights_.data[k * length_ + i] = columns.weight[k];
        weights_.data[(taps_ + k) * length_ + i] = rows.weight[k];
      }
      if (!args_.is_volume) {
        add_plane(0, 0, rows, columns, i);
        continue;
      }
      const GridTaps<A> planes = taps(0);
      for (int k = 0; k < taps_; ++k) {
        weights_.data[(2 * taps_ + k) * length_ + i] = planes.weight[k];
        add_plane(k, planes.index[k], rows, columns, i);
      }
    }
  }

  // One channel of the row.
  void sample(const T* input, T* output) const {
    const int64_t out_size = args_.out_size[2];
    if (args_.mode == GridMode::kNearest) {
      for (int64_t i = 0; i < out_size; ++i) {
        const int64_t offset = offsets_.data[i];
        output[i] = offset < 0 ? T{} : input[offset];
      }
      return;
    }
    for (int64_t i = 0; i < length_; i += kCount) {
      const V value = taps_ == 2 ? vector<2>(input, i) : vector<4>(input, i);
      if (i + kCount <= out_size)
        store(output + i, value);
      else
        store_partial(output + i, value, out_size - i);
    }
  }

 private:
  void add_plane(int64_t kd, int64_t depth, const GridTaps<A>& rows, const GridTaps<A>& columns,
                 int64_t i) {
    for (int r = 0; r < taps_; ++r)
      for (int s = 0; s < taps_; ++s) {
        const bool exists = depth >= 0 && rows.index[r] >= 0 && columns.index[s] >= 0;
        offsets_.data[((kd * taps_ + r) * taps_ + s) * length_ + i] =
            exists ? depth * args_.stride[0] + rows.index[r] * args_.stride[1] +
                         columns.index[s] * args_.stride[2]
                   : -1;
      }
  }

  template <int kTaps>
  BNINV_INLINE V vector(const T* input, int64_t i) const {
    if (!args_.is_volume) return plane<kTaps>(input, 0, i);
    V total(0.0f);
    for (int k = 0; k < kTaps; ++k)
      total = fma(load(weights_.data + (2 * kTaps + k) * length_ + i), plane<kTaps>(input, k, i),
                  total);
    return total;
  }
  template <int kTaps>
  BNINV_INLINE V plane(const T* input, int64_t kd, int64_t i) const {
    V total(0.0f);
    for (int r = 0; r < kTaps; ++r) {
      V row(0.0f);
      for (int s = 0; s < kTaps; ++s) {
        const int64_t* offsets = offsets_.data + ((kd * kTaps + r) * kTaps + s) * length_ + i;
        A values[kCount];
        for (int l = 0; l < kCount; ++l)
          values[l] = offsets[l] < 0 ? A(0) : widen(input[offsets[l]]);
        row = fma(load(weights_.data + s * length_ + i), load(values), row);
      }
      total = fma(load(weights_.data + (kTaps + r) * length_ + i), row, total);
    }
    return total;
  }

  const GridSampleArgs& args_;
  int64_t taps_, planes_, length_;
  Scratch<int64_t> offsets_;  // in a channel, of each tap of each point; -1: +0 outside
  Scratch<A> weights_;        // along the width, the height, the depth
};

template <typename T>
void grid_sample_of(const GridSampleArgs& args, int64_t begin, int64_t end) {
  const int64_t* size = args.out_size;
  GridRow<T> row(args);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t oh = task % size[1], od = task / size[1] % size[0], n = task / size[1] / size[0];
    row.place(n, od, oh);
    const T* input = static_cast<const T*>(args.input) + n * args.stride_n;
    for (int64_t c = 0; c < args.channels; ++c)
      row.sample(input + c * args.stride_c,
                 static_cast<T*>(args.output) +
                     (((n * args.channels + c) * size[0] + od) * size[1] + oh) * size[2]);
  }
}

}  // namespace

void grid_sample(const GridSampleArgs& args, int64_t begin, int64_t end) {
  if (begin >= end) return;
  with_type(args.dtype,
            [&](auto type) { grid_sample_of<typename decltype(type)::Type>(args, begin, end); });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
