// sum and mean over any dimensions under R3: the terms of one output are the reduced elements in
// row-major order of their logical indices, whatever the strides.
#include "../sum.h"
#include "../normalization.h"
#include "scratch.h"
#include "sum_lanes.h"
#include "sum_rows.h"
#include "vec_dtypes.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

// Calls visit(pointer) for each reduced element of one output, in row-major order.
template <typename T, typename Visit>
BNINV_INLINE void for_each_term(const ReduceArgs& args, const T* base, const Visit& visit) {
  const int last = args.reduced_dims - 1;
  int64_t index[ReduceArgs::kMaxDims] = {};
  const T* row = base;
  for (int64_t done = 0; done < args.terms; done += args.reduced_sizes[last]) {
    for (int64_t i = 0; i < args.reduced_sizes[last]; ++i)
      visit(row + i * args.reduced_strides[last]);
    for (int d = last - 1; d >= 0; --d) {
      row += args.reduced_strides[d];
      if (++index[d] < args.reduced_sizes[d]) break;
      row -= args.reduced_strides[d] * args.reduced_sizes[d];
      index[d] = 0;
    }
  }
}

template <typename T>
Arithmetic<T> sum_of_one(const ReduceArgs& args, const T* base) {
  if (args.reduced_dims == 1 && args.reduced_strides[0] == 1)
    return sum_row(base, args.terms, AddTerm{});
  LaneSum<Arithmetic<T>> sum;
  for_each_term(args, base, [&](const T* p) { sum.push(widen(*p)); });
  return sum.total();
}

// So few leave most of the 32 lanes empty.
constexpr int64_t kFewTerms = 16;

// Sums of kSteps vectors of columns, whose terms are `stride` elements apart: a few lanes at a time, so
// that they stay in registers.
template <int kSteps, typename T>
BNINV_INLINE void sum_columns(const T* x, int64_t stride, int64_t terms,
                              typename Lanes<T>::Value divisor, T* output) {
  using V = typename Lanes<T>::Value;
  constexpr int kCount = Lanes<T>::kCount, kAtOnce = 4;
  V lanes[kSumLanes][kSteps], totals[kSteps];
  if (terms <= kFewTerms) {
    sum_across<kSteps>(
        terms, [&](int64_t k, int s) { return load(x + k * stride + s * kCount); },
        [](V lane, V term, int) { return lane + term; }, totals);
    for (int s = 0; s < kSteps; ++s) store(output + s * kCount, V(totals[s] / divisor));
    return;
  }
  for (int s = 0; s < kSteps; ++s) totals[s] = V(0.0f);
  for (int64_t first = 0; first < terms; first += kSumSegment) {
    const int64_t count = min64(kSumSegment, terms - first);
    const T* segment = x + first * stride;
    for (int64_t lane = 0; lane < kSumLanes; lane += kAtOnce) {
      V sums[kAtOnce][kSteps];
      for (int j = 0; j < kAtOnce; ++j)
        for (int s = 0; s < kSteps; ++s) sums[j][s] = V(0.0f);
      int64_t k = lane;
      for (; k + kAtOnce <= count; k += kSumLanes)
        for (int j = 0; j < kAtOnce; ++j)
          for (int s = 0; s < kSteps; ++s)
            sums[j][s] = sums[j][s] + load(segment + (k + j) * stride + s * kCount);
      for (int j = 0; k + j < count; ++j)
        for (int s = 0; s < kSteps; ++s)
          sums[j][s] = sums[j][s] + load(segment + (k + j) * stride + s * kCount);
      for (int j = 0; j < kAtOnce; ++j)
        for (int s = 0; s < kSteps; ++s) lanes[lane + j][s] = sums[j][s];
    }
    for (int64_t h = kSumLanes / 2; h > 0; h /= 2)
      for (int64_t j = 0; j < h; ++j)
        for (int s = 0; s < kSteps; ++s) lanes[j][s] = lanes[j][s] + lanes[j + h][s];
    for (int s = 0; s < kSteps; ++s) totals[s] = totals[s] + lanes[0][s];
  }
  for (int s = 0; s < kSteps; ++s) store(output + s * kCount, V(totals[s] / divisor));
}

// sums[i] = sums[i] + x[i]
template <typename T>
BNINV_INLINE void add_run(Arithmetic<T>* sums, const T* x, int64_t count) {
  constexpr int kCount = Lanes<T>::kCount;
  int64_t i = 0;
  for (; i + kCount <= count; i += kCount) store(sums + i, load(sums + i) + load(x + i));
  for (; i < count; ++i) sums[i] = sums[i] + widen(x[i]);
}

// Few columns, dense: 32 rows of terms are one run of memory, and so are their lanes.
constexpr int64_t kFewColumns = 48;
template <typename T>
void sum_few_columns(const T* x, int64_t columns, int64_t terms, Arithmetic<T> divisor, T* output) {
  using A = Arithmetic<T>;
  A lanes[kSumLanes * kFewColumns], totals[kFewColumns] = {};
  const int64_t all = kSumLanes * columns;
  for (int64_t first = 0; first < terms; first += kSumSegment) {
    const int64_t last = min64(first + kSumSegment, terms) * columns;
    for (int64_t i = 0; i < all; ++i) lanes[i] = 0;
    for (int64_t i = first * columns; i < last; i += all)
      add_run(lanes, x + i, min64(all, last - i));
    for (int64_t h = all / 2; h >= columns; h /= 2) add_run(lanes, lanes + h, h);
    add_run(totals, lanes, columns);
  }
  for (int64_t c = 0; c < columns; ++c) output[c] = narrow<T>(totals[c] / divisor);
}

// The first of `count` columns of outputs, side by side in memory; how many of them.
template <typename T>
int64_t sum_side_by_side(const ReduceArgs& args, const T* base, int64_t count,
                         Arithmetic<T> divisor, T* output) {
  int64_t i = 0;
  using V = typename Lanes<T>::Value;
  constexpr int kCount = Lanes<T>::kCount, kSteps = kWidth == 16 ? 4 : 2;
  if (args.reduced_dims > 1) {
    for (; i + kCount <= count; i += kCount) {
      LaneSum<V> sums;
      for_each_term(args, base + i, [&](const T* p) { sums.push(load(p)); });
      store(output + i, V(sums.total() / V(divisor)));
    }
    return i;
  }
  const int64_t stride = args.reduced_strides[0], terms = args.terms;
  if (count <= kFewColumns && stride == count) {
    sum_few_columns(base, count, terms, divisor, output);
    return count;
  }
  for (; i + kSteps * kCount <= count; i += kSteps * kCount)
    sum_columns<kSteps>(base + i, stride, terms, V(divisor), output + i);
  for (; i + kCount <= count; i += kCount)
    sum_columns<1>(base + i, stride, terms, V(divisor), output + i);
  if (i == count || count < kCount) return i;
  // The last columns by a vector that repeats some before them, with equal bits.
  sum_columns<1>(base + count - kCount, stride, terms, V(divisor), output + count - kCount);
  return count;
}

template <typename T>
void sum_of(const ReduceArgs& args, int64_t begin, int64_t end) {
  using A = Arithmetic<T>;
  const A divisor = static_cast<A>(args.divisor);
  const int last = args.kept_dims - 1;
  const int64_t row = args.kept_sizes[last], stride = args.kept_strides[last];
  const int64_t output_stride = args.output_strides[last];
  const int64_t blocks = ceil_div(row, ReduceArgs::kTaskOutputs);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t first = task % blocks * ReduceArgs::kTaskOutputs;
    const int64_t count = min64(ReduceArgs::kTaskOutputs, row - first);
    const T* base = static_cast<const T*>(args.input) + first * stride;
    T* output = static_cast<T*>(args.output) + first * output_stride;
    int64_t rest = task / blocks;
    for (int d = last - 1; d >= 0; --d) {
      base += rest % args.kept_sizes[d] * args.kept_strides[d];
      output += rest % args.kept_sizes[d] * args.output_strides[d];
      rest /= args.kept_sizes[d];
    }
    T apart[ReduceArgs::kTaskOutputs];
    T* dense = output_stride == 1 ? output : apart;
    int64_t i = 0;
    if (stride == 1) i = sum_side_by_side(args, base, count, divisor, dense);
    for (; i < count; ++i) dense[i] = narrow<T>(sum_of_one(args, base + i * stride) / divisor);
    if (dense == apart)
      for (i = 0; i < count; ++i) output[i * output_stride] = apart[i];
  }
}

}  // namespace

void sum(const ReduceArgs& args, int64_t begin, int64_t end) {
  with_type(args.dtype,
            [&](auto type) { sum_of<typename decltype(type)::Type>(args, begin, end); });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
