// R10's bins of whole pixels: their maximum, where it lies, and their mean by R3. A vector holds neighbouring
// channels of one bin.
#include "roi_blocks.h"
#include "sum_lanes.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

enum class Of { kMaximum, kPlace, kMean };

template <typename T, Of kOf>
class Pooled {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  static constexpr int kCount = Lanes<T>::kCount;

 public:
  explicit Pooled(const RoiArgs& args) : args_(args) {}

  bool place(int64_t k) {
    windows_ = RoiWindows<T>(args_, Roi<T>(args_, k), kOf == Of::kMean);
    if (!windows_.exists) return false;
    image_ = static_cast<const T*>(args_.input) + windows_.index * args_.stride_n;
    return true;
  }

  void bin(int64_t b, int64_t c, int64_t count, A* values) const {
    const T* image = image_ + b * args_.bin_step + c * args_.channel_step;
    const RoiRange rows = windows_.rows.pixels(b / args_.pooled_w);
    const RoiRange columns = windows_.columns.pixels(b % args_.pooled_w);
    for_channels<T>(count, args_.channel_step, [&](auto read, auto vectors, int64_t from) {
      for (int v = 0; v < decltype(vectors)::value; ++v) {
        const T* first = image + from * args_.channel_step;
        const auto pixel = [&](int64_t h, int64_t w) {
          return read(first + h * args_.stride_h + w * args_.stride_w, v);
        };
        if constexpr (kOf == Of::kMean)
          store(values + from + v * kCount, mean(rows, columns, pixel));
        else
          store(values + from + v * kCount, maximum(rows, columns, pixel));
      }
    });
  }

 private:
  template <typename Pixel>
  BNINV_INLINE V maximum(const RoiRange& rows, const RoiRange& columns, const Pixel& pixel) const {
    const bool is_empty = rows.count() * columns.count() == 0;
    V best(is_empty ? A(0) : roi_lowest<A>());
    V place(index(-1));
    for (int64_t h = rows.first; h < rows.last; ++h)
      for (int64_t w = columns.first; w < columns.last; ++w) {
        const V value = pixel(h, w);
        if constexpr (kOf == Of::kPlace)
          place = select(value > best, V(index(h * args_.width + w)), place);
        best = select(value > best, value, best);
      }
    return kOf == Of::kPlace ? place : best;
  }

  // An integer in a lane's bits. Nothing is computed with them.
  static BNINV_INLINE V index(int64_t i) {
    A lane;
    if constexpr (kIsBinary64<A>)
      lane = from_bits(i);
    else
      lane = from_bits(static_cast<int32_t>(i));
    A lanes[kCount];
    for (int l = 0; l < kCount; ++l) lanes[l] = lane;
    return load(lanes);
  }

  template <typename Pixel>
  BNINV_INLINE V mean(const RoiRange& rows, const RoiRange& columns, const Pixel& pixel) const {
    const int64_t count = rows.count() * columns.count();
    if (count == 0) return V(A(0));
    LaneSum<V> sum;
    for (int64_t h = rows.first; h < rows.last; ++h)
      for (int64_t w = columns.first; w < columns.last; ++w) sum.push(pixel(h, w));
    return sum.total() / V(static_cast<A>(count));
  }

  const RoiArgs& args_;
  RoiWindows<T> windows_;
  const T* image_ = nullptr;
};

template <Of kOf>
void pool(const RoiArgs& args, int64_t begin, int64_t end) {
  if (begin >= end) return;
  with_type(args.dtype, [&](auto type) {
    using T = typename decltype(type)::Type;
    using A = Arithmetic<T>;
    Pooled<T, kOf> regions(args);
    if constexpr (kOf == Of::kPlace) {
      A nowhere;
      if constexpr (kIsBinary64<A>)
        nowhere = from_bits(int64_t{-1});
      else
        nowhere = from_bits(int32_t{-1});
      for_regions<T, int32_t>(args, begin, end, regions, nowhere,
                              [](const A* values, int64_t count, int32_t* output) {
                                indices_run(values, count, output);
                              });
    } else {
      for_regions<T, T>(
          args, begin, end, regions, roi_nothing<A>(),
          [](const A* values, int64_t count, T* output) { narrow_run<T>(values, count, output); });
    }
  });
}

}  // namespace

void roi_pool(const RoiArgs& args, int64_t begin, int64_t end) {
  pool<Of::kMaximum>(args, begin, end);
}

void roi_pool_argmax(const RoiArgs& args, int64_t begin, int64_t end) {
  pool<Of::kPlace>(args, begin, end);
}

void ps_roi_pool(const RoiArgs& args, int64_t begin, int64_t end) {
  pool<Of::kMean>(args, begin, end);
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
