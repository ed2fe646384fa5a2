// The taps of a deformable convolution (R1): a vector holds neighbouring channels of one of them.
#include "../deform_conv2d.h"

#include "scratch.h"
#include "vec_dtypes.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

template <typename T>
class TapRow {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  static constexpr int64_t kCount = Lanes<T>::kCount;

 public:
  explicit TapRow(const DeformTapsArgs& args)
      : args_(args), channels_(args.channels / args.offset_groups), zeros_(channels_) {
    for (int64_t c = 0; c < channels_; ++c) zeros_.data[c] = T{};
  }

  // Tap row r of one row of output pixels.
  void find(int64_t n, int64_t oy, int64_t r) const {
    const T* input = static_cast<const T*>(args_.input) + n * args_.stride_n;
    T* output = static_cast<T*>(args_.output) + ((n * args_.out_height + oy) * args_.kernel_h + r) *
                                                    args_.out_width * args_.kernel_w *
                                                    args_.channels;
    for (int64_t ox = 0; ox < args_.out_width; ++ox)
      for (int64_t s = 0; s < args_.kernel_w; ++s)
        for (int64_t g = 0; g < args_.offset_groups; ++g, output += channels_)
          mix(DeformPlace<T>(args_, n, oy, ox, r, s, g), input + g * channels_, output);
  }

 private:
  void mix(const DeformPlace<T>& place, const T* input, T* output) const {
    const T* corner[2][2];
    for (int i = 0; i < 2; ++i)
      for (int j = 0; j < 2; ++j) {
        const int64_t row = place.tap.row[i], column = place.tap.column[j];
        const bool exists = row >= 0 && column >= 0;
        corner[i][j] =
            exists ? input + row * args_.stride_h + column * args_.stride_w : zeros_.data;
      }
    const auto value = [&](const auto& load_lanes) {
      V total(0.0f);
      for (int i = 0; i < 2; ++i) {
        V row(0.0f);
        for (int j = 0; j < 2; ++j)
          row = fma(V(place.tap.column_weight[j]), load_lanes(corner[i][j]), row);
        total = fma(V(place.tap.row_weight[i]), row, total);
      }
      return args_.mask == nullptr ? total : total * V(place.mask);
    };
    int64_t c = 0;
    for (; c + kCount <= channels_; c += kCount)
      store(output + c, value([&](const T* pixel) { return load(pixel + c); }));
    if (const int64_t rest = channels_ - c; rest > 0)
      store_partial(output + c,
                    value([&](const T* pixel) { return load_partial(pixel + c, rest); }), rest);
  }

  const DeformTapsArgs& args_;
  int64_t channels_;  // of a group
  Scratch<T> zeros_;  // a pixel outside
};

template <typename T>
void deform_taps_of(const DeformTapsArgs& args, int64_t begin, int64_t end) {
  const TapRow<T> row(args);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t r = task % args.kernel_h, pixels = task / args.kernel_h;
    row.find(pixels / args.out_height, pixels % args.out_height, r);
  }
}

}  // namespace

void deform_taps(const DeformTapsArgs& args, int64_t begin, int64_t end) {
  if (begin >= end) return;
  with_type(args.dtype,
            [&](auto type) { deform_taps_of<typename decltype(type)::Type>(args, begin, end); });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
