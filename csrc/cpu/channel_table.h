// batch_norm's parameters as kernels over rows of channels read them (R2).
#pragma once

#include "../batch_norm.h"
#include "rows.h"

namespace bninv {
namespace BNINV_LEVEL {

// The parameters of channels c, c + 1, ..., a vector of them.
template <typename T>
struct ChannelLanes {
  using V = typename Lanes<T>::Value;
  const Arithmetic<T>* means;
  int64_t stride;
  BNINV_INLINE BatchNormChannel<V> operator()(int64_t c) const {
    return {load(means + c), load(means + stride + c), load(means + 2 * stride + c)};
  }
};

// The parameters of a range of channels, their scales computed a vector at a time.
template <typename T>
struct ChannelTable {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  int64_t stride;
  Scratch<A> memory;

  // Whole steps, so that the last one may be loaded whole.
  explicit ChannelTable(int64_t capacity)
      : stride(ceil_div(capacity, Lanes<T>::kCount) * Lanes<T>::kCount), memory(4 * stride) {
    for (int64_t i = 0; i < 4 * stride; ++i) memory.data[i] = 0;
  }

  // `args` is batch_norm's, or the epilogue of another operator.
  template <typename Args>
  void fill(const Args& args, int64_t first, int64_t count) {
    A *means = memory.data, *scales = means + stride, *biases = scales + stride;
    A* variances = biases + stride;
    copy_parameter<T>(args.running_mean, 0, first, count, means);
    copy_parameter<T>(args.weight, 1, first, count, scales);
    copy_parameter<T>(args.bias, 0, first, count, biases);
    copy_parameter<T>(args.running_var, 0, first, count, variances);
    const V eps = static_cast<A>(args.eps);
    for (int64_t c = 0; c < count; c += Lanes<T>::kCount)
      store(scales + c, batch_norm_scale<V>(load(scales + c), load(variances + c), eps));
  }

  // The first `period` channels again and again, as rows of channels follow each other in memory.
  void repeat(int64_t period, int64_t count) {
    for (int64_t parameter = 0; parameter < 3; ++parameter) {
      A* values = memory.data + parameter * stride;
      for (int64_t c = period; c < count; ++c) values[c] = values[c - period];
    }
  }

  BatchNormChannel<V> all_lanes(int64_t c) const {
    const A* p = memory.data + c;
    return {p[0], p[stride], p[2 * stride]};
  }

  // Any vector that begins with one of the channels may be loaded, whatever lies beyond the last.
  ChannelLanes<T> from(int64_t c) const { return {memory.data + c, stride}; }
};

}  // namespace BNINV_LEVEL
}  // namespace bninv
