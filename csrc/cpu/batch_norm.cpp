// batch_norm in eval mode under R2. No reduction: what matters is that each channel's scale is
// computed from the parameters at every call (no cached state) and once, not once an element.
#include "../functions.h"
#include "../unary.h"
#include "channel_table.h"

namespace bninv {
namespace BNINV_LEVEL {

// Of this level; unary.cpp defines it.
void unary(const UnaryArgs& args, int64_t begin, int64_t end);

namespace {

constexpr int64_t kBlockElements = 8192;
constexpr int64_t kRowsAtOnce = 64;
constexpr int64_t kRunElements = 512;

// One row of `count` elements. relu is applied on the way; other activations after a few rows.
template <typename T, bool kRelu, bool kResidual>
struct Row {
  using V = typename Lanes<T>::Value;
  const T* x;
  const T* residual;
  T* y;
  int64_t count;

  // Each boundary rounds to T, where a separate operator would have stored its result. relu comes
  // before the rounding: that it keeps or makes +0 cannot be told from where it stands.
  BNINV_INLINE V result(V value, V addend, const BatchNormChannel<V>& c) const {
    value = normalize<V>(value, c.mean, c.scale, c.bias);
    if constexpr (kResidual) value = rounded_lanes<T>(value) + addend;
    if constexpr (kRelu) value = relu(value);
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
    constexpr int kSteps = kCount > 1 ? 4 : 1;  // a loop of single elements is GCC's to vectorise
    int64_t i = 0;
    for (; i + kSteps * kCount <= count; i += kSteps * kCount) steps<kSteps>(i, channel);
    for (; i + kCount <= count; i += kCount) steps<1>(i, channel);
    if (i == count) return;
    // The last elements of a row: by a step that repeats some of the one before it, with equal bits.
    if (count >= kCount) return steps<1>(count - kCount, channel);
    const V addend = load_partial(kResidual ? residual : x, count);
    store_partial(y, result(load_partial(x, count), addend, channel(0)), count);
  }
};

// `count` elements from element `first` on.
template <typename T, bool kRelu, typename Channel>
BNINV_INLINE void run_row(const BatchNormArgs& args, int64_t first, int64_t count,
                          const Channel& channel) {
  const T* x = static_cast<const T*>(args.input) + first;
  T* y = static_cast<T*>(args.output) + first;
  if (args.residual == nullptr) return Row<T, kRelu, false>{x, nullptr, y, count}.run(channel);
  const T* residual = static_cast<const T*>(args.residual) + first;
  Row<T, kRelu, true>{x, residual, y, count}.run(channel);
}

// NCHW: a task is one row of `inner` elements of one channel.
template <typename T, bool kRelu>
void rows_of_one_channel(const BatchNormArgs& args, ChannelTable<T>& table, int64_t begin,
                         int64_t end) {
  for (int64_t row = begin; row < end;) {
    const int64_t first = row % args.channels;
    const int64_t count = min64(min64(end - row, args.channels - first), table.stride);
    table.fill(args, first, count);
    for (int64_t c = 0; c < count; ++c, ++row) {
      const auto lanes = table.all_lanes(c);
      run_row<T, kRelu>(args, row * args.inner, args.inner, [&](int64_t) { return lanes; });
    }
  }
}

// Rows of channels that are worth running as one: few channels fill few whole steps.
template <typename T>
int64_t rows_in_a_run(int64_t channels, int64_t rows) {
  constexpr int64_t kStep = 4 * Lanes<T>::kCount;
  int64_t count = 1;
  while (count * channels % kStep != 0 && (count + 1) * channels <= kRunElements) ++count;
  return min64(count, rows);
}

// channels_last: a task is one row of all channels.
template <typename T, bool kRelu>
void rows_of_all_channels(const BatchNormArgs& args, const ChannelTable<T>& table, int64_t together,
                          int64_t begin, int64_t end) {
  const ChannelLanes<T> channel = table.from(0);
  for (int64_t row = begin; row < end; row += together) {
    const int64_t rows = min64(together, end - row);
    run_row<T, kRelu>(args, row * args.channels, rows * args.channels, channel);
  }
}

// `rows(first, last)` in blocks small enough for the cache, an activation in place after each: what a
// block has stored is what the activation's own operator would load.
template <typename Rows>
void in_blocks(const BatchNormArgs& args, int64_t row, int64_t begin, int64_t end,
               const Rows& rows) {
  if (args.activation == Activation::kNone || args.activation == Activation::kRelu)
    return rows(begin, end);
  const int64_t block = max64(kBlockElements / row, 1);
  const int64_t elements = args.outer * args.channels * args.inner;
  const UnaryArgs activation{
      args.dtype, args.output, args.output, as_function(args.activation), {args.negative_slope},
      elements};
  for (int64_t first = begin; first < end; first += block) {
    const int64_t last = min64(first + block, end);
    rows(first, last);
    unary(activation, first * row, last * row);
  }
}

template <typename T, bool kRelu>
void batch_norm_of(const BatchNormArgs& args, int64_t begin, int64_t end) {
  if (begin == end) return;
  if (args.inner == 1) {
    const int64_t together = rows_in_a_run<T>(args.channels, end - begin);
    ChannelTable<T> table(together * args.channels);
    table.fill(args, 0, args.channels);
    table.repeat(args.channels, together * args.channels);
    in_blocks(args, args.channels, begin, end, [&](int64_t first, int64_t last) {
      rows_of_all_channels<T, kRelu>(args, table, together, first, last);
    });
  } else {
    ChannelTable<T> table(kRowsAtOnce);
    in_blocks(args, args.inner, begin, end, [&](int64_t first, int64_t last) {
      rows_of_one_channel<T, kRelu>(args, table, first, last);
    });
  }
}

template <typename T>
void batch_norm_of(const BatchNormArgs& args, int64_t begin, int64_t end) {
  if (args.activation == Activation::kRelu)
    batch_norm_of<T, true>(args, begin, end);
  else
    batch_norm_of<T, false>(args, begin, end);
}

}  // namespace

void batch_norm(const BatchNormArgs& args, int64_t begin, int64_t end) {
  if (begin == end) return;
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
