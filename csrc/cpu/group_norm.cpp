// group_norm under R5; a group of one channel is instance_norm. The sum of a group is R3 over each
// channel's pixels, then R3 over the group's channels.
#include "../group_norm.h"
#include "../normalization.h"
#include "rows.h"
#include "sum_rows.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

// What is known of the channels of a task, one value a channel.
template <typename T>
struct Channels {
  using A = Arithmetic<T>;
  PaddedScratch<A> sums, means, inverses, weights, biases;
  explicit Channels(int64_t count)
      : sums(count), means(count), inverses(count), weights(count), biases(count) {}

  void read_parameters(const GroupNormArgs& args, int64_t first, int64_t count) {
    copy_parameter<T>(args.weight, 1, first, count, weights.data);
    copy_parameter<T>(args.bias, 0, first, count, biases.data);
  }

  // From the channels' sums to `values`, the mean over each whole group.
  void average_groups(int64_t count, int64_t group, int64_t pixels, A* values) {
    const A terms = static_cast<A>(group * pixels);
    // R3 over one channel is that channel's sum: it is never -0.
    if (group == 1)
      for (int64_t c = 0; c < count; ++c) values[c] = sums.data[c] / terms;
    else
      for (int64_t c = 0; c < count; c += group) {
        const A mean = sum_row(sums.data + c, group, AddTerm{}) / terms;
        for (int64_t i = c; i < c + group; ++i) values[i] = mean;
      }
  }

  void invert(int64_t count, double eps) {
    for (int64_t c = 0; c < count; ++c)
      inverses.data[c] = inverse_deviation(inverses.data[c], static_cast<A>(eps));
  }
};

// NCHW: the channels of a group follow each other.
template <typename T>
void dense_channels(const GroupNormArgs& args, int64_t begin, int64_t end) {
  using V = typename Lanes<T>::Value;
  const int64_t group = args.channels / args.groups, pixels = args.pixels;
  Channels<T> known(group);
  for (int64_t task = begin; task < end; ++task) {  // together is 1
    const T* x = static_cast<const T*>(args.input) + task * group * pixels;
    T* y = static_cast<T*>(args.output) + task * group * pixels;
    known.read_parameters(args, task % args.groups * group, group);
    for (int64_t c = 0; c < group; ++c)
      known.sums.data[c] = sum_row(x + c * pixels, pixels, AddTerm{});
    known.average_groups(group, group, pixels, known.means.data);
    const V mean = known.means.data[0];
    for (int64_t c = 0; c < group; ++c)
      known.sums.data[c] = sum_row(x + c * pixels, pixels, AddSquare<V>(mean));
    known.average_groups(group, group, pixels, known.inverses.data);
    known.invert(1, args.eps);
    const V inverse = known.inverses.data[0];
    for (int64_t c = 0; c < group; ++c) {
      const V weight = known.weights.data[c], bias = known.biases.data[c];
      map_row(x + c * pixels, y + c * pixels, pixels, [=](V value, int64_t) {
        return standardize<V>(value - mean, inverse, weight, bias);
      });
    }
  }
}

// The sums over the pixels of `count` channels side by side. Several vectors of them at a time: lanes of
// one sum would leave a cache line of the input half used.
template <typename T>
struct Block {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  static constexpr int kCount = Lanes<T>::kCount;
  const T* x;
  int64_t stride, count, pixels;

  // Of kSteps vectors from channel c on; `add` knows each channel's mean.
  template <int kSteps, typename Add>
  BNINV_INLINE void sum_at(int64_t c, const Add& add, A* sums) const {
    V totals[kSteps], means[kSteps];
    for (int s = 0; s < kSteps; ++s) means[s] = add.mean(c + s * kCount);
    const T* base = x + c;
    const int64_t step = stride;
    sum_across<kSteps>(
        pixels, [=](int64_t k, int s) { return load(base + k * step + s * kCount); },
        [&](V lane, V value, int s) { return add(lane, value, means[s]); }, totals);
    for (int s = 0; s < kSteps; ++s) store(sums + c + s * kCount, totals[s]);
  }

  template <typename Add>
  BNINV_INLINE void sum(const Add& add, A* sums) const {
    constexpr int kSteps = 4;
    if (count < kCount) {
      V total;
      const T* base = x;
      const int64_t step = stride, some = count;
      const V mean = add.mean(0);
      sum_across<1>(
          pixels, [=](int64_t k, int) { return load_partial(base + k * step, some); },
          [&](V lane, V value, int) { return add(lane, value, mean); }, &total);
      return store_partial(sums, total, count);
    }
    int64_t c = 0;
    for (; c + kSteps * kCount <= count; c += kSteps * kCount) sum_at<kSteps>(c, add, sums);
    for (; c + kCount <= count; c += kCount) sum_at<1>(c, add, sums);
    if (c < count) sum_at<1>(count - kCount, add, sums);
  }
};

template <typename A, typename V>
struct AddTermOfChannel {
  BNINV_INLINE V mean(int64_t) const { return V(0.0f); }
  BNINV_INLINE V operator()(V lane, V x, V) const { return lane + x; }
};

template <typename A, typename V>
struct AddSquareOfChannel {
  const A* means;
  BNINV_INLINE V mean(int64_t c) const { return load(means + c); }
  BNINV_INLINE V operator()(V lane, V x, V mean) const { return AddSquare<V>(mean)(lane, x); }
};

// channels_last: the channels of a task's groups lie side by side and are walked in vectors.
template <typename T>
void interleaved_channels(const GroupNormArgs& args, int64_t begin, int64_t end) {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  const int64_t group = args.channels / args.groups, pixels = args.pixels;
  const int64_t together = args.together;
  const int64_t blocks = ceil_div(args.groups, together);
  Channels<T> known(together * group);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t first = task % blocks * together;
    const int64_t count = min64(together, args.groups - first) * group;
    const int64_t offset = task / blocks * pixels * args.channels + first * group;
    const T* x = static_cast<const T*>(args.input) + offset;
    T* y = static_cast<T*>(args.output) + offset;
    const Block<T> block{x, args.channels, count, pixels};
    block.sum(AddTermOfChannel<A, V>{}, known.sums.data);
    known.average_groups(count, group, pixels, known.means.data);
    block.sum(AddSquareOfChannel<A, V>{known.means.data}, known.sums.data);
    known.average_groups(count, group, pixels, known.inverses.data);
    known.invert(count, args.eps);
    known.read_parameters(args, first * group, count);
    const A *mean = known.means.data, *inverse = known.inverses.data;
    const A *weight = known.weights.data, *bias = known.biases.data;
    for (int64_t p = 0; p < pixels; ++p)
      map_row(x + p * args.channels, y + p * args.channels, count, [=](V value, int64_t c) {
        return standardize<V>(value - load(mean + c), load(inverse + c), load(weight + c),
                              load(bias + c));
      });
  }
}

template <typename T>
void group_norm_of(const GroupNormArgs& args, int64_t begin, int64_t end) {
  if (args.channels_last)
    interleaved_channels<T>(args, begin, end);
  else
    dense_channels<T>(args, begin, end);
}

}  // namespace

void group_norm(const GroupNormArgs& args, int64_t begin, int64_t end) {
  switch (args.dtype) {
    case DType::kFloat:
      return group_norm_of<float>(args, begin, end);
    case DType::kDouble:
      return group_norm_of<double>(args, begin, end);
    case DType::kHalf:
      return group_norm_of<Half>(args, begin, end);
    case DType::kBFloat16:
      return group_norm_of<BFloat16>(args, begin, end);
  }
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
