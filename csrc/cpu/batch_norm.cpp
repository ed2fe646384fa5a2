// batch_norm in eval mode under R2. No reduction: what matters is that each channel's scale is
// computed from the parameters at every call (no cached state) and once, not once an element.
#include "../batch_norm.h"

#include "../activation.h"
#include "kernels.h"
#include "scratch.h"
#include "vec_dtypes.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

// One row of `count` elements.
template <typename T, Activation kActivation, bool kResidual>
struct Row {
  using V = typename Lanes<T>::Value;
  const T* x;
  const T* residual;
  T* y;
  int64_t count;
  V negative_slope;

  // Each boundary rounds to T, where a separate operator would have stored its result.
  BNINV_INLINE V result(V value, V addend, const BatchNormChannel<V>& c) const {
    value = normalize<V>(value, c.mean, c.scale, c.bias);
    if constexpr (kResidual) value = rounded_lanes<T>(value) + addend;
    if constexpr (kActivation != Activation::kNone)
      value = activate<kActivation>(rounded_lanes<T>(value), negative_slope);
    return value;
  }

  // All loads of memory that may be far away come before anything waits for one of them.
  template <int kSteps, typename Channel>
  BNINV_INLINE void steps(int64_t i, const Channel& channel) const {
    constexpr int kCount = Lanes<T>::kCount;
    V value[kSteps], addend[kSteps];
#pragma GCC unroll 4
    for (int s = 0; s < kSteps; ++s) {
      value[s] = load(x + i + s * kCount);
      if constexpr (kResidual) addend[s] = load(residual + i + s * kCount);
    }
#pragma GCC unroll 4
    for (int s = 0; s < kSteps; ++s)
      store(y + i + s * kCount, result(value[s], addend[s], channel(i + s * kCount)));
  }

  // `channel(i)` gives the parameters of elements i, i + 1, ...
  template <typename Channel>
  BNINV_INLINE void run(const Channel& channel) const {
    constexpr int kCount = Lanes<T>::kCount;
    // The long activations fill the pipeline by themselves.
    constexpr int kSteps = kActivation <= Activation::kRelu6 ? 4 : 1;
    int64_t i = 0;
    if constexpr (kSteps > 1)
      for (; i + kSteps * kCount <= count; i += kSteps * kCount) steps<kSteps>(i, channel);
    for (; i + kCount <= count; i += kCount) steps<1>(i, channel);
    if (i == count) return;
    // The last elements of a row: by a step that repeats some of the one before it, with equal bits.
    if (count >= kCount) return steps<1>(count - kCount, channel);
    const V addend = load_partial(kResidual ? residual : x, count);
    store_partial(y, result(load_partial(x, count), addend, channel(0)), count);
  }
};

template <typename T, Activation kActivation, typename Channel>
BNINV_INLINE void run_row(const BatchNormArgs& args, int64_t row, int64_t count,
                          const Channel& channel) {
  const T* x = static_cast<const T*>(args.input) + row * count;
  T* y = static_cast<T*>(args.output) + row * count;
  const Arithmetic<T> slope = static_cast<Arithmetic<T>>(args.negative_slope);
  if (args.residual == nullptr)
    return Row<T, kActivation, false>{x, nullptr, y, count, slope}.run(channel);
  const T* residual = static_cast<const T*>(args.residual) + row * count;
  Row<T, kActivation, true>{x, residual, y, count, slope}.run(channel);
}

// NCHW: a task is one row of `inner` elements of one channel.
template <typename T, Activation kActivation>
void rows_of_one_channel(const BatchNormArgs& args, int64_t begin, int64_t end) {
  using V = typename Lanes<T>::Value;
  for (int64_t row = begin; row < end; ++row) {
    const auto c = batch_norm_channel<T>(args, row % args.channels);
    const BatchNormChannel<V> lanes{c.mean, c.scale, c.bias};
    run_row<T, kActivation>(args, row, args.inner, [&](int64_t) { return lanes; });
  }
}

// channels_last: a task is one row of all channels.
template <typename T, Activation kActivation>
void rows_of_all_channels(const BatchNormArgs& args, int64_t begin, int64_t end) {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  // A whole number of steps each, so that the last one may be loaded whole.
  constexpr int64_t kCount = Lanes<T>::kCount;
  const int64_t stride = (args.channels + kCount - 1) / kCount * kCount;
  Scratch<A> scratch(3 * stride);
  A *means = scratch.data, *scales = means + stride, *biases = scales + stride;
  for (int64_t c = 0; c < stride; ++c) {
    const auto channel = batch_norm_channel<T>(args, c < args.channels ? c : args.channels - 1);
    means[c] = channel.mean;
    scales[c] = channel.scale;
    biases[c] = channel.bias;
  }
  const auto channel = [=](int64_t c) {
    return BatchNormChannel<V>{load(means + c), load(scales + c), load(biases + c)};
  };
  for (int64_t row = begin; row < end; ++row)
    run_row<T, kActivation>(args, row, args.channels, channel);
}

template <typename T>
void batch_norm_of(const BatchNormArgs& args, int64_t begin, int64_t end) {
  with_activation<T, Activation::kNone, Activation::kLeakyRelu>(args.activation, [&](auto activation) {
    if (args.inner == 1)
      rows_of_all_channels<T, activation.value>(args, begin, end);
    else
      rows_of_one_channel<T, activation.value>(args, begin, end);
  });
}

}  // namespace

void batch_norm(const BatchNormArgs& args, int64_t begin, int64_t end) {
  switch (args.dtype) {
    case DType::kFloat:
      return batch_norm_of<float>(args, begin, end);
    case DType::kDouble:
      return batch_norm_of<double>(args, begin, end);
    case DType::kHalf:
      return batch_norm_of<Half>(args, begin, end);
    case DType::kBFloat16:
      return batch_norm_of<BFloat16>(args, begin, end);
  }
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
