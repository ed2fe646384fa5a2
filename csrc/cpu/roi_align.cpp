// R10's points: chains of fma over the taps of a bin, columns first, then rows. The taps of a region are
// found once and serve all channels; a vector holds neighbouring channels. Two points whose rows are the
// same share the row's chain.
#include "roi_blocks.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

// Memory that grows, whose elements are then lost.
template <typename X>
class Growing {
 public:
  Growing() = default;
  ~Growing() { delete memory_; }
  Growing(const Growing&) = delete;
  Growing& operator=(const Growing&) = delete;
  X* of(int64_t count) {
    if (count > capacity_) {
      delete memory_;
      memory_ = nullptr, capacity_ = 0;
      memory_ = new Scratch<X>(count), capacity_ = count;
    }
    return memory_ == nullptr ? nullptr : memory_->data;
  }

 private:
  Scratch<X>* memory_ = nullptr;
  int64_t capacity_ = 0;
};

template <typename A>
struct Tap {
  int64_t offset;
  A weight;
};
// Of a row: which of the last two rows it is, the last one 1; 0: neither.
template <typename A>
struct RowTap {
  int64_t offset;
  A weight;
  int64_t back;
};

// The taps of all bins along one dimension, those of bin i from first[i] to first[i + 1].
template <typename X>
struct Taps {
  Growing<int64_t> firsts;
  Growing<X> memory;
  int64_t* first = nullptr;
  X* taps = nullptr;

  template <typename A>
  void find(const RoiPoints<A>& points, int64_t pooled, int64_t stride) {
    first = firsts.of(pooled + 1);
    first[0] = 0;
    for (int64_t i = 0; i < pooled; ++i) first[i + 1] = first[i] + 2 * points.inside(i).count();
    taps = memory.of(first[pooled]);
    for (int64_t i = 0; i < pooled; ++i) {
      const RoiRange inside = points.inside(i);
      X* tap = taps + first[i];
      for (int64_t k = inside.first; k < inside.last; ++k) {
        const RoiTaps<A> both(points.point(i, k), points.size);
        tap->offset = both.before * stride, (tap++)->weight = A(1) - both.weight;
        tap->offset = both.after * stride, (tap++)->weight = both.weight;
      }
    }
  }
};

template <typename T>
class Aligned {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  static constexpr int kCount = Lanes<T>::kCount;

 public:
  explicit Aligned(const RoiArgs& args) : args_(args) {}

  bool place(int64_t k) {
    const Roi<T> roi(args_, k);
    const RoiPoints<A> rows(args_, roi.top, roi.bottom, args_.pooled_h, args_.height);
    const RoiPoints<A> columns(args_, roi.left, roi.right, args_.pooled_w, args_.width);
    if (roi.index < 0 || !rows.exists || !columns.exists) return false;
    image_ = static_cast<const T*>(args_.input) + roi.index * args_.stride_n;
    rows_.find(rows, args_.pooled_h, args_.stride_h);
    columns_.find(columns, args_.pooled_w, args_.stride_w);
    for (int64_t i = 0; i < args_.pooled_h; ++i) {
      RowTap<A>* first = rows_.taps + rows_.first[i];
      RowTap<A>* last = rows_.taps + rows_.first[i + 1];
      for (RowTap<A>* tap = first; tap < last; ++tap)
        tap->back = tap - first > 0 && tap[-1].offset == tap->offset   ? 1
                    : tap - first > 1 && tap[-2].offset == tap->offset ? 2
                                                                       : 0;
    }
    const int64_t points = roi_points(rows.points, columns.points);
    count_ = static_cast<A>(points);
    // By a power of two: a product of the same real value, which rounds alike.
    is_power_ = (points & (points - 1)) == 0;
    inverse_ = A(1) / count_;
    return true;
  }

  void bin(int64_t b, int64_t c, int64_t count, A* values) const {
    const T* image = image_ + b * args_.bin_step + c * args_.channel_step;
    const int64_t i = b / args_.pooled_w, j = b % args_.pooled_w;
    for_channels<T>(count, args_.channel_step, [&](auto read, auto vectors, int64_t from) {
      chain<decltype(vectors)::value>(image + from * args_.channel_step, i, j, read, values + from);
    });
  }

 private:
  template <int kVectors, typename Read>
  BNINV_INLINE void chain(const T* image, int64_t i, int64_t j, const Read& read, A* values) const {
    const RowTap<A>* last_row = rows_.taps + rows_.first[i + 1];
    const Tap<A>* first_column = columns_.taps + columns_.first[j];
    const Tap<A>* last_column = columns_.taps + columns_.first[j + 1];
    V total[kVectors], now[kVectors], before[kVectors];
    for (int v = 0; v < kVectors; ++v) total[v] = now[v] = before[v] = V(A(0));
    for (const RowTap<A>* row = rows_.taps + rows_.first[i]; row < last_row; ++row) {
      V next[kVectors];
      if (row->back == 0) {
        const T* pixels = image + row->offset;
        for (int v = 0; v < kVectors; ++v) next[v] = V(A(0));
        for (const Tap<A>* tap = first_column; tap < last_column; ++tap)
          for (int v = 0; v < kVectors; ++v)
            next[v] = fma(V(tap->weight), read(pixels + tap->offset, v), next[v]);
      } else {
        for (int v = 0; v < kVectors; ++v) next[v] = row->back == 1 ? now[v] : before[v];
      }
      for (int v = 0; v < kVectors; ++v) {
        total[v] = fma(V(row->weight), next[v], total[v]);
        before[v] = now[v], now[v] = next[v];
      }
    }
    for (int v = 0; v < kVectors; ++v)
      store(values + v * kCount, is_power_ ? total[v] * V(inverse_) : total[v] / V(count_));
  }

  const RoiArgs& args_;
  const T* image_ = nullptr;
  Taps<RowTap<A>> rows_;
  Taps<Tap<A>> columns_;
  A count_ = 1, inverse_ = 1;
  bool is_power_ = true;
};

}  // namespace

void roi_align(const RoiArgs& args, int64_t begin, int64_t end) {
  if (begin >= end) return;
  with_type(args.dtype, [&](auto type) {
    using T = typename decltype(type)::Type;
    Aligned<T> regions(args);
    for_regions<T, T>(args, begin, end, regions, roi_nothing<Arithmetic<T>>(),
                      [](const Arithmetic<T>* values, int64_t count, T* output) {
                        narrow_run<T>(values, count, output);
                      });
  });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
